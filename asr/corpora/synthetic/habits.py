"""Reductions that people make and espeak-ng does not, edited into waveform and labels together.

Unreleased stops, flapped nasals, silent gaps, devoiced vowels, other durations. Tables:
`asr/tables/synthetic`; rules: `docs/synthetic.md`.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np

from asr.corpora.synthetic.boundaries import FRAME, MIN_FRAMES, classes
from asr.corpora.synthetic.espeak import SPEAK_RATE, Floats, Sound
from asr.phones import table_rows

TAP_S = (0.020, 0.034)
TAP_LIMIT_S = 0.035  # an n between vowels that is no longer is a flap, whatever made it so
GAP_S = (0.015, 0.060)
DEVOICED_S = (0.025, 0.045)
SPREAD, PAUSE_SPREAD = 0.12, 0.4  # of the logarithm of a duration
FADE = 88  # samples, 4 ms


@dataclass(frozen=True)
class Habits:
    """Probabilities of a speaker's reductions, at each place that allows them."""

    unreleased: float  # a stop before a consonant keeps its closure and loses its burst
    taps: float  # n between vowels, the second of them weak, becomes a flap
    gaps: float  # a silence opens between a fricative and a nasal, l or w
    devoiced: float  # a schwa between voiceless sounds is whispered


@cache
def duration_factors() -> dict[str, float]:
    """Label → how much longer people speak it than espeak-ng does."""
    return {phone: float(factor) for phone, factor in table_rows("synthetic/durations.txt")}


def reshape(
    wave: Floats, labels: Sequence[Sound], habits: Habits, rng: random.Random
) -> tuple[Floats, list[Sound]]:
    """Apply `habits` and realistic durations to a sentence `(S,)` at SPEAK_RATE and its labels.

    Labels end with the final silence, in the input as in the result.
    """
    kinds = classes()
    phones = [sound.phone for sound in labels]
    at = labels[0].start
    pieces, shaped = [wave[:at]], list[Sound]()
    joined = -1  # index of the closure that prolongs the one before it
    for index, (sound, following) in enumerate(pairwise(labels)):
        this, after = sound.phone, following.phone
        last = phones[index - 1] if index else "h#"
        piece = wave[sound.start : following.start]
        closed = last in kinds["closure"] and index - 1 != joined
        if closed and _may_stay_closed(sound, following) and rng.random() < habits.unreleased:
            pieces[-1] = _faded(pieces[-1])  # the burst may reach into its last samples
            joined = index + 1 if after in kinds["closure"] else joined
            continue
        between = last in kinds["vowel"] and after in kinds["vowel"]
        voiceless = last in kinds["voiceless"] and after in kinds["voiceless"]
        if this == "n" and between and after in kinds["weak"] and rng.random() < habits.taps:
            piece = _resized(piece, round(rng.uniform(*TAP_S) * SPEAK_RATE))
        elif this in ("ax", "ix") and voiceless and rng.random() < habits.devoiced:
            piece = _resized(_whispered(piece, rng), round(rng.uniform(*DEVOICED_S) * SPEAK_RATE))
            this = "ax-h"
        else:
            spread = PAUSE_SPREAD if this == "pau" else SPREAD
            factor = duration_factors().get(this, 1.0) * math.exp(rng.gauss(0, spread))
            piece = _resized(piece, max(round(factor * len(piece)), MIN_FRAMES * FRAME))
        if this == "n" and between and len(piece) <= TAP_LIMIT_S * SPEAK_RATE:
            this = "nx"
        if index != joined:
            shaped.append(Sound(this, at, sound.word))
        at += len(piece)
        pieces.append(piece)
        if this in kinds["hissing"] and after in kinds["gapped"] and rng.random() < habits.gaps:
            pieces[-1] = _faded(piece)
            pieces.append(np.zeros(round(rng.uniform(*GAP_S) * SPEAK_RATE), np.float32))
            shaped.append(Sound("epi", at, following.word))
            at += len(pieces[-1])
    shaped.append(replace(labels[-1], start=at))
    return np.concatenate([*pieces, wave[labels[-1].start :]]), shaped


def _may_stay_closed(this: Sound, after: Sound) -> bool:
    """Whether a release may be left out: the next sound must show where the closure ends."""
    kinds = classes()
    if this.phone not in kinds["release"]:
        return False
    before_fricative = this.phone in ("t", "d") and after.phone in ("s", "z")
    if before_fricative or after.phone in kinds["closure"] | kinds["release"]:
        return True
    return this.word != after.word and after.phone in kinds["closing"]


def _faded(piece: Floats) -> Floats:
    """The piece with its last 4 ms faded to zero."""
    faded = piece.copy()
    faded[-FADE:] *= np.linspace(1, 0, min(FADE, len(piece)), dtype=np.float32)
    return faded


def _resized(piece: Floats, samples: int) -> Floats:
    """The piece at about `samples` in length: samples of its middle are removed or repeated.

    The join is where the waveform before and after it is most alike, so that a voiced sound loses
    or gains whole glottal periods; at most 60 % are added.
    """
    change = min(samples - len(piece), len(piece) * 6 // 10)
    join, reach = 44, 160  # 2 ms on either side; half the period of 70 Hz
    if abs(change) < FRAME or len(piece) < 6 * join:
        return piece
    middle = (len(piece) + change) // 2
    low = max(middle - change - reach, join)
    high = min(middle - change + reach, len(piece) - join)
    middle = min(max(middle, join), len(piece) - join)
    if high <= low:
        return piece
    here = piece[middle - join : middle + join]
    there = np.lib.stride_tricks.sliding_window_view(piece[low - join : high + join], 2 * join)
    likeness = there @ here / (np.sqrt((there**2).sum(axis=1)) + 1e-3)
    best = low + int(np.argmax(likeness))
    ramp = np.linspace(0, 1, 2 * join, dtype=np.float32)
    joined = here * (1 - ramp) + piece[best - join : best + join] * ramp
    return np.concatenate([piece[: middle - join], joined, piece[best + join :]])


def _whispered(piece: Floats, rng: random.Random) -> Floats:
    """A whispered vowel: noise with its spectral envelope, 9 dB below it."""
    size = len(piece)
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(size), 1024)) + 1e-4
    cepstrum = np.fft.irfft(np.log(spectrum))
    cepstrum[40:-39] = 0  # keeps 1.8 ms: formants, not pitch
    envelope = np.exp(np.fft.rfft(cepstrum).real)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(size + 1024)
    filtered = np.fft.irfft(
        np.fft.rfft(noise, 4096)
        * np.interp(np.linspace(0, 1, 2049), np.linspace(0, 1, 513), envelope)
    )[:size]
    level = 0.35 * np.linalg.norm(piece) / (np.linalg.norm(filtered) + 1e-6)
    return np.asarray(level * filtered, np.float32)
