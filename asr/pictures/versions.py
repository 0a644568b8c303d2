"""An utterance after each kind of augmentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from asr.augment import Augment, AugmentConfig
from asr.features import Features, FeaturesConfig


@dataclass(frozen=True)
class Version:
    """An utterance after one kind of augmentation: waveform (S,), static frames (T, static width).

    `audible` is false where the waveform is the recorded one.
    """

    kind: str
    waveform: Tensor
    frames: Tensor
    audible: bool = True


def augmented(
    waveform: Tensor, others: Sequence[Tensor], config: FeaturesConfig, mel_bins: Sequence[int]
) -> Iterator[Version]:
    """An utterance (S,) as it is, and after each kind of augmentation; babble is of `others`.

    `mel_bins` are those of the frames, as in `Augment`.
    """
    rate = config.sample_rate
    features = Features(config)
    bins = mel_bins[: config.static_width]

    def frames_of(waveform: Tensor, warps: Tensor | None = None) -> Tensor:
        lengths = torch.tensor([len(waveform)])
        return features.static(waveform.unsqueeze(0), lengths, warps)[0][0]

    def changed(kind: str, augment: AugmentConfig, factor: float = 1.0) -> Version:
        applied = Augment(augment, rate, bins)
        results = (
            applied.waveform(waveform, seed, lambda number: others[number % len(others)])
            for seed in count()
        )
        result = next(result for result, applied_factor in results if applied_factor == factor)
        return Version(kind, result, frames_of(result))

    original = frames_of(waveform)
    yield Version("as recorded", waveform, original, audible=False)
    yield changed("speed 0.9", AugmentConfig(speed=0.1), 0.9)
    yield changed("speed 1.1", AugmentConfig(speed=0.1), 1.1)
    warped = frames_of(waveform, torch.tensor([1.1]))
    yield Version("VTLP 1.1 (frames only)", waveform, warped, audible=False)
    noise = AugmentConfig(noise=1.0, snr_min_db=10.0, snr_max_db=10.0)
    yield changed("coloured noise, SNR 10 dB", noise)
    if others:
        babble = replace(noise, noise=0.0, babble=1.0, voices=min(4, len(others)))
        yield changed("babble of the other files, SNR 10 dB", babble)
    yield changed(
        "reverberation, RT60 0.4 s, direct sound as loud as its echo",
        AugmentConfig(reverb=1.0, rt60_min_s=0.4, rt60_max_s=0.4, drr_min_db=0.0, drr_max_db=0.0),
    )
    masks = AugmentConfig(time_masks=2, frequency_masks=2 if max(bins) >= 0 else 0)
    mean = original.mean(dim=0)
    masked = Augment(masks, rate, bins).mask(
        (original - mean).unsqueeze(0), torch.tensor([len(original)]), (2,)
    )
    yield Version("masks (frames only)", waveform, masked[0] + mean, audible=False)
