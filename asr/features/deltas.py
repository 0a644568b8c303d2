"""The context of a frame: Δ, ΔΔ and stacked neighbours."""

from torch import Tensor

from asr.features.padded import extend
from asr.features.windows import put_slopes


def put_deltas(frames: Tensor, counts: Tensor, width: int, window: int) -> None:
    """Fill in Δ and ΔΔ behind the first `width` values of each frame.

    (N, T, (1 + order) · width), (N,); on a CPU T equals every count.
    """
    if frames.device.type == "cpu" and len(frames) == 1:
        put_slopes(frames[0].numpy(), width, window)
        return
    for start in range(width, frames.shape[2], width):
        before = frames[:, :, start - width : start]
        frames[:, :, start : start + width] = delta(before, counts, window)


def delta(frames: Tensor, counts: Tensor, window: int = 2) -> Tensor:
    """Slope over ±window frames, edge frames repeated: (N, T, F), (N,) → (N, T, F).

    HTK Book, eq. 5.16. ΔΔ is the Δ of Δ, as in HTK; not Kaldi's, which differs in the four frames
    at each edge, nor librosa's `order=2`, which is the curvature of a parabola.
    """
    size = frames.shape[1]
    padded = extend(frames, counts, window, window, "nearest")

    def at(offset: int) -> Tensor:
        return padded[:, window + offset :][:, :size]

    slope = at(1) - at(-1)
    for n in range(2, window + 1):
        slope.add_(at(n), alpha=n).sub_(at(-n), alpha=n)
    return slope.div_(2 * sum(n * n for n in range(1, window + 1)))


def stack_context(frames: Tensor, counts: Tensor, context: int, stacked: Tensor) -> None:
    """Fill `stacked` with each frame and its neighbours in order of time, edge frames repeated.

    (N, T, F), (N,) → (N, T, (2 · context + 1) · F).
    """
    size, width = frames.shape[1:]
    padded = extend(frames, counts, context, context, "nearest")
    for n in range(2 * context + 1):
        stacked[:, :, n * width : (n + 1) * width] = padded[:, n : n + size]
