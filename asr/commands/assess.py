"""Recordings and what is said in them → how well each sound was pronounced.

    asr assess a.wav "she had your dark suit"
    asr assess a.wav a.txt --output a.TextGrid      the text in a file
    asr assess FOLDER --output OUT --format json    pairs of audio and .txt or .lab; a tree is kept
    asr assess table.tsv --output OUT               columns of recordings and texts

A phone with a score below 50 (of 100) is marked, with what was heard in its place.
docs/assessment.md says what scores mean, and how often natives' phones are marked.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr import assessment, audio
from asr.assessment import FLAGGED, AssessedWord, Assessment
from asr.commands import recordings, texts
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError, exit_code, grouped, raise_problems
from asr.files import shown
from asr.files.outputs import atomic_open, require_new
from asr.labels import textgrid
from asr.processor.choice import device_for
from asr.records import Segment
from asr.symbols import ALPHABETS

KINDS = ("textgrid", "text", "json")  # the first is that of a folder of results


def in_format(result: Assessment, format: str) -> str:
    """As text with a word a line, one JSON object in a line, or Praat's TextGrid."""
    if format == "json":
        return json.dumps(asdict(result), ensure_ascii=False) + "\n"
    if format == "text":
        scores = [
            f"{key} {getattr(result, key):.0f}" for key in ("score", "accuracy", "completeness")
        ]
        lines = [f"# {result.file}, {result.duration_s:.2f} s: {', '.join(scores)}"]
        for word in result.words:
            said = "left out" if word.left_out else " ".join(marked(word))
            times = f"{word.start_s:9.3f} {word.end_s:9.3f}"
            lines.append(f"{times} {word.score:4.0f}  {word.word:<15} {said}")
        return "\n".join(lines) + "\n"
    tiers: dict[str, list[Segment]] = {"words": [], "phones": [], "scores": [], "heard": []}
    for word in (one for one in result.words if one.phones):
        tiers["words"].append(Segment(word.word, word.start_s, word.end_s))
        for one, mark in zip(word.phones, marked(word), strict=True):
            own = {"phones": one.phone, "scores": f"{one.score:.0f}"}
            own |= {"heard": mark.replace(" ", "")} if mark != one.phone else {}
            for tier, label in own.items():
                tiers[tier].append(Segment(label, one.start_s, one.end_s))
    return textgrid.text_of(tiers, result.duration_s)


def marked(word: AssessedWord) -> list[str]:
    """Each phone, marked ones as `th→s(4)`, or `th→-(4)` for none, with added ones: `k +ah(3)`."""
    marks = []
    for n, one in enumerate(word.phones):
        instead = "" if one.heard == one.phone else f"→{one.heard}"
        mark = f"{one.phone}{instead}({one.score:.0f})" if one.score < FLAGGED else one.phone
        before, behind = (
            [f"+{extra.phone}({extra.score:.0f})" for extra in word.extra if extra.after == place]
            for place in (0, n + 1)
        )
        marks.append(" ".join([*(before if n == 0 else ()), mark, *behind]))
    return marks


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="asr assess",
        description="Score how well each sound of a known English text was pronounced.",
        epilog="asr assess a.wav 'she had your dark suit' --output a.TextGrid",
        parents=[texts.flags()],
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, metavar="FILE", help="model that listens; default: the packaged")
    add("--output", type=Path, metavar="PATH", help="FILE.TextGrid, .json or .txt, or a folder")
    add("--format", choices=KINDS, help="default: that of FILE, textgrid in a folder, else text")
    alphabet = "alphabet of phones in results; default: ARPABET, of the model"
    add("--symbols", choices=ALPHABETS, help=alphabet)
    return parser.parse_args(arguments)


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    recordings.tell_first_use()
    options = options_of(arguments)
    given = texts.pairs(options.source, options.root)
    places = [(pair.audio, pair.name) for pair in given.pairs]
    format, targets = recordings.targets(places, options.format, options.output, KINDS)
    inputs = *options.source, *given.inputs, options.lexicon, options.checkpoint
    require_new(filter(None, targets), options.overwrite, inputs)
    pronouncer, problems, jobs = Pronouncer(options.lexicon, options.g2p), [*given.problems], []
    pronouncer.prepare(one.text for one in given.pairs if one.text)
    for pair, target in zip(given.pairs, targets, strict=True):
        try:
            jobs.append((pair, target, pair.said(pronouncer)))
        except DataError as error:
            problems += error.problems
    if not jobs:
        raise_problems(problems)
    for warning in grouped([*given.notes, *pronouncer.warnings()]):
        print(f"warning: {warning}", file=sys.stderr)
    for problem in grouped(problems):
        print(f"error: {problem}", file=sys.stderr)
    assessor = assessment.load(options.checkpoint, device_for(options.device), options.symbols)
    bad, say = len(problems), recordings.Sentences()
    hidden = True if options.output is None else None
    for pair, target, said in tqdm(jobs, desc="assessed", leave=False, disable=hidden):
        name = shown(pair.audio)
        warn = partial(say, "warning", name)
        try:
            with audio.on_disk(pair.audio):
                blocks = assessor.recogniser.blocks(pair.audio, warn, options.channel)
                waveform = np.concatenate(list(blocks))
            result = assessor.assess(name, waveform, said, warn)
            text = in_format(result, format)
        except DataError as error:
            bad += 1
            for problem in error.problems:
                say("error", name, problem)
            continue
        if target is None:
            print(text, end="", flush=True)
        else:
            with atomic_open(target) as file:
                file.write(text)
    say.end()
    if options.output:
        print(options.output)
    if bad and (count := len(given.pairs) + len(given.problems)) > 1:
        print(f"{bad} of {count} recordings not assessed", file=sys.stderr)
    return int(bad > 0)
