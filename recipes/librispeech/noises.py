"""Phones output where nobody speaks, and what silence and noise around speech cost.

    python recipes/librispeech/noises.py MODEL [--minutes 60]
    python recipes/librispeech/noises.py MODEL --manifest dev.jsonl [--sample 48]

Without a manifest: phones output in a minute of each kind of sound that is not speech, in excerpts
of 5 to 60 s, at −70 to −3 dB of full scale, steady, rising, falling or in bursts, some of them
through a telephone, an MP3 encoder or a room. With a manifest: PER of its utterances with silence
or sounds before and after, and through worse channels, and, where the manifest has the times of the
phones, PER of pieces. A model without a search is
searched greedily; `--search FILE` uses the search and the n-gram of another file.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import butter, lfilter, sosfilt

from asr import audio, checkpoint, scoring
from asr.augment import sounds
from asr.augment.layout import Layout, Part
from asr.augment.sounds import Waveform, add_at, amplitude, coloured_noise
from asr.by_torch import in_use
from asr.errors import DataError, exit_code
from asr.records import Manifest, Utterance
from asr.search import SearchConfig
from asr.transcriber import Transcriber

RATE = 16_000
LEVELS_DB = (-70.0, -3.0)  # of the loudest second of an excerpt, relative to full scale
EXCERPT_S = (5.0, 60.0)
GAP_S = 0.05  # between two phones, where an utterance is cut first
PIECES_S = (3.0, 0.9)  # the longest pieces; the shortest are a third
ROOM_DB = 20.0  # that room noise lies below speech

Draw = np.random.Generator
Sound = Callable[[Draw, int], Waveform]
Change = Callable[[Draw, Waveform], Waveform]


# ---------------------------------------------------------------- sounds, (S,) at RATE, any level


def silence(draw: Draw, samples: int) -> Waveform:
    """Exactly 0, one other value, or the last bit of 16."""
    kind = draw.integers(3)
    if kind == 2:
        return (draw.integers(-1, 2, samples) / 32768).astype(np.float32)
    return np.full(samples, 0.01 * kind, np.float32)


def hum(draw: Draw, samples: int) -> Waveform:
    """Of the mains, 50 or 60 Hz, with harmonics, now and then with some hiss."""
    base = draw.choice([50.0, 60.0]) * draw.uniform(0.998, 1.002)
    strengths = draw.exponential(1.0, 24) / np.arange(1, 25) ** draw.uniform(0.3, 2.0)
    tone = tones(draw, base, strengths, samples)
    return add_at(draw.uniform(10, 50), tone, white(draw, samples))


def fan(draw: Draw, samples: int) -> Waveform:
    """Air, pink to brown, with the tones of the blades and of the motor, slowly beating."""
    air = coloured_noise(draw, samples, RATE, draw.uniform(1.0, 2.0))
    motor = tones(draw, draw.uniform(20, 300), draw.exponential(1.0, 8), samples)
    beat = 1 + draw.uniform(0, 0.4) * np.sin(2 * np.pi * draw.uniform(0.1, 12) * time_s(samples))
    return (add_at(draw.uniform(-5, 20), air, motor) * beat).astype(np.float32)


def white(draw: Draw, samples: int) -> Waveform:
    return coloured_noise(draw, samples, RATE, 0.0)


def pink(draw: Draw, samples: int) -> Waveform:
    return coloured_noise(draw, samples, RATE, 1.0)


def brown(draw: Draw, samples: int) -> Waveform:
    return coloured_noise(draw, samples, RATE, 2.0)


def room(draw: Draw, samples: int) -> Waveform:
    """Noise of any colour in bands that come and go, with steps and knocks far away."""
    noise = coloured_noise(draw, samples, RATE, draw.uniform(0.5, 2.0))
    for _ in range(3):
        low = draw.uniform(100, 5000)
        band = band_of(white(draw, samples), low, low * draw.uniform(1.1, 2.0))
        noise = add_at(draw.uniform(0, 20), noise, band * slow(draw, samples, 2.0))
    distant = sounds.convolve(knocks(draw, samples), sounds.impulse_response(draw, 0.6, -6, RATE))
    return add_at(draw.uniform(5, 25), noise, distant)


def wind(draw: Draw, samples: int) -> Waveform:
    """Gusts, and what sounds like surf, rain or breath: noise in moving bands."""
    low = draw.uniform(50, 2000)
    noise = band_of(white(draw, samples), low, low * draw.uniform(1.5, 6.0))
    return noise * slow(draw, samples, draw.uniform(0.2, 3.0)) ** 2


def music(draw: Draw, samples: int) -> Waveform:
    """Chords, and a melody with vibrato, of tones with harmonics."""
    total = np.zeros(samples, np.float32)
    for at, length in notes(draw, samples, 0.5, 3.0):
        root = 110 * 2 ** (draw.integers(0, 24) / 12)
        for step in draw.choice([0, 3, 4, 7, 10, 12, 16], draw.integers(1, 4), replace=False):
            strengths = np.exp(-draw.uniform(0.2, 1.5) * np.arange(draw.integers(2, 16)))
            tone = tones(draw, root * 2 ** (step / 12), strengths, length, draw.uniform(0, 0.012))
            total[at : at + length] += tone * faded(length, draw.uniform(0.005, 0.2))
    return total


def plucked(draw: Draw, samples: int) -> Waveform:
    """Strings (Karplus & Strong 1983)."""
    total = np.zeros(samples, np.float32)
    for at, length in notes(draw, samples, 0.1, 0.8):
        period = round(RATE / (82 * 2 ** (draw.integers(0, 36) / 12)))
        length = min(samples - at, 2 * length + RATE)
        pulse = np.zeros(length)
        pulse[:period] = draw.uniform(-1, 1, min(period, length))[:period]
        loss = np.zeros(period + 2)
        loss[0], loss[-2:] = 1.0, -0.5 * draw.uniform(0.985, 0.999)
        total[at : at + length] += lfilter([1.0], loss, pulse).astype(np.float32)
    return total


def beeps(draw: Draw, samples: int) -> Waveform:
    """Dialling, alarms, buzzers: one or two tones, pure or not, gliding, on and off, in time."""
    total = np.zeros(samples, np.float32)
    pair, glide = draw.uniform(100, 3000, draw.integers(1, 3)), draw.choice([0.0, 0.0, 0.3])
    strengths = np.arange(1, 17) ** -draw.choice([0.5, 1.0, 2.0, 9.0])
    strengths[1::2] *= draw.choice([0.0, 1.0])
    regular, least_s = draw.random() < 0.5, draw.uniform(0.05, 0.5)
    for n, (at, length) in enumerate(notes(draw, samples, least_s, least_s if regular else 2.0)):
        if n % 2 if regular else draw.random() < 0.7:
            tone = sum(tones(draw, base, strengths, length, glide) for base in pair)
            total[at : at + length] = tone * faded(length, 0.005)
    return total


def knocks(draw: Draw, samples: int) -> Waveform:
    """Clicks, knocks, steps and typing: short sounds with a few resonances, at any pace."""
    total = np.zeros(samples, np.float32)
    at = 0.0
    pace_s = draw.uniform(0.08, 1.5)
    while (start := int(at * RATE)) < samples:
        length = min(samples - start, RATE // 4)
        moment, sound = time_s(length), np.zeros(length)
        for _ in range(4):
            decay = np.exp(-moment / draw.uniform(0.001, 0.03))
            sound += decay * np.sin(2 * np.pi * draw.uniform(60, 5000) * moment)
        sound += draw.uniform(0, 2) * np.exp(-moment / 0.004) * draw.standard_normal(length)
        total[start : start + length] += (draw.uniform(0.2, 1) * sound).astype(np.float32)
        at += pace_s * draw.exponential(1.0)
    return total


def engine(draw: Draw, samples: int) -> Waveform:
    """A motor, a drill, a mixer: many harmonics of a tone that wanders, rough, with noise."""
    base = draw.uniform(25, 200)
    strengths = draw.exponential(1.0, 40) / np.arange(1, 41) ** draw.uniform(0.2, 1.2)
    tone = tones(draw, base, strengths, samples, draw.uniform(0, 0.05), 0.3)
    rough = 1 + draw.uniform(0, 0.8) * np.sin(2 * np.pi * base / 2 * time_s(samples))
    return add_at(draw.uniform(0, 20), tone * rough.astype(np.float32), pink(draw, samples))


def melody(draw: Draw, samples: int) -> Waveform:
    """An instrument, from pure tones to many harmonics, with formants and vibrato."""
    total = np.zeros(samples, np.float32)
    pitch, longest_s = draw.integers(0, 36), draw.uniform(0.2, 2.5)
    formants = draw.uniform(200, 4000, draw.integers(0, 4))
    strengths = np.arange(1, 33) ** -draw.choice([0.5, 1.0, 1.5, 2.0, 4.0, 8.0])
    for at, length in notes(draw, samples, 0.08, longest_s):
        pitch = (pitch + draw.integers(-4, 5)) % 36
        rich = strengths * (1 + np.arange(32) % 2 * draw.choice([0.0, -0.8]))
        tone = tones(draw, 65.4 * 2 ** (pitch / 12), rich, length, draw.uniform(0, 0.03), 5.5)
        total[at : at + length] = tone * faded(length, draw.uniform(0.005, 0.2))
    for hertz in formants:
        total += 3 * band_of(total, 0.85 * hertz, 1.15 * hertz)
    return total


def sirens(draw: Draw, samples: int) -> Waveform:
    """A tone that rises and falls, or jumps between two pitches, with harmonics."""
    pace_hz, low, ratio = draw.uniform(0.1, 4), draw.uniform(200, 1500), draw.uniform(1.2, 3)
    swing = np.sin(2 * np.pi * pace_hz * time_s(samples) + draw.uniform(0, 6))
    swing = np.sign(swing) if draw.random() < 0.4 else swing
    phase = 2 * np.pi * np.cumsum(low * ratio ** ((1 + swing) / 2)) / RATE
    strengths = draw.uniform(0, 0.6) ** np.arange(4)
    total = sum(part * np.sin((n + 1) * phase) for n, part in enumerate(strengths))
    return np.asarray(total, np.float32)


def birds(draw: Draw, samples: int) -> Waveform:
    """Chirps: short tones that glide, in groups."""
    total = np.zeros(samples, np.float32)
    for at, length in notes(draw, samples, 0.03, draw.choice([0.15, 0.4])):
        if draw.random() < 0.6:
            hertz = np.linspace(*draw.uniform(1500, 7500, 2), length)
            hertz += draw.choice([0, 400]) * np.sin(2 * np.pi * 30 * time_s(length))
            chirp = np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
            total[at : at + length] = draw.uniform(0.1, 1) * chirp * faded(length, 0.01)
    return total * (slow(draw, samples, 1.0) > draw.uniform(0, 0.5))


def drops(draw: Draw, samples: int) -> Waveform:
    """Rain, applause, frying, water, crackling: many short sounds, each with its resonance."""
    events = draw.random(samples) < 10 ** draw.uniform(0.5, 3.3) / RATE
    pulses = (events * draw.exponential(1.0, samples)).astype(np.float32)
    total = np.zeros(samples, np.float32)
    for _ in range(4):
        moment = time_s(RATE // 20)
        ring = np.exp(-moment / draw.uniform(0.0005, 0.015))
        ring *= np.sin(2 * np.pi * draw.uniform(300, 6000) * moment)
        total += sounds.convolve(pulses, ring.astype(np.float32))
    return add_at(draw.uniform(0, 30), total, wind(draw, samples))


def static(draw: Draw, samples: int) -> Waveform:
    """A bad line: hiss, clicks, bursts and hum."""
    noise = add_at(draw.uniform(-10, 10), white(draw, samples), hum(draw, samples))
    clicks = knocks(draw, samples) * (slow(draw, samples, 3.0) > 0.4)
    bursts = white(draw, samples) * (slow(draw, samples, 8.0) > draw.uniform(0.6, 0.9))
    return add_at(draw.uniform(-10, 10), add_at(draw.uniform(-5, 15), noise, bursts), clicks)


KINDS: dict[str, Sound] = {
    sound.__name__: sound
    for sound in (
        *(silence, hum, fan, white, pink, brown, room, wind, music, plucked, melody, beeps),
        *(sirens, knocks, drops, static, birds, engine),
    )
}


def mixed(draw: Draw, samples: int) -> Waveform:
    """Two kinds at once."""
    first, second = draw.choice([kind for kind in KINDS if kind not in ("silence", "mixed")], 2)
    return add_at(draw.uniform(-10, 10), KINDS[first](draw, samples), KINDS[second](draw, samples))


KINDS["mixed"] = mixed


def time_s(samples: int) -> np.ndarray:
    return np.arange(samples) / RATE


def tones(
    draw: Draw,
    base: float,
    strengths: np.ndarray,
    samples: int,
    vibrato: float = 0.0,
    vibrato_hz: float = 5.5,
) -> Waveform:
    """A tone of `base` Hz with harmonics below 7.5 kHz."""
    moment = time_s(samples)
    swing = vibrato * np.sin(2 * np.pi * vibrato_hz * moment + draw.uniform(0, 6)) / vibrato_hz
    phase = 2 * np.pi * base * moment + base * swing
    total = np.zeros(samples)
    for n, strength in enumerate(strengths, start=1):
        if n * base * (1 + vibrato) < 7500:
            total += strength * np.sin(n * phase + draw.uniform(0, 2 * np.pi))
    return total.astype(np.float32)


def notes(draw: Draw, samples: int, least_s: float, most_s: float) -> Iterator[tuple[int, int]]:
    """Start and length of one note after the other, in samples."""
    at = 0
    while at < samples:
        length = min(samples - at, int(draw.uniform(least_s, most_s) * RATE) + 1)
        yield at, length
        at += length


def faded(samples: int, over_s: float) -> Waveform:
    ramp = np.minimum(1.0, time_s(samples) / over_s)
    return (ramp * ramp[::-1]).astype(np.float32)


def slow(draw: Draw, samples: int, hertz: float) -> Waveform:
    """A level that wanders between 0 and 1."""
    points = draw.random(2 + int(samples / RATE * hertz))
    places = np.linspace(0, len(points) - 1, samples)
    return np.interp(places, np.arange(len(points)), points).astype(np.float32)


def band_of(samples: Waveform, low: float, high: float) -> Waveform:
    band = butter(2, [low, min(high, 7900.0)], "bandpass", fs=RATE, output="sos")
    return sosfilt(band, samples).astype(np.float32)


# ---------------------------------------------------------------- level and channel


def excerpt(draw: Draw, kind: str, samples: int) -> Waveform:
    """A sound of a kind at some level, with some envelope, through some channel."""
    sound = KINDS[kind](draw, samples)
    if kind == "silence":
        return sound
    course = draw.integers(5)  # 0, 1: steady
    if course in (2, 3):
        ramp_db = np.linspace(draw.uniform(-40, -10), 0, samples)
        sound = sound * amplitude(1) ** (ramp_db if course == 2 else ramp_db[::-1])
    elif course == 4:
        sound = sound * np.repeat(draw.random(samples // RATE + 1) < 0.5, RATE)[:samples]
    channel = draw.integers(7)  # 0, 1, 2: as it is
    sound = sound.astype(np.float32)
    if channel == 3:
        sound = sounds.telephone(sound, RATE)
    elif channel == 4:
        sound = sounds.band_pass(sound, 0.0, draw.uniform(3500, 7500), RATE)
    elif channel == 5:
        echo = sounds.impulse_response(draw, draw.uniform(0.1, 0.8), draw.uniform(-3, 12), RATE)
        sound = sounds.convolve(sound, echo)
    elif channel == 6:
        sound = as_mp3(sound)
    powers = np.square(sound[: samples // RATE * RATE].reshape(-1, RATE)).mean(axis=1)
    level = float(np.sqrt(powers.max()))
    louder = amplitude(draw.uniform(*LEVELS_DB)) / level if level else 0.0
    return (sound * np.float32(louder)).clip(-1.0, 1.0)


def as_mp3(sound: Waveform) -> Waveform:
    file = BytesIO()
    scale = np.float32(2 * np.abs(sound).max(initial=1e-9))
    soundfile.write(file, sound / scale, RATE, format="MP3", subtype="MPEG_LAYER_III")
    file.seek(0)
    decoded: Waveform = soundfile.read(file, dtype="float32")[0]
    return np.resize(decoded, len(sound)) * scale


def in_16_bits(sound: Waveform) -> Waveform:
    return np.rint(sound * 32768).clip(-32768, 32767).astype(np.float32) / 32768


def excerpts(
    kind: str, minutes: float, seed: int = 0, lengths_s: tuple[float, float] = EXCERPT_S
) -> Iterator[Waveform]:
    draw = np.random.default_rng((seed, *kind.encode()))
    left = int(minutes * 60 * RATE)
    while left >= lengths_s[0] * RATE:
        samples = min(left, int(draw.uniform(*lengths_s) * RATE))
        yield in_16_bits(excerpt(draw, kind, samples))
        left -= samples


# ---------------------------------------------------------------- around speech


def beside(sound: Sound, seconds: float, db: float | None = None) -> Change:
    """A sound after speech, at a level relative to it; None: any from −40 to 0 dB."""

    def change(draw: Draw, speech: Waveform) -> Waveform:
        return np.concatenate([speech, at_level(draw, speech, sound, seconds, db)])

    return change


def around(sound: Sound, seconds: float, db: float | None = None) -> Change:
    """A sound before and after speech."""

    def change(draw: Draw, speech: Waveform) -> Waveform:
        parts = [at_level(draw, speech, sound, seconds / 2, db) for _ in range(2)]
        return np.concatenate([parts[0], speech, parts[1]])

    return change


def at_level(
    draw: Draw, speech: Waveform, sound: Sound, seconds: float, db: float | None
) -> Waveform:
    noise = sound(draw, int(seconds * RATE))
    level = draw.uniform(-40, 0) if db is None else db
    return noise * np.float32(amplitude(level) * speech.std() / max(float(noise.std()), 1e-9))


def any_kind(draw: Draw, samples: int) -> Waveform:
    return KINDS[draw.choice([kind for kind in KINDS if kind != "silence"])](draw, samples)


def zeros(draw: Draw, samples: int) -> Waveform:
    return np.zeros(samples, np.float32)


def noisy(db: float) -> Change:
    return lambda draw, speech: add_at(db, speech, white(draw, len(speech)))


CHANGES: dict[str, Change] = {
    "as recorded": lambda draw, speech: speech,
    "+ 10 s of zeros": beside(zeros, 10),
    "+ 30 s of zeros": beside(zeros, 30),
    "+ 10 s of room noise, −20 dB": beside(pink, 10, -ROOM_DB),
    "+ 30 s of room noise, −20 dB": beside(pink, 30, -ROOM_DB),
    "+ 30 s of white noise, −20 dB": beside(white, 30, -ROOM_DB),
    "between 2 × 10 s of any sound": around(any_kind, 20),
    "white noise, 20 dB": noisy(20),
    "white noise, 10 dB": noisy(10),
    "white noise, 5 dB": noisy(5),
    "telephone": lambda draw, speech: sounds.telephone(speech, RATE),
    "−40 dB": lambda draw, speech: speech * np.float32(amplitude(-40)),
}


# ---------------------------------------------------------------- short files


def parts(utterance: Utterance, least_s: float, most_s: float) -> list[Part]:
    """Cut an utterance with times of its phones into pieces of these lengths.

    Each cut is in the longest gap of at least `GAP_S` between two phones, or else between the last
    two phones that are possible. A rest that is too short stays with the last piece.
    """
    edges = [
        (max(0.0, after.start_s - before.end_s), (before.end_s + after.start_s) / 2)
        for before, after in pairwise(utterance.segments or ())
    ]
    start, end, cut = 0.0, utterance.duration_s, list[Part]()
    while choice := [
        (gap if gap >= GAP_S else 0.0, time)
        for gap, time in edges
        if start + least_s <= time <= min(start + most_s, end - least_s)
    ]:
        cut.append((start, max(choice)[1]))
        start = cut[-1][1]
    return [*cut, (start, end)]


def in_parts(
    transcriber: Transcriber, utterances: Sequence[Utterance], protocol: str, most_s: float
) -> float:
    """PER of the pieces of utterances, each as a recording of its own."""
    references: dict[str, tuple[str, ...]] = {}
    hypotheses: dict[str, tuple[str, ...]] = {}
    with warnings.catch_warnings(action="ignore"):
        for one in utterances:
            sound = audio.load(one.audio, RATE)
            for n, part in enumerate(parts(one, most_s / 3, most_s)):
                layout = Layout((part,), (0.0, 0.0))
                references[f"{one.id}-{n}"] = layout.utterance(one).phones
                phones = transcriber.transcribe(layout.waveform(sound, RATE), RATE).phones
                hypotheses[f"{one.id}-{n}"] = tuple(phone.phone for phone in phones)
    return scoring.score(references, hypotheses, protocol=protocol).total.per


# ---------------------------------------------------------------- measurement


def transcribers(path: Path, search: Path | None) -> Mapping[str, Transcriber]:
    """A greedy search, and the search of the file, or of another one."""
    model = checkpoint.load(path)
    other = model if search is None else checkpoint.load(search)
    kinds = {"greedy": replace(model, search=SearchConfig(), language_model=None)}
    if other.search is not None:
        kinds["tuned"] = replace(model, search=other.search, language_model=other.language_model)
    return {name: Transcriber(in_use(one)) for name, one in kinds.items()}


def invented(transcriber: Transcriber, kind: str, minutes: float) -> int:
    """Number of phones output for `minutes` of a kind of sound."""
    with warnings.catch_warnings(action="ignore"):
        return sum(
            len(transcriber.transcribe(sound, RATE).phones) for sound in excerpts(kind, minutes)
        )


def per(
    transcriber: Transcriber, utterances: Sequence[Utterance], change: Change, protocol: str
) -> float:
    hypotheses: dict[str, tuple[str, ...]] = {}
    with warnings.catch_warnings(action="ignore"):
        for n, one in enumerate(utterances):
            sound = change(np.random.default_rng(n), audio.load(one.audio, RATE))
            phones = transcriber.transcribe(sound, RATE).phones
            hypotheses[one.id] = tuple(phone.phone for phone in phones)
    references = {one.id: one.phones for one in utterances}
    return scoring.score(references, hypotheses, protocol=protocol).total.per


def of_manifest(path: Path, count: int | None) -> Sequence[Utterance]:
    """All utterances, or `count` at equal distances."""
    utterances = Manifest(path)
    if not len(utterances):
        raise DataError(f"{path}: no utterance, expected a manifest of asr prepare")
    return utterances[:: max(1, len(utterances) // count)][:count] if count else utterances


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--search", type=Path, metavar="MODEL")
    parser.add_argument("--minutes", type=float, default=60.0, help="of all kinds (default: 60)")
    parser.add_argument("--manifest", type=Path, action="append", default=[])
    parser.add_argument("--sample", type=int, metavar="N", help="utterances of each manifest")
    parser.add_argument("--change", action="append", choices=CHANGES, help="default: all")
    parser.add_argument("--protocol", default="arpabet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = transcribers(options.model, options.search)
    if options.manifest:
        print(" | ".join(["| manifest", "sound", *(f"PER, {kind}" for kind in kinds)]), end=" |\n")
        print("|" + "---|" * (2 + len(kinds)))
        for manifest in options.manifest:
            utterances = of_manifest(manifest, options.sample)
            for name in options.change or CHANGES:
                cells = (
                    f"{per(one, utterances, CHANGES[name], options.protocol):.2f}"
                    for one in kinds.values()
                )
                print(" | ".join([f"| {manifest.stem}", name, *cells]), end=" |\n", flush=True)
            if options.change or not all(one.segments for one in utterances):
                continue
            for most_s in PIECES_S:
                name = f"pieces of {most_s / 3:g} to {most_s:g} s"
                cells = (
                    f"{in_parts(one, utterances, options.protocol, most_s):.2f}"
                    for one in kinds.values()
                )
                print(" | ".join([f"| {manifest.stem}", name, *cells]), end=" |\n", flush=True)
        return
    print(" | ".join(["| sound", *(f"phones a minute, {kind}" for kind in kinds)]), end=" |\n")
    print("|" + "---|" * (1 + len(kinds)))
    totals = dict.fromkeys(kinds, 0)
    minutes = options.minutes / len(KINDS)
    for sound in KINDS:
        counts = {name: invented(one, sound, minutes) for name, one in kinds.items()}
        totals = {name: totals[name] + count for name, count in counts.items()}
        cells = (f"{count / minutes:.2f}" for count in counts.values())
        print(" | ".join([f"| {sound}", *cells]), end=" |\n", flush=True)
    cells = (f"{count / options.minutes:.2f}" for count in totals.values())
    print(" | ".join(["| all", *cells]), end=" |\n")


if __name__ == "__main__":
    sys.exit(main())
