"""Which parts of a recording an example plays, and the pauses between them."""

from dataclasses import dataclass, replace
from itertools import accumulate, chain, combinations, pairwise

import numpy as np

from asr.augment.sounds import Waveform
from asr.records import Segment, Utterance

PAUSE_S = 0.1  # the shortest time without a phone that is a pause, where an utterance may be cut
SHORTEST_PHONE_S = 0.05  # on average in a piece: CTC needs enough frames for its phones

Part = tuple[float, float]  # start and end in seconds of the recording


@dataclass(frozen=True)
class Layout:
    """The parts of a recording that are played, with silence before, between and after them.

    Without parts it is only silence, without phones.
    """

    parts: tuple[Part, ...]  # in order
    pauses: tuple[float, ...]  # seconds, one more than parts
    digital: bool = False  # whether samples in the pauses are exactly 0

    @property
    def edges_s(self) -> list[float]:
        """Where pauses and parts begin in the example, in turn, and at last its end."""
        lengths = [end - start for start, end in self.parts]
        in_turn = chain.from_iterable(zip(self.pauses, lengths, strict=False))
        return [0.0, *accumulate((*in_turn, self.pauses[-1]))]

    @property
    def duration_s(self) -> float:
        return self.edges_s[-1]

    def waveform(self, samples: Waveform, sample_rate: int) -> Waveform:
        """(S,) → (S',): the parts, and zeros in the pauses."""
        pieces = [np.zeros(round(self.pauses[0] * sample_rate), np.float32)]
        for (start, end), pause in zip(self.parts, self.pauses[1:], strict=True):
            pieces.append(samples[round(start * sample_rate) : round(end * sample_rate)])
            pieces.append(np.zeros(round(pause * sample_rate), np.float32))
        return np.concatenate(pieces)

    def silence(self, samples: Waveform, sample_rate: float) -> Waveform:
        """Zeros in the pauses of a changed `waveform`, (S,), whose rate may be that of a pace."""
        silent = samples.copy()
        edges = [round(edge * sample_rate) for edge in self.edges_s[:-1]]
        for first, behind in zip(edges[::2], [*edges[1::2], None], strict=True):
            silent[first:behind] = 0.0
        return silent

    def utterance(self, utterance: Utterance) -> Utterance:
        """The utterance with the phones of its parts at their new times."""
        if utterance.segments is None:
            phones = utterance.phones if self.parts else ()
            return replace(utterance, phones=phones, duration_s=self.duration_s)
        moved = tuple(
            Segment(one.phone, max(one.start_s, start) + shift, min(one.end_s, end) + shift)
            for begin, (start, end) in zip(self.edges_s[1:-1:2], self.parts, strict=True)
            for shift in (begin - start,)
            for one in utterance.segments
            if start <= (one.start_s + one.end_s) / 2 < end
        )
        phones = tuple(one.phone for one in moved)
        return replace(utterance, phones=phones, segments=moved, duration_s=self.duration_s)


def breaks(utterance: Utterance) -> list[float]:
    """The middles of the pauses between phones, in seconds; none where times are unknown."""
    return [
        (before.end_s + after.start_s) / 2
        for before, after in pairwise(utterance.segments or ())
        if after.start_s - before.end_s >= PAUSE_S
    ]


def pieces(utterance: Utterance, shortest_s: float, longest_s: float) -> list[Part]:
    """All parts between two breaks or ends that last long enough, also for their phones."""
    ends = (0.0, *breaks(utterance), utterance.duration_s)
    return [
        (start, end)
        for start, end in combinations(ends, 2)
        if shortest_s <= end - start <= longest_s and _enough(utterance, start, end)
    ]


def fragment(
    utterance: Utterance, shortest_s: float, longest_s: float, draw: np.random.Generator
) -> list[Part]:
    """One part with a length and a place drawn at random; none where it would be too short.

    It begins and ends within words; `Layout.utterance` gives it the phones whose middle it has.
    """
    longest_s = min(longest_s, utterance.duration_s)
    if longest_s < shortest_s:
        return []
    length = draw.uniform(shortest_s, longest_s)
    start = draw.uniform(0.0, utterance.duration_s - length)
    return [(start, start + length)] if _enough(utterance, start, start + length) else []


def _enough(utterance: Utterance, start: float, end: float) -> bool:
    """Whether a part has the time that CTC needs for its phones."""
    middles = ((one.start_s + one.end_s) / 2 for one in utterance.segments or ())
    return SHORTEST_PHONE_S * sum(start <= middle < end for middle in middles) < end - start
