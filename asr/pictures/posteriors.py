"""A figure of an utterance as the network receives it and as it answers."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from asr import pictures
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.records import Utterance

Floats = npt.NDArray[np.float32]

INCHES_PER_S = 3.4
MARGINS_IN = 0.7, 0.15, 0.45  # left, right, bottom


def draw_posteriors(
    utterance: Utterance,
    frames: Tensor,
    config: FeaturesConfig,
    posteriors: Floats | None,
    vocabulary: Vocabulary,
) -> Figure:
    """Static frames (T, F) with the labelled phones, above posteriors (T', V) of CTC, if any."""
    seconds = utterance.duration_s
    inches_per_s = max(INCHES_PER_S, 7.0 / seconds)
    segments = utterance.segments or ()
    labels = pictures.Labels.of(segments, inches_per_s)
    if posteriors is None:
        posteriors = np.zeros((0, 1), np.float32)
    time = (np.arange(len(posteriors)) + 0.5) * seconds / max(len(posteriors), 1)
    spikes = [(vocabulary.decode([run[0]])[0], time[run[3]]) for run in runs(posteriors)]
    answers = pictures.Labels(spikes, inches_per_s)
    left, right, bottom = MARGINS_IN
    margins = left, right, labels.inches + 0.05, bottom
    heights = (2.4, 1.3) if spikes else (2.4,)
    width, gap = inches_per_s * seconds, answers.inches + 0.05
    figure, stack = pictures.panels(seconds, width, heights, margins, gap)
    upper = stack[0]
    pictures.draw_frames(upper, frames, frames, config)
    upper.set_xlim(0, seconds)
    labels.write(upper)
    for segment in segments:
        upper.axvline(segment.end_s, color="white", lw=0.5, alpha=0.6)
    if spikes:
        stack[1].plot(time, posteriors[:, 0], color="0.75", lw=0.8, ls=":")
        colours = {}
        for phone in dict.fromkeys(phone for phone, _ in spikes):
            (line,) = stack[1].plot(time, posteriors[:, vocabulary.encode([phone])[0]], lw=1.1)
            colours[phone] = to_hex(line.get_color())
        stack[1].set(ylim=(0, 1.02), ylabel="posterior")
        answers.write(stack[1], colours=colours)
    stack[-1].set_xlabel("time (s)")
    return figure


def runs(posteriors: Floats) -> Iterator[tuple[int, int, int, int]]:
    """The runs of frames with one most probable label but the blank: label, first, last, peak."""
    best = posteriors.argmax(axis=1)
    edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1)).tolist()
    for first, stop in pairwise(edges):
        if label := int(best[first]):
            yield label, first, stop - 1, first + int(posteriors[first:stop, label].argmax())
