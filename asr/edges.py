"""Where between two phones the boundary is: where the speech changes most, or a voice begins.

Phones of an aligner have frames of its network, their cores; here boundaries are found in finer
frames of log-mel values. Nothing here knows networks. docs/alignment.md has the rules.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

QUIET = (5, 95)  # percentiles of the loudness in dB; below the middle of them it is quiet
REACH, LEAST = 2, 3  # frames that an HMM's boundary is moved at most, and that a phone keeps
# Where a voice begins behind a stop: filters up to 640 Hz, frames that are looked at around the
# edge, and those before and behind it in which it may begin.
STOPS, VOICED = frozenset({"stop", "affricate"}), frozenset({"vowel", "approximant"})
VOICE_FILTERS, VOICED_SHARE, NEAR, EARLIER, LATER = 5, 0.85, 12, 2, 8
Frames = np.ndarray[Any, np.dtype[np.float64]]
Stretch = tuple[int, int]  # frames begin…end (exclusive) of those in which boundaries are found


def stretches(
    speech: Frames, cores: Sequence[Stretch], pause_frames: int | None = None
) -> list[Stretch]:
    """What belongs to each phone of which the core is known, in `speech` (T, F).

    Cores do not overlap. Between two of them the boundary is where the speech changes most. With
    `pause_frames` a stretch that is quiet for so long, between two phones or at either end, is a
    pause and belongs to none; without, the phones take up all of the time.
    """
    if not cores:
        return []
    parts = [(core, True) for core in cores]
    if pause_frames is not None:
        parts += [(pause, False) for pause in quiet_stretches(speech, cores, pause_frames)]
        parts.sort()
    places = [core for core, _ in parts]
    sums = np.concatenate([np.zeros((1, speech.shape[1])), np.cumsum(speech, axis=0)])
    inner = [change(sums, left, right) for left, right in pairwise(places)]
    edges = [0, *inner, len(speech)]
    return [
        (edges[number], edges[number + 1]) for number, (_, is_phone) in enumerate(parts) if is_phone
    ]


def refined(
    speech: Frames,
    edges: Sequence[int],
    onsets: Sequence[bool] | npt.NDArray[np.bool_],
    reach: int = REACH,
    least: int = LEAST,
) -> list[int]:
    """Each inner edge at most `reach` frames away, where `change` finds it; parts keep `least`.

    Edges (n + 1,) of n adjacent parts of `speech` (T, F); of the inner ones, `onsets` (n − 1,) are
    where the voice of a sound behind a stop begins.
    """
    sums = np.concatenate([np.zeros((1, speech.shape[1])), np.cumsum(speech, axis=0)])
    level = speech[:, :VOICE_FILTERS].mean(axis=1)
    room = ((np.diff(edges) - least) // 2).clip(0, reach).tolist()
    cores = [(begin + r, end - r) for (begin, end), r in zip(pairwise(edges), room, strict=True)]
    cores[0], cores[-1] = (edges[0], cores[0][1]), (cores[-1][0], edges[-1])
    result = [edges[0]]
    for n, (left, right) in enumerate(pairwise(cores)):
        begin, edge, end = edges[n : n + 3]
        first, last = max(result[-1] + 1, edge - EARLIER), min(edge + LATER, end - least)
        if onsets[n] and first < last:
            result.append(voice_onset(level, (begin, edge, end), first, last))
        else:
            result.append(max(change(sums, left, right), result[-1] + bool(n)))
    return [*result, edges[-1]]


def voice_onset(
    level: npt.NDArray[np.float64], parts: tuple[int, int, int], first: int, last: int
) -> int:
    """The first frame, first…last, in which the voice of the sound behind a stop is there.

    `level` (T,) is the log energy of the lowest filters, and the voice is there from `VOICED_SHARE`
    of the way from the stop's least level to the sound's highest one, both near the edge between
    the `parts` begin…edge…end. A stop lasts until then: its release and aspiration are its own
    (Garofolo et al. 1993, TIMIT).
    """
    begin, edge, end = parts
    low = level[max(begin, edge - NEAR) : edge + 1].min()
    high = level[edge : min(end, edge + NEAR)].max()
    voiced = np.flatnonzero(level[first:last] >= low + VOICED_SHARE * (high - low))
    return first + int(voiced[0]) if len(voiced) else last


def change(sums: Frames, left: Stretch, right: Stretch) -> int:
    """Where, between two cores, the second begins: left[1]…right[0].

    Of all ways to cut left[0]…right[1] in two there, the one with the least squared distance of the
    frames from the mean of their part. `sums` (T + 1, F) are of the frames before each edge.
    """
    cuts = np.arange(left[1], right[0] + 1)
    first = sums[cuts] - sums[left[0]]
    second = sums[right[1]] - sums[cuts]
    explained = (first**2).sum(1) / (cuts - left[0]) + (second**2).sum(1) / (right[1] - cuts)
    return int(cuts[explained.argmax()])


def quiet_stretches(speech: Frames, cores: Sequence[Stretch], at_least: int) -> Iterator[Stretch]:
    """The longest quiet stretch before, between and behind the cores, where it lasts."""
    loudness = speech.mean(axis=1)
    quiet = loudness < np.percentile(loudness, QUIET).mean()
    begins = [0, *(end for _, end in cores)]
    ends = [*(begin for begin, _ in cores), len(speech)]
    for begin, end in zip(begins, ends, strict=True):
        steps = np.diff(np.concatenate([[0], quiet[begin:end].astype(np.int8), [0]]))
        starts, stops = (steps == 1).nonzero()[0], (steps == -1).nonzero()[0]
        if len(starts):
            longest = int((stops - starts).argmax())
            if stops[longest] - starts[longest] >= at_least:
                yield begin + int(starts[longest]), begin + int(stops[longest])
