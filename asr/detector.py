"""Whether somebody speaks: a small network on what the large one and the spectrum show.

A network that has heard little else than speech labels some noises. Around a frame, `WINDOWS_S`
wide, its labels are then few, unsure or always the same, and the spectrum changes too little or too
evenly. The weights are part of the model's file (`recipes/librispeech/speech.py` fits them).
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
BESIDE_S = 0.45  # from a label to what counts as speech when frames are normalised
NEVER = -1e4  # log-probability of a label where nobody speaks

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class SpeechDetector:
    """Weights and bias of the log-odds of speech, in nats, for each value of `evidence`.

    With `hidden` units they are for the tanh of each, whose row is its weights and its bias.
    """

    weights: list[float]
    bias: float
    hidden: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        expected = len(self.hidden) or EVIDENCE
        if len(self.weights) != expected:
            raise ValueError(f"{len(self.weights)} weights of a detector, expected {expected}")
        if {*map(len, self.hidden)} - {EVIDENCE + 1}:
            raise ValueError(f"a hidden unit of a detector needs {EVIDENCE + 1} numbers")

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
        speech: Values = self.odds(evidence(emissions, static, frame_s)) >= 0
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


def evidence(log_probs: Values, static: Values, frame_s: float) -> Values:
    """What is known of speech around each frame of the network: (T', V), (T, F) → (T', E).

    `static` are log-mel values. Each window has the logarithm of its number of frames with labels,
    and means weighted by their probability: of confidence and entropy; of changes of the spectrum
    in three bands, of its form, its roughness, slope and width; then the entropy of all its labels
    together, and how much the form of the spectrum varies.
    """
    probs = np.exp(log_probs.astype(np.float64))
    frames, bins = len(probs), static.shape[1]
    stacked = -(-len(static) // max(1, frames))
    padded = np.pad(static, ((0, stacked * frames - len(static)), (0, 0)), mode="edge")
    spectrum = padded.reshape(frames, stacked, bins).mean(axis=1)
    form = spectrum - spectrum.mean(axis=1, keepdims=True)
    change, change_of_form = (np.abs(np.diff(x, axis=0, prepend=x[:1])) for x in (spectrum, form))
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
    ends = np.cumsum([part.shape[1] for part in weighted])[:-1]
    sums = np.cumsum(np.pad(np.concatenate(weighted, axis=1), ((1, 0), (0, 0))), axis=0)
    parts = []
    for window_s in WINDOWS_S:
        half = round(window_s / frame_s / 2)
        at = np.arange(frames)
        within = sums[np.minimum(frames, at + half + 1)] - sums[np.maximum(0, at - half)]
        total, *means = np.split(within, ends, axis=1)
        means = [part / total for part in means]
        spread = np.sqrt((means[3] - means[2] ** 2).clip(0)).mean(axis=1)
        parts += [np.log(total[:, 0]), *means[0].T, _entropy(means[1]), spread]
    return np.stack(parts, axis=1)


def _entropy(probs: Values) -> Values:
    entropy: Values = -(probs * np.log(probs + 1e-9)).sum(axis=1)
    return entropy
