"""Features against what they are named after: Kaldi twice over, and librosa.

torchaudio is met to 1e-3 everywhere. kaldi-native-fbank and librosa's log-mel are met where single
precision can tell: 70 dB below the peak of its frame a value is known to 1e-3 and no better, and
there torchaudio and kaldi-native-fbank themselves differ by up to 1e-2. How much is missed depends
on the instruction set that MKL's FFT uses.
"""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import kaldi_native_fbank as knf
import librosa
import numpy as np
import pytest
import scipy
import torch
import torchaudio
from torch import Tensor

from asr import audio
from asr.batch import Batch, pad
from asr.features.config import FeaturesConfig
from asr.features.deltas import delta
from asr.features.kaldi import INT16_SCALE
from asr.features.layer import Features

CLOSE = 1e-3  # nats
RESOLVED = 7 * math.log(10)  # 70 dB: in nats of power, so far below the peak CLOSE can be had

FBANK = FeaturesConfig(bins=40, energy=False, deltas=0)
MFCC = FeaturesConfig(kind="mfcc", bins=23, ceps=13, energy=False, deltas=0)
KALDI = {
    "fbank 40": FBANK,
    "fbank 80": replace(FBANK, bins=80),
    "mfcc 13": MFCC,
    "fbank 40, mirrored": replace(FBANK, snip_edges=False),
    "fbank 80, mirrored": replace(FBANK, bins=80, snip_edges=False),
    "mfcc 13, mirrored": replace(MFCC, snip_edges=False),
}
# Every knob by itself: a change of it changes frames, and in the same way as the oracles'.
KALDI_KNOBS: dict[str, dict[str, object]] = {
    "energy": {"energy": True},
    "energy behind the window": {"energy": True, "raw_energy": False},
    "energy floor": {"energy": True, "energy_floor": 3e9},
    "hamming": {"window": "hamming"},
    "hanning": {"window": "hanning"},
    "rectangular": {"window": "rectangular"},
    "blackman": {"window": "blackman"},
    "no pre-emphasis": {"preemphasis": 0.0},
    "with DC": {"remove_dc": False},
    "300 to 3400 Hz": {"low_hz": 300.0, "high_hz": 3400.0},
    "below Nyquist": {"high_hz": -400.0},
    "20 ms every 5 ms": {"window_ms": 20.0, "hop_ms": 5.0},
    "11025 Hz": {"sample_rate": 11_025},  # neither window nor hop is a whole number of samples
}
LOG_MEL = FeaturesConfig(family="librosa", bins=40, energy=False, deltas=0, low_hz=0)
CEPSTRA = replace(LOG_MEL, kind="mfcc")
LIBROSA = {
    "log-mel 40": LOG_MEL,
    "log-mel 80": replace(LOG_MEL, bins=80),
    "log-mel 40, htk": replace(LOG_MEL, mel_scale="htk"),
    "log-mel 40, mirrored": replace(LOG_MEL, pad_mode="reflect"),
    "log-mel 40, 100 to 7000 Hz": replace(LOG_MEL, low_hz=100, high_hz=7000),
    "log-mel 40, 12 ms every 5 ms": replace(LOG_MEL, bins=20, window_ms=12.57, hop_ms=5),
    "log-mel 40, high floor": replace(LOG_MEL, log_floor=1e-2),
    "mfcc 13": CEPSTRA,
    "mfcc 20, htk, mirrored": replace(CEPSTRA, ceps=20, mel_scale="htk", pad_mode="reflect"),
}


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Noise with formants and a slow envelope that all but stops, with an offset, in [-1, 1]."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    for hz, sharp in ((500, 0.97), (1500, 0.95), (2500, 0.9)):
        pole = 2 * sharp * np.cos(2 * np.pi * hz / 16_000)
        noise = scipy.signal.lfilter([1.0], [1.0, -pole, sharp**2], noise)
    noise = torch.from_numpy(noise.astype(np.float32))
    envelope = torch.sin(torch.arange(samples) / 4000).square() + 1e-3
    return 0.6 * noise / noise.abs().max().clamp(min=1e-9) * envelope + 0.02


@pytest.fixture(scope="module")
def recorded(shared: Path) -> list[Tensor]:
    """Twenty real utterances: twelve of LibriSpeech, eight of TIMIT."""
    corpora = shared / "corpora"
    flac = sorted((corpora / "LibriSpeech" / "dev-part").rglob("*.flac"))
    timit = sorted(p for p in (corpora / "timit-sample").rglob("*") if p.suffix.lower() == ".wav")
    chosen = [*flac[:: len(flac) // 12][:12], *timit[:: len(timit) // 8][:8]]
    assert len(chosen) == 20
    return [torch.from_numpy(audio.load(path)) for path in chosen]


def of(config: FeaturesConfig, waveforms: list[Tensor]) -> list[Tensor]:
    """Frames of each, computed as one padded batch."""
    features = Features(config)
    frames, counts = features.dynamic(*features.static(*pad(waveforms)))
    return [one[:count] for one, count in zip(frames, counts, strict=True)]


def at_once(config: FeaturesConfig, waveforms: list[Tensor], kind: torch.dtype) -> list[Tensor]:
    """Static frames of each, computed as on a GPU."""
    padded, lengths = pad([one.to(kind) for one in waveforms])
    frames = Features(config).to(kind).frontend.all_at_once(padded, lengths, None)
    counts = map(config.frame_count, lengths.tolist())
    return [one[:count].float() for one, count in zip(frames, counts, strict=True)]


def torchaudio_frames(config: FeaturesConfig, waveform: Tensor, warp: float = 1.0) -> Tensor:
    """In double precision, but with DC, whose size costs both the same digits."""
    options = {
        "num_mel_bins": config.bins,
        "sample_frequency": float(config.sample_rate),
        "frame_length": config.window_ms,
        "frame_shift": config.hop_ms,
        "low_freq": config.low_hz,
        "high_freq": config.high_hz,
        "use_energy": config.energy,
        "raw_energy": config.raw_energy,
        "energy_floor": config.energy_floor,
        "window_type": config.window,
        "preemphasis_coefficient": config.preemphasis,
        "remove_dc_offset": config.remove_dc,
        "snip_edges": config.snip_edges,
        "vtln_warp": warp,
    }
    precise = waveform.double() if config.remove_dc else waveform
    samples = precise.unsqueeze(0) * INT16_SCALE
    if config.kind == "fbank":
        return torchaudio.compliance.kaldi.fbank(samples, **options).float()
    cepstral = {"num_ceps": config.ceps, "cepstral_lifter": config.lifter}
    return torchaudio.compliance.kaldi.mfcc(samples, **options, **cepstral).float()


def extractor(config: FeaturesConfig) -> tuple[type, object]:
    fbank = config.kind == "fbank"
    options = knf.FbankOptions() if fbank else knf.MfccOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.frame_length_ms = config.window_ms
    options.frame_opts.frame_shift_ms = config.hop_ms
    options.frame_opts.dither = 0
    options.frame_opts.preemph_coeff = config.preemphasis
    options.frame_opts.remove_dc_offset = config.remove_dc
    options.frame_opts.window_type = config.window
    options.frame_opts.snip_edges = config.snip_edges
    options.mel_opts.num_bins = config.bins
    options.mel_opts.low_freq = config.low_hz
    options.mel_opts.high_freq = config.high_hz
    options.use_energy = config.energy
    options.raw_energy = config.raw_energy
    options.energy_floor = config.energy_floor
    if not fbank:
        options.num_ceps = config.ceps
        options.cepstral_lifter = config.lifter
    return (knf.OnlineFbank if fbank else knf.OnlineMfcc), options


def native_frames(config: FeaturesConfig, waveform: Tensor) -> Tensor:
    kind, options = extractor(config)
    online = kind(options)
    online.accept_waveform(config.sample_rate, (waveform * INT16_SCALE).tolist())
    online.input_finished()
    frames = [online.get_frame(t) for t in range(online.num_frames_ready)]
    return torch.from_numpy(np.array(frames)).reshape(len(frames), config.static_width)


def librosa_frames(config: FeaturesConfig, waveform: Tensor) -> Tensor:
    options = {
        "y": waveform.numpy(),
        "sr": config.sample_rate,
        "n_fft": config.window_samples,
        "hop_length": config.hop_samples,
        "n_mels": config.bins,
        "fmin": config.low_hz,
        "fmax": config.highest_hz,
        "htk": config.mel_scale == "htk",
        "pad_mode": config.pad_mode,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=")  # longer than the signal
        if config.kind == "mfcc":
            return torch.from_numpy(librosa.feature.mfcc(n_mfcc=config.ceps, **options).T)
        mel = librosa.feature.melspectrogram(**options)
    return torch.from_numpy(np.log(np.maximum(mel, config.log_floor)).T)


def farthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference; the shapes are equal, and there is something to compare."""
    assert [one.shape for one in found] == [one.shape for one in expected]
    assert sum(one.numel() for one in found) > 200
    assert torch.cat(expected).std() > 0.5
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))


def require_kaldis(config: FeaturesConfig, waveforms: list[Tensor]) -> None:
    """What kaldi-native-fbank finds, and torchaudio in double precision."""
    require_near(config, waveforms, [native_frames(config, one) for one in waveforms])
    require_near(config, waveforms, [torchaudio_frames(config, one) for one in waveforms])


def require_near(config: FeaturesConfig, waveforms: list[Tensor], expected: list[Tensor]) -> None:
    """Equal as well as single precision can tell; cepstra without their lifter."""
    result = of(config, waveforms)
    farthest(result, expected)
    if config.kind == "fbank":
        require_resolved(torch.cat(result), torch.cat(expected))
        return
    order = torch.arange(config.ceps)
    weight = 1 + config.lifter / 2 * torch.sin(math.pi * order / max(config.lifter, 1))
    assert ((torch.cat(result) - torch.cat(expected)).abs() / weight).max() <= CLOSE


def require_librosa(config: FeaturesConfig, waveforms: list[Tensor]) -> None:
    """What librosa finds, log-mel as well as single precision can tell."""
    result, expected = of(config, waveforms), [librosa_frames(config, w) for w in waveforms]
    if config.kind == "mfcc":
        assert farthest(result, expected) <= CLOSE
    else:
        farthest(result, expected)
        require_resolved(torch.cat(result), torch.cat(expected))


def require_resolved(found: Tensor, expected: Tensor) -> None:
    """Log-mel (T, F) that agree down to 70 dB below the peak of a frame, and to less below that."""
    difference = (found - expected).abs()
    below_peak = expected.amax(dim=1, keepdim=True) - expected
    allowed = CLOSE * torch.exp((below_peak - RESOLVED).clamp(min=0) / 2)
    assert (difference <= allowed).all()
    assert (difference <= CLOSE).double().mean() > 0.9999


# ── real speech ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", KALDI.values(), ids=KALDI)
def test_real_speech_is_kaldis(config: FeaturesConfig, recorded: list[Tensor]) -> None:
    require_kaldis(config, recorded)


@pytest.mark.parametrize("config", LIBROSA.values(), ids=LIBROSA)
def test_real_speech_is_librosas(config: FeaturesConfig, recorded: list[Tensor]) -> None:
    require_librosa(config, recorded)


# ── speech-like noise ────────────────────────────────────────────────────────────────────────

NOISE = [speechlike(samples, seed=samples) for samples in (23_456, 400, 16_000, 4321)]


@pytest.mark.parametrize("config", KALDI.values(), ids=KALDI)
def test_noise_is_kaldis(config: FeaturesConfig) -> None:
    require_kaldis(config, NOISE)


@pytest.mark.parametrize("knob", KALDI_KNOBS)
@pytest.mark.parametrize("base", [FBANK, MFCC], ids=["fbank", "mfcc"])
def test_every_knob_is_kaldis(base: FeaturesConfig, knob: str) -> None:
    config = replace(base, **KALDI_KNOBS[knob])
    result = of(config, NOISE)
    require_kaldis(config, NOISE)
    # Single precision loses digits of weak bands, and the same of DC as `of`.
    both = (at_once(config, NOISE, kind) for kind in (torch.float32, torch.float64))
    assert min(farthest(result, one) for one in both) <= CLOSE
    before = of(replace(base, energy=config.energy and knob != "energy"), NOISE)
    same_shape = result[0].shape == before[0].shape
    assert not same_shape or farthest(result, before) > 0.1


@pytest.mark.parametrize("knob", [{"lifter": 0.0}, {"lifter": 10.0}, {"ceps": 20}, {"ceps": 1}])
def test_every_knob_of_the_cepstra_is_kaldis(knob: dict[str, object]) -> None:
    config = replace(MFCC, **knob)
    require_kaldis(config, NOISE)


@pytest.mark.parametrize("config", LIBROSA.values(), ids=LIBROSA)
def test_noise_is_librosas(config: FeaturesConfig) -> None:
    require_librosa(config, NOISE)


@pytest.mark.parametrize("warp", [0.85, 0.9, 1.07, 1.2])
@pytest.mark.parametrize("base", [FBANK, MFCC], ids=["fbank", "mfcc"])
def test_a_warp_is_kaldis(base: FeaturesConfig, warp: float) -> None:
    frames, counts = Features(base).static(*pad(NOISE), torch.full((len(NOISE),), warp))
    result = [one[:count] for one, count in zip(frames, counts, strict=True)]
    assert farthest(result, [torchaudio_frames(base, w, warp) for w in NOISE]) <= CLOSE
    assert farthest(result, of(base, NOISE)) > 0.1


def test_the_two_families_are_not_the_same() -> None:
    kaldi = of(replace(FBANK, low_hz=0, snip_edges=False), NOISE)
    librosas = [frames[: len(one)] for frames, one in zip(of(LOG_MEL, NOISE), kaldi, strict=True)]
    assert farthest(kaldi, librosas) > 5


# ── how many frames ──────────────────────────────────────────────────────────────────────────

ALL_LENGTHS = range(2001)


def counted(config: FeaturesConfig) -> list[int]:
    """T of each S, as the configuration says it, as the tensors say it, and as frames there are."""
    features = Features(config)
    waveforms = torch.randn(1, max(ALL_LENGTHS), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor(ALL_LENGTHS)
    frames, counts = features.static(waveforms.expand(len(lengths), -1), lengths)
    assert counts.tolist() == [config.frame_count(samples) for samples in ALL_LENGTHS]
    assert counts.tolist() == (frames != 0).any(dim=2).sum(dim=1).tolist()
    return counts.tolist()


@pytest.mark.parametrize("snip_edges", [True, False])
def test_frame_counts_are_kaldis(snip_edges: bool) -> None:
    config = replace(FBANK, bins=4, snip_edges=snip_edges)
    kind, options = extractor(config)
    waveform = np.zeros(max(ALL_LENGTHS), dtype=np.float32).tolist()
    expected = []
    for samples in ALL_LENGTHS:
        online = kind(options)
        online.accept_waveform(16_000, waveform[:samples])
        online.input_finished()
        expected.append(online.num_frames_ready)
    assert max(expected) > 10
    assert counted(config) == expected


def test_frame_counts_are_librosas() -> None:
    waveform = np.zeros(max(ALL_LENGTHS), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=")
        spectra = [librosa.stft(waveform[:s], n_fft=400, hop_length=160) for s in ALL_LENGTHS]
    expected = [spectrum.shape[1] for spectrum in spectra]
    assert max(expected) > 12
    assert counted(replace(LOG_MEL, bins=4)) == expected


@pytest.mark.parametrize("samples", [80, 81, 100, 200, 399, 401])
def test_signals_shorter_than_a_window_are_mirrored_over_and_over(samples: int) -> None:
    waveforms = [speechlike(samples, seed=samples), speechlike(6000)]
    config = replace(FBANK, snip_edges=False)
    require_near(config, waveforms, [native_frames(config, one) for one in waveforms])
    for pad_mode in ("constant", "reflect"):
        config = replace(LOG_MEL, pad_mode=pad_mode)
        expected = [librosa_frames(config, waveform) for waveform in waveforms]
        assert farthest(of(config, waveforms), expected) <= CLOSE


# ── what is made of frames ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_deltas_are_torchaudios_and_librosas(window: int) -> None:
    sequences = [
        torch.randn(size, 5, generator=torch.Generator().manual_seed(size)) for size in (30, 9, 100)
    ]
    padded, counts = pad(sequences)
    first = delta(padded, counts, window)
    second = delta(first, counts, window)
    width = 2 * window + 1
    for n, sequence in enumerate(sequences):
        expected = torchaudio.functional.compute_deltas(sequence.T, width)
        torch.testing.assert_close(first[n, : counts[n]].T, expected)
        twice = torchaudio.functional.compute_deltas(expected, width)
        torch.testing.assert_close(second[n, : counts[n]].T, twice)
        same = librosa.feature.delta(sequence.T.numpy(), width=width, mode="nearest")
        torch.testing.assert_close(first[n, : counts[n]].T, torch.from_numpy(same))


@pytest.mark.parametrize("window", [10, 31, 300])
def test_sliding_normalisation_is_torchaudios(window: int) -> None:
    config = replace(FBANK, normalization="sliding", cmn_window=window)
    result, counts = Features(config)(Batch.of(NOISE))
    compared = 0
    for n, frames in enumerate(of(FBANK, NOISE)):
        expected = torchaudio.functional.sliding_window_cmn(
            frames.double(), window, center=True, norm_vars=True
        )
        torch.testing.assert_close(
            result[n, : counts[n]].double(), expected.reshape(frames.shape), atol=1e-4, rtol=1e-4
        )
        compared += len(frames)
    assert compared > 200
