"""Which frames a model sees, and what the families have in common: windows, banks, edges."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from asr.batch import length_mask
from asr.errors import DataError
from asr.processor.compiled import compiled

FAMILIES = ("kaldi", "librosa")
WINDOWS = ("povey", "hamming", "hanning", "rectangular", "blackman")
NORMALIZATIONS = ("global", "speaker", "utterance", "active", "sliding", "none")
# Knobs that mean something only beside certain values of another.
ONLY_WITH: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("ceps", "kind", ("mfcc",)),
    ("delta_window", "deltas", (1, 2)),
    ("cmn_window", "normalization", ("sliding",)),
    ("active_db", "normalization", ("active",)),
    ("window", "family", ("kaldi",)),
    ("preemphasis", "family", ("kaldi",)),
    ("remove_dc", "family", ("kaldi",)),
    ("raw_energy", "energy", (True,)),
    ("energy_floor", "energy", (True,)),
    ("lifter", "family", ("kaldi",)),
    ("lifter", "kind", ("mfcc",)),
    ("snip_edges", "family", ("kaldi",)),
    ("dither", "family", ("kaldi",)),
    ("dither_db", "family", ("kaldi",)),
    ("mel_scale", "family", ("librosa",)),
    ("pad_mode", "family", ("librosa",)),
    ("log_floor", "family", ("librosa",)),
    ("log_floor", "kind", ("fbank",)),
)

VTLN_LOW_HZ = 80.0  # above low_hz: Kaldi's --vtln-low of 100 with its --low-freq of 20
VTLN_HIGH_HZ = 500.0  # below the highest frequency: Kaldi's --vtln-high of -500
CPU_FRAMES = 256  # so many windows at a time stay in the cache of a core
DEVICE_FRAMES = 1 << 17  # so many windows at a time stay within some GB of a GPU's memory


@dataclass(frozen=True)
class FeaturesConfig:
    """Which frames a model sees. F = (bins or ceps, + energy in fbank) × (1 + deltas) × context."""

    family: str = "kaldi"  # or "librosa": scale, floor, framing and filters are another's
    kind: str = "fbank"  # log-mel; or "mfcc"
    bins: int = 40  # mel filters
    ceps: int = 13  # cepstral coefficients, MFCC only
    deltas: int = 2  # 1: Δ, 2: Δ and ΔΔ
    delta_window: int = 2  # frames on each side
    context: int = 0  # frames on each side that are stacked with every frame
    normalization: str = "global"  # or "speaker", "utterance", "active", "sliding", "none"
    cmn_window: int = 300  # frames, sliding only
    active_db: float = 30.0  # active only: frames this far below the loudest ones count as speech
    sample_rate: int = 16_000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0 and less: so far from half the sample rate
    # Kaldi's family
    energy: bool = True  # log energy: a frame's first value (fbank), or in place of C0 (MFCC)
    raw_energy: bool = True  # before pre-emphasis and window
    energy_floor: float = 0.0  # of the energy of 16-bit samples; its logarithm is not below this
    window: str = "povey"
    preemphasis: float = 0.97
    remove_dc: bool = True  # each window's own mean
    snip_edges: bool = True  # whole windows only; false: frames to the end, mirrored at the edges
    dither: float = 0.0  # standard deviation of the noise that is added, in 16-bit steps
    dither_db: float = 0.0  # more of it, so many dB below the utterance; 0: none
    lifter: float = 22.0  # of the cepstra; 0: none
    # librosa's family
    mel_scale: str = "slaney"  # or "htk"
    pad_mode: str = "constant"  # what lies beyond the edges: zeros; "reflect": the mirrored signal
    log_floor: float = 1e-10  # of mel power, log-mel only: a full-scale sine has about 10³

    def __post_init__(self) -> None:
        for key, expected in (
            ("family", FAMILIES),
            ("kind", ("fbank", "mfcc")),
            ("normalization", NORMALIZATIONS),
            ("deltas", (0, 1, 2)),
            ("window", WINDOWS),
            ("mel_scale", ("slaney", "htk")),
            ("pad_mode", ("constant", "reflect")),
        ):
            if getattr(self, key) not in expected:
                self._refuse(key, " or ".join(", ".join(map(str, expected)).rsplit(", ", 1)))
        if self.energy and self.family == "librosa":
            self._refuse("energy", "false with features.family=librosa, which has none")
        for key, other, values in ONLY_WITH:
            default = next(field.default for field in fields(self) if field.name == key)
            if getattr(self, other) not in values and getattr(self, key) != default:
                raise ValueError(
                    f"features.{key} is {getattr(self, key)!r}, but features.{other} is "
                    f"{getattr(self, other)!r}, with which it has no meaning; leave it out"
                )
        for key, least in (("bins", 4), ("delta_window", 1), ("context", 0), ("cmn_window", 2)):
            if not getattr(self, key) >= least:
                self._refuse(key, f"at least {least}")
        for key in ("energy_floor", "dither", "dither_db", "lifter"):
            if not 0 <= getattr(self, key) < float("inf"):
                self._refuse(key, "at least 0")
        for key in ("sample_rate", "log_floor", "active_db"):
            if not 0 < getattr(self, key) < float("inf"):
                self._refuse(key, "more than 0")
        if self.normalization == "active" and self.kind != "fbank":
            self._refuse("normalization", "another with features.kind=mfcc, which has no levels")
        if self.kind == "mfcc" and not 1 <= self.ceps <= self.bins:
            self._refuse("ceps", f"1…{self.bins} (features.bins)")
        if not 0 <= self.preemphasis <= 1:
            self._refuse("preemphasis", "0…1")
        if not 0 < self.hop_ms <= self.window_ms < float("inf"):
            self._refuse("hop_ms", f"more than 0 and at most {self.window_ms} (features.window_ms)")
        if self.hop_samples < 1 or self.window_samples < 2:
            self._refuse("hop_ms", "at least one sample, and two in features.window_ms")
        if not 0 <= self.low_hz < self.highest_hz <= self.sample_rate / 2:
            raise ValueError(
                f"features.low_hz and high_hz are {self.low_hz} and {self.high_hz}, expected "
                f"0 ≤ low < high ≤ {self.sample_rate / 2} (half of features.sample_rate)"
            )

    def _refuse(self, key: str, expected: str) -> None:
        raise ValueError(f"features.{key} is {getattr(self, key)!r}, expected {expected}")

    @property
    def adapts(self) -> bool:
        """Whether mean 0 and variance 1 are of what is heard, and of no training set."""
        return self.normalization in ("speaker", "utterance", "active", "sliding")

    @property
    def window_samples(self) -> int:
        return int(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        return int(self.sample_rate * self.hop_ms / 1000)

    @property
    def highest_hz(self) -> float:
        return self.high_hz if self.high_hz > 0 else self.sample_rate / 2 + self.high_hz

    @property
    def vtln_cutoffs(self) -> tuple[float, float]:
        """Hz between which a VTLN factor scales the frequency axis; Kaldi's, with its 20 Hz."""
        return self.low_hz + VTLN_LOW_HZ, self.highest_hz - VTLN_HIGH_HZ

    @property
    def frame_offset(self) -> int:
        """Samples that the edges add to an utterance of S: T = (S + offset) // hop."""
        window, hop = self.window_samples, self.hop_samples
        if self.family == "librosa":
            return hop + 2 * (window // 2) - window
        return hop - window if self.snip_edges else hop // 2

    def frame_count(self, samples: int) -> int:
        """T for S."""
        return max(0, (samples + self.frame_offset) // self.hop_samples)

    @property
    def static_width(self) -> int:
        return self.bins + self.energy if self.kind == "fbank" else self.ceps

    @property
    def dynamic_width(self) -> int:
        """Of frames with their deltas, which are what is normalised."""
        return self.static_width * (1 + self.deltas)

    @property
    def width(self) -> int:
        """F."""
        return self.dynamic_width * (1 + 2 * self.context)


class Frontend(nn.Module):
    """Waveforms to static frames: windows, FFT, mel filters. A family adds scale, edges, logarithm.

    There are two ways through it, and a test that they lead to the same. On a CPU every utterance
    is computed by itself, some windows at a time in buffers that stay in the cache, by compiled
    loops around FFT and matrix product: padding costs nothing, and frames are the same to the last
    bit whatever the batch mates. On a GPU torch computes all utterances at once.
    """

    taper: Tensor  # (window_samples,)

    def __init__(
        self,
        config: FeaturesConfig,
        taper: Tensor,
        fft_size: int,
        scale: float = 1.0,
        preemphasis: float = 0.0,
        remove_dc: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.fft_size = fft_size
        self.scale = scale  # a power of two, so that it rounds nothing
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc
        self.register_buffer("taper", taper, persistent=False)
        self._banks: dict[tuple[int, torch.device], Tensor] = {}
        empty = (self.bank(None, torch.device("cpu")) == 0).all(dim=0)
        if empty.any():
            raise DataError(
                f"features.bins is {config.bins}, but no frequency falls into filter "
                f"{int(empty.nonzero()[0]) + 1} of them; take fewer, or a longer "
                f"features.window_ms"
            )

    def extended(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Continued beyond both edges as far as windows reach: (N, S) → (N, S')."""
        raise NotImplementedError

    def values(self, mel: Tensor, energy: Tensor, counts: Tensor) -> Tensor:
        """Mel power (N, T, bins) and energy of the windows (N, T, 1) → (N, T, static width)."""
        raise NotImplementedError

    def mel_filters(self, warp: float) -> Tensor:
        """Triangles on the frequency axis, warped by a VTLN factor: (fft/2 + 1, bins)."""
        raise NotImplementedError

    def forward(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None = None) -> Tensor:
        """(N, S), (N,) → (N, T, static width); frames behind an utterance's end are zero."""
        if for_compiled(waveforms):
            return self.one_by_one(waveforms, lengths, warps)
        return self.all_at_once(waveforms, lengths, warps)

    def one_by_one(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None) -> Tensor:
        config = self.config
        total = config.frame_count(waveforms.shape[1])
        frames = torch.zeros(len(waveforms), total, config.static_width)
        buffers = _buffers.of(self.fft_size, config.window_samples)
        shaped, spectrum = map(torch.from_numpy, buffers)
        power = shaped[:, : spectrum.shape[1]]
        shaping = Shaping(
            config.hop_samples,
            self.taper.numpy(),
            np.float32(self.scale),
            np.float32(self.preemphasis),
            self.remove_dc,
            config.raw_energy,
        )
        for n, samples in enumerate(lengths.tolist()):
            row, count = slice(n, n + 1), config.frame_count(samples)
            signal = self.extended(waveforms[row, :samples], lengths[row])[0].numpy()
            mel, energy = torch.empty(1, count, config.bins), torch.empty(1, count, 1)
            bank = self.bank(None if warps is None else float(warps[n]), waveforms.device)
            for start in range(0, count, CPU_FRAMES):
                size = min(CPU_FRAMES, count - start)
                shape_windows(signal, start, size, shaping, buffers[0], energy.numpy())
                torch.fft.rfft(shaped[:size], out=spectrum[:size])
                squared_magnitude(buffers[1], size, buffers[0])
                torch.mm(power[:size], bank, out=mel[0, start : start + size])
            frames[n, :count] = self.values(mel, energy, torch.tensor([count]))[0]
        return frames

    def all_at_once(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None) -> Tensor:
        config = self.config
        total = config.frame_count(waveforms.shape[1])
        if not total:
            return waveforms.new_zeros(len(waveforms), 0, config.static_width)
        windows = self.extended(waveforms, lengths)
        windows = windows.unfold(1, config.window_samples, config.hop_samples)[:, :total]
        bank = self.bank(None, waveforms.device)
        if warps is not None:
            bank = torch.stack([self.bank(warp, waveforms.device) for warp in warps.tolist()])
        parts = [
            self._mel_and_energy(part, bank.to(windows.dtype))
            for part in torch.split(windows, max(1, DEVICE_FRAMES // len(waveforms)), dim=1)
        ]
        mel, energy = (torch.cat(both, dim=1) for both in zip(*parts, strict=True))
        counts = frame_counts(config, lengths)
        outside = ~length_mask(counts, total).unsqueeze(2)
        return self.values(mel, energy, counts).masked_fill(outside, 0.0)

    def bank(self, warp: float | None, device: torch.device) -> Tensor:
        """The mel filters, warped by a factor that is taken to the nearest hundredth."""
        percent = 100 if warp is None else round(100 * warp)
        if (percent, device) not in self._banks:
            low, high = self.config.vtln_cutoffs
            if percent != 100 and low >= high:
                raise ValueError(
                    f"features.low_hz and high_hz are {self.config.low_hz} and "
                    f"{self.config.highest_hz}, too near each other to be warped"
                )
            self._banks[percent, device] = self.mel_filters(percent / 100).to(device)
        return self._banks[percent, device]

    def _mel_and_energy(self, windows: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
        windows = windows * self.scale
        if self.remove_dc:
            windows = windows - windows.mean(dim=-1, keepdim=True)
        previous = torch.cat([windows[..., :1], windows[..., :-1]], dim=-1)
        shaped = (windows - self.preemphasis * previous) * self.taper
        power = torch.fft.rfft(shaped, n=self.fft_size).abs().square()
        measured = windows if self.config.raw_energy else shaped
        return power @ bank, measured.square().sum(dim=-1, keepdim=True)


# ── compiled ─────────────────────────────────────────────────────────────────────────────────


# Sums may be reordered, but a product is rounded before it is subtracted: pre-emphasis of quiet
# speech then has the rounding of torchaudio's.
fast = compiled(fastmath={"reassoc", "nsz"})


class Shaping(NamedTuple):
    """What compiled code has to know of a window; numbers are np.float32."""

    hop: int
    taper: Any  # (window,)
    scale: Any
    preemphasis: Any
    remove_dc: bool
    raw_energy: bool


@fast
def shape_windows(
    signal: Any, first: int, count: int, how: Shaping, shaped: Any, energy: Any
) -> None:
    """Cut `count` windows and make them ready for the FFT: (S,) → (count, …), energy (1, T, 1)."""
    size = len(how.taper)
    buffer = np.empty(size + 1, np.float32)
    before, now = buffer[:size], buffer[1:]
    for t in range(count):
        window, row = signal[(first + t) * how.hop :][:size], shaped[t]
        mean = np.float32(0)
        if how.remove_dc:
            for i in range(size):
                mean += window[i]
            mean *= how.scale / np.float32(size)
        total = np.float32(0)
        for i in range(size):
            value = how.scale * window[i] - mean
            now[i] = value
            total += value * value
        buffer[0] = buffer[1]
        for i in range(size):
            row[i] = (now[i] - how.preemphasis * before[i]) * how.taper[i]
        if not how.raw_energy:
            total = np.float32(0)
            for i in range(size):
                total += row[i] * row[i]
        energy[0, first + t, 0] = total


@fast
def squared_magnitude(spectrum: Any, count: int, power: Any) -> None:
    """The first `count` rows: (T, F) complex → the beginning of (T, at least F)."""
    for t in range(count):
        values, row = spectrum[t], power[t]
        for i in range(len(values)):
            row[i] = values[i].real * values[i].real + values[i].imag * values[i].imag


class _Buffers(threading.local):
    """Room for CPU_FRAMES windows and spectra; every thread has its own, and keeps it."""

    size = (0, 0)

    def of(self, fft_size: int, window: int) -> tuple[Any, Any]:
        """(T, fft) windows with zeros behind, later powers; (T, fft/2 + 1) complex spectra.

        A window has more samples than a spectrum has values: powers leave the zeros alone.
        """
        if self.size != (fft_size, window):
            self.size = fft_size, window
            self.arrays = (
                np.zeros((CPU_FRAMES, fft_size), np.float32),
                np.empty((CPU_FRAMES, fft_size // 2 + 1), np.complex64),
            )
        return self.arrays


_buffers = _Buffers()


# ── batches and edges ────────────────────────────────────────────────────────────────────────


def frame_counts(config: FeaturesConfig, lengths: Tensor) -> Tensor:
    """T for each S: (N,) → (N,)."""
    return ((lengths + config.frame_offset) // config.hop_samples).clamp_(min=0)


def by_utterance(
    fill: Callable[[slice, Tensor], None], counts: Tensor, like: Tensor, width: int
) -> Tensor:
    """`fill(rows, frames)` the frames of these rows of a batch, zeros behind: (N, T, width).

    N, T, type and device are those of `like`. On a CPU every utterance is filled by itself, with
    `frames` as long as it is; on a GPU all are at once.
    """
    frames = like.new_zeros(len(like), like.shape[1], width)
    if like.device.type == "cpu":
        for n, count in enumerate(counts.tolist()):
            fill(slice(n, n + 1), frames[n : n + 1, :count])
        return frames
    return at_once(fill, counts, frames)


def at_once(fill: Callable[[slice, Tensor], None], counts: Tensor, frames: Tensor) -> Tensor:
    """`fill` all rows, then put zeros behind the end of each."""
    fill(slice(None), frames)
    outside = ~length_mask(counts, frames.shape[1]).unsqueeze(2)
    return frames.masked_fill_(outside, 0.0)


def for_compiled(padded: Tensor) -> bool:
    """Whether compiled code can work on this."""
    return padded.device.type == "cpu" and padded.dtype == torch.float32


def cosines(config: FeaturesConfig) -> Tensor:
    """Orthonormal DCT-II of log-mel values: (bins, ceps)."""
    matrix: Tensor = create_dct(config.ceps, config.bins, norm="ortho")
    return matrix


def extend(padded: Tensor, lengths: Tensor, before: int, after: int, edge: str) -> Tensor:
    """Continue each sequence beyond both ends of its own length: (N, L, …) → (N, L + more, …).

    `edge` is "constant" (zeros), "nearest" (the last value again), "reflect" (mirrored, the last
    value once) or "symmetric" (mirrored, the last value twice). Behind `after` the content of a
    shorter sequence is undefined.
    """
    shape = (len(padded), before + padded.shape[1] + after, *padded.shape[2:])
    if not padded.shape[1]:
        return padded.new_zeros(shape)
    extended = padded.new_empty(shape)
    extended[:, before : before + padded.shape[1]] = padded
    lengths = lengths.unsqueeze(1)
    offsets = torch.arange(-before, after, device=padded.device)
    outside = torch.where(offsets < 0, offsets, lengths + offsets)  # (N, before + after)
    values = padded.gather(1, _like(padded, _source(outside, lengths, edge)))
    if edge == "constant":
        values.zero_()
    return extended.scatter_(1, _like(padded, outside + before), values)


def _source(positions: Tensor, lengths: Tensor, edge: str) -> Tensor:
    """Where within its sequence a value beyond the ends comes from."""
    if edge in ("constant", "nearest"):
        return torch.minimum(positions, lengths - 1).clamp_(min=0)
    once = int(edge == "reflect")
    period = (2 * (lengths - once)).clamp_(min=1)
    position = positions.remainder(period)
    return torch.minimum(position, period - 1 + once - position).clamp_(min=0)


def _like(padded: Tensor, index: Tensor) -> Tensor:
    """An index along the second dimension, for all that lies behind it."""
    shape = (*index.shape, *padded.shape[2:])
    return index[(...,) + (None,) * (padded.dim() - 2)].expand(shape)
