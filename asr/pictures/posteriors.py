"""A figure of an utterance as the network receives it and as it answers."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from asr import pictures
from asr.features import FeaturesConfig
from asr.phones import Vocabulary
from asr.records import Utterance

Floats = npt.NDArray[np.float32]

INCHES_PER_S = 3.4
MARGINS_IN = 0.7, 0.15, 0.45  # left, right, bottom


def draw_posteriors(
    utterance: Utterance,
    features: Floats,
    config: FeaturesConfig,
    posteriors: Floats | None,
    vocabulary: Vocabulary,
) -> Figure:
    """Features (F, T) with the labelled phones, above the posteriors (T', V) of CTC, if any."""
    seconds = utterance.duration_s
    inches_per_s = max(INCHES_PER_S, 7.0 / seconds)
    segments = utterance.segments or ()
    spikes = [] if posteriors is None else _spikes(posteriors, vocabulary, seconds)
    spans = [(72 * inches_per_s * time, 3.0 + 2.6 * len(phone)) for phone, time in spikes]
    rows = pictures.label_rows(spans)
    left, right, bottom = MARGINS_IN
    above = pictures.label_points(segments, inches_per_s) / 72
    between = (pictures.LABEL_GAP + pictures.ROW_POINTS * (1 + max(rows, default=0))) / 72
    heights = (2.4, 1.3) if spikes else (2.4,)
    margins = left, right, above + 0.05, bottom
    width = inches_per_s * seconds
    figure, stack = pictures.panels(seconds, width, heights, margins, between + 0.05)
    upper = stack[0]
    extent = (0, seconds, -0.5, len(features) - 0.5)
    upper.imshow(features, origin="lower", aspect="auto", extent=extent, cmap="magma")
    if config.kind == "fbank":
        pictures.khz_axis(upper, config)
    else:
        upper.set_ylabel("coefficient")
    pictures.label_phones(upper, segments, inches_per_s)
    for segment in segments:
        upper.axvline(segment.end_s, color="white", lw=0.5, alpha=0.6)
    if posteriors is not None and spikes:
        colours = _draw_spikes(stack[1], posteriors, vocabulary, seconds)
        for (phone, time), row in zip(spikes, rows, strict=True):
            rise = pictures.LABEL_GAP + row * pictures.ROW_POINTS
            pictures.write_above(stack[1], phone, time, rise=rise, colour=colours[phone])
    stack[-1].set_xlabel("time (s)")
    return figure


def _times(posteriors: Floats, seconds: float) -> npt.NDArray[np.float64]:
    return (np.arange(len(posteriors)) + 0.5) * seconds / len(posteriors)


def _spikes(posteriors: Floats, vocabulary: Vocabulary, seconds: float) -> list[tuple[str, float]]:
    """Each run of frames with one most probable phone, and the time of its peak."""
    best = posteriors.argmax(axis=1)
    edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
    time = _times(posteriors, seconds)
    spikes = []
    for start, stop in pairwise(edges.tolist()):
        if label := int(best[start]):
            peak = start + int(posteriors[start:stop, label].argmax())
            spikes.append((vocabulary.decode([label])[0], float(time[peak])))
    return spikes


def _draw_spikes(
    axes: Axes, posteriors: Floats, vocabulary: Vocabulary, seconds: float
) -> dict[str, str]:
    """Posteriors of the blank and of the phones that exceed it; the colour of each phone."""
    time = _times(posteriors, seconds)
    axes.plot(time, posteriors[:, 0], color="0.75", lw=0.8, ls=":")
    colours = {}
    for label in sorted(set(posteriors.argmax(axis=1).tolist()) - {0}):
        (line,) = axes.plot(time, posteriors[:, label], lw=1.1)
        colours[vocabulary.decode([label])[0]] = to_hex(line.get_color())
    axes.set(ylim=(0, 1.02), ylabel="posterior")
    return colours
