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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr import alignment, audio, scoring
from asr.aligner import Aligner
from asr.commands import checks, recordings, texts
from asr.commands.texts import Pair, Pairs
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError, exit_code, grouped, raise_problems
from asr.features.moments import Moments, Sums
from asr.files import shown
from asr.files.outputs import atomic_open, require_new
from asr.labels.formats import FORMATS, RATE, TIERS, in_format, with_silence
from asr.processor.choice import device_for
from asr.records import Transcript, Utterance, write_jsonl
from asr.symbols import ALPHABETS, require_alphabet, written

KINDS = ("textgrid", "text", "json", "phn")  # with one file for each recording, the default first

Job = tuple[Pair, tuple[Said, ...]]
Say = Callable[[str, Pair, str], object]  # a kind ("error", "warning", "doubt"), and a sentence
Places = Sequence[tuple[str, Sequence[Path | None]]]  # of each pair; None: stdout


def jobs_of(given: Pairs, pronouncer: Pronouncer, needs_words: bool) -> dict[int, Job]:
    """The pairs by their number, with what is said; what cannot be read becomes a problem.

    The words of a manifest are read where it has no phones, or they are needed. Raises `DataError`
    where words outside the lexicon need g2p, and it is not installed.
    """
    pronouncer.prepare(one.text for one in given.pairs if one.text and one.uses_words(needs_words))
    jobs = {}
    for number, pair in enumerate(given.pairs):
        try:
            if needs_words and pair.text is None:
                raise DataError(f"{pair.place}: no `words`, which --lexicon and --check need")
            jobs[number] = pair, pair.said(pronouncer, needs_words)
        except DataError as error:
            given.problems += error.problems
    return jobs


def aligned(
    model: Aligner, jobs: Mapping[int, Job], say: Say, channel: int | None = None
) -> Iterator[tuple[int, Transcript | None]]:
    """The number and the transcript of each pair; None: `say` got what is wrong with it."""
    config, moments = model.network.config.features, _of_speakers(model, jobs, channel)
    for number, (pair, said) in jobs.items():
        warn, doubt = (partial(say, kind, pair) for kind in ("warning", "doubt"))
        try:
            with audio.on_disk(pair.audio):
                rate, window = config.sample_rate, config.window_samples
                blocks = audio.stream(pair.audio, rate, window, warn, channel)
                speaker = pair.utterance.speaker if pair.utterance else ""
                result = alignment.transcript(
                    model, shown(pair.audio), blocks, said, doubt, moments.get(speaker)
                )
            yield number, result
        except DataError as error:
            for problem in error.problems:
                say("error", pair, problem)
            yield number, None


def _of_speakers(
    model: Aligner, jobs: Mapping[int, Job], channel: int | None
) -> dict[str, Moments]:
    """The moments of each speaker of a manifest, where the model is normalised by speaker."""
    config, frames = model.network.config.features, model.network.frames
    sums: dict[str, Sums] = defaultdict(Sums)
    for pair, _ in jobs.values() if config.normalization == "speaker" else ():
        if pair.utterance:
            with suppress(DataError):  # reported when it is aligned
                rate, window = config.sample_rate, config.window_samples
                blocks = audio.stream(pair.audio, rate, window, lambda _: None, channel)
                waveform = np.concatenate(list(blocks))
                sums[pair.utterance.speaker].add(frames.dynamic(frames.static(waveform)))
    return {speaker: one.moments() for speaker, one in sums.items()}


def timed(pair: Pair, result: Transcript, complete: bool) -> Utterance:
    """An utterance of a manifest to train from; `complete`: with TIMIT's silences."""
    phones = tuple(with_silence(result.phones, result.duration_s)) if complete else result.phones
    segments = tuple(one._replace(confidence=None) for one in phones)
    names = tuple(one.phone for one in segments)
    if one := pair.utterance:
        how = one.pronunciation if result.words is None else "aligned"
        return replace(one, phones=names, segments=segments, pronunciation=how)
    speaker = re.sub(r"\s", "_", pair.name.parent.name) or pair.id
    words = " ".join(one.word for one in result.words or ())
    place = os.path.abspath(pair.audio)
    return Utterance(
        *(pair.id, place, result.duration_s, speaker, names, segments),
        words=words,
        pronunciation="aligned",
    )


def compared(results: Sequence[tuple[Pair, Transcript]]) -> str:
    """How far times are from those of the manifest, of the utterances that have some."""
    return scoring.compare_times(
        scoring.TimedPair(one.id, one.speaker, one.segments or (), result.phones)
        for one, result in ((pair.utterance, result) for pair, result in results)
        if one
    ).text()


def places_of(pairs: Sequence[Pair], options: argparse.Namespace) -> Places:
    """The files of each pair, in each format that the options ask for.

    Raises `DataError` where ids or files would be the same, or cannot be names.
    """
    whole = (options.ctm, options.words_ctm, options.manifest)
    places: list[tuple[str, Sequence[Path | None]]] = [
        (kind, [folder / f"{pair.name}{FORMATS[kind][0]}" for pair in pairs])
        for kind, folder in (("textgrid", options.textgrid), ("phn", options.phn))
        if folder
    ]
    if options.output or not (places or any(whole) or options.compare):
        named = [(pair.audio, pair.name) for pair in pairs]
        places.append(recordings.targets(named, options.format, options.output, KINDS))
    times = Counter(pair.id for pair in pairs)
    raise_problems(
        f"{one.id!r}: is the id of {times[one.id]} recordings, and cannot name them; rename them"
        if times[one.id] > 1
        else f"{one.id!r}: cannot be the name of a file; rename it in the manifest, or write "
        f"--output FILE.jsonl or --ctm"
        for one in pairs
        if (any(whole) and times[one.id] > 1) or (places and one.utterance and "/" in one.id)
    )
    return places


def write_each(
    places: Places, number: int, pair: Pair, result: Transcript, options: argparse.Namespace
) -> None:
    """Write, or print, the result of a pair in each format."""
    result = written(result, options.symbols)
    for format, paths in places:
        path, kinds, rate = paths[number], [format], RATE
        if format == "phn":
            rate = audio.info(pair.audio).sample_rate
            kinds += ["wrd"] * (result.words is not None)
        complete = options.symbols == "timit"
        files = [in_format(result, one, options.tiers, rate, complete) for one in kinds]
        if path is None:
            print("".join(files), end="", flush=True)
            continue
        for text, ending in zip(files, FORMATS[format], strict=False):
            with atomic_open(path.with_suffix(ending)) as file:
                file.write(text)


def write_all(done: Sequence[tuple[Pair, Transcript]], options: argparse.Namespace) -> None:
    """Write what holds the results of all pairs, the manifest last."""
    done = [(pair, written(result, options.symbols)) for pair, result in done]
    for path, kind in ((options.ctm, "ctm"), (options.words_ctm, "words-ctm")):
        if path:
            with atomic_open(path) as file:
                file.writelines(in_format(replace(one, file=pair.id), kind) for pair, one in done)
    if options.manifest:
        complete = options.symbols == "timit"
        write_jsonl(options.manifest, (timed(pair, result, complete) for pair, result in done))


def tiers_of(text: str) -> dict[str, str]:
    """The type of `--tiers`: the levels of a TextGrid with their names."""
    named = dict(one.partition("=")[::2] for one in text.split(","))
    if not set(named) <= set(TIERS) or len(set(named.values())) < len(named):
        raise argparse.ArgumentTypeError(
            f"{text!r}, expected LEVEL=NAME,… with the levels {', '.join(TIERS)}, as in "
            f"words=ORT,phones=MAU"
        )
    return {level: name or level for level, name in named.items()}


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with the sources in `source`, and `manifest` in place of --output FILE.jsonl."""
    parser = argparse.ArgumentParser(
        prog="asr align",
        description="Find the times of the words and phones that are said: forced alignment.",
        epilog="asr align a.wav 'she had your dark suit' --output a.TextGrid",
        parents=[texts.flags()],
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="FILE", help="model; default: the packaged one")
    an_output = "FILE.TextGrid, .json, .txt, .phn, .ctm, a manifest .jsonl, or a folder"
    add("--output", type=Path, metavar="PATH", help=an_output)
    add("--format", choices=KINDS, help="of the files in that folder; default: textgrid")
    add("--textgrid", type=Path, metavar="FOLDER", help="write TextGrids there too")
    add("--phn", type=Path, metavar="FOLDER", help="write .phn and .wrd there, in samples")
    add("--ctm", type=Path, metavar="FILE", help="write a ctm of phones, with confidences")
    add("--words-ctm", type=Path, metavar="FILE", help="write a ctm of words, likewise")
    names = "tiers of a TextGrid, with their names; default: words=words,phones=phones"
    add("--tiers", type=tiers_of, default="words=words,phones=phones", metavar="…", help=names)
    symbols = """alphabet of what is written; timit: with h# and pau where nobody speaks, in .phn
        and manifests; default: the model's own phones"""
    add("--symbols", choices=ALPHABETS, help=symbols)
    add("--compare", action="store_true", help="print how far the manifest's `segments` differ")
    a_check = "list the likeliest wrong words instead; --output FILE.json or .jsonl has all"
    add("--check", action="store_true", help=a_check)
    add("--strict", action="store_true", help="exit code 1 where a transcript seems wrong")
    options = parser.parse_args(arguments)
    first, *others = options.source
    is_model = first.endswith(".safetensors") or [one[-6:] for one in others] == [".jsonl"]
    if others and not options.checkpoint and is_model:
        options.checkpoint, options.source = first, others
    phn = options.phn or "phn" in (options.format, str(options.output).lower()[-3:])
    if options.symbols == "xsampa" and phn:
        parser.error(
            "--symbols xsampa: .phn is read in lower case, where T and t would be the same; write "
            "TextGrid, .json or .ctm, or set --symbols timit"
        )
    if options.check:
        options.manifest = None
        if options.symbols:
            parser.error("--symbols: --check prints its model's phones; leave --symbols out")
        if options.output and options.output.suffix not in checks.FORMATS:
            parser.error(f"--output {options.output}: --check writes .json or .jsonl")
        return options
    for ending, name in ((".jsonl", "manifest"), (".ctm", "ctm")):
        is_whole = options.output and options.output.suffix.lower() == ending
        if name == "manifest" or is_whole:
            setattr(options, name, options.output if is_whole else None)
        options.output = None if is_whole else options.output
    return options


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    recordings.tell_first_use()
    options = options_of(arguments)
    given = texts.pairs(options.source, options.root)
    places = () if options.check else places_of(given.pairs, options)
    whole = list(filter(None, (options.ctm, options.words_ctm, options.manifest)))
    files = [
        path.with_suffix(ending)
        for format, paths in places
        for path in filter(None, paths)
        for ending in FORMATS[format]
    ]
    if options.check and options.output:
        whole.append(options.output)
    require_new(
        [*files, *whole],
        options.overwrite,
        [*options.source, *given.inputs, options.lexicon, options.checkpoint],
    )
    if options.compare and not any(p.utterance and p.utterance.segments for p in given.pairs):
        raise DataError(f"{options.source[0]}: --compare needs `segments`, no utterance has them")
    total = len(given.pairs) + len(given.problems)
    pronouncer = Pronouncer(options.lexicon, options.g2p)
    jobs = jobs_of(given, pronouncer, options.check or options.lexicon is not None)
    for warning in grouped([*given.notes, *pronouncer.warnings()]):
        print(f"warning: {warning}", file=sys.stderr)
    if not jobs:
        raise_problems(given.problems)
    for problem in grouped(given.problems):
        print(f"error: {problem}", file=sys.stderr)
    counts, sentences = Counter[str](), recordings.Sentences()

    def say(kind: str, pair: Pair, sentence: str) -> None:
        name = pair.utterance.id if pair.utterance else shown(pair.audio)
        counts[kind] += 1
        if kind == "doubt":
            start = "" if sentence.startswith(name) else f"{name}: "
            tqdm.write(f"warning: {start}{sentence}", file=sys.stderr)
        else:
            sentences(kind, name, sentence)

    def report(good: int) -> int:
        """Print how many pairs are not aligned, or doubtful; the exit code."""
        sentences.end()
        for count, what in (
            (total - good, "not checked" if options.check else "not aligned"),
            (counts["doubt"], "seem to have the transcript of another recording"),
        ):
            if count and total > 1:
                print(f"{count} of {total} utterances {what}", file=sys.stderr)
        return int(total > good or (options.strict and counts["doubt"] > 0))

    results: dict[int, Transcript] = {}
    if options.check:
        where = options.output, options.checkpoint, device_for(options.device), options.channel
        judged = checks.run(jobs, say, *where)
        return report(len(judged))
    model = Aligner(alignment.load(options.checkpoint, device_for(options.device)).network)
    require_alphabet(options.symbols, model.network.vocabulary.phones)
    with tqdm(total=len(jobs), desc="aligned", leave=False, disable=None) as bar:
        for number, result in aligned(model, jobs, say, options.channel):
            bar.update()
            pair, said = jobs[number]
            if result is None:
                continue
            if pair.phones == tuple(one.word for one in said):
                result = replace(result, words=None)
            try:
                write_each(places, number, pair, result, options)
                results[number] = result
            except DataError as error:
                say("error", pair, str(error))
    done = [(given.pairs[number], results[number]) for number in sorted(results)]
    if done:
        write_all(done, options)
        if options.compare:
            print(compared(done))
        for path in filter(None, (options.textgrid, options.phn, options.output, *whole)):
            print(path)
    return report(len(done))
