"""Figures of an utterance: waveform, spectrogram, features, energy and phones; and augmented."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from asr import pictures
from asr.augment import Augment, AugmentConfig
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.records import Segment

INCHES_PER_S = 2.2
NARROWEST_IN = 7.0
SPECTRUM_MS = 8.0  # window of the spectrogram, short enough to show each pulse of a voice
SPECTRUM_DB = 55.0  # below the loudest point; white from there on
QUIETEST_DB = -90.0  # of the energy


@dataclass(frozen=True)
class Speech:
    """An utterance to be drawn: waveform (S,), and its phones where their times are known."""

    name: str
    waveform: Tensor
    segments: tuple[Segment, ...]
    facts: tuple[str, ...]  # sentences


@dataclass(frozen=True)
class Version:
    """An utterance after one kind of augmentation: waveform (S,), static frames (T, static width).

    `audible` is false where the waveform is the recorded one.
    """

    kind: str
    waveform: Tensor
    frames: Tensor
    audible: bool = True


def draw(speech: Speech, config: FeaturesConfig, title: str = "") -> Figure:
    """Waveform, spectrogram, features and energy of an utterance, one above the other."""
    rate = config.sample_rate
    seconds = len(speech.waveform) / rate
    inches_per_s = _inches_per_s(speech.waveform, rate)
    labels = pictures.Labels.of(speech.segments, inches_per_s)
    figure, (wave, spectrum, frames, energy) = panels(
        seconds, inches_per_s, (0.9, 2.0, 1.7, 0.8), labels.inches + (0.3 if title else 0.05)
    )
    wave.set_title(title, loc="left", fontsize=10, pad=72 * labels.inches + 4, parse_math=False)
    labels.write(wave)
    wave.plot(np.arange(len(speech.waveform)) / rate, speech.waveform.numpy(), color="0.25", lw=0.4)
    peak = 1.05 * float(speech.waveform.abs().max())
    wave.set(ylabel="amplitude", ylim=(-peak, peak))
    spectrum.imshow(
        _spectrogram(speech.waveform, rate).numpy(),
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, rate / 2000),
        cmap="gray_r",
        vmin=-SPECTRUM_DB,
        vmax=0,
    )
    spectrum.set(ylabel="frequency (kHz)")
    static, _ = Features(config).static(
        speech.waveform.unsqueeze(0), torch.tensor([len(speech.waveform)])
    )
    pictures.draw_frames(frames, static[0], static[0], config)
    windows = speech.waveform.unfold(0, config.window_samples, config.hop_samples)
    power = windows.square().mean(dim=1).clamp(min=10 ** (QUIETEST_DB / 10))
    time = (np.arange(len(power)) * config.hop_samples + config.window_samples / 2) / rate
    energy.plot(time, 10 * power.log10().numpy(), color="0.25", lw=1)
    energy.set(ylabel="energy (dBFS)")
    energy.grid(alpha=0.2)
    edges = {edge for segment in speech.segments for edge in (segment.start_s, segment.end_s)}
    for axes in (wave, spectrum, frames, energy):
        for edge in edges:
            axes.axvline(edge, color="tab:red", lw=0.4, alpha=0.5)
    return figure


def draw_version(
    version: Version, original: Version, config: FeaturesConfig, title: str = ""
) -> Figure:
    """The features of a version, on the scales of time and of colour of the original."""
    figure, (axes,) = panels(
        len(version.waveform) / config.sample_rate,
        _inches_per_s(original.waveform, config.sample_rate),
        (1.3,),
        0.3 if title else 0.05,
    )
    axes.set_title(title, loc="left", fontsize=10)
    pictures.draw_frames(axes, version.frames, original.frames, config)
    return figure


def _inches_per_s(waveform: Tensor, rate: int) -> float:
    return max(INCHES_PER_S, NARROWEST_IN * rate / len(waveform))


def panels(
    seconds: float, inches_per_s: float, heights: Sequence[float], top: float
) -> tuple[Figure, list[Axes]]:
    """Axes one above the other on one axis of time, `heights` inches each, below `top` inches."""
    margins = (0.75, 0.15, top, 0.45)
    figure, stack = pictures.panels(seconds, inches_per_s * seconds, heights, margins, gap=0.12)
    for axes in stack:
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
    stack[-1].set(xlabel="time (s)")
    return figure, stack


def _spectrogram(waveform: Tensor, rate: int) -> Tensor:
    """Decibels below the loudest point, (frequencies, times); with pre-emphasis."""
    raised = torch.cat([waveform[:1], waveform[1:] - 0.97 * waveform[:-1]])
    size = round(rate * SPECTRUM_MS / 1000)
    spectrum = torch.stft(
        raised,
        n_fft=4 * size,
        hop_length=max(1, size // 4),
        win_length=size,
        window=torch.hann_window(size),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.abs().square()
    return 10 * (power / power.max()).clamp(min=1e-12).log10()


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
