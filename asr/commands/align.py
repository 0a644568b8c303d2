"""A checkpoint and a manifest → the times of its phones.

    asr align exp/timit/1/checkpoint-best.safetensors exp/timit/1/manifests/test.jsonl --compare
    asr align CHECKPOINT MANIFEST --output aligned.jsonl       a manifest with `segments`
    asr align CHECKPOINT MANIFEST --textgrid FOLDER --phn FOLDER --ctm aligned.ctm
    asr align CHECKPOINT MANIFEST --lexicon manifests/lexicon.txt --output aligned.jsonl

The phones of the manifest are taken as they are; nothing is recognised. With `--lexicon` each word
gets the one of its pronunciations that fits best, where it has several. Files are written when all
utterances have been aligned. See docs/alignment.md for how boundaries are found.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from asr import audio, checkpoint, scoring
from asr.aligner import Aligned, Aligner, with_likeliest
from asr.corpora import lexicon
from asr.dataset import Batches
from asr.errors import DataError, exit_code, raise_problems
from asr.files import atomic_open
from asr.labels import phn as labels
from asr.labels import textgrid
from asr.phones import Vocabulary, unknown_phone
from asr.processor.device import choose_device
from asr.recognizer import encode_all
from asr.records import Manifest, Utterance, write_jsonl

BATCH_SIZE = 16  # utterances


def run(
    checkpoint_path: str | Path,
    utterances: Sequence[Utterance],
    known: lexicon.Lexicon | None = None,
) -> dict[str, Aligned]:
    """The times of the phones of every utterance, by id.

    With `known` the phones are, for each word, those of its pronunciations that fit best. Raises
    one `DataError` for all utterances that cannot be aligned, before any is.
    """
    recognizer = checkpoint.load(checkpoint_path, choose_device("auto")).recognizer
    sample_rate = recognizer.config.features.sample_rate
    aligner = Aligner(recognizer)
    if known is not None:
        raise_problems(_without_pronunciation(utterances, known, recognizer.vocabulary))
    raise_problems(problems(aligner, utterances))
    batches = Batches(utterances, recognizer.vocabulary, sample_rate, BATCH_SIZE)
    words = (
        {u.id: [known[w.lower()] for w in (u.words or "").split()] for u in utterances}
        if known
        else {}
    )
    found: dict[str, Aligned] = {}
    with tqdm(total=len(utterances), desc="aligned", leave=False, disable=None) as bar:
        for batch, encoded, lengths in encode_all(recognizer, batches):
            if known is not None:
                said = [words[id] for id in batch.ids]
                batch = with_likeliest(recognizer, batch, encoded, lengths, said)
            found |= zip(batch.ids, aligner(batch, encoded, lengths), strict=True)
            bar.update(len(batch.ids))
    return found


def _without_pronunciation(
    utterances: Sequence[Utterance], known: lexicon.Lexicon, vocabulary: Vocabulary
) -> Iterator[str]:
    for utterance in utterances:
        words = (utterance.words or "").split()
        if not words:
            yield f"{utterance.id}: no `words` in the manifest, which --lexicon gives phones to"
        for word in words:
            if word.lower() not in known:
                yield f"{utterance.id}: {word!r} is not in the lexicon; add it, or do without"
                continue
            for phone in {phone for said in known[word.lower()] for phone in said}:
                if phone not in vocabulary:
                    hint = unknown_phone(phone, vocabulary.phones, "the checkpoint's vocabulary")
                    yield f"{utterance.id}: {word!r} in the lexicon: {hint}"


def problems(aligner: Aligner, utterances: Sequence[Utterance]) -> list[str]:
    """One sentence for each utterance that cannot be aligned; opens the headers of the audio."""
    sample_rate = aligner.recognizer.config.features.sample_rate
    found = []
    for utterance in utterances:
        try:
            header = audio.info(utterance.audio)
            audio.require_mono(utterance.audio, header.channels)
            audio.require_rate(utterance.audio, header.sample_rate, sample_rate)
        except DataError as error:
            found.append(f"{utterance.id}: {error}")
            continue
        try:
            aligner.require_room(utterance, header.samples)
        except DataError as error:
            found.append(str(error))
    return found


def _as_aligned(utterance: Utterance, aligned: Aligned) -> Utterance:
    phones = tuple(segment.phone for segment in aligned.segments)
    return replace(utterance, phones=phones, segments=None, pronunciation="aligned")


def write(
    found: Mapping[str, Aligned],
    utterances: Sequence[Utterance],
    *,
    manifest: Path | None = None,
    textgrids: Path | None = None,
    phns: Path | None = None,
    ctm: Path | None = None,
) -> None:
    """Write what is asked for: in folders a file for each id, and the manifest last."""
    for utterance in utterances:
        segments = found[utterance.id].segments
        if textgrids:
            path = textgrids / f"{utterance.id}.TextGrid"
            textgrid.write_phones(path, segments, audio.info(utterance.audio).duration_s)
        if phns:
            rate = audio.info(utterance.audio).sample_rate
            labels.write_phn(phns / f"{utterance.id}.phn", segments, rate)
    if ctm:
        with atomic_open(ctm) as file:
            for utterance in utterances:
                aligned = found[utterance.id]
                for segment, sure in zip(aligned.segments, aligned.confidences, strict=True):
                    file.write(
                        f"{utterance.id} 1 {segment.start_s:.6f} "
                        f"{segment.end_s - segment.start_s:.6f} {segment.phone} {sure:.4f}\n"
                    )
    if manifest:
        write_jsonl(manifest, (replace(u, segments=found[u.id].segments) for u in utterances))


def compare(found: Mapping[str, Aligned], utterances: Sequence[Utterance]) -> scoring.Timing:
    """How far the times that were found lie from those of the manifest."""
    return scoring.compare_times(
        scoring.TimedPair(u.id, u.speaker, u.segments or (), found[u.id].segments)
        for u in utterances
    )


def _require_names(
    utterances: Manifest, with_times: bool, folders: Sequence[Path | None], files: Sequence[Path]
) -> None:
    """Refuse, before the work, what cannot be written or compared in the end."""
    if not len(utterances):
        raise DataError(f"{utterances.path}: no utterances")
    if any(folders):
        raise_problems(
            f"{u.id!r}: is no name of a file; rename it in {utterances.path}, or write --output"
            for u in utterances
            if Path(u.id).name != u.id
        )
    for folder in folders:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is a file, expected a folder to write into")
    for file in files:
        if file.is_dir():
            raise DataError(f"{file}: is a folder, expected the name of a file to write")
        if file.exists() and file.samefile(utterances.path):
            raise DataError(f"{file}: is the manifest that is read; write to another file")
    without = [u.id for u in utterances if not u.segments] if with_times else []
    if without:
        raise DataError(
            f"{utterances.path}: --compare needs `segments`, which {len(without)} utterances lack, "
            f"{without[0]} first"
        )


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr align",
        description="Find the times of known phones: forced alignment by a trained network.",
        epilog="A manifest of your own speech: asr prepare experiment=folder corpus.root=FOLDER",
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint-best.safetensors of a run")
    parser.add_argument("manifest", type=Path, help="phones and audio (.jsonl)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write a manifest with `segments`"
    )
    parser.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="choose among its pronunciations of each word"
    )
    parser.add_argument("--textgrid", type=Path, metavar="FOLDER", help="write ID.TextGrid files")
    parser.add_argument("--phn", type=Path, metavar="FOLDER", help="write ID.phn, in samples")
    parser.add_argument("--ctm", type=Path, metavar="FILE", help="write a ctm, with confidences")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="print how far the times are from the `segments` of the manifest",
    )
    options = parser.parse_args(arguments)
    outputs = (options.output, options.ctm)
    folders = (options.textgrid, options.phn)
    if not (options.compare or any(outputs) or any(folders)):
        parser.error("give --output, --textgrid, --phn, --ctm or --compare")
    manifest = Manifest(options.manifest)
    utterances: Sequence[Utterance] = manifest
    _require_names(manifest, options.compare, folders, [path for path in outputs if path])
    known = lexicon.read(options.lexicon) if options.lexicon else None
    found = run(options.checkpoint, utterances, known)
    if known is not None:
        utterances = [_as_aligned(utterance, found[utterance.id]) for utterance in manifest]
    write(
        found,
        utterances,
        manifest=options.output,
        textgrids=options.textgrid,
        phns=options.phn,
        ctm=options.ctm,
    )
    if options.compare:
        print(compare(found, utterances).text())
    for path in (*folders, *outputs):
        if path:
            print(path)
