"""Recordings that were copied as text: what that did to 16-bit samples, undone.

Such a copy writes the bytes CR LF (0x0D 0x0A) as LF, and CR alone as LF too. Each pair loses a byte
and shifts what follows by it, which sounds like noise at full scale, up to the next loss; each CR
alone changes one sample, by 3 or, in a sample's upper byte, by 768. There are copies of NLTK's
sample of TIMIT without a single byte 0x0D.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples16 = npt.NDArray[np.int16]
Array = npt.NDArray[np.float64]

CR, LF = b"\r", b"\n"
UPPER = (CR[0] - LF[0]) << 8  # between samples whose upper bytes are CR and LF
AT_LEAST = 20  # bytes 0x0B, and 0x0F, for the absence of 0x0D to mean anything
LOSS = 60.0  # nats that a lost byte must make the samples smoother by
REACH = 6  # samples on either side from which one is told
ROUNDS = 8


@dataclass(frozen=True)
class Restored:
    """Samples as they probably were, how many bytes were put back and how many samples changed."""

    samples: Samples16
    bytes_put_back: int
    samples_changed: int


def is_copied_as_text(samples: Samples16) -> bool:
    """Whether little-endian samples have no byte 0x0D where they should have some."""
    sound = samples.astype("<i2").tobytes()
    return CR not in sound and min(sound.count(b"\x0b"), sound.count(b"\x0f")) >= AT_LEAST


def restored(samples: Samples16) -> Restored:
    """Put lost bytes back where that makes noise speech again, then CR into upper bytes.

    Lower bytes stay as they are: nothing tells the 3 that they may be wrong by.
    """
    sound = samples.astype("<i2").tobytes()
    pieces = np.split(np.frombuffer(sound, np.uint8), losses := _losses(sound))
    whole = CR.join(piece.tobytes() for piece in pieces)
    shifted_back = np.frombuffer(whole[: len(whole) // 2 * 2], "<i2").astype(np.int16)
    smooth = _with_upper_returns(shifted_back)
    return Restored(smooth, len(losses), int(np.count_nonzero(smooth != shifted_back)))


def _losses(sound: bytes) -> list[int]:
    """Positions of the LF that have lost their CR: the path of the least roughness.

    Before every LF the path may go from samples that begin at even bytes to samples that begin at
    odd ones, or back. Roughness is the sum of log(1 + |second difference|).
    """
    octets = np.frombuffer(sound, np.uint8)
    starting = octets[:-1].astype(np.int32) | octets[1:].astype(np.int8).astype(np.int32) << 8
    rough = np.zeros(len(starting))
    rough[4:] = np.log1p(np.abs(starting[4:] - 2 * starting[2:-2] + starting[:-4]))
    position = np.arange(len(starting))
    sums = np.zeros((2, len(starting) + 1))
    for parity in (0, 1):
        sums[parity, 1:] = np.cumsum(np.where(position % 2 == parity, rough, 0.0))
    candidates = np.flatnonzero(octets[:-1] == LF[0])
    pieces = np.diff(sums[:, [0, *candidates, len(starting)]], axis=1).T.tolist()
    even, odd = 0.0, math.inf
    switched = []
    for even_more, odd_more in pieces[:-1]:
        even, odd = even + even_more, odd + odd_more
        switched.append((odd + LOSS < even, even + LOSS < odd))
        even, odd = min(even, odd + LOSS), min(odd, even + LOSS)
    parity = int(odd + pieces[-1][1] < even + pieces[-1][0])
    found = []
    for candidate, switches in zip(candidates[::-1], switched[::-1], strict=True):
        if switches[parity]:
            found.append(int(candidate))
            parity = 1 - parity
    return found[::-1]


def _with_upper_returns(samples: Samples16) -> Samples16:
    """Samples whose upper byte is LF, each with CR where that is nearer to what its neighbours say.

    At first a straight line between samples that are certain says it, then the linear interpolation
    that tells the samples of this recording best.
    """
    uncertain = samples >> 8 == LF[0]
    uncertain[:REACH] = uncertain[len(samples) - REACH :] = False
    which, certain = np.flatnonzero(uncertain), np.flatnonzero(~uncertain)
    if not len(which) or len(samples) <= 4 * REACH:
        return samples
    low = samples[which].astype(np.float64)
    signal = samples.astype(np.float64)
    expected = np.interp(which, certain, signal[certain])
    for _ in range(ROUNDS):
        returns = np.abs(low + UPPER - expected) < np.abs(low - expected)
        chosen = low + UPPER * returns
        if np.array_equal(chosen, signal[which]):
            break
        signal[which] = chosen
        expected = _interpolated(signal, which)
    return signal.astype(np.int16)


def _interpolated(signal: Array, which: npt.NDArray[np.intp]) -> Array:
    """The samples at `which` by those weights of neighbours that tell all samples best."""
    windows = np.lib.stride_tricks.sliding_window_view(signal, 2 * REACH + 1)
    some = windows[:: max(1, len(windows) // 5_000)]
    sides = [*range(REACH), *range(REACH + 1, 2 * REACH + 1)]
    weights = np.linalg.lstsq(some[:, sides], some[:, REACH], rcond=None)[0]
    expected: Array = windows[which - REACH][:, sides] @ weights
    return expected
