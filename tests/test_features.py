"""Laws of the features: neighbours, edges, silence, normalisation, and what is refused."""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from asr import audio
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.batch import Batch, pad
from asr.criteria import CTCConfig
from asr.dataset import Batches
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.deltas import delta, stack_context
from asr.features.frontend import Frontend
from asr.features.layer import Features
from asr.features.moments import DB_PER_NAT
from asr.features.normalization import VARIANCE_FLOOR, SpeakerMoments
from asr.features.padded import extend, zero_behind
from asr.features.running import FALL_DB_S, MEMORY, PEAK, PRIOR, RISE, SOFT, Running
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, encode_all
from asr.records import Utterance

KALDI = FeaturesConfig(deltas=1)
LIBROSA = FeaturesConfig(family="librosa", energy=False, deltas=1, low_hz=0)
KINDS = {
    "kaldi fbank": KALDI,
    "kaldi mfcc": replace(KALDI, kind="mfcc", bins=23),
    "kaldi mirrored": replace(KALDI, snip_edges=False),
    "librosa fbank": LIBROSA,
    "librosa mfcc": replace(LIBROSA, kind="mfcc"),
    "librosa mirrored": replace(LIBROSA, pad_mode="reflect"),
}
NORMALIZATIONS = ("global", "speaker", "utterance", "active", "running", "sliding", "none")
EVERY_KIND = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
EVERY_KIND_NORMALIZED = pytest.mark.parametrize(
    ("config", "normalization"),
    [
        pytest.param(config, normalization, id=f"{name}-{normalization}")
        for name, config in KINDS.items()
        for normalization in NORMALIZATIONS
        if config.kind != "mfcc" or normalization not in ("active", "running")
    ],
)
SAMPLES = [8000, 560, 12_345, 3999, 16_000, 4242, 640, 7999, 8001, 801, 2345, 31, 5000, 720, 900, 1]


def speechlike(samples: int, seed: int = 0) -> Tensor:
    """Coloured noise with a slow envelope, in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(samples, generator=generator)
    noise = noise.cumsum(0).sub(noise.cumsum(0).mean()).mul(0.05) + 0.1 * noise
    envelope = 0.6 + 0.4 * torch.sin(torch.arange(samples) / 1500)
    return 0.5 * noise / noise.abs().max().clamp(min=1e-9) * envelope


WAVEFORMS = [speechlike(samples, seed=samples) for samples in SAMPLES]
WAVEFORMS[5] *= 1e-4  # 80 dB below the others, which is all that librosa's cepstra allow


def raw(config: FeaturesConfig, waveform: Tensor) -> Tensor:
    features = Features(config)
    frames, counts = features.dynamic(*features.static(*pad([waveform])))
    return frames[0, : counts[0]]


def fitted(config: FeaturesConfig, *batches: Batch) -> tuple[Features, SpeakerMoments | None]:
    """Features whose training set these batches are, and the moments of their speakers."""
    features = Features(config)
    features.fit_normalization(batches)
    by_speaker = config.normalization == "speaker"
    return features, features.speaker_moments(batches) if by_speaker else None


# ── batches ──────────────────────────────────────────────────────────────────────────────────


@EVERY_KIND_NORMALIZED
def test_an_utterance_in_a_padded_batch_is_the_same_to_the_last_bit(
    config: FeaturesConfig, normalization: str
) -> None:
    config = replace(config, normalization=normalization, context=1)
    batch = Batch.of(WAVEFORMS, "aabbccddaabbccdd")
    features, moments = fitted(config, batch)
    frames, counts = features(batch, moments=moments)
    assert frames.shape == (16, config.frame_count(16_000), config.width)
    assert frames.std() > 0.5
    for n, waveform in enumerate(WAVEFORMS):
        one = Batch.of([waveform], batch.speakers[n])
        alone, (count,) = features(one, moments=moments)
        assert count == counts[n] == config.frame_count(SAMPLES[n])
        assert torch.equal(frames[n, :count], alone[0])
        assert not frames[n, count:].any()


@EVERY_KIND_NORMALIZED
def test_a_batch_computed_at_once_as_on_a_gpu_is_the_same(
    config: FeaturesConfig, normalization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = 30 if normalization == "sliding" else 300
    config = replace(config, normalization=normalization, cmn_window=window)
    # The variance of a few frames may be next to nothing, and any rounding large beside it.
    long_enough = [n for n in range(16) if SAMPLES[n] > 3000 or normalization == "none"]
    batch = Batch.of([WAVEFORMS[n] for n in long_enough], "aabbccddaabbccdd"[: len(long_enough)])
    features, moments = fitted(config, batch)
    warps = torch.linspace(0.9, 1.1, len(long_enough))
    expected, counts = features(batch, warps, moments)
    calls = []

    def all_rows(fill, counts: Tensor, like: Tensor, width: int) -> Tensor:  # type: ignore[no-untyped-def]
        calls.append(width)
        frames = like.new_full((*like.shape[:2], width), torch.nan)
        fill(slice(None), frames)
        return zero_behind(frames, counts)

    monkeypatch.setattr("asr.features.layer.by_utterance", all_rows)
    monkeypatch.setattr(Frontend, "one_by_one", Frontend.all_at_once)
    result, found_counts = features(batch, warps, moments)
    assert calls == [config.dynamic_width]
    assert torch.equal(found_counts, counts)
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)


@EVERY_KIND_NORMALIZED
def test_everything_stays_on_its_device(
    config: FeaturesConfig, normalization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = torch.device("meta")  # which refuses to be mixed with another, and holds no numbers
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has none
    config = replace(config, normalization=normalization, context=1)
    features = Features(config).to(meta)
    width = config.dynamic_width
    known = {"a": (torch.zeros(width, device=meta), torch.ones(width, device=meta))}
    moments = known if normalization == "speaker" else None
    batch = Batch.of(WAVEFORMS[:3], "aaa").to(meta)
    for warps in (None, torch.tensor([0.9, 1.0, 1.1])):
        frames, counts = features(batch, warps, moments)
        assert frames.device == counts.device == meta
        assert frames.shape == (3, config.frame_count(max(SAMPLES[:3])), config.width)


@pytest.mark.parametrize("way", ["one_by_one", "all_at_once"])
@EVERY_KIND
def test_autocast_leaves_features_alone(
    config: FeaturesConfig, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Frontend, "one_by_one", getattr(Frontend, way))
    batch = Batch.of(WAVEFORMS[:4])
    features, _ = fitted(config, batch)
    expected, _ = features(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(batch)[0], expected)


def test_frames_carry_no_gradient_and_double_precision_is_kept() -> None:
    batch = Batch.of(WAVEFORMS[:4])
    waveforms = batch.waveforms.requires_grad_()
    frames, _ = Features(FeaturesConfig())(batch)
    assert not frames.requires_grad
    double = replace(batch, waveforms=waveforms.double())
    precise, _ = Features(FeaturesConfig()).double()(double)
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), frames, atol=1e-3, rtol=1e-4)


def test_no_number_of_one_utterance_reaches_another() -> None:
    broken = torch.full((4000,), torch.nan)
    for config in KINDS.values():
        features = Features(replace(config, normalization="utterance"))
        alone = features(Batch.of([WAVEFORMS[0]]))[0][0]
        frames, _ = features(Batch.of([broken, WAVEFORMS[0], -broken]))
        assert torch.equal(frames[1], alone)


def test_a_file_with_a_sample_that_is_no_number_never_gets_here(tmp_path: Path) -> None:
    for wrong in (np.nan, np.inf):
        waveform = WAVEFORMS[0].numpy().copy()
        waveform[17] = wrong
        soundfile.write(tmp_path / "wrong.wav", waveform, 16_000, subtype="FLOAT")
        with pytest.raises(DataError, match="sample 17"):
            audio.load(tmp_path / "wrong.wav")


@EVERY_KIND
def test_static_frames_from_a_cache_give_the_same(config: FeaturesConfig) -> None:
    batch = Batch.of(WAVEFORMS)
    features, _ = fitted(config, batch)
    static, counts = features.static(batch.waveforms, batch.waveform_lengths)
    assert static.shape == (16, config.frame_count(16_000), config.static_width)
    assert not any(static[n, count:].any() for n, count in enumerate(counts))
    kept = replace(batch, waveforms=torch.zeros(16, 0), frames=static)
    again, _ = fitted(config, kept)
    assert torch.equal(features.mean, again.mean)
    for one, other in zip(features(batch), again(kept), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="cache"):
        features(kept, torch.ones(16))


# ── scale, shift, extremes ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", [KALDI, LIBROSA], ids=["kaldi", "librosa"])
@pytest.mark.parametrize("gain", [0.25, 3.0])
def test_a_louder_waveform_shifts_log_mel(config: FeaturesConfig, gain: float) -> None:
    static = replace(config, deltas=0)
    quiet, loud = raw(static, 0.3 * WAVEFORMS[0]), raw(static, gain * 0.3 * WAVEFORMS[0])
    shift = torch.full_like(quiet, 2 * math.log(gain))
    torch.testing.assert_close(loud - quiet, shift, atol=1e-3, rtol=0)


@EVERY_KIND
def test_a_shift_by_one_hop_shifts_frames_by_one(config: FeaturesConfig) -> None:
    static = replace(config, deltas=0)
    frames = raw(static, WAVEFORMS[0])
    shifted = raw(static, WAVEFORMS[0][config.hop_samples :])
    assert len(frames) == len(shifted) + 1
    edge = 0 if config.snip_edges and config.family == "kaldi" else 2  # windows that are mirrored
    torch.testing.assert_close(frames[1 + edge :], shifted[edge:], atol=1e-3, rtol=0)


EXTREMES = {
    "silence": torch.zeros(4000),
    "one step of noise": torch.zeros(4000).index_fill_(0, torch.tensor([1234]), 2**-15),
    "offset": torch.full((4000,), 0.3),
    "clipping": torch.sign(torch.sin(torch.arange(4000) / 7)),
    "one window": torch.ones(400),
}


@pytest.mark.parametrize("waveform", EXTREMES.values(), ids=EXTREMES)
@EVERY_KIND_NORMALIZED
def test_extremes_are_finite(config: FeaturesConfig, normalization: str, waveform: Tensor) -> None:
    batch = Batch.of([waveform], "a")
    features, moments = fitted(replace(config, normalization=normalization), batch)
    frames, counts = features(batch, moments=moments)
    assert int(counts) > 0
    assert frames.isfinite().all()


def test_silence_stands_on_the_floors() -> None:
    silent = torch.zeros(4000)
    floor = torch.finfo(torch.float32).eps
    assert torch.equal(raw(replace(KALDI, deltas=0), silent), torch.full((23, 41), math.log(floor)))
    frames = raw(replace(LIBROSA, deltas=0, log_floor=1e-6), silent)
    assert torch.equal(frames, torch.full((26, 40), math.log(1e-6)))


def test_less_than_one_window_is_no_frame() -> None:
    for normalization in NORMALIZATIONS:
        config = replace(KALDI, normalization=normalization, context=2)
        known = {"a": (torch.zeros(82), torch.ones(82))}
        moments = known if normalization == "speaker" else None
        short = Batch.of([torch.zeros(399), torch.zeros(10)], "aa")
        frames, counts = Features(config)(short, moments=moments)
        assert frames.shape == (2, 0, 5 * 82)
        assert counts.tolist() == [0, 0]


# ── Δ and context ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_delta_of_a_ramp_is_its_slope(window: int) -> None:
    ramp = 3.0 * torch.arange(20.0).reshape(1, 20, 1)
    inner = delta(ramp, torch.tensor([20]), window)[0, window:-window]
    torch.testing.assert_close(inner, torch.full((20 - 2 * window, 1), 3.0))


@pytest.mark.parametrize("edge", ["constant", "nearest", "reflect", "symmetric"])
def test_edges_are_those_of_numpy_at_each_length(edge: str) -> None:
    mode = {"nearest": "edge"}.get(edge, edge)
    sequences = [torch.randn(length, 2) for length in (9, 1, 2, 5, 30)]
    extended = extend(*pad(sequences), 4, 11, edge)
    for result, sequence in zip(extended, sequences, strict=True):
        expected = np.pad(sequence.numpy(), ((4, 11), (0, 0)), mode=mode)
        assert np.array_equal(result[: len(expected)].numpy(), expected)


def test_context_stacks_neighbours_and_repeats_the_edges() -> None:
    sequences = [torch.randn(length, 3) for length in (1, 2, 7)]
    padded, counts = pad(sequences)
    stacked = torch.empty(3, 7, 15)
    stack_context(padded, counts, 2, stacked)
    for n, sequence in enumerate(sequences):
        last = len(sequence) - 1
        for t in range(len(sequence)):
            rows = [sequence[min(max(t + k, 0), last)] for k in (-2, -1, 0, 1, 2)]
            assert torch.equal(stacked[n, t], torch.cat(rows))


# ── normalisation ────────────────────────────────────────────────────────────────────────────


def test_global_normalisation_is_of_all_frames_whatever_the_batches() -> None:
    waveforms = WAVEFORMS[:4]
    features, _ = fitted(FeaturesConfig(), Batch.of(waveforms[:1]), Batch.of(waveforms[1:]))
    frames = torch.cat([features(Batch.of([w]))[0][0] for w in waveforms])
    torch.testing.assert_close(frames.mean(0), torch.zeros(123), atol=1e-3, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(123), atol=1e-3, rtol=0)
    assert set(features.state_dict()) == {"mean", "std"}


def test_utterance_normalisation_is_of_each_utterance() -> None:
    features = Features(replace(KALDI, normalization="utterance"))
    frames, counts = features(Batch.of(WAVEFORMS))
    assert int((counts > 20).sum()) > 4
    for one, count in zip(frames, counts, strict=True):
        if count > 20:
            torch.testing.assert_close(one[:count].mean(0), torch.zeros(82), atol=1e-4, rtol=0)
            spread = one[:count].std(0, correction=0)
            torch.testing.assert_close(spread, torch.ones(82), atol=1e-4, rtol=0)


def test_active_normalisation_is_of_the_loud_frames_and_silence_changes_nothing() -> None:
    features = Features(replace(KALDI, normalization="active", active_db=20.0))
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(1))
    sound = torch.cat([0.3 * noise[:8_000], 1e-3 * noise[8_000:]])
    alone = features(Batch.of([sound]))[0][0]
    raw_frames = raw(KALDI, sound)
    level = raw_frames[:, KALDI.energy : KALDI.static_width].mean(1)
    nats = 20.0 / 10 * math.log(10)
    active = level >= level.sort(descending=True).values[9] - nats
    assert 10 < int(active.sum()) < len(level)
    spread = raw_frames[active].std(0, correction=0)
    expected = (raw_frames - raw_frames[active].mean(0)) / spread
    torch.testing.assert_close(alone, expected, atol=1e-3, rtol=1e-3)
    for silence in (torch.zeros(80_000), 1e-4 * noise):
        longer = features(Batch.of([torch.cat([sound, silence])]))[0][0]
        torch.testing.assert_close(longer[:90], alone[:90], atol=1e-4, rtol=1e-4)
    padded = features(Batch.of([sound[:9_000], sound]))[0][1]
    assert torch.equal(padded, alone)


def test_running_moments_are_weighted_by_the_reference_of_their_time() -> None:
    """Against sums over all frames until t, in which each weighs what its decay has left of it."""
    config = replace(KALDI, normalization="running", active_db=20.0)
    frames = np.concatenate([raw(config, one).numpy() for one in WAVEFORMS[:4]]).astype(float)
    width, prior = config.dynamic_width, np.random.default_rng(0)
    training = prior.normal(5, 1, width), prior.uniform(0.5, 2, width)
    level = frames[:, 1 : config.static_width].mean(axis=1)
    usual = training[0][1 : config.static_width].mean() + PEAK
    reference, weights = usual - PEAK, np.zeros(0)
    mean, std = Running(config, training)(frames)
    for t in range(len(frames)):
        above = level[t] - reference
        reference += RISE * above if above > 0 else -FALL_DB_S / 100 / DB_PER_NAT
        weights = weights * math.exp(-RISE * max(0, above) / SOFT)
        below = reference - level[t]
        own = math.exp(-max(0, below) / SOFT) if below <= 20 / DB_PER_NAT else 0.0
        weights = np.append(weights * (1 - own / MEMORY), own)
        if t % 10:
            continue
        near = weights @ frames[: t + 1] / weights.sum()
        moved = training[0] + (np.arange(width) < config.static_width) * (reference - usual)
        expected = (PRIOR * moved + weights.sum() * near) / (PRIOR + weights.sum())
        spread = weights @ (frames[: t + 1] - near) ** 2 + PRIOR * training[1] ** 2
        np.testing.assert_allclose(mean[t], expected, rtol=1e-6)
        np.testing.assert_allclose(std[t], np.sqrt(spread / (PRIOR + weights.sum())), rtol=1e-5)
    assert 0 < (weights == 0).mean() < 1


def test_running_moments_know_nothing_of_what_comes_and_take_any_pieces() -> None:
    config = replace(KALDI, normalization="running")
    frames = raw(config, WAVEFORMS[0]).numpy()
    width = config.dynamic_width
    training = np.full(width, 3.0), np.ones(width)
    whole = np.stack(Running(config, training)(frames))
    pieces = Running(config, training)
    parts = [np.stack(pieces(part)) for part in np.split(frames, [1, 1, 7, 30])]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_running_normalisation_forgets_noise_before_speech_and_follows_the_level() -> None:
    config = replace(KALDI, normalization="running", deltas=0)
    noise = 1e-3 * torch.randn(32_000, generator=torch.Generator().manual_seed(1))
    speech = speechlike(64_000)
    features, _ = fitted(config, Batch.of([speech]))
    alone = features(Batch.of([speech]))[0][0, -100:]
    for other in (torch.cat([noise, speech]), 0.3 * speech):
        near = features(Batch.of([other]))[0][0, -100:]
        assert (near - alone).abs().mean() < 0.25


def test_speaker_normalisation_is_of_all_frames_of_a_speaker() -> None:
    config = replace(KALDI, normalization="speaker")
    speakers = ["ann", "bob", "ann", "cat", "bob"]
    batch = Batch.of(WAVEFORMS[:5], speakers)
    first, second = Batch.of(WAVEFORMS[:2], speakers[:2]), Batch.of(WAVEFORMS[2:5], speakers[2:])
    features, moments = fitted(config, second, first)
    frames, counts = features(batch, moments=moments)
    for speaker in set(speakers):
        mine = [n for n in range(5) if speakers[n] == speaker]
        everything = torch.cat([raw(config, WAVEFORMS[n]) for n in mine])
        spread = everything.std(0, correction=0)
        for n in mine:
            expected = (raw(config, WAVEFORMS[n]) - everything.mean(0)) / spread
            torch.testing.assert_close(frames[n, : counts[n]], expected, atol=1e-3, rtol=1e-3)


def test_a_speaker_does_not_see_another() -> None:
    config = replace(KALDI, normalization="speaker")
    mine = Batch.of(WAVEFORMS[:2], "aa")
    result, expected = (
        features(mine, moments=moments)[0]
        for features, moments in (
            fitted(config, Batch.of(WAVEFORMS[:6], "aabbcb")),
            fitted(config, mine),
        )
    )
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_an_unknown_speaker_is_named() -> None:
    config = replace(KALDI, normalization="speaker")
    features, moments = fitted(config, Batch.of(WAVEFORMS[:1], ["ann"]))
    with pytest.raises(DataError, match="'bob'"):
        features(Batch.of(WAVEFORMS[:2], ["ann", "bob"]), moments=moments)
    with pytest.raises(DataError, match="'ann'"):  # nothing is remembered from another call
        features(Batch.of(WAVEFORMS[:2], ["ann", "bob"]))
    with pytest.raises(ValueError, match=r"2 utterances .* found 0"):
        features(Batch.of(WAVEFORMS[:2]), moments=moments)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_moments_that_are_passed_take_the_place_of_any_normalisation(normalization: str) -> None:
    config = replace(KALDI, normalization="speaker")
    batch = Batch.of(WAVEFORMS[:4], "abab")
    features, moments = fitted(config, batch)
    expected, _ = features(batch, moments=moments)
    other = Features(replace(config, normalization=normalization))
    assert torch.equal(other(batch, moments=moments)[0], expected)


def test_a_split_is_encoded_by_the_moments_of_its_own_speakers(tones: list[Utterance]) -> None:
    config = FeaturesConfig(bins=20, deltas=0, normalization="speaker")
    vocabulary = Vocabulary(["aa", "iy", "m", "s"])
    encoder = EncoderConfig(hidden=4, layers=1)
    recognizer = Recognizer(RecognizerConfig(config, encoder, CTCConfig()), vocabulary)
    batches = Batches(tones, vocabulary, 16_000, batch_size=4)
    encoded = {
        id: one
        for batch, some, _ in encode_all(recognizer, batches)
        for id, one in zip(batch.ids, some, strict=True)
    }
    (everything,) = Batches(tones, vocabulary, 16_000, batch_size=9)
    moments = recognizer.moments_of([everything])
    expected, lengths = recognizer.encode_batch(everything, moments=moments)
    assert len(encoded) == 9
    for n, id in enumerate(everything.ids):
        size = int(lengths[n])
        torch.testing.assert_close(encoded[id][:size], expected[n, :size], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [7, 30, 300])
def test_sliding_normalisation_is_kaldis_loop(window: int) -> None:
    config = replace(KALDI, normalization="sliding", cmn_window=window)
    waveforms = [*WAVEFORMS[:4], torch.zeros(5000)]
    result, counts = Features(config)(Batch.of(waveforms))
    for n, waveform in enumerate(waveforms):
        frames = raw(config, waveform).double()
        expected = torch.zeros_like(frames)
        for t in range(len(frames)):
            start, stop = t - window // 2, t - window // 2 + window
            if start < 0:
                start, stop = 0, stop - start
            if stop > len(frames):
                start, stop = max(0, start - stop + len(frames)), len(frames)
            part = frames[start:stop]
            variance = part.var(0, correction=0).clamp(min=VARIANCE_FLOOR)
            expected[t] = (frames[t] - part.mean(0)) / variance.sqrt()
        torch.testing.assert_close(result[n, : counts[n]].double(), expected, atol=1e-4, rtol=1e-4)


# ── VTLN ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", [KALDI, LIBROSA], ids=["kaldi", "librosa"])
def test_a_warp_above_one_moves_the_spectrum_up(config: FeaturesConfig) -> None:
    config = replace(config, energy=False, deltas=0, bins=80)
    tone = torch.sin(2 * math.pi * 1500 * torch.arange(4000) / 16_000)
    batch, lengths = pad([tone] * 3)
    frames, _ = Features(config).static(batch, lengths, torch.tensor([0.9, 1.0, 1.1]))
    low, middle, high = frames[:, 10].argmax(dim=1).tolist()
    assert low < middle < high
    moved = torch.sin(2 * math.pi * 1500 * 1.1 * torch.arange(4000) / 16_000)
    plain, _ = Features(config).static(moved[None], torch.tensor([4000]))
    assert abs(int(plain[0, 10].argmax()) - high) <= 1


@EVERY_KIND
def test_warps_are_each_utterances_own_to_the_hundredth(config: FeaturesConfig) -> None:
    features = Features(config)
    warps = [0.9, 1.0, 1.1, 0.931, 1.004]
    batch, lengths = pad(WAVEFORMS[:5])
    plain, _ = features.static(batch, lengths)
    warped, counts = features.static(batch, lengths, torch.tensor(warps))
    for n, warp in enumerate([0.9, 1.0, 1.1, 0.93, 1.0]):
        alone, _ = features.static(
            batch[n : n + 1, : lengths[n]], lengths[n : n + 1], torch.tensor([warp])
        )
        assert torch.equal(warped[n, : counts[n]], alone[0])
        assert torch.equal(warped[n], plain[n]) == (warp == 1.0)


def test_too_narrow_a_band_is_not_warped() -> None:
    features = Features(FeaturesConfig(bins=4, low_hz=1000, high_hz=1500))
    with pytest.raises(ValueError, match=r"features\.low_hz .*augment\.vtlp"):
        features.static(*pad(WAVEFORMS[:1]), torch.tensor([1.1]))


# ── dither ───────────────────────────────────────────────────────────────────────────────────


def test_dither_is_the_same_noise_for_every_utterance() -> None:
    config = replace(KALDI, deltas=0, dither=2.0, normalization="none")
    batch = Batch.of([torch.zeros(70_000), torch.zeros(4000), WAVEFORMS[0]])
    features = Features(config).train()
    frames, counts = features(batch)
    torch.testing.assert_close(frames[0, : counts[1]], frames[1, : counts[1]])
    assert torch.equal(Features(config).eval()(batch)[0], frames)
    # A window of 400 samples: the energy of noise is its variance, but for the mean taken out.
    energy = frames[0, :, 0].exp().mean() / 399
    assert math.isclose(float(energy), 2.0**2, rel_tol=0.05)
    assert not torch.equal(frames[0, 0], frames[0, 10])


def test_relative_dither_is_so_far_below_the_utterance() -> None:
    config = replace(KALDI, deltas=0, normalization="none")
    tone = 0.2 * torch.sin(0.3 * torch.arange(16_000))
    gated = torch.cat([tone, torch.zeros(16_000)]) + 0.1
    batch = Batch.of([gated, 0.01 * gated, gated[:24_000], torch.zeros(4000)])
    clean, counts = Features(config)(batch)
    frames, _ = Features(replace(config, dither_db=40.0))(batch)
    one_by_one, _ = Features(replace(config, dither_db=40.0))(Batch.of([gated[:24_000]]))
    assert torch.equal(one_by_one[0], frames[2, : counts[2]])
    # In the pause is noise of a ten-thousandth of the variance, an offset being none of it.
    energy = frames[0, 110 : counts[0] - 1, 0].exp().mean() / 399 / 32768**2
    assert math.isclose(float(energy), float(gated.var()) * 1e-4, rel_tol=0.05)
    # It is heard the same at any level, and in speech not at all; digital silence stays.
    louder = frames[0, : counts[0]] - frames[1, : counts[1]]
    torch.testing.assert_close(louder, torch.full_like(louder, math.log(1e4)), atol=2e-3, rtol=0)
    assert (frames[0, :90, 0] - clean[0, :90, 0]).abs().max() < 1e-2
    assert torch.equal(frames[3, : counts[3]], clean[3, : counts[3]])


# ── configuration ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("config", "width"),
    [
        (FeaturesConfig(), 123),
        (FeaturesConfig(kind="mfcc", bins=23, ceps=13, deltas=2), 39),
        (FeaturesConfig(energy=False, deltas=1), 80),
        (FeaturesConfig(energy=False, bins=80, deltas=0, context=3), 560),
        (replace(LIBROSA, bins=64), 128),
        (replace(LIBROSA, kind="mfcc", deltas=2), 39),
    ],
)
def test_widths(config: FeaturesConfig, width: int) -> None:
    frames, _ = Features(config)(Batch.of(WAVEFORMS[:1]))
    assert config.width == width == frames.shape[2]
    assert frames[0].std(dim=0).min() > 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"family": "htk"}, "features.family is 'htk', expected kaldi or librosa"),
        ({"kind": "plp"}, "features.kind is 'plp', expected fbank or mfcc"),
        ({"bins": 3}, "features.bins is 3, expected at least 4"),
        ({"kind": "mfcc", "ceps": 50}, "features.ceps is 50, expected 1…40"),
        ({"kind": "mfcc", "ceps": 0}, "features.ceps is 0, expected 1…40"),
        ({"ceps": 20}, "features.ceps is 20, but features.kind is 'fbank'"),
        ({"deltas": 3}, "features.deltas is 3, expected 0, 1 or 2"),
        ({"delta_window": 0}, "features.delta_window is 0, expected at least 1"),
        ({"deltas": 0, "delta_window": 3}, "features.delta_window is 3, but features.deltas is 0"),
        ({"context": -1}, "features.context is -1, expected at least 0"),
        ({"normalization": "batch"}, "features.normalization is 'batch', expected global, spe"),
        ({"normalization": "sliding", "cmn_window": 1}, "features.cmn_window is 1, expected"),
        ({"cmn_window": 600}, "features.cmn_window is 600, but features.normalization is 'global'"),
        ({"sample_rate": 0}, "features.sample_rate is 0, expected more than 0"),
        ({"hop_ms": 30.0}, "features.hop_ms is 30.0, expected at most 25"),
        ({"hop_ms": 0.0}, "features.hop_ms is 0.0, expected more than 0"),
        ({"hop_ms": math.nan}, "features.hop_ms is nan, expected"),
        ({"hop_ms": 0.01}, "features.hop_ms is 0.01, expected at least one sample"),
        ({"window_ms": 5.0}, "features.hop_ms is 10.0, expected at most 5.0"),
        ({"low_hz": -1.0}, "features.low_hz is -1.0, expected at least 0"),
        ({"high_hz": 9000.0}, "features.low_hz and high_hz are 20.0 and 9000.0, expected low <"),
        ({"high_hz": -7990.0}, "features.low_hz and high_hz are 20.0 and -7990.0, expected low <"),
        ({"window": "hann"}, "features.window is 'hann', expected povey, hamming, hanning, rect"),
        ({"preemphasis": 1.5}, "features.preemphasis is 1.5, expected 0…1"),
        ({"energy_floor": -1.0}, "features.energy_floor is -1.0, expected at least 0"),
        ({"energy": False, "energy_floor": 1.0}, "features.energy_floor is 1.0, but features.en"),
        ({"energy": False, "raw_energy": False}, "features.raw_energy is False, but features.en"),
        ({"dither": -1.0}, "features.dither is -1.0, expected at least 0"),
        ({"dither": math.inf}, "features.dither is inf, expected a finite number"),
        ({"active_db": 20.0}, "features.active_db is 20.0, but features.normalization is 'global'"),
        (
            {"normalization": "active", "active_db": 0.0},
            "features.active_db is 0.0, expected more than 0",
        ),
        (
            {"normalization": "active", "kind": "mfcc", "bins": 23},
            "features.normalization is 'active', expected another with features.kind=mfcc",
        ),
        ({"lifter": 10.0}, "features.lifter is 10.0, but features.kind is 'fbank'"),
        ({"kind": "mfcc", "lifter": -1.0}, "features.lifter is -1.0, expected at least 0"),
        ({"mel_scale": "bark"}, "features.mel_scale is 'bark', expected slaney or htk"),
        ({"mel_scale": "htk"}, "features.mel_scale is 'htk', but features.family is 'kaldi'"),
        ({"pad_mode": "wrap"}, "features.pad_mode is 'wrap', expected constant or reflect"),
        ({"pad_mode": "reflect"}, "features.pad_mode is 'reflect', but features.family is 'kaldi'"),
        ({"log_floor": 1e-5}, "features.log_floor is 1e-05, but features.family is 'kaldi'"),
    ],
)
def test_wrong_values_are_refused_by_key(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match="features") as refusal:
        FeaturesConfig(**wrong)  # type: ignore[arg-type]
    assert str(refusal.value).startswith(says)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"energy": True}, "features.energy is True, expected false with features.family=librosa"),
        ({"window": "hamming"}, "features.window is 'hamming', but features.family is 'librosa'"),
        ({"preemphasis": 0.0}, "features.preemphasis is 0.0, but features.family is 'librosa'"),
        ({"remove_dc": False}, "features.remove_dc is False, but features.family is 'librosa'"),
        ({"snip_edges": False}, "features.snip_edges is False, but features.family is 'librosa'"),
        ({"dither": 1.0}, "features.dither is 1.0, but features.family is 'librosa'"),
        ({"dither_db": 9.0}, "features.dither_db is 9.0, but features.family is 'librosa'"),
        ({"kind": "mfcc", "lifter": 0.0}, "features.lifter is 0.0, but features.family is 'libros"),
        ({"log_floor": 0.0}, "features.log_floor is 0.0, expected more than 0"),
        ({"kind": "mfcc", "log_floor": 1e-5}, "features.log_floor is 1e-05, but features.kind is"),
    ],
)
def test_what_librosa_has_not_is_refused_by_key(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match="features") as refusal:
        replace(LIBROSA, **wrong)
    assert str(refusal.value).startswith(says)


def test_a_filter_without_a_frequency_is_refused() -> None:
    with pytest.raises(DataError, match=r"features\.bins is 128, .*filter 4 "):
        Features(FeaturesConfig(bins=128))
