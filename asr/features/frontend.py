"""Waveforms to static frames: what the families share, windows → FFT → mel filters."""

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import create_dct

from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.padded import zero_behind
from asr.features.windows import Shaping, for_compiled, power_spectra

DEVICE_FRAMES = 1 << 17  # windows at a time: as many as fit into some GB of a GPU's memory


class Frontend(nn.Module):
    """Windows, FFT and mel filters; a family adds scale, edges and logarithm.

    There are two ways through it with the same results. On a CPU every utterance is computed by
    itself by compiled loops: padding costs nothing, and its frames are the same to the last bit
    whatever the batch mates. Elsewhere torch computes all utterances at once.
    """

    taper: Tensor  # (window_samples,)
    cosines: Tensor  # (bins, ceps), orthonormal DCT-II, which a family may lifter

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
        cosines = create_dct(config.ceps, config.bins, norm="ortho")
        self.register_buffer("cosines", cosines, persistent=False)
        self._banks: dict[tuple[int, torch.device], Tensor] = {}
        empty = (self.bank(None, torch.device("cpu")) == 0).all(dim=0)
        if empty.any():
            raise DataError(
                f"features.bins is {config.bins}, but filter {int(empty.nonzero()[0]) + 1} covers "
                f"no frequency of the FFT; use fewer bins or a longer features.window_ms"
            )

    def extended(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """The waveforms that windows are cut from, with what is beyond the edges: → (N, S')."""
        raise NotImplementedError

    def values(self, mel: Tensor, energy: Tensor, counts: Tensor) -> Tensor:
        """Log-mel values or MFCCs: mel power (N, T, bins), energy (N, T, 1) → (N, T, static)."""
        raise NotImplementedError

    def mel_filters(self, warp: float) -> Tensor:
        """Triangles on the frequency axis, warped by a VTLN factor: (fft/2 + 1, bins)."""
        raise NotImplementedError

    def forward(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None = None) -> Tensor:
        """(N, S), (N,) → (N, T, static width), zero behind each utterance's end.

        `warps` (N,) are VTLN factors, rounded to hundredths.
        """
        if for_compiled(waveforms):
            return self.one_by_one(waveforms, lengths, warps)
        return self.all_at_once(waveforms, lengths, warps)

    def one_by_one(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None) -> Tensor:
        config = self.config
        total = config.frame_count(waveforms.shape[1])
        frames = torch.zeros(len(waveforms), total, config.static_width)
        scale, preemphasis = np.float32(self.scale), np.float32(self.preemphasis)
        taper, remove_dc = self.taper.numpy(), self.remove_dc
        how = Shaping(config.hop_samples, taper, scale, preemphasis, remove_dc, config.raw_energy)
        for n, samples in enumerate(lengths.tolist()):
            row, count = slice(n, n + 1), config.frame_count(samples)
            signal = self.extended(waveforms[row, :samples], lengths[row])[0]
            mel, energy = torch.empty(1, count, config.bins), torch.empty(1, count, 1)
            bank = self.bank(None if warps is None else float(warps[n]), waveforms.device)
            for part, power in power_spectra(signal, how, self.fft_size, energy[0]):
                torch.mm(power, bank, out=mel[0, part])
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
        counts = config.frame_counts(lengths)
        return zero_behind(self.values(mel, energy, counts), counts)

    def bank(self, warp: float | None, device: torch.device) -> Tensor:
        """The mel filters, warped by a factor rounded to hundredths: (fft/2 + 1, bins)."""
        percent = 100 if warp is None else round(100 * warp)
        if (percent, device) not in self._banks:
            low, high = self.config.vtln_cutoffs
            if percent != 100 and low >= high:
                raise ValueError(
                    f"features.low_hz and high_hz are {self.config.low_hz} and "
                    f"{self.config.highest_hz}, too narrow a band to warp by augment.vtlp: "
                    f"{low} Hz must be below {high} Hz"
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
