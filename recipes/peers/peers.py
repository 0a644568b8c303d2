"""Our models and pocketsphinx on the same files, under the same protocols: make peers ROOT=…

    python recipes/peers/peers.py experiment=timit-sample corpus.root=ROOT --split all

All systems decode each utterance, taking turns, on one thread, so that their times can be compared;
loading is not timed. Pocketsphinx runs with the settings of its documentation, and with the best of
a small grid on dev. Writes `table.md`, the references and each system's hypotheses for `asr score`
to a folder.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from asr import audio, corpora, scoring
from asr.audio import Waveform
from asr.augment import seed_of
from asr.augment.sounds import add_at, babble, coloured_noise
from asr.commands.configured import compose
from asr.corpora.checks import check
from asr.errors import DataError, exit_code, pip_install, raise_problems
from asr.features import SpeakerMoments
from asr.files.outputs import atomic_open
from asr.phones import phone_set
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.scoring import Score
from asr.transcriber import MODEL, Piece, load

# For phonemes, from CMU's documentation; a beam is a factor below the best path.
ALLPHONE = {"lw": 2.0, "beam": 1e-20, "pbeam": 1e-20}
WORDS: dict[str, float] = {}  # the defaults
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {
    "allphone": {"lw": (1.0, 1.25, 1.5, 1.75, 2.0), "beam": (1e-20,), "pbeam": (1e-20,)},
    "words": {"lw": (2.5, 4.0, 6.5), "wip": (0.05, 0.2, 0.65)},
}
TUNED_ON = 32  # dev utterances, at most
STOPS = frozenset(("b", "d", "g", "p", "t", "k", "ch", "jh"))
SILENCES = ("<s>", "</s>", "<sil>", "SIL")
BABBLING = 4  # speakers in the babble
CLEAN = ""

Settings = Mapping[str, float]


@dataclass
class Tally:
    """The result of a system: phones by id, seconds of computing and of speech."""

    phones: dict[str, tuple[str, ...]]
    computed_s: float = 0.0
    speech_s: float = 0.0


class Pocketsphinx:
    """pocketsphinx's US English model, as a loop over phones or as a word decoder."""

    def __init__(self, kind: str, settings: Settings, name: str) -> None:
        from pocketsphinx import Decoder, get_model_path

        folder = Path(get_model_path()) / "en-us"
        acoustic = [path for path in (folder / "en-us").iterdir() if path.is_file()]
        self.words = kind == "words"
        if self.words:
            used = [*acoustic, folder / "en-us.lm.bin", folder / "cmudict-en-us.dict"]
            self.decoder = Decoder(loglevel="FATAL", **settings)
        else:
            used = [*acoustic, folder / "en-us-phone.lm.bin"]
            graph = {"allphone": str(folder / "en-us-phone.lm.bin"), "lm": None}
            self.decoder = Decoder(loglevel="FATAL", **graph, **settings)
        said = ", ".join(f"{key} {value:g}" for key, value in settings.items()) or "its defaults"
        self.name = f"pocketsphinx {kind}, {name} ({said})"
        self.size_mb = sum(path.stat().st_size for path in used) / 1e6

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        """Do nothing: pocketsphinx normalises each utterance by itself."""

    def decode(self, waveform: Waveform) -> tuple[str, ...]:
        sound = np.clip(waveform * 32768, -32768, 32767).astype(np.int16).tobytes()
        self.decoder.start_utt()
        self.decoder.process_raw(sound, full_utt=True)
        self.decoder.end_utt()
        return tuple(phone for part in self.decoder.seg() for phone in self._phones(part.word))

    def _phones(self, word: str) -> list[str]:
        if word in SILENCES or word[0] in "+[<(":  # noises are no phones
            return ["sil"]
        return (self.decoder.lookup_word(word) if self.words else word).lower().split()


class Ours:
    """A model file of this project, with its own search.

    `by_speaker` normalises over all utterances of a speaker, as `asr transcribe --one-speaker`
    does, and as models with features.normalization=speaker need it.
    """

    def __init__(self, path: Path, by_speaker: bool = False) -> None:
        self.transcriber = load(path)
        self.moments: SpeakerMoments | None = None
        features = self.transcriber.recognizer.config.features
        self.by_speaker = by_speaker or features.normalization == "speaker"
        run = path.absolute().parent
        of_a_run = path.stem.startswith("checkpoint-")
        self.name = f"asr, {f'{run.parent.name}/{run.name}' if of_a_run else path.stem}"
        self.name += ", by speaker" * self.by_speaker
        self.size_mb = path.stat().st_size / 1e6

    def prepare(self, waveforms: Sequence[Waveform]) -> None:
        """Prepare for a speaker, given all of the speaker's waveforms."""
        if self.by_speaker:
            recordings = (iter([waveform]) for waveform in waveforms)
            self.moments = self.transcriber.one_speaker(recordings)

    def decode(self, waveform: Waveform) -> tuple[str, ...]:
        piece = Piece(waveform, 0, 0, len(waveform))
        return self.transcriber.hypothesis(piece, "", self.moments).phones


class Existing:
    """Existing hypotheses of ours, such as those of `recipes/timit/left_out.py`, without times."""

    def __init__(self, path: Path) -> None:
        self.name = f"asr, {path.parent.name}/{path.stem}"
        self.phones = {one.id: one.phones for one in read_jsonl(path, Hypothesis)}

    def tally(self, utterances: Sequence[Utterance]) -> Tally:
        missing = [one.id for one in utterances if one.id not in self.phones]
        if missing:
            raise DataError(
                f"{self.name}: {len(missing)} of {len(utterances)} utterances have no hypothesis, "
                f"the first is {missing[0]}; set --split and the corpus to those of the hypotheses"
            )
        return Tally({one.id: self.phones[one.id] for one in utterances})


System = Pocketsphinx | Ours


def decode_all(
    systems: Sequence[System],
    utterances: Sequence[Utterance],
    noise: str = "white",
    snr_db: float | None = None,
) -> list[Tally]:
    """Decode every utterance with every system; another system begins each time."""
    tallies = [Tally({}) for _ in systems]
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.speaker, []).append(utterance)

    def sound_of(utterance: Utterance) -> Waveform:
        waveform = audio.load(utterance.audio)
        if snr_db is None:
            return waveform
        return noisy(waveform, utterance, utterances, noise, snr_db)

    for system in systems:  # warm-up: compilation, memory
        system.prepare([sound_of(utterances[0])])
        system.decode(sound_of(utterances[0]))
    first = 0
    for said in by_speaker.values():
        waveforms = [sound_of(utterance) for utterance in said]
        for system, tally in zip(systems, tallies, strict=True):
            begin = time.process_time()
            system.prepare(waveforms)
            tally.computed_s += time.process_time() - begin
        for utterance, waveform in zip(said, waveforms, strict=True):
            for place in range(len(systems)):
                k = (first + place) % len(systems)
                begin = time.process_time()
                phones = systems[k].decode(waveform)
                tallies[k].computed_s += time.process_time() - begin
                tallies[k].speech_s += len(waveform) / 16_000
                tallies[k].phones[utterance.id] = phones
            first += 1
            if sys.stderr.isatty():
                print(f"\r{first} / {len(utterances)}", end="", file=sys.stderr)
    return tallies


def noisy(
    waveform: Waveform,
    utterance: Utterance,
    utterances: Sequence[Utterance],
    kind: str,
    snr_db: float,
) -> Waveform:
    """The waveform with white noise or with other speakers; the same for every system."""
    draw = np.random.default_rng(seed_of(0, 0, utterance.id))
    if kind == "white":
        return add_at(snr_db, waveform, coloured_noise(draw, len(waveform), 16_000, 0.0))
    others = [one for one in utterances if one.speaker != utterance.speaker]
    chosen = draw.choice(len(others), size=BABBLING, replace=False)
    voices = [audio.load(others[n].audio) for n in chosen]
    return add_at(snr_db, waveform, babble(draw, voices, len(waveform)))


def tuned(kind: str, dev: Sequence[Utterance]) -> Settings:
    """The settings of the grid with the lowest dev PER under `arpabet`."""
    step = -(-len(dev) // TUNED_ON)
    some = dev[::step]
    grid = GRIDS[kind]
    tried = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        (tally,) = decode_all([Pocketsphinx(kind, settings, "")], some)
        per = scored(some, tally.phones, "arpabet").total.per
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


def table(
    systems: Sequence[System | Existing],
    tallies: Sequence[Tally],
    utterances: Sequence[Utterance],
    columns: Sequence[str],
) -> Iterator[str]:
    """Lines of Markdown: each system, then each of our systems against each peer."""
    scores = [
        [scoring.with_intervals(scored(utterances, tally.phones, column)) for column in columns]
        for tally in tallies
    ]
    yield f"| system | MB | real-time factor | {' | '.join(columns)} |"
    yield f"|---|---:|---:|{'---|' * len(columns)}"
    for system, tally, of_system in zip(systems, tallies, scores, strict=True):
        rates = " | ".join(f"**{one.total.per:.2f}** ({_interval(one)})" for one in of_system)
        cost = "– | –"
        if not isinstance(system, Existing):
            cost = f"{system.size_mb:.1f} | {tally.computed_s / tally.speech_s:.3f}"
        yield f"| {system.name} | {cost} | {rates} |"
    pairs = [
        (n, k)
        for n, ours in enumerate(systems)
        for k, peer in enumerate(systems)
        if not isinstance(ours, Pocketsphinx) and isinstance(peer, Pocketsphinx)
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


# ---------------------------------------------------------------- run


def read(overrides: Sequence[str], split: str) -> tuple[str, list[Utterance], list[Utterance], str]:
    """Name, dev utterances, utterances to decode, and protocol; `all` is every split."""
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
    for one in {*selected, "dev"}:
        checked = [check(recording, one, corpus) for recording in corpus.splits[one]]
        raise_problems(problem for of_one in checked for problem in of_one.problems)
        splits[one] = [of_one.utterance for of_one in checked if of_one.utterance]
    return corpus.name, splits["dev"], [u for one in selected for u in splits[one]], config.protocol


def run(options: argparse.Namespace) -> str:
    torch.set_num_threads(1)
    try:
        import pocketsphinx  # noqa: F401
    except ImportError:
        raise DataError(f"pocketsphinx is not installed; run: {pip_install('peers')}") from None
    name, dev, utterances, protocol = read(options.overrides, options.split)
    models = options.checkpoint or [path for path in [MODEL] if path.exists()]
    ours = [Ours(path) for path in models]
    if options.one_speaker:
        others = [path for path, one in zip(models, ours, strict=True) if not one.by_speaker]
        ours += [Ours(path, by_speaker=True) for path in others]
    systems: list[System] = [*ours, Pocketsphinx("allphone", ALLPHONE, "as documented")]
    systems.append(Pocketsphinx("words", WORDS, "as documented"))
    if options.tune and not dev:
        raise DataError("--tune: dev has no utterances; add some, or leave --tune out")
    if options.tune:
        systems += [Pocketsphinx(kind, tuned(kind, dev), "tuned on dev") for kind in GRIDS]
    existing = [Existing(path) for path in options.heard]
    before = [one.tally(utterances) for one in existing]
    columns = ["strict", "strict, closures", "arpabet"] if protocol == "strict" else ["arpabet"]
    speakers = len({one.speaker for one in utterances})
    lines = [f"# {name}, {options.split}: {len(utterances)} utterances of {speakers} speakers"]
    folder = Path(options.output)
    write_jsonl(folder / "references.jsonl", utterances)
    conditions: list[tuple[str, float | None]] = [(CLEAN, None)]
    conditions += [(f"{options.noise} noise at {snr_db:g} dB", snr_db) for snr_db in options.snr]
    for condition, snr_db in conditions:
        tallies = decode_all(systems, utterances, options.noise, snr_db)
        lines += ["", f"## {condition or 'As recorded'}", ""]
        named: list[System | Existing] = [*systems]
        if snr_db is None:
            named, tallies = [*systems, *existing], [*tallies, *before]
        lines += table(named, tallies, utterances, columns)
        for n, tally in enumerate(tallies):
            place = folder / f"{condition.replace(' ', '-') or 'clean'}-{n}.hyp.jsonl"
            write_jsonl(place, (Hypothesis(id, phones) for id, phones in tally.phones.items()))
    if not models:
        lines += ["", "No model of ours: there is no packaged model, and no --checkpoint."]
    text = "\n".join(lines) + "\n"
    with atomic_open(folder / "table.md") as file:
        file.write(text)
    return text


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("overrides", nargs="+", help="for the corpus: experiment=… corpus.root=…")
    parser.add_argument(
        "--checkpoint", type=Path, action="append", help="default: the packaged model"
    )
    parser.add_argument(
        "--heard",
        type=Path,
        action="append",
        default=[],
        help="hypotheses of ours, one more line",
    )
    parser.add_argument("--split", default="test", help="split to decode; all: every split")
    parser.add_argument("--tune", action="store_true", help="also tune pocketsphinx on dev")
    parser.add_argument(
        "--one-speaker", action="store_true", help="also our models normalised by speaker"
    )
    parser.add_argument("--snr", type=float, nargs="*", default=[], help="dB of noisy copies")
    parser.add_argument("--noise", choices=("white", "babble"), default="white")
    parser.add_argument("--output", default="exp/peers", help="output folder")
    options: Any = parser.parse_args(arguments)
    try:
        print(run(options), end="")
    except (DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
