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
# In frames of 5 ms, chosen on two dev speakers of TIMIT (docs/alignment.md):
REACH, LEAST = 2, 3  # that a boundary is moved at most, and that a phone keeps
# A voice behind a stop: filters up to 640 Hz, frames that are looked at around the edge, and those
# before and behind it in which it may begin.
STOPS, VOICED = frozenset({"stop", "affricate"}), frozenset({"vowel", "approximant"})
VOICE_FILTERS, VOICE_SHARE, NEAR, EARLIER, LATER = 5, 0.85, 12, 2, 8
# A phone beside silence: frames of the silence, and those behind a stop that show how loud it is;
# nats that it is louder, at least; and by which silence counts as less loud, at most.
SPEECH_SHARE, BESIDE, BEHIND, LOUDER, DEEPEST = 0.4, 40, 6, 1.4, 6.0
Level = npt.NDArray[np.float64]
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
    speech: Frames, edges: Sequence[int], kinds: Sequence[str], reach: int = REACH
) -> list[int]:
    """The inner ones of edges (n + 1,) between n adjacent parts of `speech` (T, F), moved.

    `kinds` (n,) are the manners of articulation of phones, and "" for silence. Beside silence a
    phone begins or ends where it gets loud (`speech_edge`), a stop lasts until the voice behind it
    begins (`voice_onset`); other edges are at most `reach` frames away, where `change` finds them.
    Phones keep `LEAST` frames.
    """
    sums = np.concatenate([np.zeros((1, speech.shape[1])), np.cumsum(speech, axis=0)])
    loudness, voice = speech.mean(axis=1), speech[:, :VOICE_FILTERS].mean(axis=1)
    room = ((np.diff(edges) - LEAST) // 2).clip(0, reach).tolist()
    cores = [(begin + r, end - r) for (begin, end), r in zip(pairwise(edges), room, strict=True)]
    cores[0], cores[-1] = (edges[0], cores[0][1]), (cores[-1][0], edges[-1])
    result = [edges[0]]
    for n, (left, right) in enumerate(pairwise(cores)):
        parts, kind, following = edges[n : n + 3], kinds[n], kinds[n + 1]
        reached = result[-1] + bool(n)
        if not kind and following:
            moved = speech_edge(loudness, parts, following in STOPS)
        elif kind and not following:
            back = [len(speech) - edge for edge in parts[::-1]]
            moved = len(speech) - speech_edge(loudness[::-1], back)
        elif kind in STOPS and following in VOICED:
            moved = voice_onset(voice, parts)
        else:
            moved = change(sums, left, right)
        result.append(max(moved, reached))
    return [*result, edges[-1]]


def speech_edge(loudness: Level, parts: Sequence[int], is_stop: bool = False) -> int:
    """Where a phone behind silence begins, not before the edge: `parts` are begin, edge, end.

    It is the first frame that is `SPEECH_SHARE` of the way from the silence's median to the phone's
    highest loudness (T,), which may follow a stop; the edge itself, where that is hardly louder.
    """
    begin, edge, end = parts
    if begin == edge or end - edge <= LEAST:
        return edge
    high = float(loudness[edge : end + is_stop * BEHIND].max())
    quiet = max(float(np.median(loudness[max(begin, edge - BESIDE) : edge])), high - DEEPEST)
    rise = high - quiet
    loud = np.flatnonzero(loudness[edge : end - LEAST] >= quiet + SPEECH_SHARE * rise)
    if rise < LOUDER:
        return edge
    return edge + int(loud[0]) if len(loud) else end - LEAST


def voice_onset(voice: Level, parts: Sequence[int]) -> int:
    """Where the voice of the sound behind a stop is there: `parts` are begin, edge, end.

    `voice` (T,) is the log energy of the lowest filters. The voice is there from `VOICE_SHARE` of
    the way from the stop's least value to the sound's highest one, both near the edge, which stays
    where that is hardly louder. A stop lasts until then: its release and aspiration are its own
    (Garofolo et al. 1993, TIMIT).
    """
    begin, edge, end = parts
    first, last = max(begin + 1, edge - EARLIER), min(edge + LATER, end - LEAST)
    low = voice[max(begin, edge - NEAR) : edge + 1].min()
    high = voice[edge : min(end, edge + NEAR)].max()
    if first >= last or high - low < LOUDER:
        return edge
    voiced = np.flatnonzero(voice[first:last] >= low + VOICE_SHARE * (high - low))
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
