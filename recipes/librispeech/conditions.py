"""A model file as its user gets it, measured under many conditions.

    python recipes/librispeech/conditions.py model.safetensors --manifest dev.jsonl … \\
        --sample 60 --output conditions.json
    asr ship exp/librispeech-18h/1 model.safetensors --overwrite --conditions conditions.json

Every utterance goes through `Transcriber.transcribe`, with the search, the n-gram and the
calibration of the file; `--greedy` replaces its search. A row has the PER with its interval by
speaker, the errors, and how well confidences tell right phones from wrong ones: the expected
calibration error and the area under the curve. Recordings as they are have further rows by length,
sex and speaker; pieces one of the same stretches of the whole, where the manifest has the times of
its phones (`asr align --output` adds them). All noise is drawn from the id of its utterance, so
that a second call measures the same. A call that was interrupted continues with the conditions that
are not yet in `--output`.
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr import audio, scoring
from asr.augment import layout, seed_of, sounds
from asr.augment.layout import Layout, Part
from asr.augment.sounds import Waveform
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.records import Hypothesis, Manifest, Transcript, Utterance
from asr.scoring.reliability import Judged
from asr.search import SearchConfig
from asr.transcriber import Transcriber, load

VOICES = 4  # of a babble, as in recipes/peers
ROOM_DB = 20.0  # the noise of a room is this far below the utterance
CLIPPED_DB = 18.0  # below the largest sample
PIECE_S = (1.0, 3.0)
LENGTHS_S = (0, 3, 6, 12)  # lower limits of the classes
EMPTY_S = 30
LEVELS_DB = (-60.0, -30.0)  # of noise alone, below full scale
COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
HUM_HZ = 50.0

Change = Callable[[Waveform, Utterance, int], Waveform]
Heard = dict[str, Hypothesis]
Row = dict[str, Any]


def _draw(utterance: Utterance) -> np.random.Generator:
    return np.random.default_rng(seed_of(0, 0, utterance.id))


def recorded(samples: Waveform, utterance: Utterance, rate: int) -> Waveform:
    return samples


def quiet(
    samples: Waveform, utterance: Utterance, rate: int, before_s: float, after_s: float, room: bool
) -> Waveform:
    """Seconds of zeros, or of noise `ROOM_DB` below the utterance, before it and behind it."""
    count = round((before_s + after_s) * rate)
    added = np.zeros(count, np.float32)
    if room:
        added = sounds.coloured_noise(_draw(utterance), count, rate, 1.0)
        added *= np.float32(sounds.amplitude(-ROOM_DB) * samples.std() / added.std())
    first = round(before_s * rate)
    return np.concatenate([added[:first], samples, added[first:]])


def white(samples: Waveform, utterance: Utterance, rate: int, snr_db: float) -> Waveform:
    noise = sounds.coloured_noise(_draw(utterance), len(samples), rate, 0.0)
    return sounds.add_at(snr_db, samples, noise)


def babble(
    samples: Waveform, utterance: Utterance, rate: int, snr_db: float, every: Sequence[Utterance]
) -> Waveform:
    """Other speakers of the manifest; where there are none, other utterances."""
    others = [one for one in every if one.speaker != utterance.speaker]
    others = others or [one for one in every if one.id != utterance.id]
    draw = _draw(utterance)
    chosen = draw.choice(len(others), size=min(VOICES, len(others)), replace=False)
    voices = [audio.load(others[n].audio, rate) for n in chosen]
    return sounds.add_at(snr_db, samples, sounds.babble(draw, voices, len(samples)))


def telephone(samples: Waveform, utterance: Utterance, rate: int) -> Waveform:
    return sounds.telephone(samples, rate)


def clipped(samples: Waveform, utterance: Utterance, rate: int) -> Waveform:
    limit = np.float32(sounds.amplitude(-CLIPPED_DB) * np.abs(samples).max(initial=0.0))
    return samples.clip(-limit, limit)


def changes(every: Sequence[Utterance]) -> dict[str, Change]:
    """The conditions of whole utterances, by name; `every` are the voices of the babble."""
    conditions: dict[str, Change] = {"as recorded": recorded}
    for kind, room in (("zeros", False), (f"room noise, {ROOM_DB:g} dB below,", True)):
        conditions[f"10 s of {kind} behind"] = partial(quiet, before_s=0, after_s=10, room=room)
        around = partial(quiet, before_s=15, after_s=15, room=room)
        conditions[f"30 s of {kind} around"] = around
    for snr_db in (20.0, 10.0):
        conditions[f"white noise, {snr_db:g} dB"] = partial(white, snr_db=snr_db)
    conditions["babble, 10 dB"] = partial(babble, snr_db=10.0, every=every)
    conditions["telephone, µ-law"] = telephone
    conditions[f"clipped by {CLIPPED_DB:g} dB"] = clipped
    return conditions


# ── transcripts ──────────────────────────────────────────────────────────────────────────────────


def heard(model: Transcriber, samples: Waveform, id: str) -> tuple[Hypothesis, Transcript | None]:
    """The phones of a waveform; none where the model refuses it, which is no transcript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            transcript = model.transcribe(samples, model.sample_rate)
        except DataError:
            return Hypothesis(id, (), confidences=()), None
    confidences = tuple(one.confidence or 0.0 for one in transcript.phones)
    phones = tuple(one.phone for one in transcript.phones)
    return Hypothesis(id, phones, confidences=confidences), transcript


def row(
    condition: str, utterances: Sequence[Utterance], hypotheses: Heard, protocol: str, **more: Any
) -> Row:
    """PER and errors of these utterances, the interval by speaker, ECE and AUC of confidences."""
    scored = scoring.score(
        {one.id: one.phones for one in utterances},
        {one.id: hypotheses[one.id].phones for one in utterances},
        protocol,
        speakers={one.id: one.speaker for one in utterances},
    )
    scored = scoring.with_intervals(scored)
    judged = Judged.of(scored, hypotheses)
    return {
        "condition": condition,
        **asdict(scored.total),
        "speakers": len(scored.speakers),
        "per": scored.total.per if scored.total.ref else None,
        "interval": scored.intervals.get("speaker"),
        "ece": judged.error,
        "auc": judged.area,
        "seconds": sum(one.duration_s for one in utterances),
        **more,
    }


def whole(
    model: Transcriber,
    utterances: Sequence[Utterance],
    condition: str,
    change: Change,
    protocol: str,
    some: Sequence[Utterance],
) -> Iterator[Row]:
    """Utterances under a condition; `some` are those of the other conditions."""
    hypotheses, refused = {}, 0
    begin = time.process_time()
    for one in utterances:
        samples = change(audio.load(one.audio, model.sample_rate), one, model.sample_rate)
        hypotheses[one.id], transcript = heard(model, samples, one.id)
        refused += transcript is None
    spent = time.process_time() - begin
    yield row(condition, utterances, hypotheses, protocol, refused=refused, computed_s=spent)
    if change is not recorded:
        return
    groups: dict[str, Sequence[Utterance]] = {}
    if len(some) < len(utterances):
        groups[f"as recorded, the {len(some)} that are changed"] = some
    ordered = sorted(utterances, key=lambda one: one.duration_s)
    for low, high in pairwise([*LENGTHS_S, np.inf]):
        name = f"{low} to {high:g} s" if np.isfinite(high) else f"{low} s and more"
        groups[f"length, {name}"] = [one for one in ordered if low <= one.duration_s < high]
    for sex in ("f", "m"):
        groups[f"sex, {sex}"] = [one for one in utterances if one.sex == sex]
    speakers = sorted({one.speaker for one in utterances})
    for speaker in speakers if len(speakers) > 1 else ():
        groups[f"speaker, {speaker}"] = [one for one in utterances if one.speaker == speaker]
    for name, some in groups.items():
        if some:
            yield row(name, some, hypotheses, protocol)


def pieces(
    model: Transcriber,
    utterances: Sequence[Utterance],
    condition: str,
    cut: Callable[[Utterance], Sequence[Part]],
    protocol: str,
) -> Iterator[Row]:
    """Pieces of utterances with times of their phones, then the same stretches of the whole."""
    said, alone, within = [], {}, {}
    for one in utterances:
        parts = cut(one)
        if not parts:
            continue
        samples = audio.load(one.audio, model.sample_rate)
        _, transcript = heard(model, samples, one.id)
        for n, part in enumerate(parts):
            played = Layout((part,), (0.0, 0.0))
            piece = replace(played.utterance(one), id=f"{one.id}-{n}")
            said.append(piece)
            alone[piece.id], _ = heard(model, played.waveform(samples, model.sample_rate), piece.id)
            inside = [
                phone
                for phone in (transcript.phones if transcript else ())
                if part[0] <= (phone.start_s + phone.end_s) / 2 < part[1]
            ]
            within[piece.id] = Hypothesis(
                piece.id,
                tuple(phone.phone for phone in inside),
                confidences=tuple(phone.confidence or 0.0 for phone in inside),
            )
    if said:
        yield row(condition, said, alone, protocol)
        yield row(f"{condition}: the same of the whole", said, within, protocol)


def at_pauses(utterance: Utterance) -> list[Part]:
    """Stretches of `PIECE_S` between two pauses, one behind the other, the longest first."""
    chosen: list[Part] = []
    for start, end in sorted(layout.pieces(utterance, *PIECE_S), key=lambda p: (p[0], -p[1])):
        if not chosen or start >= chosen[-1][1]:
            chosen.append((start, end))
    return chosen


def anywhere(utterance: Utterance) -> list[Part]:
    """The whole utterance in stretches of `PIECE_S`, each ending between two phones."""
    draw, chosen, start = _draw(utterance), list[Part](), 0.0
    ends = np.array([one.end_s for one in utterance.segments or ()])
    while len(ends) and utterance.duration_s - start >= PIECE_S[0]:
        goal = start + draw.uniform(*PIECE_S)
        possible = ends[(ends >= start + PIECE_S[0]) & (ends <= start + PIECE_S[1])]
        if not len(possible):
            break
        end = float(possible[np.abs(possible - goal).argmin()])
        chosen.append((start, end))
        start = end
    return chosen


CUTS = {"pieces of 1 to 3 s, at pauses": at_pauses, "pieces of 1 to 3 s": anywhere}


def nothing(model: Transcriber) -> Iterator[Row]:
    """Phones a minute where nobody speaks: zeros, noise of three colours, mains hum."""
    rate, draw = model.sample_rate, np.random.default_rng(0)
    size = EMPTY_S * rate
    hertz = HUM_HZ * np.arange(1, 8)
    hum = sum(np.sin(2 * np.pi * f * np.arange(size) / rate) * HUM_HZ / f for f in hertz)
    kinds = {"zeros": np.zeros(size, np.float32), "hum": np.asarray(hum, np.float32)}
    kinds |= {k: sounds.coloured_noise(draw, size, rate, n) for k, n in COLOURS.items()}
    for name, sound in kinds.items():
        for level_db in LEVELS_DB if sound.any() else (-np.inf,):
            level = sounds.amplitude(level_db) / (float(sound.std()) or 1.0)
            phones = heard(model, sound * np.float32(level), "")[0].phones
            label = f"nobody: {name}" + (f" at {level_db:g} dB" if sound.any() else "")
            yield {"condition": label, "phones_a_minute": 60 * len(phones) / EMPTY_S}


# ── a model file ─────────────────────────────────────────────────────────────────────────────────


def measured(options: argparse.Namespace, path: Path, before: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each condition of a model that is not in `before`, one condition after the other.

    Without `--only` a manifest has some 12 conditions, of which each takes 0.02 s for a second of
    audio on one core.
    """
    model = load(path)
    if options.greedy:
        model.search, model.graph = SearchConfig(), None
    tasks = [("", "nobody", partial(nothing, model))]
    for manifest in options.manifest:
        every = list(Manifest(manifest))
        if not every:
            raise DataError(f"{manifest}: no utterance, expected a manifest of asr prepare")
        some = sample(every, options.sample)
        jobs: dict[str, Callable[..., Iterator[Row]]] = {}
        for name, change in changes(every).items():
            utterances = every if change is recorded else some
            jobs[name] = partial(whole, model, utterances, name, change, options.protocol, some)
        for name, cut in CUTS.items():
            jobs[name] = partial(pieces, model, some, name, cut, options.protocol)
        tasks[-1:-1] = [(manifest.stem, name, job) for name, job in jobs.items()]
    about: Row = {
        "model": path.parent.name if path.stem.startswith("checkpoint-") else path.stem,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **{key: getattr(options, key) for key in ("greedy", "sample", "protocol")},
    }
    for stem, name, job in tasks:
        if options.only and not any(part in name for part in options.only):
            continue
        key = {**about, "manifest": stem, "job": name}
        if not any(key.items() <= one.items() for one in before):
            yield [{**key, **one} for one in job()]


def sample(utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """`count` utterances at equal steps, in the order of their ids; 0: all."""
    ordered = sorted(utterances, key=lambda one: one.id)
    if not 0 < count < len(ordered):
        return ordered
    return [ordered[n * len(ordered) // count] for n in range(count)]


HEADER = """\
| model | manifest | condition | utterances | speakers | PER | 95 % by speaker | ins | del | sub | \
ECE | AUC |
|---|---|---|---:|---:|---:|---|---:|---:|---:|---:|---:|"""


def line(one: Mapping[str, Any]) -> str:
    """A row as one of a table in Markdown."""
    begin = f"| {one['model']} | {one['manifest']} | {one['condition']} |"
    if "phones_a_minute" in one:
        return f"{begin} | | {one['phones_a_minute']:.1f} phones a minute | | | | | | |"
    low_high = one["interval"]
    cells = [
        str(one["utterances"]) + (f" ({one['refused']} refused)" if one.get("refused") else ""),
        str(one["speakers"]),
        "–" if one["per"] is None else f"{one['per']:.2f}",
        "" if low_high is None else f"{low_high[0]:.1f} … {low_high[1]:.1f}",
        *(str(one[key]) for key in ("ins", "dele", "sub")),
        *("" if one[key] is None else f"{one[key]:.3f}" for key in ("ece", "auc")),
    ]
    return f"{begin} {' | '.join(cells)} |"


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("checkpoint", type=Path, nargs="+", help="model files")
    add("--manifest", type=Path, action="append", required=True)
    add("--protocol", default="arpabet")
    add("--greedy", action="store_true", help="in place of the search of the file")
    add(
        "--sample",
        type=int,
        default=0,
        metavar="N",
        help="utterances of a manifest that are changed",
    )
    add("--only", action="append", metavar="TEXT", help="conditions that contain it")
    add("--output", type=Path, metavar="FILE.json", help="the rows; a second call continues it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text(encoding="utf-8"))
    print("\n".join([HEADER, *map(line, rows)]), flush=True)
    for path in options.checkpoint:
        for more in measured(options, path, rows):
            print("\n".join(map(line, more)), flush=True)
            rows = [*rows, *more]
            if options.output:
                with atomic_open(options.output) as file:
                    json.dump(rows, file, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
