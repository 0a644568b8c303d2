"""Our models and their peers on the same files, under the same protocols: make peers ROOT=…

    python recipes/peers/peers.py experiment=timit-sample corpus.root=ROOT --split all

Every system recognises each utterance as recorded and in each condition; `table.md` of the output
folder has the scores, and with --costs what each system takes: time, memory, disk. What a peer
writes for a sound is kept in the folder and used again, so that a run that was interrupted
continues, and a new model of ours costs its own time only. References and hypotheses for
`asr score` are there too.
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
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).parents[1] / "librispeech"))

import jiwer
import numpy as np
import torch
from conditions import babble, quiet, recorded, sample, white
from costs import costs
from systems import EXTRAS, RATE, Output, Phones, Pocketsphinx, System, ours, peers, words_of
from tqdm import tqdm

from asr import audio, corpora, labels, scoring
from asr.audio import Waveform
from asr.augment.sounds import amplitude, coloured_noise
from asr.commands.configured import compose
from asr.corpora.checks import check
from asr.corpora.recording import Corpus
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
CLEAN = "as recorded"

Change = Callable[[Waveform, Utterance, int], Waveform]
Sounds = Mapping[str, Waveform]  # by id

# ---------------------------------------------------------------- decoding


class Kept:
    """A file of a peer's outputs, each used again for the same sound."""

    def __init__(self, folder: Path, system: System) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{re.sub(r'[^a-z0-9.-]+', '-', system.name.lower()).strip('-')}.jsonl"
        self.system = system
        self.outputs: dict[str, Output] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            with suppress(json.JSONDecodeError):  # a run was killed while it wrote
                kept = json.loads(line)
                self.outputs[kept["key"]] = Output(tuple(kept["symbols"]), kept["text"])

    def decode(self, waveform: Waveform) -> Output:
        key = blake2b(waveform.tobytes(), digest_size=16).hexdigest()
        if key not in self.outputs:
            self.system.forget()
            self.outputs[key] = output = self.system.decode(waveform)
            with self.path.open("a") as file:
                file.write("\n" + json.dumps({"key": key, **output._asdict()}, ensure_ascii=False))
        return self.outputs[key]


def decode_all(
    systems: Sequence[System], speakers: Iterable[Sounds], folder: Path
) -> list[dict[str, Output]]:
    """The output of each system for every sound of every speaker; the folder keeps the peers'."""
    decoders = [one.decode if one.ours else Kept(folder, one).decode for one in systems]
    outputs: list[dict[str, Output]] = [{} for _ in systems]
    for sounds in speakers:
        for system, decode, of_system in zip(systems, decoders, outputs, strict=True):
            system.prepare(list(sounds.values()))
            of_system.update({id: decode(waveform) for id, waveform in sounds.items()})
    return outputs


def by_speaker(utterances: Iterable[Utterance], change: Change = recorded) -> Iterator[Sounds]:
    """The waveforms of each speaker."""
    groups: dict[str, list[Utterance]] = {}
    for one in utterances:
        groups.setdefault(one.speaker, []).append(one)
    for said in groups.values():
        yield {one.id: change(audio.load(one.audio), one, RATE) for one in said}


def conditions(
    utterances: Sequence[Utterance],
    snr: Sequence[float],
    noises: Sequence[str],
    zeros: Sequence[float],
) -> dict[str, Change]:
    """Each condition by name: a change of an utterance's sound, the same for every system."""
    kinds = {"white": white, "babble": partial(babble, every=utterances)}
    noisy = {
        f"{kind} noise at {snr_db:g} dB": partial(kinds[kind], snr_db=snr_db)
        for kind, snr_db in itertools.product(noises, snr)
    }
    longer = {
        f"{seconds:g} s of zeros added": partial(quiet, before_s=0, after_s=seconds, room=False)
        for seconds in zeros
    }
    return {CLEAN: recorded, **noisy, **longer}


def without_speech(seconds: float) -> dict[str, Waveform]:
    """Sounds in which nobody speaks; levels in dB of full scale."""
    samples = int(seconds * RATE)
    hertz = 50 * np.arange(1, 6)[:, None]
    hum = (np.sin(2 * np.pi * hertz * np.arange(samples) / RATE) / hertz).sum(axis=0)
    draw = np.random.default_rng(0)
    sounds = {"zeros": np.zeros(samples, np.float32)}
    for name, level_db, sound in (
        ("white noise", -60, coloured_noise(draw, samples, RATE, 0.0)),
        ("white noise", -30, coloured_noise(draw, samples, RATE, 0.0)),
        ("pink noise", -40, coloured_noise(draw, samples, RATE, 1.0)),
        ("hum of 50 Hz", -40, hum),
    ):
        level = amplitude(level_db) / sound.std()
        sounds[f"{name}, −{-level_db} dB"] = (sound * level).astype(np.float32)
    return sounds


def tuned(kind: str, dev: Sequence[Utterance]) -> System:
    """pocketsphinx with the settings of the grid that have the lowest dev PER under `arpabet`."""
    sounds = {id: one for said in by_speaker(dev) for id, one in said.items()}
    tried = []
    for values in itertools.product(*GRIDS[kind].values()):
        system = Pocketsphinx(kind, dict(zip(GRIDS[kind], values, strict=True)))
        phones = {id: system.decode(waveform).symbols for id, waveform in sounds.items()}
        tried.append((scored(dev, phones, "arpabet").total.per, system))
        print(f"dev: {system.name} {tried[-1][0]:.2f}", file=sys.stderr)
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


class Material(NamedTuple):
    """What is decoded, the protocols, and by id the words of utterances whose words are known."""

    utterances: list[Utterance]
    texts: dict[str, str]
    protocols: list[str]


class Result:
    """What a system gave in a condition, with a score under each protocol."""

    def __init__(
        self, name: str, ours: bool, phones: Mapping[str, Phones], wer: str, material: Material
    ) -> None:
        self.name, self.ours, self.phones, self.wer = name, ours, phones, wer
        self.scores = [
            scoring.with_intervals(scored(material.utterances, phones, protocol))
            for protocol in material.protocols
        ]

    @property
    def cells(self) -> list[str]:
        """A row of the table."""
        rates = (
            f"**{one.total.per:.2f}** ({one.intervals.get('speaker', 'one speaker')})"
            for one in self.scores
        )
        return [self.name, *rates, self.wer]


def heard(path: Path, utterances: Sequence[Utterance]) -> dict[str, Phones]:
    """Existing hypotheses, such as those of `recipes/timit/left_out.py`."""
    phones = {one.id: one.phones for one in read_jsonl(path, Hypothesis)}
    if missing := [one.id for one in utterances if one.id not in phones]:
        raise DataError(
            f"{path}: {len(missing)} of {len(utterances)} utterances have no hypothesis, "
            f"the first is {missing[0]}; set --split and the corpus to those of the hypotheses"
        )
    return {one.id: phones[one.id] for one in utterances}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of Markdown, if there are rows; `head` is without that of the first column."""
    if lines := [f"| {' | '.join(row)} |" for row in rows]:
        yield from ("", f"| system | {' | '.join(head)} |", f"|---|{'---:|' * len([*head])}")
        yield from lines


def columns(names: Sequence[str], others: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A table with a row for each system; short columns end with –."""
    return table(others, itertools.zip_longest(names, *others.values(), fillvalue="–"))


COMPARED = ("protocol", "points", "95 % by speaker", "p, by speaker", "p, MAPSSWE")


def compared(results: Sequence[Result], names: Sequence[str]) -> Iterator[list[str]]:
    """A row for each of our systems, each peer and each protocol."""
    for our, peer in itertools.product(results, results):
        if our.ours and not peer.ours:
            for name, a, b in zip(names, our.scores, peer.scores, strict=True):
                comparison = scoring.compare(a, b, scoring.protocol(a.protocol))
                drawn = comparison.bootstrap
                yield [
                    f"{our.name} − {peer.name}",
                    name,
                    f"{comparison.difference:+.2f}",
                    *([f"{drawn.interval}", f"{drawn.p:.3f}"] if drawn else ["–", "–"]),
                    f"{comparison.mapsswe.p:.2g}",
                ]


# ---------------------------------------------------------------- run


def read(corpus: Corpus, splits: Iterable[str]) -> tuple[list[Utterance], dict[str, str]]:
    """The utterances of the splits, and by id the words of those whose words are known."""
    checked, texts = [], {}
    for split in splits:
        for recording in corpus.splits[split]:
            checked.append(check(recording, split, corpus))
            with suppress(DataError):  # no words: no word error rate
                if text := recording.words or (recording.text and labels.words(recording.text)):
                    texts[recording.id] = text
    raise_problems(problem for one in checked for problem in one.problems)
    return [one.utterance for one in checked if one.utterance], texts


def run(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    config = compose(options.overrides).corpus
    corpus = corpora.find(config)
    raise_problems([*corpus.wrong, *corpus.bad])
    if options.split not in (known := [*corpus.splits, "all"]):
        raise DataError(f"--split {options.split}: unknown, expected one of {', '.join(known)}")
    splits = [*corpus.splits] if options.split == "all" else [options.split]
    utterances, texts = read(corpus, splits)
    if not utterances:
        raise DataError(
            f"{config.root}: no utterance is in {', '.join(splits)}; choose another --split, or "
            f"set corpus.speakers to a file of `speaker train|dev|test` lines for the speakers"
        )
    protocols = ["strict", "strict, closures", "arpabet"]
    strict = config.protocol == "strict"
    material = Material(utterances, texts, protocols if strict else protocols[-1:])
    existing = [
        Result(f"asr, {path.parent.name}/{path.stem}", True, heard(path, utterances), "–", material)
        for path in options.heard
    ]
    lexicon = options.lexicon or getattr(config, "lexicon", None)
    made, without_words = ours(options.checkpoint or [MODEL], options.one_speaker, options.words)
    installed, absent = peers(options.peers, lexicon and Path(lexicon))
    systems = [*made, *installed]
    if options.tune and any(isinstance(one, Pocketsphinx) for one in installed):
        dev, _ = read(corpus, ["dev"])
        if not dev:
            raise DataError("--tune: dev has no utterances; add some, or leave --tune out")
        systems += [tuned(kind, sample(dev, TUNED_ON)) for kind in GRIDS]
    count = len({one.speaker for one in utterances})
    yield f"# {corpus.name}, {options.split}: {len(utterances)} utterances of {count} speakers"
    yield from (line for one in [*without_words, *absent] for line in ("", f"{one}."))
    folder = Path(options.output)
    write_jsonl(folder / "references.jsonl", utterances)
    names = [*(one.name for one in systems), *(one.name for one in existing)]
    summary: dict[str, list[str]] = {}
    changes = conditions(utterances, options.snr, options.noise, options.zeros)
    for condition, change in changes.items():
        sounds = tqdm(by_speaker(utterances, change), condition, leave=False, disable=None)
        results = []
        outputs = decode_all(systems, sounds, folder / "outputs")
        for one, output in zip(systems, outputs, strict=True):
            phones = {id: one.phones(output[id]) for id in output}
            wer = word_error_rate(texts, output)
            results.append(Result(one.name, one.ours, phones, wer, material))
        results += existing if condition == CLEAN else []
        yield from ("", f"## PER, {condition}")
        yield from table([*material.protocols, "WER"], [one.cells for one in results])
        yield from table(COMPARED, compared(results, material.protocols))
        for n, result in enumerate(results):
            place = folder / f"{condition.replace(' ', '-')}-{n}.hyp.jsonl"
            write_jsonl(place, (Hypothesis(*one) for one in result.phones.items()))
        summary[condition] = [f"{one.scores[-1].total.per:.2f}" for one in results]
    yield from ("", "## PER, `arpabet`, in every condition", *columns(names, summary))
    if options.empty:
        empty = without_speech(options.empty)
        outputs = decode_all(systems, ({id: one} for id, one in empty.items()), folder / "outputs")
        rates: dict[str, list[str]] = {id: [] for id in empty}
        for one, output in zip(systems, outputs, strict=True):
            for id in empty:
                invented = sum(phone != "sil" for phone in one.phones(output[id]))
                rates[id].append(f"{invented * 60 / options.empty:.0f}")
        yield from ("", "## Phones a minute where nobody speaks", *columns(names, rates))
    if options.costs:
        some = [[*said.values()] for said in by_speaker(sample(utterances, TIMED_ON))]
        yield from ("", "## What it takes", *columns(names, costs(systems, some)))


def report(lines: Iterable[str], command: str, folder: Path) -> None:
    """Print a table as it is made, and write it to `table.md`, with command, date and machine."""
    about = (
        f"`{command}`, {date.today()}; one thread, {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, torch "
        f"{torch.__version__}"
    )
    written = []
    for line in itertools.chain(lines, ["", about]):
        print(line, flush=True)
        written.append(f"{line}\n")
    with atomic_open(folder / "table.md") as file:
        file.writelines(written)


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
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
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    report(run(options), f"peers.py {shlex.join(given)}", Path(options.output))


if __name__ == "__main__":
    sys.exit(main())
