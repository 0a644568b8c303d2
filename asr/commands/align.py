"""A checkpoint and a manifest → the times of its phones.

    asr align exp/timit/1/checkpoint-best.safetensors exp/timit/1/manifests/test.jsonl --compare
    asr align CHECKPOINT MANIFEST --output aligned.jsonl       a manifest with `segments`
    asr align CHECKPOINT MANIFEST --textgrid FOLDER --phn FOLDER --ctm aligned.ctm
    asr align CHECKPOINT MANIFEST --lexicon manifests/lexicon.txt --output aligned.jsonl

The phones are those of the manifest; nothing is recognised. With `--lexicon` they are, for each
word, those of the pronunciation that fits best. Files are written after all utterances have been
aligned. docs/alignment.md describes how boundaries are found.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from asr import audio, checkpoint, labels, scoring
from asr.aligner import Aligner, with_likeliest
from asr.corpora import lexicon
from asr.dataset import Batches
from asr.errors import DataError, exit_code, raise_problems
from asr.files.outputs import atomic_open, require_new
from asr.phones import Vocabulary, unknown_phone
from asr.processor.device import choose_device
from asr.recognizer import encode_all
from asr.records import Manifest, Segment, Utterance, write_jsonl

BATCH_SIZE = 16  # utterances

Segments = tuple[Segment, ...]


@dataclass(frozen=True)
class Alignment:
    """The segments of each utterance by id, and a sentence for each thing that is wrong.

    Utterances in `problems` have no segments. In `doubts` are those that are aligned with a
    transcript that does not seem to be theirs.
    """

    segments: dict[str, Segments]
    problems: Sequence[str]
    doubts: Sequence[str]


def run(
    checkpoint_path: str | Path,
    utterances: Sequence[Utterance],
    known: lexicon.Lexicon | None = None,
) -> Alignment:
    """The phones of each utterance with their times and mean probabilities.

    With the lexicon `known` the phones are, for each word, those of the pronunciation that fits
    best. Problems and doubts go to standard error too. Raises `DataError` where no utterance can be
    aligned.
    """
    recognizer = checkpoint.load(checkpoint_path, choose_device("auto")).recognizer
    aligner = Aligner(recognizer)
    wrong = list(problems(aligner, utterances, known))
    listed = [f"{id}: {problem}" for id, problem in wrong]
    bad = {id for id, _ in wrong}
    chosen = [utterance for utterance in utterances if utterance.id not in bad]
    if not chosen:
        raise_problems(listed)
    for problem in listed:
        print(f"error: {problem}", file=sys.stderr)
    words = {one.id: (one.words or "").lower().split() for one in chosen}
    sample_rate = recognizer.config.features.sample_rate
    batches = Batches(chosen, recognizer.vocabulary, sample_rate, BATCH_SIZE)
    aligned: dict[str, Segments] = {}
    doubts: list[str] = []
    with tqdm(total=len(chosen), desc="aligned", leave=False, disable=None) as bar:
        for batch, encoded, lengths in encode_all(recognizer, batches):
            if known is not None:
                said = [[known[word] for word in words[id]] for id in batch.ids]
                batch = with_likeliest(recognizer, batch, encoded, lengths, said)
            aligned |= zip(batch.ids, aligner(batch, encoded, lengths), strict=True)
            judged = zip(batch.ids, aligner.doubts(batch, encoded, lengths), strict=True)
            for doubt in (f"{id}: {doubt}" for id, doubt in judged if doubt):
                tqdm.write(f"warning: {doubt}", file=sys.stderr)
                doubts.append(doubt)
            bar.update(len(batch.ids))
    return Alignment(aligned, listed, doubts)


def problems(
    aligner: Aligner, utterances: Sequence[Utterance], known: lexicon.Lexicon | None = None
) -> Iterator[tuple[str, str]]:
    """Id and sentence of what cannot be aligned; opens the headers of the audio."""
    recognizer = aligner.recognizer
    for utterance in utterances:
        if known is not None:
            wrong = _without_pronunciation(utterance, known, recognizer.vocabulary)
            yield from ((utterance.id, problem) for problem in wrong)
        try:
            header = audio.info(utterance.audio, recognizer.config.features.sample_rate)
            aligner.require_room(utterance.phones, header.samples)
        except DataError as error:
            yield from ((utterance.id, problem) for problem in error.problems)


def _without_pronunciation(
    utterance: Utterance, known: lexicon.Lexicon, vocabulary: Vocabulary
) -> Iterator[str]:
    words = (utterance.words or "").split()
    if not words:
        yield "no `words` in the manifest, which --lexicon needs"
    for word in words:
        if word.lower() not in known:
            yield f"{word!r} is not in the lexicon; add it, or omit --lexicon"
            continue
        for phone in {phone for said in known[word.lower()] for phone in said}:
            if phone not in vocabulary:
                hint = unknown_phone(phone, vocabulary.phones, "the checkpoint's vocabulary")
                yield f"{word!r} in the lexicon: {hint}"


def write(
    aligned: Mapping[str, Segments],
    utterances: Sequence[Utterance],
    textgrid: Path | None = None,
    phn: Path | None = None,
    output: Path | None = None,
    ctm: Path | None = None,
) -> None:
    """Write each format that has a path: in a folder one file for each id; the manifest last."""
    for utterance in utterances:
        for folder, ending in ((textgrid, ".TextGrid"), (phn, ".phn")):
            if folder:
                header = audio.info(utterance.audio)
                path = folder / f"{utterance.id}{ending}"
                labels.write(path, aligned[utterance.id], header.samples, header.sample_rate)
    if ctm:
        with atomic_open(ctm) as file:
            file.writelines(
                f"{utterance.id} 1 {s.start_s:.6f} {s.end_s - s.start_s:.6f} {s.phone} "
                f"{s.confidence:.4f}\n"
                for utterance in utterances
                for s in aligned[utterance.id]
            )
    if output:
        timed = (
            replace(u, segments=tuple(s._replace(confidence=None) for s in aligned[u.id]))
            for u in utterances
        )
        write_jsonl(output, timed)


def _require_names(
    utterances: Manifest,
    with_times: bool,
    folders: Sequence[Path | None],
    files: Sequence[Path | None],
    overwrite: bool,
) -> None:
    """Raise `DataError`, before the work, for outputs that cannot be written or compared."""
    if not len(utterances):
        raise DataError(f"{utterances.path}: no utterances")
    if any(folders):
        raise_problems(
            f"{u.id!r}: cannot be the name of a file; rename it in {utterances.path}, or write "
            f"--output or --ctm"
            for u in utterances
            if Path(u.id).name != u.id
        )
    outputs = list(filter(None, files))
    for folder, ending in zip(folders, (".TextGrid", ".phn"), strict=True):
        if folder:
            outputs += [folder / f"{utterance.id}{ending}" for utterance in utterances]
    require_new(outputs, overwrite, [utterances.path])
    if without := [u.id for u in utterances if with_times and not u.segments]:
        raise DataError(
            f"{utterances.path}: --compare needs `segments`; {len(without)} utterances have none, "
            f"the first of them {without[0]}"
        )


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="asr align",
        description="Find the times of known phones: forced alignment by a trained network.",
        epilog="A manifest of your own speech: asr prepare experiment=folder corpus.root=FOLDER",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="checkpoint-best.safetensors of a run")
    add("manifest", type=Path, help="phones and audio (.jsonl)")
    add("--output", type=Path, metavar="FILE", help="write a manifest with `segments`")
    add("--lexicon", type=Path, metavar="FILE", help="choose among its pronunciations of words")
    add("--textgrid", type=Path, metavar="FOLDER", help="write ID.TextGrid files")
    add("--phn", type=Path, metavar="FOLDER", help="write ID.phn, in samples")
    add("--ctm", type=Path, metavar="FILE", help="write a ctm, with confidences")
    add("--compare", action="store_true", help="print how far the manifest's `segments` differ")
    add("--overwrite", action="store_true", help="replace files that are already there")
    add("--root", default="", metavar="FOLDER", help="of a corpus that has moved")
    add("--strict", action="store_true", help="exit code 1 where a transcript seems another's")
    options = parser.parse_args(arguments)
    folders, files = (options.textgrid, options.phn), (options.output, options.ctm)
    if not (options.compare or any(folders + files)):
        parser.error("give --output, --textgrid, --phn, --ctm or --compare")
    manifest = Manifest(options.manifest, options.root)
    _require_names(manifest, options.compare, folders, files, options.overwrite)
    known = lexicon.read(options.lexicon, lexicon.EITHER) if options.lexicon else None
    result = run(options.checkpoint, manifest, known)
    aligned = result.segments
    utterances = [utterance for utterance in manifest if utterance.id in aligned]
    if known is not None:
        utterances = [
            replace(
                utterance,
                phones=tuple(segment.phone for segment in aligned[utterance.id]),
                segments=None,
                pronunciation="aligned",
            )
            for utterance in utterances
        ]
    write(aligned, utterances, *folders, *files)
    if options.compare:
        times = scoring.compare_times(
            scoring.TimedPair(u.id, u.speaker, u.segments or (), aligned[u.id]) for u in utterances
        )
        print(times.text())
    for path in filter(None, folders + files):
        print(path)
    missing = len(manifest) - len(aligned), "not aligned"
    doubtful = len(result.doubts), "seem to have another's transcript"
    for count, problem in (missing, doubtful):
        if count:
            print(f"{count} of {len(manifest)} utterances {problem}", file=sys.stderr)
    return int(bool(result.problems or (options.strict and result.doubts)))
