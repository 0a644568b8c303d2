"""Whether somebody speaks: a small network on what the large one and the spectrum show.

A network that has heard little else than speech labels some noises. Around a frame, `WINDOWS_S`
wide, its labels are then few, unsure or always the same, and the spectrum changes too little or too
evenly. The weights are part of the model's file (`recipes/librispeech/speech.py` fits them). In a
stream the windows end soon after the frame.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.features.frames import Frames
from asr.features.moments import Moments, of_speech
from asr.search.paths import BLANK

WINDOWS_S = (0.5, 2.0)
LEAST = 1e-4  # probability of a label, where the network is sure that there is none
EVIDENCE = 26  # values of a frame
COLUMNS = 10  # of `weighted_values`, of which windows have the mean
AHEAD_S = 0.25  # after a frame, which a window of a stream sees at most
BESIDE_S = 0.45  # from a label to what counts as speech when frames are normalised
NEVER = -1e4  # log-probability of a label where nobody speaks

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class SpeechDetector:
    """Weights and bias of the log-odds of speech, in nats, for each value of `evidence`.

    With `hidden` units they are for the tanh of each, whose row is its weights and its bias.
    `ahead_s` is how far the windows of a stream reach behind a frame; None: half of each.
    """

    weights: list[float]
    bias: float
    hidden: list[list[float]] = field(default_factory=list)
    ahead_s: float | None = None

    def __post_init__(self) -> None:
        expected = len(self.hidden) or EVIDENCE
        if len(self.weights) != expected:
            raise ValueError(f"{len(self.weights)} weights of a detector, expected {expected}")
        if {*map(len, self.hidden)} - {EVIDENCE + 1}:
            raise ValueError(f"a hidden unit of a detector needs {EVIDENCE + 1} numbers")
        if self.ahead_s is not None and not 0 <= self.ahead_s <= min(WINDOWS_S) / 2:
            most = min(WINDOWS_S) / 2
            raise ValueError(f"a detector reads {self.ahead_s} s ahead, expected 0 to {most}")

    def odds(self, known: Values) -> Values:
        """Log-odds of speech, (T', E) → (T',)."""
        if self.hidden:
            hidden = np.array(self.hidden)
            known = np.tanh(known @ hidden[:, :-1].T + hidden[:, -1])
        odds: Values = known @ np.array(self.weights) + self.bias
        return odds

    def gate(self, emissions: Values, static: Values, frame_s: float) -> Values:
        """Log-probabilities (T', V) with nothing but the blank where nobody speaks."""
        nothing = np.full_like(emissions, NEVER)
        nothing[:, BLANK] = 0.0
        return np.where(self.speech(emissions, static, frame_s)[:, None], emissions, nothing)

    def speech(self, emissions: Values, static: Values, frame_s: float) -> Values:
        """In which frames somebody speaks: (T', V), (T, F) → (T',) bool."""
        speech: Values = self.odds(evidence(emissions, static, frame_s, self.ahead_s)) >= 0
        return speech

    def beside_labels(self, emissions: Values, static: Values, frame_s: float) -> Values:
        """`speech` within `BESIDE_S` of a label, for each of the T frames: (T,) bool."""
        speech, reach = self.speech(emissions, static, frame_s), round(BESIDE_S / frame_s)
        labels = np.cumsum(np.pad(emissions[:, BLANK] < math.log(0.5), (reach + 1, reach)))
        speech &= labels[2 * reach + 1 :] > labels[: -2 * reach - 1]
        stacked = -(-len(static) // max(1, len(speech)))
        of_frames: Values = speech[(np.arange(len(static)) // stacked).clip(max=len(speech) - 1)]
        return of_frames

    def moments(
        self, emissions: Values, static: Values, frames: Frames, frame_s: float
    ) -> Moments | None:
        """Of an utterance beside noise, with normalization=active: (F,), (F,), see `of_speech`."""
        if frames.config.normalization != "active":
            return None
        speech = self.beside_labels(emissions, static, frame_s)
        return of_speech(frames.dynamic(static), speech, frames.config, frames.training)


def evidence(
    log_probs: Values, static: Values, frame_s: float, ahead_s: float | None = None
) -> Values:
    """What is known of speech around each frame of the network: (T', V), (T, F) → (T', E).

    `static` are log-mel values. Each window has the logarithm of its number of frames with labels,
    and means weighted by their probability: of confidence and entropy; of changes of the spectrum
    in three bands, of its form, its roughness, slope and width; then the entropy of all its labels
    together, and how much the form of the spectrum varies. `ahead_s` as of `SpeechDetector`.
    """
    frames = len(log_probs)
    spectrum = spectrum_of(static, -(-len(static) // max(1, frames)), frames)
    weighted = weighted_values(log_probs, spectrum, spectrum[:1])
    sums = np.cumsum(np.pad(weighted, ((1, 0), (0, 0))), axis=0)
    parts = []
    for before, after in reaches(frame_s, ahead_s):
        at = np.arange(frames)
        within = sums[np.minimum(frames, at + after + 1)] - sums[np.maximum(0, at - before)]
        parts.append(of_window(within, log_probs.shape[1] - 1))
    return np.concatenate(parts, axis=1)


def reaches(frame_s: float, ahead_s: float | None = None) -> list[tuple[int, int]]:
    """Frames that each window has before and after its own."""
    halves = [round(window_s / frame_s / 2) for window_s in WINDOWS_S]
    if ahead_s is None:
        return [(half, half) for half in halves]
    ahead = round(ahead_s / frame_s)
    return [(2 * half - ahead, ahead) for half in halves]


def spectrum_of(static: Values, stacked: int, frames: int) -> Values:
    """The mean of the static frames of each frame of the network: (T, F) → (T', F)."""
    missing = stacked * frames - len(static)
    padded = np.pad(static, ((0, missing), (0, 0)), mode="edge")
    mean: Values = padded.reshape(frames, stacked, static.shape[1]).mean(axis=1)
    return mean


def weighted_values(log_probs: Values, spectrum: Values, before: Values) -> Values:
    """What is summed over a window: (T', V), (T', F) → (T', …), weights first.

    `before` (1, F) is the spectrum before the first one.
    """
    probs = np.exp(log_probs.astype(np.float64))
    bins = spectrum.shape[1]
    whole = np.concatenate([before, spectrum])
    form = whole - whole.mean(axis=1, keepdims=True)
    change, change_of_form = (np.abs(np.diff(x, axis=0)) for x in (whole, form))
    form = form[1:]
    third = bins // 3
    weight = (1 - probs[:, [BLANK]]).clip(LEAST, 1)
    labels = probs[:, 1:] / probs[:, 1:].sum(axis=1, keepdims=True).clip(1e-9)
    confidence = probs[:, 1:].max(axis=1)
    columns = [
        confidence,
        confidence**2,
        _entropy(labels),
        *(change[:, part].mean(axis=1) for part in (np.s_[:third], np.s_[third : 2 * third])),
        change[:, 2 * third :].mean(axis=1),
        change_of_form.mean(axis=1),
        np.abs(np.diff(spectrum, axis=1)).mean(axis=1),
        form[:, :third].mean(axis=1) - form[:, 2 * third :].mean(axis=1),
        form.std(axis=1),
    ]
    weighted = [weight, np.stack(columns, axis=1) * weight, labels * weight]
    weighted += [form * weight, form**2 * weight]
    return np.concatenate(weighted, axis=1)


def of_window(sums: Values, labels: int) -> Values:
    """Of the sums of `weighted_values` over a window: (T', …) → (T', E / 2)."""
    bins = (sums.shape[1] - 1 - COLUMNS - labels) // 2
    ends = np.cumsum([1, COLUMNS, labels, bins])
    total, *means = np.split(sums, ends, axis=1)
    means = [part / total for part in means]
    spread = np.sqrt((means[3] - means[2] ** 2).clip(0)).mean(axis=1)
    return np.stack([np.log(total[:, 0]), *means[0].T, _entropy(means[1]), spread], axis=1)


class Listening:
    """The detector on a stream: whether somebody speaks in each frame, `ahead` frames later."""

    def __init__(self, detector: SpeechDetector, frame_s: float) -> None:
        if detector.ahead_s is None:
            raise ValueError("the windows of this detector are for whole recordings")
        self.detector, self.reaches = detector, reaches(frame_s, detector.ahead_s)
        self.ahead = self.reaches[0][1]
        self.longest = max(before + after + 1 for before, after in self.reaches)
        self.rows: Values | None = None  # of the last frames, in a circle
        self.before: Values | None = None  # the last spectrum
        self.frames = self.told = 0

    def feed(self, log_probs: Values, static: Values) -> list[bool]:
        """One frame further, (1, V) and its static frames (stacked, F): of those that are known."""
        spectrum = static.mean(axis=0, keepdims=True)
        before = spectrum if self.before is None else self.before
        row = weighted_values(log_probs, spectrum, before)[0]
        if self.rows is None:
            self.rows = np.zeros((self.longest, len(row)))
        self.rows[self.frames % self.longest], self.before = row, spectrum
        self.labels = log_probs.shape[1] - 1
        self.frames += 1
        return [self._speech()] if self.frames - self.told > self.ahead else []

    def finish(self) -> list[bool]:
        """Of the other frames, when none is left."""
        return [self._speech() for _ in range(self.frames - self.told)]

    def _speech(self) -> bool:
        assert self.rows is not None
        parts = []
        for before, after in self.reaches:
            first = max(0, self.told - before)
            places = np.arange(first, min(self.frames, self.told + after + 1)) % self.longest
            parts.append(of_window(self.rows[places].sum(axis=0, keepdims=True), self.labels))
        self.told += 1
        return bool(self.detector.odds(np.concatenate(parts, axis=1))[0] >= 0)


def _entropy(probs: Values) -> Values:
    entropy: Values = -(probs * np.log(probs + 1e-9)).sum(axis=1)
    return entropy
