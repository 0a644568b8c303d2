"""Features against two independent oracles, and their laws."""

import kaldi_native_fbank as knf
import numpy as np
import pytest
import torch
import torchaudio
from torch import Tensor

from asr.batch import pad
from asr.features import INT16_SCALE, Features, FeaturesConfig, delta

STATIC = {
    "fbank": FeaturesConfig(kind="fbank", bins=40, energy=True, deltas=0),
    "mfcc": FeaturesConfig(kind="mfcc", bins=23, ceps=13, energy=True, deltas=0),
}


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Coloured noise with a slow envelope, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, generator=generator).cumsum(0)
    noise = noise - noise.mean()
    envelope = 0.6 + 0.4 * torch.sin(torch.arange(samples) / 1500)
    return 0.5 * noise / noise.abs().max().clamp(min=1e-9) * envelope


def raw(config: FeaturesConfig, waveform: Tensor) -> Tensor:
    frames, counts = Features(config).raw(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    return frames[0, : counts[0]]


def torchaudio_frames(kind: str, waveform: Tensor) -> Tensor:
    options = {"sample_frequency": 16_000.0, "use_energy": True, "energy_floor": 0.0}
    waveforms = waveform.unsqueeze(0) * INT16_SCALE
    if kind == "fbank":
        return torchaudio.compliance.kaldi.fbank(waveforms, num_mel_bins=40, **options)
    return torchaudio.compliance.kaldi.mfcc(waveforms, num_ceps=13, **options)


def kaldi_native_frames(kind: str, waveform: Tensor) -> Tensor:
    options = knf.FbankOptions() if kind == "fbank" else knf.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = True
    options.use_energy = True
    options.energy_floor = 0
    options.mel_opts.num_bins = 40 if kind == "fbank" else 23
    extractor = knf.OnlineFbank(options) if kind == "fbank" else knf.OnlineMfcc(options)
    extractor.accept_waveform(16_000, (waveform * INT16_SCALE).tolist())
    extractor.input_finished()
    return torch.tensor(
        np.array([extractor.get_frame(t) for t in range(extractor.num_frames_ready)])
    )


@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
@pytest.mark.parametrize("oracle", [torchaudio_frames, kaldi_native_frames])
def test_static_features_are_kaldis(kind: str, oracle) -> None:  # type: ignore[no-untyped-def]
    waveform = speechlike(23_456)
    expected = oracle(kind, waveform)
    found = raw(STATIC[kind], waveform)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [1, 399, 400, 559, 560, 1600, 2000])
def test_frame_counts_are_kaldis(samples: int) -> None:
    expected = len(kaldi_native_frames("fbank", speechlike(samples)))
    features = Features(STATIC["fbank"])
    assert int(features.frame_counts(torch.tensor([samples]))) == expected
    assert len(raw(STATIC["fbank"], speechlike(samples))) == expected


def test_deltas_are_those_of_the_htk_book() -> None:
    frames = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(1))
    expected = torchaudio.functional.compute_deltas(frames.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(delta(frames, torch.tensor([30, 30])), expected)


def test_the_delta_of_a_ramp_is_its_slope() -> None:
    ramp = 3.0 * torch.arange(20.0).reshape(1, 20, 1)
    torch.testing.assert_close(delta(ramp, torch.tensor([20]))[0, 2:-2], torch.full((16, 1), 3.0))


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (FeaturesConfig(), 123),
        (FeaturesConfig(kind="mfcc", bins=23, ceps=13, deltas=2), 39),
        (FeaturesConfig(energy=False, deltas=1), 80),
    ],
)
def test_widths(config: FeaturesConfig, width: int) -> None:
    assert config.width == width == raw(config, speechlike(4000)).shape[1]


@pytest.mark.parametrize(
    "config", [FeaturesConfig(), FeaturesConfig(kind="mfcc", bins=23)], ids=["fbank", "mfcc"]
)
def test_a_padded_batch_equals_one_by_one(config: FeaturesConfig) -> None:
    waveforms = [speechlike(samples, seed=samples) for samples in (8000, 400, 12_345, 3999)]
    features = Features(config)
    features.fit_normalization([pad(waveforms)])
    batch, lengths = features(*pad(waveforms))
    assert lengths.tolist() == [48, 1, 75, 23]
    for n, waveform in enumerate(waveforms):
        alone, _ = features(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
        torch.testing.assert_close(batch[n, : lengths[n]], alone[0], atol=1e-4, rtol=0)
        assert not batch[n, lengths[n] :].any()


def test_normalisation_gives_zero_mean_and_unit_variance_whatever_the_batches() -> None:
    waveforms = [speechlike(samples, seed=samples) for samples in (8000, 12_345, 3999)]
    features = Features(FeaturesConfig())
    features.fit_normalization([pad(waveforms[:1]), pad(waveforms[1:])])
    frames = torch.cat([features(w.unsqueeze(0), torch.tensor([len(w)]))[0][0] for w in waveforms])
    torch.testing.assert_close(frames.mean(0), torch.zeros(123), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(123), atol=1e-3, rtol=0)


def test_a_louder_waveform_shifts_log_mel() -> None:
    waveform = 0.1 * speechlike(8000)
    quiet, loud = raw(STATIC["fbank"], waveform), raw(STATIC["fbank"], 4 * waveform)
    torch.testing.assert_close(
        loud - quiet, torch.full_like(quiet, 2 * np.log(4)), atol=1e-3, rtol=0
    )


def test_a_shift_by_one_hop_shifts_frames_by_one() -> None:
    waveform = speechlike(8000)
    config = STATIC["fbank"]
    torch.testing.assert_close(
        raw(config, waveform)[1:], raw(config, waveform[config.hop_samples :]), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("waveform", [torch.zeros(4000), torch.full((4000,), 0.3)])
def test_silence_and_dc_are_finite(waveform: Tensor) -> None:
    features = Features(FeaturesConfig())
    batch = (waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    features.fit_normalization([batch])
    assert features(*batch)[0].isfinite().all()


def test_less_than_one_window_is_no_frame() -> None:
    frames, lengths = Features(FeaturesConfig())(torch.zeros(2, 399), torch.tensor([399, 10]))
    assert frames.shape == (2, 0, 123)
    assert lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "plp"}, "features.kind"),
        ({"bins": 2}, "features.bins"),
        ({"kind": "mfcc", "ceps": 50}, "features.ceps"),
        ({"deltas": 3}, "features.deltas"),
        ({"hop_ms": 30.0}, "features.hop_ms"),
        ({"high_hz": 9000.0}, "high_hz"),
    ],
)
def test_contradictions_are_refused_by_key(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FeaturesConfig(**wrong)  # type: ignore[arg-type]
