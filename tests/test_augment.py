"""Augmentation: what is drawn is what is done, and nothing but the utterance has a part in it."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.functional import lowpass_biquad, resample

from asr import checkpoint, train
from asr.architecture import EncoderConfig
from asr.augment import Augment, AugmentConfig, seed_of
from asr.augment.sounds import accelerate, babble, coloured_noise, convolve, impulse_response
from asr.batch import Batch, length_mask
from asr.config import RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.dataset import Batches, Example, SpeechDataset
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.phones import Vocabulary
from asr.records import Segment, Utterance, write_jsonl
from asr.training.run_directory import RunDirectory

RATE = 16_000
VOCABULARY = Vocabulary(["aa", "iy", "m", "s"])
EVERYTHING = AugmentConfig(
    speed=0.1,
    vtlp=0.1,
    gain_db=6,
    noise=0.5,
    babble=0.5,
    reverb=0.5,
    pauses=0.5,
    empty=0.1,
    clipping=0.3,
    telephone=0.3,
    lowpass=0.3,
    time_masks=2,
    frequency_masks=2,
)
BINS = (-1, *range(8)) * 3  # energy and eight filters, with Δ and ΔΔ


def augment(bins: Sequence[int] = BINS, **config: float) -> Augment:
    return Augment(AugmentConfig(**config), RATE, bins)  # type: ignore[arg-type]


def speech(samples: int = 3 * RATE, seed: int = 0) -> Tensor:
    """Noise whose loudness rises and falls five times a second."""
    time_s = torch.arange(samples) / RATE
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * noise * (1 + torch.sin(2 * torch.pi * 5 * time_s))


def changed(waveform: Tensor, seed: int = 1, **config: float) -> Tensor:
    return augment(**config).waveform(waveform, seed, lambda n: speech(RATE + n % 999, n))[0]


def batches(utterances: Sequence[Utterance], epoch: int = 1, **options: int) -> list[Batch]:
    of_all = Augment(EVERYTHING, RATE, BINS)
    settings = {"batch_size": 3, "seed": 5} | options
    result = Batches(utterances, VOCABULARY, RATE, augment=of_all, **settings)
    result.set_epoch(epoch)
    return list(result)


def by_id(found: list[Batch]) -> dict[str, tuple[int, bytes]]:
    """The augmentation's seed and the samples of every utterance."""
    return {
        id: (batch.seeds[n], batch.waveforms[n, : batch.waveform_lengths[n]].numpy().tobytes())
        for batch in found
        if batch.seeds is not None
        for n, id in enumerate(batch.ids)
    }


# ── chance ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [{"workers": 2}, {"batch_size": 1}, {"batch_size": 9}])
def test_workers_and_batch_mates_change_no_byte(
    tones: list[Utterance], options: dict[str, int]
) -> None:
    assert by_id(batches(tones)) == by_id(batches(tones, **options))


def test_threads_change_no_byte(tones: list[Utterance]) -> None:
    threads = torch.get_num_threads()
    result = []
    for number in (1, 2):
        torch.set_num_threads(number)
        result.append(by_id(batches(tones)))
    torch.set_num_threads(threads)
    assert result[0] == result[1]


def test_order_and_earlier_epochs_change_no_byte(tones: list[Utterance]) -> None:
    expected = by_id(batches(tones, epoch=3))
    loader = Batches(tones, VOCABULARY, RATE, 3, 5, augment=Augment(EVERYTHING, RATE, BINS))
    for epoch in (1, 2, 3):
        loader.set_epoch(epoch)
        result = by_id(list(loader))
    assert result == expected
    forward, backward = (
        [loader.speech[n].waveform for n in order] for order in (range(9), range(8, -1, -1))
    )
    assert all(torch.equal(a, b) for a, b in zip(forward, backward[::-1], strict=True))


def test_every_epoch_and_every_run_hears_something_else(tones: list[Utterance]) -> None:
    first = by_id(batches(tones, epoch=1))
    for other in (by_id(batches(tones, epoch=2)), by_id(batches(tones, epoch=1, seed=6))):
        assert all(first[id] != other[id] for id in first)


def test_the_seed_of_an_utterance_stays_as_it_was_published() -> None:
    assert seed_of(1, 2, "dr1-fvmh0/sx206") == 7841759621571378912
    assert len({seed_of(*key) for key in ((1, 23, "a"), (12, 3, "a"), (1, 2, "3 a"))}) == 3


def test_switching_one_kind_on_leaves_the_draws_of_the_others() -> None:
    """Noise behind speech in a room is what noise alone adds, but for its level."""
    dry, wet = speech(), changed(speech(), reverb=1)
    alone = changed(dry, noise=1, snr_min_db=10, snr_max_db=10) - dry
    both = changed(dry, noise=1, reverb=1, snr_min_db=10, snr_max_db=10) - wet
    assert torch.allclose(both / both.std(), alone / alone.std(), atol=1e-3)


def test_babble_never_has_the_utterance_itself_behind_it(tones: list[Utterance]) -> None:
    heard: set[tuple[int, float]] = set()

    class Spy(Augment):
        def waveform(
            self, waveform: Tensor, seed: int, others: Callable[[int], Tensor]
        ) -> tuple[Tensor, float]:
            result = [others(n) for n in range(50)]
            heard.update((len(other), float(other[400])) for other in result)
            assert not any(torch.equal(other, waveform) for other in result)
            return waveform, 1.0

    loader = Batches(tones, VOCABULARY, RATE, 3, 5, augment=Spy(AugmentConfig(), RATE, BINS))
    list(loader)
    assert len(heard) == 9
    (alone,) = batches(tones[:1])
    assert alone.waveforms.isfinite().all()


# ── waveforms ─────────────────────────────────────────────────────────────────────────────────


def test_nothing_switched_on_changes_nothing(tones: list[Utterance]) -> None:
    waveform, frames = speech(), torch.randn(2, 9, len(BINS))
    same, factor = augment().waveform(waveform, 1, lambda n: pytest.fail("read another"))
    assert torch.equal(same, waveform)
    assert factor == 1.0
    assert augment().mask(frames, torch.tensor([9, 4]), (1, 2)) is frames
    assert augment().warps((1, 2)) is None
    assert not AugmentConfig().needs_waveforms
    assert not AugmentConfig(time_masks=1, frequency_masks=1).needs_waveforms
    assert AugmentConfig(vtlp=0.1).needs_waveforms
    utterance = tones[0]
    kept = augment().example(
        utterance, waveform[: round(RATE * utterance.duration_s)], 1, lambda n: waveform
    )
    assert kept[0] == utterance
    assert torch.equal(kept[1], waveform[: round(RATE * utterance.duration_s)])


@pytest.mark.parametrize("kind", ["noise", "babble"])
def test_the_ratio_of_speech_to_noise_is_the_one_drawn(kind: str) -> None:
    clean = speech() + 0.05  # an offset is no speech
    for snr_db in (-5.0, 0.0, 20.0):
        noise = changed(clean, **{kind: 1.0, "snr_min_db": snr_db, "snr_max_db": snr_db}) - clean
        assert 10 * float((clean.var() / noise.var()).log10()) == pytest.approx(snr_db, abs=0.1)
    drawn = []
    for seed in range(100):
        short = speech(800, seed)
        noise = changed(short, seed, **{kind: 1.0, "snr_min_db": 5.0, "snr_max_db": 15.0}) - short
        drawn.append(10 * float((short.var() / noise.var()).log10()))
    assert 4.99 < min(drawn) < 6
    assert 14 < max(drawn) < 15.01
    assert np.mean(drawn) == pytest.approx(10, abs=1)


@pytest.mark.parametrize("kind", ["noise", "babble", "reverb", "clipping", "telephone"])
def test_a_share_is_the_share_of_utterances(kind: str) -> None:
    short = speech(400)
    hit = sum(not torch.equal(changed(short, seed, **{kind: 0.3}), short) for seed in range(400))
    assert hit / 400 == pytest.approx(0.3, abs=0.08)  # 3.5 standard deviations


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_spectrum_of_noise_has_the_slope_of_its_colour(exponent: float) -> None:
    noise = coloured_noise(np.random.default_rng(1), 1 << 19, RATE, exponent)
    power = np.square(np.abs(np.fft.rfft(noise)))
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    edges = np.geomspace(25, 7_900, 40)
    bands = [(hertz >= low) & (hertz < high) for low, high in pairwise(edges)]
    log_power = [np.log(power[band].mean()) for band in bands]
    log_hertz = [np.log(hertz[band]).mean() for band in bands]
    assert np.polyfit(log_hertz, log_power, 1)[0] == pytest.approx(-exponent, abs=0.05)
    assert power[hertz < 19].max() < 1e-6 * power[hertz >= 20].mean()


@pytest.mark.parametrize("rt60_s", [0.1, 0.5, 1.0])
def test_an_impulse_response_decays_as_asked(rt60_s: float) -> None:
    response = impulse_response(np.random.default_rng(1), rt60_s, 6.0, RATE)
    assert response[0] == 1
    echo = np.square(response[1:].astype(np.float64))
    assert -10 * np.log10(echo.sum()) == pytest.approx(6.0, abs=1e-3)
    remaining = 10 * np.log10(np.cumsum(echo[::-1])[::-1] / echo.sum())  # Schroeder (1965)
    fitted = (remaining < -5) & (remaining > -25)
    slope = np.polyfit(np.flatnonzero(fitted) / RATE, remaining[fitted], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=0.1)


def test_reverberation_moves_no_time_and_leaves_the_direct_sound() -> None:
    click = torch.zeros(RATE)
    click[5_000] = 0.5
    heard = changed(click, reverb=1)
    assert len(heard) == len(click)
    assert heard[:5_000].abs().max() < 1e-6
    assert heard[5_000] == pytest.approx(0.5, abs=1e-6)
    assert heard[5_001:].abs().max() > 1e-3


def test_convolution_is_the_sum_it_is_defined_as() -> None:
    rng = np.random.default_rng(3)
    for samples, taps in ((1, 5), (7, 3), (100, 64), (64, 65)):
        a, b = (rng.standard_normal(n).astype(np.float32) for n in (samples, taps))
        np.testing.assert_allclose(convolve(a, b), np.convolve(a, b)[:samples], atol=1e-5)


def test_the_voices_of_a_babble_are_equally_loud() -> None:
    time_s = np.arange(RATE) / RATE
    voices = [
        (level * np.sin(2 * np.pi * hertz * time_s)).astype(np.float32)
        for level, hertz in ((0.001, 500), (0.9, 1500))
    ]
    together = babble(np.random.default_rng(0), [*voices, np.zeros(9, np.float32)], RATE)
    spectrum = np.abs(np.fft.rfft(together))
    assert spectrum[500] == pytest.approx(spectrum[1500], rel=1e-3)


def test_gain_is_a_factor_between_its_limits_and_clips_nothing() -> None:
    waveform = speech(RATE) * 3
    heard = [changed(waveform, seed, gain_db=12) for seed in range(200)]
    decibels = [20 * float((louder.norm() / waveform.norm()).log10()) for louder in heard]
    for louder, gain_db in zip(heard, decibels, strict=True):
        assert torch.allclose(louder, waveform * 10 ** (gain_db / 20), rtol=1e-5)
    assert max(float(louder.max()) for louder in heard) > 4  # beyond full scale, yet not clipped
    assert -12 <= min(decibels) < -11
    assert 11 < max(decibels) <= 12
    assert np.mean(decibels) == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize("samples", [1, 2, 399, 16_001, 47_999])
def test_speed_moves_length_and_ends_together(samples: int) -> None:
    waveform = speech(samples)
    phones = ("aa", "s")[: min(2, samples)]
    limits = [round(samples * part / len(phones)) for part in range(len(phones) + 1)]
    segments = tuple(
        Segment(phone, start / RATE, end / RATE)
        for phone, (start, end) in zip(phones, pairwise(limits), strict=True)
    )
    utterance = Utterance("u", "u.wav", samples / RATE, "s", phones, segments)
    seen = set()
    for seed in range(20):
        faster, factor = augment(speed=0.1).waveform(waveform, seed, lambda n: waveform)
        seen.add(factor)
        assert len(faster) == -(-samples * 100 // round(100 * factor))
        example = Example(utterance, faster, len(faster), seed, factor)
        batch = SpeechDataset([utterance], VOCABULARY, RATE).collate([example])
        assert batch.target_ends is not None
        ends = batch.target_ends[0].tolist()
        assert ends == [round(end / factor) for end in limits[1:]]
        assert len(faster) - 1 <= ends[-1] <= len(faster)
    assert seen == {0.9, 1.0, 1.1}


def test_speed_moves_pitch_and_events() -> None:
    time_s = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 1_000 * time_s) * (time_s > 0.5)
    for seed in range(10):
        faster, factor = augment(speed=0.1).waveform(tone, seed, lambda n: tone)
        onset = int((faster.abs() > 0.5).nonzero()[0])
        assert onset == pytest.approx(0.5 * RATE / factor, abs=20)
        spectrum = torch.fft.rfft(faster).abs()
        assert int(spectrum.argmax()) * RATE / len(faster) == pytest.approx(1_000 * factor, abs=2)


@pytest.mark.parametrize("percent", [90, 97, 110])
def test_speed_is_torchaudios_resampling(percent: int) -> None:
    waveform = lowpass_biquad(speech(), RATE, 3_000)
    expected = resample(waveform, percent, 100, lowpass_filter_width=64)
    result = torch.from_numpy(accelerate(waveform.numpy(), percent))
    assert result.shape == expected.shape
    assert (result - expected)[1_000:-1_000].abs().max() < 5e-3 * expected.abs().max()


@pytest.mark.parametrize("samples", [1, 2, 159, 399, 400, 401])
def test_very_short_utterances_survive(samples: int) -> None:
    features = Features(FeaturesConfig(bins=8))
    for seed in range(10):
        every = Augment(dataclasses.replace(EVERYTHING, noise=1, babble=1, reverb=1), RATE, BINS)
        waveform, _ = every.waveform(speech(samples), seed, lambda n: speech(1 + n % 3, n))
        assert waveform.isfinite().all()
        frames, lengths = features(Batch.of([waveform]))
        masked = every.mask(frames, lengths, (seed,))
        assert masked.shape == frames.shape
        assert masked.isfinite().all()


def test_of_silence_comes_silence_and_of_silent_others_nothing() -> None:
    silence, every = torch.zeros(RATE), Augment(EVERYTHING, RATE, BINS)
    for seed in range(20):
        heard, factor = every.waveform(silence, seed, lambda n: speech())
        assert not heard.any()
        assert len(heard) == round(RATE / factor + 0.49)
    assert torch.equal(
        augment(babble=1).waveform(speech(), 1, lambda n: silence)[0], speech()
    )  # nothing to add


# ── frequencies and frames ────────────────────────────────────────────────────────────────────


def test_warps_lie_around_one_and_belong_to_utterances() -> None:
    warps = augment(vtlp=0.1).warps(tuple(range(500)))
    assert warps is not None
    assert 0.9 <= warps.min() < 0.905
    assert 1.095 < warps.max() <= 1.1
    assert float(warps.mean()) == pytest.approx(1, abs=0.01)
    again = augment(vtlp=0.1, speed=0.1, time_masks=3).warps((7, 3))
    assert again is not None
    assert torch.equal(again, warps[[7, 3]])


def masks_of(lengths: list[int], epoch: int = 0, **config: float) -> Tensor:
    """True where a value was masked, (N, T, F)."""
    frames = torch.ones(len(lengths), max(lengths), len(BINS))
    seeds = tuple(seed_of(0, epoch, str(n)) for n in range(len(lengths)))
    return augment(**config).mask(frames, torch.tensor(lengths), seeds) == 0


def test_time_masks_stay_within_their_utterance_and_its_share() -> None:
    lengths = [0, 1, 2, 5, 10, 40, 200, 300]
    widths = set()
    touched = torch.zeros(300, dtype=torch.bool)
    for epoch in range(200):
        masked = masks_of(lengths, epoch, time_masks=2, time_mask_frames=15, time_mask_share=0.3)
        frames = masked.any(dim=2)
        assert torch.equal(frames, masked.all(dim=2))  # whole frames
        assert not frames[~length_mask(torch.tensor(lengths), 300)].any()
        for row, length in zip(frames, lengths, strict=True):
            assert int(row.sum()) <= min(0.3 * length, 30)
            assert int(row.diff().sum()) <= 4  # edges of two stretches
        widths.add(int(frames[-1].sum()))
        touched |= frames[-1]
    assert {0, 30} <= widths
    assert touched.all()  # every place can be masked, the first and last too


def test_frequency_masks_are_the_same_filters_in_every_block() -> None:
    bins, touched = torch.tensor(BINS), set()
    for epoch in range(100):
        masked = masks_of([3, 50], epoch, frequency_masks=1, frequency_mask_bins=3)
        assert not masked[0, 3:].any()  # behind the end
        assert torch.equal(masked[0, :3], masked[0, :1].expand(3, -1))  # at all times
        for row in masked[:, 0]:
            static = row[: len(BINS) // 3]
            assert torch.equal(row, static.repeat(3))
            assert not row[bins == -1].any()  # the energy has no filter
            band = static[1:].nonzero().flatten().tolist()
            assert len(band) <= 3
            assert band == list(range(band[0], band[0] + len(band))) if band else True
            touched.update(band)
    assert touched == set(range(8))
    assert masks_of([9], frequency_masks=1, frequency_mask_bins=99).shape == (1, 9, 27)


def test_masks_do_not_depend_on_batch_mates() -> None:
    frames, lengths = torch.randn(4, 60, len(BINS)), torch.tensor([60, 31, 8, 45])
    both = augment(time_masks=2, frequency_masks=2)
    together = both.mask(frames, lengths, (1, 2, 3, 4))
    for n, length in enumerate(lengths.tolist()):
        alone = both.mask(frames[n : n + 1, :length], lengths[n : n + 1], (n + 1,))
        assert torch.equal(alone[0], together[n, :length])


@pytest.mark.parametrize(
    ("features", "augment_bins"),
    [
        (FeaturesConfig(bins=5, energy=True, deltas=1), (-1, 0, 1, 2, 3, 4) * 2),
        (FeaturesConfig(bins=4, energy=False, deltas=0), (0, 1, 2, 3)),
        (FeaturesConfig(kind="mfcc", bins=4, ceps=2, deltas=2), (-1,) * 6),
    ],
)
def test_a_run_knows_which_values_come_from_which_filter(
    features: FeaturesConfig, augment_bins: tuple[int, ...]
) -> None:
    run = RunConfig(corpus=TimitConfig(root="unused"), criterion=CTCConfig(), features=features)
    assert run.mel_bins == augment_bins
    assert len(run.mel_bins) == features.width


# ── pieces and pauses ─────────────────────────────────────────────────────────────────────────


def sentence(phones: int = 12, pause_every: int = 3) -> Utterance:
    """Phones of 0.2 s, and after every few of them a pause of 0.3 s."""
    segments, now = [], 0.25
    for n in range(phones):
        segments.append(Segment(("aa", "iy", "m", "s")[n % 4], now, now + 0.2))
        now += 0.2 if (n + 1) % pause_every else 0.5
    names = tuple(segment.phone for segment in segments)
    return Utterance("u", "u.wav", now + 0.25, "s", names, tuple(segments))


def sound_of(utterance: Utterance) -> Tensor:
    """A constant for each phone, its number; 0 in pauses."""
    samples = torch.zeros(round(utterance.duration_s * RATE))
    for n, one in enumerate(utterance.segments or (), start=1):
        samples[round(one.start_s * RATE) : round(one.end_s * RATE)] = n
    return samples


@pytest.mark.parametrize("seed", range(30))
def test_phones_and_their_times_are_those_of_the_sound_that_is_left(seed: int) -> None:
    utterance = sentence()
    changes = augment(cut=0.7, pauses=0.7, digital=1.0, cut_min_s=0.5, cut_max_s=2.0)
    result, sound, _ = changes.example(utterance, sound_of(utterance), seed, lambda n: speech())
    assert result.segments is not None
    assert result.phones == tuple(one.phone for one in result.segments)
    assert len(sound) == pytest.approx(result.duration_s * RATE, abs=3)
    numbers = [n for n in torch.unique_consecutive(sound).tolist() if n]
    expected = utterance.phones[int(numbers[0]) - 1 : int(numbers[-1])]
    assert result.phones == expected
    for number, one in zip(numbers, result.segments, strict=True):
        assert float(sound[round((one.start_s + one.end_s) / 2 * RATE)]) == number
    silent = round(RATE * (result.duration_s - sum(0.2 for _ in result.phones)))
    assert int((sound == 0).sum()) == pytest.approx(silent, abs=20)


def test_a_piece_has_the_length_asked_for_and_begins_and_ends_in_pauses() -> None:
    utterance = sentence()
    changes = augment(cut=1.0, cut_min_s=1.0, cut_max_s=2.5)
    layouts = {changes.layout(utterance, seed).parts for seed in range(60)}
    starts_and_ends = {0.0, 1.0, 1.9, 2.8, 3.7, utterance.duration_s}
    assert len(layouts) == 5
    for ((start, end),) in layouts:
        assert 1.0 <= end - start <= 2.5
        assert min(abs(start - edge) for edge in starts_and_ends) < 1e-6
        assert min(abs(end - edge) for edge in starts_and_ends) < 1e-6


def test_a_fragment_begins_and_ends_anywhere_with_the_phones_whose_middle_it_has() -> None:
    utterance = sentence()
    changes = augment(cut=1.0, cut_anywhere=1.0, cut_min_s=1.0, cut_max_s=2.5)
    starts = set()
    for seed in range(60):
        ((start, end),) = changes.layout(utterance, seed).parts
        assert 0 <= start <= end - 1.0 <= start + 1.5
        assert end <= utterance.duration_s
        starts.add(start)
        result, sound, _ = changes.example(utterance, sound_of(utterance), seed, lambda n: speech())
        assert result.segments is not None
        assert all(0 <= one.start_s < one.end_s <= result.duration_s for one in result.segments)
        for one in result.segments:
            middle = sound[round((one.start_s + one.end_s) / 2 * RATE)]
            assert utterance.phones[int(middle) - 1] == one.phone
        assert len(torch.unique(sound[sound > 0])) - len(result.phones) in (0, 1, 2)
    assert len(starts) == 60
    short = augment(cut=1.0, cut_anywhere=1.0, cut_min_s=5.0)
    assert short.layout(utterance, 1).parts == ((0.0, utterance.duration_s),)


def test_pauses_lie_before_within_and_behind() -> None:
    utterance = sentence()
    changes = augment(pauses=1.0, pause_max_s=2.0)
    layouts = [changes.layout(utterance, seed) for seed in range(60)]
    assert any(layout.pauses[0] for layout in layouts)
    assert any(layout.pauses[-1] for layout in layouts)
    assert any(len(layout.parts) > 1 for layout in layouts)
    assert all(0 <= pause <= 2 for layout in layouts for pause in layout.pauses)
    assert all(layout.parts[0][0] == 0 for layout in layouts)
    assert all(layout.parts[-1][1] == utterance.duration_s for layout in layouts)
    without_times = dataclasses.replace(utterance, segments=None)
    assert all(len(changes.layout(without_times, seed).parts) == 1 for seed in range(60))


def test_digital_silence_is_zero_whatever_else_is_done_and_a_room_is_not() -> None:
    utterance = sentence()
    waveform = speech(round(utterance.duration_s * RATE))
    for digital in (0.0, 1.0):
        changes = augment(pauses=1.0, digital=digital, noise=1.0, reverb=1.0, speed=0.1, gain_db=6)
        layout = changes.layout(utterance, 3)
        begin = layout.begins()[0] + utterance.duration_s if len(layout.parts) == 1 else 0.0
        _, sound, speed = changes.example(utterance, waveform, 3, lambda n: speech())
        zeros = sum(layout.pauses) * RATE / speed
        assert begin >= 0
        assert int((sound == 0).sum()) == pytest.approx(zeros if digital else 0, abs=50)


def test_an_empty_example_has_sound_and_no_phones() -> None:
    changes = augment(empty=1.0, digital=0.5)
    levels = []
    for seed in range(40):
        result, sound, _ = changes.example(sentence(), speech(), seed, lambda n: speech())
        assert result.phones == ()
        assert result.segments == ()
        assert 1.0 <= len(sound) / RATE <= 8.0
        levels.append(float(sound.std()))
    assert 5 < levels.count(0.0) < 35
    assert max(levels) < 10 ** (-14 / 20)


def test_an_utterance_without_times_is_not_cut_in_silence() -> None:
    without_times = dataclasses.replace(sentence(), segments=None)
    with pytest.raises(DataError, match=r"^u: .*augment\.cut=0\.5.*asr align --output"):
        augment(cut=0.5).layout(without_times, 1)


def test_batches_are_of_like_lengths_as_they_come_after_cutting(tones: list[Utterance]) -> None:
    changes = Augment(AugmentConfig(cut=1.0, pauses=1.0, pause_max_s=30.0), RATE, BINS)
    tones = [dataclasses.replace(one, segments=()) for one in tones]
    loader = Batches(tones, VOCABULARY, RATE, 3, 5, augment=changes)
    loader.set_epoch(2)
    lengths = [batch.waveform_lengths / RATE for batch in loader]
    announced = sorted(loader.speech.durations())
    assert torch.cat(lengths).sort().values.tolist() == pytest.approx(announced, abs=0.01)
    pools = sorted((sorted(each.tolist()) for each in lengths), key=lambda each: each[0])
    assert all(a[-1] <= b[0] for a, b in pairwise(pools))


# ── what microphones and lines do ─────────────────────────────────────────────────────────────


def test_a_clipped_waveform_is_flat_at_a_share_of_its_peak() -> None:
    waveform = speech()
    result = changed(waveform, clipping=1.0)
    limit = float(result.abs().max())
    assert 0.15 <= limit / float(waveform.abs().max()) <= 0.8
    assert torch.equal(result, waveform.clamp(-limit, limit))


@pytest.mark.parametrize(
    ("kind", "kept", "gone"),
    [("telephone", (400, 3_300), (5_000, 8_000)), ("lowpass", (50, 3_400), (8_000 - 100, 8_000))],
)
def test_frequencies_outside_the_band_are_gone(
    kind: str, kept: tuple[int, int], gone: tuple[int, int]
) -> None:
    waveform = torch.randn(4 * RATE, generator=torch.Generator().manual_seed(1))
    result = changed(waveform, **{kind: 1.0})
    hertz = np.fft.rfftfreq(len(waveform), 1 / RATE)

    def level(samples: Tensor, band: tuple[int, int]) -> float:
        inside = (hertz >= band[0]) & (hertz < band[1])
        return float(np.square(np.abs(np.fft.rfft(samples.numpy())))[inside].mean())

    assert level(result, kept) / level(waveform, kept) == pytest.approx(1.0, abs=0.05)
    assert level(result, gone) / level(waveform, gone) < 0.02


def test_a_telephone_has_256_levels_spaced_as_mu_law_is() -> None:
    result = changed(speech(), telephone=1.0)
    levels = result.unique()
    assert 50 < len(levels) <= 256
    assert float(levels.diff().max() / levels.diff().min()) > 20


# ── configuration and training ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"speed": -0.1}, r"augment\.speed is -0\.1, expected 0…0\.5"),
        ({"speed": 0.123}, r"augment\.speed is 0\.123, expected whole hundredths"),
        ({"vtlp": 0.6}, r"augment\.vtlp is 0\.6, expected 0…0\.5"),
        ({"noise": 1.5}, r"augment\.noise is 1\.5, expected 0…1"),
        ({"gain_db": -1}, r"augment\.gain_db is -1, expected at least 0"),
        ({"voices": 0}, r"augment\.voices is 0, expected at least 1"),
        ({"snr_min_db": 30}, r"augment\.snr_min_db is 30, expected at most 25.*snr_max_db"),
        ({"rt60_min_s": 0}, r"augment\.rt60_min_s is 0, expected at least 0\.01"),
        ({"cut_min_s": 0}, r"augment\.cut_min_s is 0, expected more than 0"),
        ({"cut_min_s": 7}, r"augment\.cut_min_s is 7, expected at most 6.*cut_max_s"),
        ({"pauses": 2}, r"augment\.pauses is 2, expected 0…1"),
        ({"time_mask_share": 2}, r"augment\.time_mask_share is 2, expected 0…1"),
    ],
)
def test_an_impossible_value_is_named(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AugmentConfig(**wrong)  # type: ignore[arg-type]


def test_cepstra_have_no_bands_to_mask() -> None:
    with pytest.raises(ValueError, match=r"augment\.frequency_masks is 1, but features\.kind=mfcc"):
        RunConfig(
            corpus=TimitConfig(root="unused"),
            criterion=CTCConfig(),
            features=FeaturesConfig(kind="mfcc", bins=23),
            augment=AugmentConfig(frequency_masks=1),
        )


def test_a_continued_run_ends_with_the_weights_of_an_uninterrupted_one(
    tones: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str, workers: int) -> RunConfig:
        for split, members in (("train", tones[:4]), ("dev", tones[4:6])):
            write_jsonl(tmp_path / name / "manifests" / f"{split}.jsonl", members)
        VOCABULARY.save(tmp_path / name / "vocabulary.txt")
        return RunConfig(
            corpus=TimitConfig(root="unused"),
            criterion=CTCConfig(),
            features=FeaturesConfig(bins=20, deltas=1),
            augment=EVERYTHING,
            encoder=EncoderConfig(hidden=8, layers=1),
            training=TrainingConfig(epochs=2, batch_size=2, workers=workers, average=0.9),
            run_dir=str(tmp_path / name),
            resume="auto",
            device="cpu",
        )

    def weights(name: str) -> dict[str, Tensor]:
        result = checkpoint.load(tmp_path / name / "checkpoint-last.safetensors")
        return result.recognizer.state_dict()

    train.run(config("whole", workers=2))
    keep = RunDirectory.keep

    def interrupted(*args):  # type: ignore[no-untyped-def]
        keep(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run(config("halves", workers=0))
    monkeypatch.setattr(RunDirectory, "keep", keep)
    train.run(config("halves", workers=0))
    whole, halves = weights("whole"), weights("halves")
    assert all(torch.equal(halves[name], tensor) for name, tensor in whole.items())
