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
            Segment(one.phone, one.start_s - start + begin, one.end_s - start + begin)
            for begin, (start, end) in zip(self.edges_s[1:-1:2], self.parts, strict=True)
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
    begins = [phone.start_s for phone in utterance.segments or ()]
    return [
        (start, end)
        for start, end in combinations(ends, 2)
        if shortest_s <= end - start <= longest_s
        and SHORTEST_PHONE_S * sum(start <= begin < end for begin in begins) < end - start
    ]
