"""Recordings and what is said in them → words and phones with their times, by any model.

An HMM aligns words of which it chooses the pronunciation. With another criterion each word first
gets the pronunciation of the least loss (`asr.aligner.likeliest`), then the phones are aligned.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asr import checkpoint, labels
from asr.aligner import Aligner, likeliest
from asr.audio import Waveform
from asr.batch import Batch, pad
from asr.checkpoint import Checkpoint
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.criteria.hmm import HMM
from asr.errors import DataError
from asr.files import shown
from asr.phones import unknown_phone
from asr.records import Segment, Transcript
from asr.symbols import read_in, written
from asr.transcriber import SPEAKER, Recording, Transcriber, Warn, spoken

MODEL = Path(__file__).parent / "pretrained" / "alignment.safetensors"


def load(path: str | Path | None = None, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of a file without its n-gram, or else the packaged alignment model."""
    if path is None and not MODEL.exists():
        raise DataError(
            f"{MODEL}: no such file, this installation has no packaged alignment model; name a "
            f"model with --checkpoint FILE"
        )
    return checkpoint.load(path or MODEL, device, language_model=False)


def align(
    recording: Recording,
    text_or_phones: str | Path | Sequence[str],
    sample_rate: int | None = None,
    model: str | Path | None = None,
    channel: int | None = None,
    lexicon: str | Path | None = None,
    symbols: str | None = None,
) -> Transcript | tuple[Segment, ...]:
    """What is said in a recording, with its times: see `asr.align`."""
    transcriber = Transcriber(load(model), symbols=symbols)
    vocabulary = transcriber.recognizer.vocabulary
    given, name = text_or_phones, shown(recording) if isinstance(recording, str | Path) else ""
    if isinstance(given, str | Path):
        pronouncer = Pronouncer(Path(lexicon) if lexicon else None)
        said = pronouncer.said(given if isinstance(given, str) else labels.words(given))
        for warning in pronouncer.warnings():
            warnings.warn(warning, stacklevel=3)
    elif isinstance(given, Sequence) and all(isinstance(phone, str) for phone in given):
        phones = read_in(given, symbols, vocabulary) if symbols else given
        said = tuple(Said(phone, ((phone,),)) for phone in phones)
    else:
        raise DataError(f"phones are {given!r}, expected a list of strings, or a text")
    waveform = transcriber.waveform(recording, sample_rate, channel)
    result = transcript(Aligner(transcriber.recognizer), name, iter([waveform]), said)
    result = written(result, symbols)
    return result if isinstance(given, str | Path) else result.phones


def transcript(
    aligner: Aligner,
    name: str,
    blocks: Iterator[Waveform],
    said: Sequence[Said],
    warn: Warn = warnings.warn,
) -> Transcript:
    """A recording, given in blocks (S,), with the times of what is said in it.

    `warn` gets a sentence where that seems to be another recording's. Raises `DataError` where the
    recording is too short, or a phone is unknown.
    """
    if isinstance(aligner.recognizer.criterion, HMM):
        return aligner.transcript(name, blocks, said, warn)
    waveform = np.concatenate(list(blocks))
    require_said(aligner, said, len(waveform))
    batch = Batch.of([torch.from_numpy(waveform)], [SPEAKER]).to(aligner.recognizer.device)
    with torch.no_grad():
        moments = aligner.recognizer.moments_of([batch])
        encoded, lengths = aligner.recognizer.encode_batch(batch, moments=moments)
    ((result, doubt),) = of_batch(aligner, replace(batch, ids=(name,)), encoded, lengths, [said])
    if doubt:
        warn(doubt)
    return result


def require_said(aligner: Aligner, said: Sequence[Said], samples: int) -> None:
    """Raise `DataError` where audio is too short for its words, or a phone is unknown."""
    vocabulary = aligner.recognizer.vocabulary
    for word, variants in said:
        for phone in dict.fromkeys(phone for one in variants for phone in one):
            if phone not in vocabulary:
                where = "" if variants == ((word,),) else f"{word!r} in the lexicon: "
                known = vocabulary.phones, "the vocabulary of the checkpoint"
                raise DataError(where + unknown_phone(phone, *known))
    aligner.require_room([phone for one in said for phone in one.pronunciations[0]], samples)


@torch.no_grad()
def of_batch(
    aligner: Aligner,
    batch: Batch,
    encoded: torch.Tensor,
    lengths: torch.Tensor,
    said: Sequence[Sequence[Said]],
) -> list[tuple[Transcript, str]]:
    """What is said in each utterance of a batch, and a sentence where that seems wrong.

    `encoded` (N, T', D) is of the waveforms of the batch, by a criterion other than an HMM.
    """
    recognizer = aligner.recognizer
    chosen = []
    for n, words in enumerate(said):
        variants, frames = [one.pronunciations for one in words], encoded[n, : int(lengths[n])]
        chosen.append(likeliest(recognizer, batch, frames, variants))
    phones = [[phone for word in words for phone in word] for words in chosen]
    targets, counts = pad([torch.tensor(recognizer.vocabulary.encode(one)) for one in phones])
    batch = replace(batch, targets=targets, target_lengths=counts).to(recognizer.device)
    doubts = aligner.doubts(batch, encoded, lengths)
    results = []
    for n, segments in enumerate(aligner(batch, encoded, lengths)):
        counted = [(one.word, len(p)) for one, p in zip(said[n], chosen[n], strict=True)]
        duration_s = int(batch.waveform_lengths[n]) / aligner.sample_rate
        in_words = tuple(spoken(counted, segments))
        results.append((Transcript(batch.ids[n], duration_s, segments, in_words), doubts[n]))
    return results
