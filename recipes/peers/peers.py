"""Our models and their peers on the same files, under the same protocols: make peers ROOT=…

    python recipes/peers/peers.py experiment=timit-sample corpus.root=ROOT --split all

Every system recognises each utterance as recorded and in each condition; `table.md` of the output
folder has the scores, and with --costs what each system takes: time, memory, disk. What a system
writes for a sound is kept in the folder and used again while both are the same, so that a run that
was interrupted continues. References and hypotheses for `asr score` are there too.
"""

import argparse
import itertools
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jiwer
import numpy as np
import torch
from costs import costs
from systems import (
    EXTRAS,
    RATE,
    Output,
    Pocketsphinx,
    Settings,
    System,
    digest,
    ours,
    peers,
    words_of,
)

from asr import audio, corpora, labels, scoring
from asr.audio import Waveform
from asr.augment import seed_of
from asr.augment.sounds import add_at, amplitude, babble, coloured_noise
from asr.commands.configured import compose
from asr.corpora.checks import check
from asr.errors import DataError, exit_code, raise_problems
from asr.files.outputs import atomic_open
from asr.phones import phone_set
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.scoring import Score
from asr.transcriber import MODEL

GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "allphone": {"lw": (1.0, 1.25, 1.5, 1.75, 2.0), "beam": (1e-20,), "pbeam": (1e-20,)},
    "words": {"lw": (2.5, 4.0, 6.5), "wip": (0.05, 0.2, 0.65)},
}
TUNED_ON = 32  # dev utterances, at most
TIMED_ON = 16  # utterances
STOPS = frozenset(("b", "d", "g", "p", "t", "k", "ch", "jh"))
BABBLING = 4  # speakers in the babble
CLEAN = "as recorded"

Change = Callable[[Waveform, Utterance], Waveform]


class Existing(System):
    """Existing hypotheses of ours, such as those of `recipes/timit/left_out.py`."""

    ours = True

    def __init__(self, path: Path, utterances: Sequence[Utterance]) -> None:
        self.name = f"asr, {path.parent.name}/{path.stem}"
        phones = {one.id: one.phones for one in read_jsonl(path, Hypothesis)}
        missing = [one.id for one in utterances if one.id not in phones]
        if missing:
            raise DataError(
                f"{self.name}: {len(missing)} of {len(utterances)} utterances have no hypothesis, "
                f"the first is {missing[0]}; set --split and the corpus to those of the hypotheses"
            )
        self.outputs = {one.id: Output(phones[one.id]) for one in utterances}


class Kept:
    """A file of a system's outputs, each used again while the system and the sound are the same."""

    def __init__(self, folder: Path, system: System) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{re.sub(r'[^a-z0-9.]+', '-', system.name.lower())}.jsonl"
        self.system = system
        self.outputs: dict[str, Output] = {}
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole:
            kept = json.loads(line)
            self.outputs[kept["key"]] = Output(tuple(kept["symbols"]), kept["text"])
        if len(whole) < len(lines):  # a run was killed while it wrote
            with atomic_open(self.path) as file:
                file.write("".join(whole))

    def output(self, waveform: Waveform) -> Output:
        key = digest(self.system.identity.encode(), waveform.tobytes())
        if key not in self.outputs:
            self.system.forget()
            output = self.system.decode(waveform)
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, **output._asdict()}, ensure_ascii=False) + "\n")
            self.outputs[key] = output
        return self.outputs[key]


def by_speaker(utterances: Iterable[Utterance]) -> list[list[Utterance]]:
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(utterance.speaker, []).append(utterance)
    return list(groups.values())


def decode_all(
    systems: Sequence[System], utterances: Sequence[Utterance], change: Change, folder: Path
) -> list[dict[str, Output]]:
    """The output of each system for every utterance, by id; the folder keeps them."""
    kept = [Kept(folder, system) for system in systems]
    outputs: list[dict[str, Output]] = [{} for _ in systems]
    for said in by_speaker(utterances):
        waveforms = [change(audio.load(one.audio), one) for one in said]
        for system, of_system, result in zip(systems, kept, outputs, strict=True):
            system.prepare(waveforms)
            for utterance, waveform in zip(said, waveforms, strict=True):
                result[utterance.id] = of_system.output(waveform)
        if sys.stderr.isatty():
            print(f"\r{len(outputs[0])} / {len(utterances)}", end="", file=sys.stderr)
    return outputs


def conditions(
    utterances: Sequence[Utterance],
    snr: Sequence[float],
    noises: Sequence[str],
    zeros: Sequence[float],
) -> dict[str, Change]:
    """Each condition by name: a change of an utterance's sound, the same for every system."""
    changes: dict[str, Change] = {CLEAN: lambda waveform, _: waveform}
    for kind, snr_db in itertools.product(noises, snr):
        changes[f"{kind} noise at {snr_db:g} dB"] = partial(
            noisy, utterances=utterances, kind=kind, snr_db=snr_db
        )
    for seconds in zeros:
        changes[f"{seconds:g} s of zeros added"] = partial(_followed, samples=int(seconds * RATE))
    return changes


def _followed(waveform: Waveform, _: Utterance, samples: int) -> Waveform:
    return np.pad(waveform, (0, samples))


def noisy(
    waveform: Waveform,
    utterance: Utterance,
    utterances: Sequence[Utterance],
    kind: str,
    snr_db: float,
) -> Waveform:
    """The waveform with white noise or with other speakers."""
    draw = np.random.default_rng(seed_of(0, 0, utterance.id))
    if kind == "white":
        return add_at(snr_db, waveform, coloured_noise(draw, len(waveform), RATE, 0.0))
    others = [one for one in utterances if one.speaker != utterance.speaker]
    if len(others) < BABBLING:
        raise DataError(
            f"--noise babble: {len(others)} utterances are of other speakers than "
            f"{utterance.speaker}, expected {BABBLING}; choose another --split, or --noise white"
        )
    chosen = draw.choice(len(others), size=BABBLING, replace=False)
    voices = [audio.load(others[n].audio) for n in chosen]
    return add_at(snr_db, waveform, babble(draw, voices, len(waveform)))


def without_speech(seconds: float) -> dict[str, Waveform]:
    """Sounds in which nobody speaks; levels in dB of full scale."""
    samples = int(seconds * RATE)
    time_s = np.arange(samples) / RATE
    hum = sum(np.sin(2 * np.pi * 50 * k * time_s) / k for k in range(1, 6))
    draw = np.random.default_rng(0)
    sounds = {"zeros": np.zeros(samples, np.float32)}
    for name, level_db, sound in (
        ("white noise, −60 dB", -60, coloured_noise(draw, samples, RATE, 0.0)),
        ("white noise, −30 dB", -30, coloured_noise(draw, samples, RATE, 0.0)),
        ("pink noise, −40 dB", -40, coloured_noise(draw, samples, RATE, 1.0)),
        ("hum of 50 Hz, −40 dB", -40, np.asarray(hum, np.float32)),
    ):
        sounds[name] = sound * np.float32(amplitude(level_db) / sound.std())
    return sounds


def tuned(kind: str, dev: Sequence[Utterance]) -> Settings:
    """The settings of the grid with the lowest dev PER under `arpabet`."""
    step = -(-len(dev) // TUNED_ON)
    some = dev[::step]
    grid = GRIDS[kind]
    tried = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        system = Pocketsphinx(kind, settings, "")
        heard = {one.id: system.decode(audio.load(one.audio)).symbols for one in some}
        per = scored(some, heard, "arpabet").total.per
        print(f"dev, {kind}: {settings} {per:.2f}", file=sys.stderr)
        tried.append((per, settings))
    return min(tried, key=lambda one: one[0])[1]


# ---------------------------------------------------------------- scoring


def in_timit(phones: Sequence[str], closures: bool) -> tuple[str, ...]:
    """CMUdict's phones as TIMIT labels, with silence at the start and end of the utterance.

    With `closures` each stop or affricate gets a closure before it, which `strict` folds to
    silence. TIMIT labels are unchanged.
    """
    if not {*phones} <= {*phone_set("arpabet39"), "sil"}:
        return tuple(phones)
    said = ["sil", *phones, "sil"]
    if closures:
        said = [
            label for phone in said for label in (["sil", phone] if phone in STOPS else [phone])
        ]
    return tuple(
        label for before, label in itertools.pairwise(["", *said]) if not before == label == "sil"
    )


def scored(
    utterances: Sequence[Utterance], hypotheses: Mapping[str, Sequence[str]], column: str
) -> Score:
    """The score under the protocol of a column, or under `strict, closures`."""
    name = column.partition(",")[0]
    if name == "strict":
        hypotheses = {id: in_timit(phones, column != name) for id, phones in hypotheses.items()}
    return scoring.score(
        {one.id: one.phones for one in utterances},
        hypotheses,
        name,
        speakers={one.id: one.speaker for one in utterances},
    )


def word_error_rate(texts: Mapping[str, str], outputs: Mapping[str, Output]) -> str:
    """In percent, of the utterances whose words are known; – for a system without words."""
    if not texts or all(output.text is None for output in outputs.values()):
        return "–"
    references = [" ".join(words_of(text)) for text in texts.values()]
    hypotheses = [" ".join(words_of(outputs[id].text or "")) for id in texts]
    return f"{100 * jiwer.wer(references, hypotheses):.2f}"


def table(
    systems: Sequence[System],
    outputs: Sequence[Mapping[str, Output]],
    scores: Sequence[Sequence[Score]],
    columns: Sequence[str],
    texts: Mapping[str, str],
) -> Iterator[str]:
    """Lines of Markdown: each system, then each of our systems against each peer."""
    yield f"| system | {' | '.join(columns)} | WER |"
    yield f"|---|{'---|' * len(columns)}---:|"
    for system, said, of_system in zip(systems, outputs, scores, strict=True):
        rates = " | ".join(f"**{one.total.per:.2f}** ({_interval(one)})" for one in of_system)
        yield f"| {system.name} | {rates} | {word_error_rate(texts, said)} |"
    pairs = [
        (n, k)
        for n, ours in enumerate(systems)
        for k, peer in enumerate(systems)
        if ours.ours and not peer.ours
    ]
    if pairs:
        yield ""
        yield "| ours − peer | protocol | points | 95 % by speaker | p, by speaker | p, MAPSSWE |"
        yield "|---|---|---:|---|---:|---:|"
    for n, k in pairs:
        for column, a, b in zip(columns, scores[n], scores[k], strict=True):
            yield _compared(f"{systems[n].name} − {systems[k].name}", column, a, b)


def _interval(score: Score) -> str:
    return str(score.intervals.get("speaker", "one speaker"))


def _compared(names: str, column: str, a: Score, b: Score) -> str:
    comparison = scoring.compare(a, b, scoring.protocol(a.protocol))
    drawn = comparison.bootstrap
    by_speaker = f"{drawn.interval} | {drawn.p:.3f}" if drawn else "– | –"
    return (
        f"| {names} | {column} | {comparison.difference:+.2f} | {by_speaker} | "
        f"{comparison.mapsswe.p:.2g} |"
    )


def matrix(
    head: str, systems: Sequence[System], columns: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Lines of Markdown: a heading, and a row of cells for each system."""
    yield from ("", f"## {head}", "", f"| system | {' | '.join(columns)} |")
    yield f"|---|{'---:|' * len(columns)}"
    for system, *cells in zip(systems, *columns.values(), strict=True):
        yield f"| {system.name} | {' | '.join(cells)} |"


def invented(
    systems: Sequence[System], sounds: Mapping[str, Waveform], folder: Path
) -> dict[str, list[str]]:
    """Phones a minute of each system, by name of the sound, in which nobody speaks."""
    columns: dict[str, list[str]] = {name: [] for name in sounds}
    for system in systems:
        kept = Kept(folder, system)
        for name, sound in sounds.items():
            system.prepare([sound])
            (phones,) = system.phones({name: kept.output(sound)}).values()
            count = sum(phone != "sil" for phone in phones)
            columns[name].append(f"{count * 60 * RATE / len(sound):.0f}")
    return columns


# ---------------------------------------------------------------- run


class Material(NamedTuple):
    """What is decoded; `texts` has the words of each utterance where they are known, by id."""

    name: str
    protocol: str
    lexicon: str | None
    dev: list[Utterance]
    utterances: list[Utterance]
    texts: dict[str, str]


def read(overrides: Sequence[str], split: str) -> Material:
    """The utterances of a split, with `all` of every split."""
    config = compose(overrides).corpus
    corpus = corpora.find(config)
    raise_problems([*corpus.wrong, *corpus.bad])
    selected = list(corpus.splits) if split == "all" else [split]
    if unknown := {*selected} - {*corpus.splits}:
        known = ", ".join([*corpus.splits, "all"])
        raise DataError(f"--split {unknown.pop()}: unknown, expected one of {known}")
    if not any(corpus.splits[one] for one in selected):
        raise DataError(
            f"{config.root}: no utterance is in {', '.join(selected)}; choose another --split, or "
            f"set corpus.speakers to a file of `speaker train|dev|test` lines for the speakers"
        )
    splits: dict[str, list[Utterance]] = {}
    texts: dict[str, str] = {}
    for one in {*selected, "dev"}:
        checked = [check(recording, one, corpus) for recording in corpus.splits[one]]
        raise_problems(problem for of_one in checked for problem in of_one.problems)
        splits[one] = [of_one.utterance for of_one in checked if of_one.utterance]
    for recording in (recording for one in selected for recording in corpus.splits[one]):
        with suppress(DataError):  # no words: no word error rate
            text = recording.words or (recording.text and labels.words(recording.text))
            if text:
                texts[recording.id] = text
    utterances = [utterance for one in selected for utterance in splits[one]]
    lexicon = getattr(config, "lexicon", None)
    return Material(corpus.name, config.protocol, lexicon, splits["dev"], utterances, texts)


def machine(arguments: Sequence[str]) -> str:
    """The command, the date, and what it ran on."""
    return (
        f"`peers.py {shlex.join(arguments)}`, {date.today()}; one thread, {platform.machine()}, "
        f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )


def run(options: argparse.Namespace, arguments: Sequence[str]) -> str:
    torch.set_num_threads(1)
    name, protocol, lexicon, dev, utterances, texts = read(options.overrides, options.split)
    if options.tune and not dev:
        raise DataError("--tune: dev has no utterances; add some, or leave --tune out")
    existing = [Existing(path, utterances) for path in options.heard]
    dictionary = options.lexicon or lexicon
    installed, absent = peers(options.peers, dictionary and Path(dictionary))
    models = options.checkpoint or [path for path in [MODEL] if path.exists()]
    if not models:
        absent.append("No model of ours: there is no packaged model, and no --checkpoint")
    made, without_words = ours(models, options.one_speaker, options.words)
    systems, absent = [*made, *installed], [*without_words, *absent]
    if options.tune and any(isinstance(one, Pocketsphinx) for one in installed):
        systems += [Pocketsphinx(kind, tuned(kind, dev), "tuned on dev") for kind in GRIDS]
    columns = ["strict", "strict, closures", "arpabet"] if protocol == "strict" else ["arpabet"]
    speakers = len({one.speaker for one in utterances})
    folder = Path(options.output)
    write_jsonl(folder / "references.jsonl", utterances)
    sections: list[str] = []
    named: list[System] = [*systems, *existing]
    summary: dict[str, list[str]] = {}
    changes = conditions(utterances, options.snr, options.noise, options.zeros)
    for condition, change in changes.items():
        outputs = decode_all(systems, utterances, change, folder / "outputs")
        if condition == CLEAN:
            outputs += [one.outputs for one in existing]
        compared = named[: len(outputs)]
        phones = [one.phones(said) for one, said in zip(compared, outputs, strict=True)]
        scores = [
            [scoring.with_intervals(scored(utterances, said, column)) for column in columns]
            for said in phones
        ]
        rates = [f"{of_system[-1].total.per:.2f}" for of_system in scores]
        summary[condition] = rates + ["–"] * (len(named) - len(rates))
        sections += ["", f"## PER, {condition}", ""]
        sections += table(compared, outputs, scores, columns, texts)
        for n, said in enumerate(phones):
            place = folder / f"{condition.replace(' ', '-')}-{n}.hyp.jsonl"
            write_jsonl(place, (Hypothesis(id, phones) for id, phones in said.items()))
    lines = [
        f"# {name}, {options.split}: {len(utterances)} utterances of {speakers} speakers",
        "",
        machine(arguments),
        *(line for one in absent for line in ("", f"{one}.")),
    ]
    if len(summary) > 1:
        lines += matrix("PER, `arpabet`, in every condition", named, summary)
    if options.empty:
        minutes = invented(systems, without_speech(options.empty), folder / "outputs")
        lines += matrix("Phones a minute where nobody speaks", systems, minutes)
    if options.costs:
        some = by_speaker(utterances[:: -(-len(utterances) // TIMED_ON)])
        waveforms = [[audio.load(one.audio) for one in said] for said in some]
        lines += matrix("What it takes", systems, costs(systems, waveforms))
    text = "\n".join([*lines, *sections]) + "\n"
    with atomic_open(folder / "table.md") as file:
        file.write(text)
    return text


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("overrides", nargs="+", help="for the corpus: experiment=… corpus.root=…")
    add("--checkpoint", type=Path, action="append", help="default: the packaged model")
    add(
        "--heard", type=Path, action="append", default=[], help="existing hypotheses, one more line"
    )
    add("--peers", nargs="*", choices=EXTRAS, default=EXTRAS, help="default: all")
    add("--words", type=Path, help="words of our models; default: the packaged ones")
    add("--lexicon", type=Path, help="pronunciations of words, in CMUdict's format")
    add("--split", default="test", help="split to decode; all: every split")
    add("--tune", action="store_true", help="also tune pocketsphinx on dev")
    add("--one-speaker", action="store_true", help="also our models normalised by speaker")
    add("--snr", type=float, nargs="*", default=[], help="dB of noisy copies")
    add("--noise", nargs="*", choices=("white", "babble"), default=["white"], help="in them")
    add("--zeros", type=float, nargs="*", default=[], help="seconds of zeros after each utterance")
    add("--empty", type=float, default=0, help="seconds of sounds without speech")
    add("--costs", action="store_true", help="also measure time, memory and disk")
    add("--output", default="exp/peers", help="output folder")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        print(run(parser.parse_args(given), given), end="")
    except (DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
