"""Waveforms to static frames: what the families share, windows → FFT → mel filters."""

import torch
from torch import Tensor, nn

from asr.features.config import FeaturesConfig
from asr.features.frames import Frames
from asr.features.padded import zero_behind

DEVICE_FRAMES = 1 << 17  # windows at a time: as many as fit into some GB of a GPU's memory


class Frontend(nn.Module):
    """Windows, FFT and mel filters; a family adds scale, edges and logarithm.

    There are two ways through it with the same results. On a CPU every utterance is computed by
    itself by `Frames`: padding costs nothing, and its frames are the same to the last bit whatever
    the batch mates. Elsewhere torch computes all utterances at once.
    """

    taper: Tensor  # (window_samples,)
    cosines: Tensor  # (bins, ceps)

    def __init__(
        self,
        config: FeaturesConfig,
        scale: float = 1.0,
        preemphasis: float = 0.0,
        remove_dc: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.frames = Frames(config)
        self.fft_size = self.frames.fft_size
        self.scale = scale  # a power of two, so that it rounds nothing
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc
        self.register_buffer("taper", torch.from_numpy(self.frames.taper), persistent=False)
        self.register_buffer("cosines", torch.from_numpy(self.frames.cosines), persistent=False)
        self._banks: dict[tuple[int, torch.device], Tensor] = {}
        self.bank(None, torch.device("cpu"))

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
        if waveforms.device.type == "cpu" and waveforms.dtype == torch.float32:
            return self.one_by_one(waveforms, lengths, warps)
        return self.all_at_once(waveforms, lengths, warps)

    def one_by_one(self, waveforms: Tensor, lengths: Tensor, warps: Tensor | None) -> Tensor:
        config = self.config
        total = config.frame_count(waveforms.shape[1])
        frames = torch.zeros(len(waveforms), total, config.static_width)
        for n, samples in enumerate(lengths.tolist()):
            bank = self.bank(None if warps is None else float(warps[n]), waveforms.device)
            static = self.frames.static(waveforms[n, :samples].numpy(), bank.numpy())
            frames[n, : len(static)] = torch.from_numpy(static)
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
            unwarped = torch.from_numpy(self.frames.bank)
            bank = unwarped if percent == 100 else self.mel_filters(percent / 100)
            self._banks[percent, device] = bank.to(device)
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
