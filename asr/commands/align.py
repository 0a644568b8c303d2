"""Recordings and what is said in them → the times of words and phones.

    asr align a.wav "she had your dark suit" --output a.TextGrid
    asr align a.wav a.txt --output a.TextGrid       the text in a file
    asr align FOLDER --output OUT                   pairs of audio and .txt or .lab; a tree is kept
    asr align table.tsv --output OUT --format phn   columns of recordings and texts
    asr align manifest.jsonl --output aligned.jsonl its phones, or else its words; with `segments`
    asr align CHECKPOINT manifest.jsonl --compare   another model than the packaged one

Nothing is recognised. A word has the pronunciation that fits best, of the packaged CMUdict or of
`--lexicon`; between words there may be silence. docs/alignment.md has the rules for text, and
describes how boundaries are found.
"""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from asr import aligner, audio, scoring
from asr.aligner import Aligner
from asr.commands import recordings, texts
from asr.commands.texts import Pair, Pairs
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.criteria.hmm import HMM
from asr.dataset import Batches
from asr.errors import DataError, exit_code, grouped, raise_problems
from asr.files import shown
from asr.files.outputs import atomic_open, require_new
from asr.labels.formats import FORMATS, RATE, TIERS, in_format, with_silence
from asr.processor.device import choose_device
from asr.recognizer import encode_all
from asr.records import Transcript, Utterance, write_jsonl

BATCH_SIZE = 16  # utterances
KINDS = ("textgrid", "text", "json", "phn")  # with one file for each recording, the default first

Job = tuple[Pair, tuple[Said, ...]]


@dataclass(frozen=True)
class Outputs:
    """The files to write: of each pair in some formats, and of all pairs together."""

    each: Sequence[tuple[str, Sequence[Path | None]]]  # None: standard output
    manifest: Path | None
    ctm: Path | None
    words_ctm: Path | None

    def paths(self) -> Iterator[Path]:
        """All files, those of all pairs last."""
        for format, places in self.each:
            for path in filter(None, places):
                yield from (path.with_suffix(ending) for ending in FORMATS[format])
        yield from filter(None, (self.ctm, self.words_ctm, self.manifest))


@dataclass(frozen=True)
class Outcome:
    """Of one pair: its transcript, or what is wrong; and warnings, of its audio and of its text."""

    transcript: Transcript | None
    problems: Sequence[str] = ()
    remarks: Sequence[str] = ()
    doubts: Sequence[str] = ()


def planned(
    pairs: Sequence[Pair],
    output: Path | None = None,
    format: str | None = None,
    textgrid: Path | None = None,
    phn: Path | None = None,
    ctm: Path | None = None,
    words_ctm: Path | None = None,
    quiet: bool = False,
) -> Outputs:
    """The files of pairs; without any, and not `quiet`, the result goes to standard output.

    Raises `DataError` where two would be the same.
    """
    each: list[tuple[str, Sequence[Path | None]]] = []
    manifest = None
    ending = output.suffix.lower() if output and not output.is_dir() else ""
    if ending == ".jsonl":
        manifest, output = output, None
    elif ending == ".ctm":
        ctm, output = output, None
    for kind, folder in (("textgrid", textgrid), ("phn", phn)):
        if folder:
            ending = FORMATS[kind][0]
            each.append((kind, [folder / f"{pair.name}{ending}" for pair in pairs]))
    if output or not (quiet or each or manifest or ctm or words_ctm):
        places = [(pair.audio, pair.name) for pair in pairs]
        each.append(recordings.targets(places, format, output, KINDS))
    ids = [_id(pair) for pair in pairs]
    problems = [
        f"{pair.audio}: its id would be {id}, and so would that of another; rename one"
        for pair, id in zip(pairs, ids, strict=True)
        if (manifest or ctm or words_ctm) and ids.count(id) > 1
    ]
    problems += [
        f"{one.utterance.id!r}: cannot be the name of a file; rename it in the manifest, or write "
        f"--output FILE.jsonl or --ctm"
        for one in pairs
        if each and one.utterance and one.name.name != one.utterance.id
    ]
    raise_problems(problems)
    return Outputs(each, manifest, ctm, words_ctm)


def jobs_of(given: Pairs, pronouncer: Pronouncer, needs_words: bool) -> dict[int, Job]:
    """The pairs by their number, with what is said; what cannot be read becomes a problem.

    The words of a manifest are read where it has no phones, or they are needed. Raises `DataError`
    where words outside the lexicon need g2p, and it is not installed.
    """
    pronouncer.prepare(one.text for one in given.pairs if one.text and one.uses_words(needs_words))
    jobs = {}
    for number, pair in enumerate(given.pairs):
        if needs_words and pair.text is None:
            given.problems.append(f"{pair.place}: no `words`, which --lexicon needs")
            continue
        try:
            jobs[number] = pair, pair.said(pronouncer, needs_words)
        except DataError as error:
            given.problems += error.problems
    return jobs


def aligned(
    model: Aligner, jobs: Mapping[int, Job], channel: int | None = None
) -> Iterator[tuple[int, Outcome]]:
    """The number of each pair, and what came of it."""
    of_manifest = all(pair.utterance for pair, _ in jobs.values())
    if of_manifest and not isinstance(model.recognizer.criterion, HMM):
        yield from _in_batches(model, jobs)
        return
    rate, window = model.sample_rate, model.recognizer.config.features.window_samples
    for number, (pair, said) in jobs.items():
        remarks: list[str] = []
        try:
            with audio.on_disk(pair.audio), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                blocks = audio.stream(pair.audio, rate, window, remarks.append, channel)
                result = model.transcript(shown(pair.audio), blocks, said)
            yield number, Outcome(result, (), remarks, [str(one.message) for one in caught])
        except DataError as error:
            yield number, Outcome(None, error.problems, remarks)


def _in_batches(model: Aligner, jobs: Mapping[int, Job]) -> Iterator[tuple[int, Outcome]]:
    """`aligned` of the utterances of a manifest, many at a time, without an HMM."""
    recognizer = model.recognizer
    sample_rate = recognizer.config.features.sample_rate
    numbers: dict[str, int] = {}
    chosen = []
    for number, (pair, said) in jobs.items():
        assert pair.utterance is not None
        try:
            model.require_said(said, audio.info(pair.audio, sample_rate).samples)
        except DataError as error:
            yield number, Outcome(None, error.problems)
            continue
        phones = tuple(phone for one in said for phone in one.pronunciations[0])
        chosen.append(replace(pair.utterance, phones=phones, segments=None))
        numbers[pair.utterance.id] = number
    batches = Batches(chosen, recognizer.vocabulary, sample_rate, BATCH_SIZE) if chosen else ()
    for batch, encoded, lengths in encode_all(recognizer, batches):
        said_in = [jobs[numbers[id]][1] for id in batch.ids]
        results = model.transcripts(batch, encoded, lengths, said_in)
        for id, (transcript, doubt) in zip(batch.ids, results, strict=True):
            file = jobs[numbers[id]][0].audio
            yield numbers[id], Outcome(replace(transcript, file=file), doubts=[doubt] * bool(doubt))


def _named(pair: Pair, problem: str) -> str:
    """A problem after the name of its pair, unless it begins with that."""
    name = pair.utterance.id if pair.utterance else shown(pair.audio)
    return problem if problem.startswith(name) else f"{name}: {problem}"


def _id(pair: Pair) -> str:
    return pair.utterance.id if pair.utterance else re.sub(r"\s", "_", "_".join(pair.name.parts))


def timed(pair: Pair, result: Transcript, complete: bool) -> Utterance:
    """An utterance of a manifest to train from; `complete`: with TIMIT's silences."""
    phones = tuple(with_silence(result.phones, result.duration_s)) if complete else result.phones
    segments = tuple(one._replace(confidence=None) for one in phones)
    names = tuple(one.phone for one in segments)
    if pair.utterance:
        same = result.words is None
        how = pair.utterance.pronunciation if same else "aligned"
        return replace(pair.utterance, phones=names, segments=segments, pronunciation=how)
    return Utterance(
        _id(pair),
        os.path.abspath(pair.audio),
        result.duration_s,
        re.sub(r"\s", "_", pair.name.parent.name) or _id(pair),
        names,
        segments,
        words=" ".join(one.word for one in result.words or ()) or None,
        pronunciation="aligned" if result.words else None,
    )


def compared(results: Sequence[tuple[Pair, Transcript]]) -> str:
    """How far times are from those of the manifest, of the utterances that have the same phones."""
    timed_pairs = [
        scoring.TimedPair(one.id, one.speaker, one.segments, result.phones)
        for one, result in ((pair.utterance, result) for pair, result in results)
        if one and one.segments and one.phones == tuple(p.phone for p in result.phones)
    ]
    lines = [scoring.compare_times(timed_pairs).text()] if timed_pairs else []
    without = sum(not (pair.utterance and pair.utterance.segments) for pair, _ in results)
    others = len(results) - without - len(timed_pairs)
    for count, what in ((without, "have no times"), (others, "have other phones than their words")):
        if count:
            lines.append(f"{count} of {len(results)} utterances {what}, and are not compared")
    return "\n".join(lines)


def tiers_of(text: str) -> dict[str, str]:
    """The type of `--tiers`: the levels of a TextGrid with their names."""
    named = dict(one.partition("=")[::2] for one in text.split(","))
    if not set(named) <= set(TIERS) or len(set(named.values())) < len(named):
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected LEVEL=NAME,… with the levels {', '.join(TIERS)}, as in "
            f"words=ORT,phones=MAU"
        )
    return {level: name or level for level, name in named.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asr align",
        description="Find the times of the words and phones that are said: forced alignment.",
        epilog="asr align a.wav 'she had your dark suit' --output a.TextGrid",
    )
    add = parser.add_argument
    a_source = (
        "a recording and its text (in quotes, or a file); a folder, table or manifest of them"
    )
    add("source", nargs="+", help=a_source)
    add("--checkpoint", type=Path, metavar="FILE", help="model; default: the packaged one")
    add("--lexicon", type=Path, metavar="FILE", help="of words; default: the packaged CMUdict")
    g2p = "of words outside the lexicon; none: an error"
    add("--g2p", choices=("espeak", "none"), default="espeak", help=g2p)
    an_output = "FILE.TextGrid, .json, .txt, .phn, .ctm, a manifest .jsonl, or a folder"
    add("--output", type=Path, metavar="PATH", help=an_output)
    add("--format", choices=KINDS, help="of the files in that folder; default: textgrid")
    add("--textgrid", type=Path, metavar="FOLDER", help="write TextGrids there too")
    add("--phn", type=Path, metavar="FOLDER", help="write .phn and .wrd there, in samples")
    add("--ctm", type=Path, metavar="FILE", help="write a ctm of phones, with confidences")
    add("--words-ctm", type=Path, metavar="FILE", help="write a ctm of words, likewise")
    names = "tiers of a TextGrid, with names; default: words=words,phones=phones"
    add("--tiers", type=tiers_of, default="words=words,phones=phones", metavar="…", help=names)
    symbols = "timit: with h# and pau in .phn and manifests"
    add("--symbols", choices=("arpabet", "timit"), default="arpabet", help=symbols)
    add("--channel", type=int, metavar="N", help="read only this channel, 1 is the first")
    add("--compare", action="store_true", help="print how far the manifest's `segments` differ")
    add("--overwrite", action="store_true", help="replace files that are already there")
    add("--root", default="", metavar="FOLDER", help="of a manifest's audio that has moved")
    add("--strict", action="store_true", help="exit code 1 where a transcript seems another's")
    add("--device", default="auto", help="cpu, cuda or cuda:N; default: cuda where there is one")
    return parser


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    sources, model = options.source, options.checkpoint
    is_manifest = len(sources) == 2 and sources[1].endswith(".jsonl")
    if model is None and (sources[0].endswith(".safetensors") or is_manifest):
        model, *sources = sources
    given = texts.pairs(sources, options.root)
    outputs = planned(
        given.pairs,
        *(options.output, options.format, options.textgrid, options.phn, options.ctm),
        *(options.words_ctm, options.compare),
    )
    require_new(outputs.paths(), options.overwrite, sources)
    if options.compare and not any(p.utterance and p.utterance.segments for p in given.pairs):
        raise DataError(f"{sources[0]}: --compare needs `segments`, and no utterance has any")
    for note in grouped(given.notes):
        print(f"warning: {note}", file=sys.stderr)
    pronouncer = Pronouncer(options.lexicon, options.g2p)
    jobs = jobs_of(given, pronouncer, needs_words := options.lexicon is not None)
    for warning in pronouncer.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    if not jobs:
        raise_problems(given.problems)
    for problem in given.problems:
        print(f"error: {problem}", file=sys.stderr)
    results: dict[int, Transcript] = {}
    doubtful = 0
    loaded = Aligner(aligner.load(model, choose_device(options.device)).recognizer)
    with tqdm(total=len(jobs), desc="aligned", leave=False, disable=None) as bar:
        for number, outcome in aligned(loaded, jobs, options.channel):
            pair, result, problems = jobs[number][0], outcome.transcript, [*outcome.problems]
            if result:
                result = result if pair.uses_words(needs_words) else replace(result, words=None)
                try:
                    _write_each(outputs, number, pair, result, options)
                    results[number] = result
                except DataError as error:
                    problems += error.problems
            for kind, said in (
                ("warning", [*outcome.remarks, *outcome.doubts]),
                ("error", problems),
            ):
                for sentence in said:
                    tqdm.write(f"{kind}: {_named(pair, sentence)}", file=sys.stderr)
            doubtful += bool(outcome.doubts)
            bar.update()
    total = len(given.pairs) + len(given.problems) - (len(given.pairs) - len(jobs))
    done = [(given.pairs[number], results[number]) for number in sorted(results)]
    _write_all(outputs, done, options.symbols == "timit")
    if options.compare:
        print(compared(done))
    for path in (options.textgrid, options.phn, options.output, options.ctm, options.words_ctm):
        if path and done:
            print(path)
    missing = total - len(done), "not aligned"
    for count, problem in (missing, (doubtful, "seem to have another's transcript")):
        if count:
            print(f"{count} of {total} utterances {problem}", file=sys.stderr)
    return int(bool(missing[0] or (options.strict and doubtful)))


def _write_each(
    outputs: Outputs, number: int, pair: Pair, result: Transcript, options: argparse.Namespace
) -> None:
    """Write, or print, the result of one pair in each format."""
    for format, places in outputs.each:
        rate = audio.info(pair.audio).sample_rate if format == "phn" else RATE
        complete = options.symbols == "timit"
        kinds = ("phn", "wrd")[: 1 + (result.words is not None)] if format == "phn" else (format,)
        files = [in_format(result, one, options.tiers, rate, complete) for one in kinds]
        place = places[number]
        if place is None:
            print("".join(files), end="", flush=True)
            continue
        for text, ending in zip(files, FORMATS[format], strict=False):
            with atomic_open(place.with_suffix(ending)) as file:
                file.write(text)


def _write_all(outputs: Outputs, done: Sequence[tuple[Pair, Transcript]], complete: bool) -> None:
    """Write what holds the results of all pairs, the manifest last."""
    for path, kind in ((outputs.ctm, "ctm"), (outputs.words_ctm, "words-ctm")):
        if path and done:
            with atomic_open(path) as file:
                file.writelines(in_format(replace(one, file=_id(pair)), kind) for pair, one in done)
    if outputs.manifest and done:
        write_jsonl(outputs.manifest, (timed(pair, result, complete) for pair, result in done))
