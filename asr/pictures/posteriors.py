"""A figure of an utterance as the network receives it and as it answers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr import pictures
from asr.phones import Vocabulary
from asr.records import Utterance

Floats = npt.NDArray[np.float32]


def draw_posteriors(
    utterance: Utterance,
    recognised: Sequence[str],
    features: Floats,
    feature_name: str,
    posteriors: Floats | None,
    vocabulary: Vocabulary,
) -> Figure:
    """Features (F, T) with the labelled phones, above the posteriors (T', V) of CTC, if any."""
    seconds = utterance.duration_s
    figure = Figure(figsize=(max(8.0, 3.6 * seconds), 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    upper.imshow(
        features, origin="lower", aspect="auto", extent=(0, seconds, 0, len(features)), cmap="magma"
    )
    upper.set_ylabel(feature_name)
    segments = utterance.segments or ()
    inches_per_s = 0.9 * figure.get_figwidth() / seconds
    pictures.label_phones(upper, segments, inches_per_s)
    upper.set_title(
        f"{utterance.corpus} {utterance.split}: {utterance.id}",
        loc="left",
        pad=6 + pictures.label_points(segments, inches_per_s),
    )
    for segment in segments:
        upper.axvline(segment.end_s, color="white", lw=0.5, alpha=0.6)
    if posteriors is not None:
        _draw_spikes(lower, posteriors, vocabulary, seconds)
    lower.set(xlabel="time (s)", ylabel="posterior", ylim=(0, 1.18), xlim=(0, seconds))
    lower.set_title(f"hypothesis: {' '.join(recognised)}", loc="left", fontsize=8, wrap=True)
    return figure


def _draw_spikes(axes: Axes, posteriors: Floats, vocabulary: Vocabulary, seconds: float) -> None:
    """Posteriors of the blank and of the phones that exceed it, each spike with its phone."""
    time = (np.arange(len(posteriors)) + 0.5) * seconds / len(posteriors)
    axes.plot(time, posteriors[:, 0], color="0.75", lw=0.8, ls=":")
    best = posteriors.argmax(axis=1)
    for label in sorted(set(best.tolist()) - {0}):
        phone = vocabulary.decode([label])[0]
        (line,) = axes.plot(time, posteriors[:, label], lw=1.1)
        starts = np.flatnonzero((best == label) & (np.append(-1, best[:-1]) != label))
        for start in starts:
            stop = start + int(np.argmax(np.append(best[start:] != label, True)))
            peak = start + int(posteriors[start:stop, label].argmax())
            axes.text(
                time[peak],
                posteriors[peak, label] + 0.03,
                phone,
                ha="center",
                fontsize=8,
                color=line.get_color(),
            )
