"""Recordings and what is said in them → words and phones with their times, by any model.

An HMM aligns words of which it chooses the pronunciation. With another criterion each word first
gets the pronunciation of the least loss (`asr.aligner.likeliest`), then the phones are aligned.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from asr import labels
from asr.aligner import Aligner
from asr.audio import Waveform
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError
from asr.features.moments import Moments
from asr.files import shown
from asr.network import Model
from asr.phones import unknown_phone
from asr.records import Segment, Transcript
from asr.search.decoders import HMMDecoder, require_numbers
from asr.symbols import read_in, written
from asr.transcriber import Recording, Transcriber, Warn, load_model, spoken

MODEL = Path(__file__).parent / "pretrained" / "alignment.safetensors"


def load(path: str | Path | None = None, device: str = "cpu") -> Model:
    """The model of a file without its n-gram, or else the packaged alignment model."""
    if path is None and not MODEL.exists():
        raise DataError(
            f"{MODEL}: no such file, this installation has no packaged alignment model; name the "
            f"file of a model (checkpoint)"
        )
    return load_model(path or MODEL, device, language_model=False)


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
    vocabulary = transcriber.network.vocabulary
    given, name = text_or_phones, shown(recording) if isinstance(recording, str | Path) else ""
    if isinstance(given, str | Path):
        pronouncer = Pronouncer(Path(lexicon) if lexicon else None)
        said = pronouncer.said(text_of(given))
        for warning in pronouncer.warnings():
            warnings.warn(warning, stacklevel=3)
    elif isinstance(given, Sequence) and all(isinstance(phone, str) for phone in given):
        phones = read_in(given, symbols, vocabulary) if symbols else given
        said = tuple(Said(phone, ((phone,),)) for phone in phones)
    else:
        raise DataError(f"phones are {given!r}, expected a list of strings, or a text")
    waveform = transcriber.waveform(recording, sample_rate, channel)
    result = transcript(Aligner(transcriber.network), name, iter([waveform]), said)
    result = written(result, symbols)
    return result if isinstance(given, str | Path) else result.phones


def text_of(given: str | Path) -> str:
    """What is said: a text as it is, or that of the file of a path.

    A text is never opened. Raises `DataError` for one that is the name of a file, which the command
    line would open, unless it is one word as well.
    """
    if isinstance(given, Path):
        return labels.transcript(given)
    if labels.is_transcript(given) and (os.sep in given or Path(given).suffix):
        raise DataError(
            f"{given!r}: is the name of a file, expected what is said; for the text in the file "
            f"give pathlib.Path({given!r})"
        )
    return given


def transcript(
    aligner: Aligner,
    name: str,
    blocks: Iterator[Waveform],
    said: Sequence[Said],
    warn: Warn = warnings.warn,
    moments: Moments | None = None,
    between: Callable[[], object] = lambda: None,
) -> Transcript:
    """A recording, given in blocks (S,), with the times of what is said in it.

    `moments` are those of its speaker, for a model that is no HMM and normalised by speaker. `warn`
    gets a sentence where that seems to be another recording's, and `between` is called before each
    piece. Raises `DataError` where the recording is too short, or a phone is unknown.
    """
    if isinstance(aligner.network.decoder, HMMDecoder):
        return aligner.transcript(name, blocks, said, warn, between)
    waveform = np.concatenate(list(blocks))
    require_said(aligner, said, len(waveform))
    network = aligner.network
    emissions = network.emissions(network.frames.static(waveform), moments)
    require_numbers(emissions)
    chosen = aligner.likeliest(emissions, [one.pronunciations for one in said])
    phones = [phone for word in chosen for phone in word]
    if doubt := aligner.doubt(emissions, phones):
        warn(doubt)
    segments = aligner(waveform, emissions, phones)
    counted = [(one.word, len(way)) for one, way in zip(said, chosen, strict=True)]
    duration_s = len(waveform) / aligner.sample_rate
    return Transcript(name, duration_s, segments, tuple(spoken(counted, segments)))


def require_said(aligner: Aligner, said: Sequence[Said], samples: int) -> None:
    """Raise `DataError` where audio is too short for its words, or a phone is unknown."""
    vocabulary = aligner.network.vocabulary
    for word, variants in said:
        for phone in dict.fromkeys(phone for one in variants for phone in one):
            if phone not in vocabulary:
                where = "" if variants == ((word,),) else f"{word!r} in the lexicon: "
                known = vocabulary.phones, "the vocabulary of the checkpoint"
                raise DataError(where + unknown_phone(phone, *known))
    aligner.require_room([phone for one in said for phone in one.pronunciations[0]], samples)
