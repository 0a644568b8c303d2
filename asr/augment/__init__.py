"""Changed copies of the training utterances, drawn from (seed, epoch, utterance) alone.

Every kind of change draws from a random stream of its own, so that switching one on leaves the
draws of the others as they were. `layout` cuts utterances and adds pauses, `sounds` changes
waveforms.

Not here: reading files (`dataset`), and the warped filterbanks of VTLP (`features`). Only clipping
and telephones have a full scale: elsewhere samples may go beyond it, because features have no
ceiling and floats do not wrap.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from asr.augment.layout import Layout, breaks, pieces
from asr.augment.sounds import (
    Waveform,
    accelerate,
    add_at,
    amplitude,
    babble,
    band_pass,
    coloured_noise,
    convolve,
    impulse_response,
    telephone,
)
from asr.batch import length_mask
from asr.errors import DataError
from asr.records import Utterance

SHORTEST_RT60_S = 0.01
EMPTY_S = (1.0, 8.0)  # duration of an example without speech
EMPTY_LEVEL_DB = (-80.0, -15.0)  # of an example without speech, relative to full scale
ROOM_SNR_DB = (30.0, 60.0)  # of the noise in pauses that are not digital silence
LOWPASS_HZ = (3500.0, 7500.0)  # where MP3 encoders cut, from 24 kbit/s on
CLIPPED_AT = (0.15, 0.8)  # of the largest sample


@dataclass(frozen=True)
class AugmentConfig:
    """How much training utterances are changed; the defaults change nothing."""

    speed: float = 0.0  # played at 1 - speed, 1 or 1 + speed times the pace; pitch moves too
    vtlp: float = 0.0  # frequencies times a factor from 1 ± vtlp: vocal tracts of other lengths
    gain_db: float = 0.0  # level changed by up to ± so many dB
    noise: float = 0.0  # share of utterances with coloured noise, from white to brown
    babble: float = 0.0  # share of utterances with other utterances behind them
    voices: int = 4  # utterances that make a babble; each is another file to decode
    snr_min_db: float = 5.0  # of noise and of babble, over the whole utterance
    snr_max_db: float = 25.0
    reverb: float = 0.0  # share of utterances spoken in a room
    rt60_min_s: float = 0.1  # until the room's echo has fallen by 60 dB
    rt60_max_s: float = 0.5
    drr_min_db: float = 0.0  # direct sound over all of its echo
    drr_max_db: float = 12.0
    cut: float = 0.0  # share of utterances of which only a piece between two pauses is taken
    cut_min_s: float = 1.0
    cut_max_s: float = 6.0
    pauses: float = 0.0  # share of utterances with silence before, within or after them
    pause_max_s: float = 4.0  # each of up to three
    digital: float = 0.4  # share of these silences that are exactly 0; others have a room's noise
    empty: float = 0.0  # share of utterances in whose place comes noise with no phones
    clipping: float = 0.0  # share of utterances whose loudest samples are cut off
    telephone: float = 0.0  # share of utterances of 300 to 3400 Hz in 8-bit µ-law
    lowpass: float = 0.0  # share of utterances without the highest frequencies, as in an MP3
    time_masks: int = 0  # stretches of frames set to the training mean
    time_mask_frames: int = 20  # at most, each
    time_mask_share: float = 0.2  # of an utterance's frames at most, all masks together
    frequency_masks: int = 0  # bands of mel filters set to the training mean
    frequency_mask_bins: int = 8  # at most, each

    def __post_init__(self) -> None:
        for key in ("speed", "vtlp"):
            if not 0 <= getattr(self, key) <= 0.5:
                raise ValueError(f"augment.{key} is {getattr(self, key)}, expected 0…0.5")
        if abs(100 * self.speed - round(100 * self.speed)) > 1e-6:
            raise ValueError(f"augment.speed is {self.speed}, expected whole hundredths")
        shares = ("noise", "babble", "reverb", "time_mask_share", "cut", "pauses", "digital")
        for key in (*shares, "empty", "clipping", "telephone", "lowpass"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"augment.{key} is {getattr(self, key)}, expected 0…1")
        for key in ("gain_db", "time_masks", "frequency_masks"):
            if getattr(self, key) < 0:
                raise ValueError(f"augment.{key} is {getattr(self, key)}, expected at least 0")
        for key in ("voices", "time_mask_frames", "frequency_mask_bins"):
            if getattr(self, key) < 1:
                raise ValueError(f"augment.{key} is {getattr(self, key)}, expected at least 1")
        for key in ("cut_min_s", "pause_max_s"):
            if not getattr(self, key) > 0:
                raise ValueError(f"augment.{key} is {getattr(self, key)}, expected more than 0")
        for quantity, unit in (("snr", "db"), ("rt60", "s"), ("drr", "db"), ("cut", "s")):
            low, high = (f"{quantity}_{end}_{unit}" for end in ("min", "max"))
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"augment.{low} is {getattr(self, low)}, expected at most "
                    f"{getattr(self, high)} (augment.{high})"
                )
        if self.rt60_min_s < SHORTEST_RT60_S:
            raise ValueError(
                f"augment.rt60_min_s is {self.rt60_min_s}, expected at least {SHORTEST_RT60_S}"
            )

    @property
    def needs_waveforms(self) -> bool:
        """Whether features must be computed again in every epoch; not for masks and paces."""
        kinds = (self.vtlp, self.gain_db, self.noise, self.babble, self.reverb, self.clipping)
        return self.moves or any(kind > 0 for kind in (*kinds, self.telephone, self.lowpass))

    @property
    def moves(self) -> bool:
        """Whether an utterance may get another duration, besides its pace."""
        return any(share > 0 for share in (self.cut, self.pauses, self.empty))


class Augment:
    """Applies an `AugmentConfig`: every change is a function of an utterance and its seed.

    `mel_bins` F has the mel filter of each value of a frame, -1 for none.
    """

    def __init__(self, config: AugmentConfig, sample_rate: int, mel_bins: Sequence[int]) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.mel_bins = torch.tensor(mel_bins)

    def pace(self, seed: int) -> int:
        """The pace at which an utterance is played, in percent: one of three."""
        step = round(100 * self.config.speed)
        return 100 + step * int(_draw("speed", seed).integers(-1, 2)) if step else 100

    def layout(self, utterance: Utterance, seed: int) -> Layout:
        """The parts of the utterance that are played, with the pauses.

        Raises `DataError` where augment.cut is set and the utterance has no times of its phones.
        """
        config = self.config
        if draw := _chosen("empty", config.empty, seed):
            return Layout((), (draw.uniform(*EMPTY_S),), draw.random() < config.digital)
        start, end = 0.0, utterance.duration_s
        if config.cut and utterance.segments is None:
            raise DataError(
                f"{utterance.id}: the manifest has no times of its phones, which "
                f"augment.cut={config.cut} needs; add them with `asr align --manifest`, or set "
                f"augment.cut=0"
            )
        if draw := _chosen("cut", config.cut, seed):
            parts = pieces(utterance, config.cut_min_s, config.cut_max_s)
            if parts:
                start, end = parts[draw.integers(len(parts))]
        if draw := _chosen("pauses", config.pauses, seed):
            places = [start, *(time for time in breaks(utterance) if start < time < end), end]
            count = min(len(places), int(draw.integers(1, 4)))
            chosen = draw.choice(len(places), count, replace=False)
            lengths = {places[n]: draw.uniform(0.0, config.pause_max_s) for n in chosen}
            edges = sorted({start, *lengths, end})
            pauses = tuple(lengths.get(edge, 0.0) for edge in edges)
            return Layout(tuple(pairwise(edges)), pauses, draw.random() < config.digital)
        return Layout(((start, end),), (0.0, 0.0))

    def example(
        self, utterance: Utterance, waveform: Tensor, seed: int, others: Callable[[int], Tensor]
    ) -> tuple[Utterance, Tensor, float]:
        """A changed utterance, its waveform (S',), and the factor by which speech got faster.

        `layout` comes first, then `waveform`. Times in the utterance are before the change of pace.
        """
        layout = self.layout(utterance, seed)
        samples = layout.waveform(waveform.numpy(), self.sample_rate)
        if any(layout.pauses) and not layout.digital:
            draw = _draw("room", seed)
            room = coloured_noise(draw, len(samples), self.sample_rate, draw.uniform(0.0, 2.0))
            if layout.parts:
                samples = add_at(draw.uniform(*ROOM_SNR_DB), samples, room)
            else:
                samples = room * (amplitude(draw.uniform(*EMPTY_LEVEL_DB)) / float(room.std()))
        changed, speed = self.waveform(torch.from_numpy(samples), seed, others)
        if layout.digital:
            silent = layout.silence(changed.numpy(), self.sample_rate / speed)
            changed = torch.from_numpy(silent)
        return layout.utterance(utterance), changed, speed

    def waveform(
        self, waveform: Tensor, seed: int, others: Callable[[int], Tensor]
    ) -> tuple[Tensor, float]:
        """(S,) → (S',) and the factor by which speech got faster, with S' = ⌈S / factor⌉.

        In the order of a recording: the speaker, the room, the noise, the microphone's gain and
        clipping, the channel. `others(n)` is the waveform of another training utterance (babble).
        """
        config = self.config
        percent = self.pace(seed)
        samples = accelerate(waveform.numpy(), percent)
        if draw := _chosen("reverb", config.reverb, seed):
            rt60_s = draw.uniform(config.rt60_min_s, config.rt60_max_s)
            drr_db = draw.uniform(config.drr_min_db, config.drr_max_db)
            samples = convolve(samples, impulse_response(draw, rt60_s, drr_db, self.sample_rate))
        if draw := _chosen("noise", config.noise, seed):
            exponent = draw.uniform(0.0, 2.0)
            noise = coloured_noise(draw, len(samples), self.sample_rate, exponent)
            samples = self._add(samples, noise, draw)
        if draw := _chosen("babble", config.babble, seed):
            voices = [others(int(draw.integers(1 << 31))).numpy() for _ in range(config.voices)]
            samples = self._add(samples, babble(draw, voices, len(samples)), draw)
        if config.gain_db:
            gain_db = _draw("gain", seed).uniform(-config.gain_db, config.gain_db)
            samples = samples * amplitude(gain_db)
        if draw := _chosen("clipping", config.clipping, seed):
            limit = np.float32(draw.uniform(*CLIPPED_AT) * np.abs(samples).max(initial=0.0))
            samples = samples.clip(-limit, limit)
        if draw := _chosen("lowpass", config.lowpass, seed):
            samples = band_pass(samples, 0.0, draw.uniform(*LOWPASS_HZ), self.sample_rate)
        if draw := _chosen("telephone", config.telephone, seed):
            samples = telephone(samples, self.sample_rate)
        return torch.from_numpy(samples), percent / 100

    def warps(self, seeds: tuple[int, ...]) -> Tensor | None:
        """Factors of vocal tract length perturbation, (N,) (Jaitly & Hinton 2013); None without."""
        vtlp = self.config.vtlp
        if not vtlp:
            return None
        return torch.tensor([_draw("vtlp", seed).uniform(1 - vtlp, 1 + vtlp) for seed in seeds])

    def mask(self, frames: Tensor, lengths: Tensor, seeds: tuple[int, ...]) -> Tensor:
        """Set stretches of time and bands of frequency to 0, (N, T, F), (N,) → (N, T, F).

        SpecAugment (Park et al. 2019) without time warping, on normalised frames, where 0 is the
        training mean. A band is the same in static values, Δ and ΔΔ.
        """
        config = self.config
        if not (config.time_masks or config.frequency_masks):
            return frames
        count, size, width = frames.shape
        stretches, bands = (torch.zeros(count, n, dtype=torch.bool) for n in (size, width))
        for n, (length, seed) in enumerate(zip(lengths.tolist(), seeds, strict=True)):
            if config.time_masks:
                share = int(config.time_mask_share * length) // config.time_masks
                widest = min(config.time_mask_frames, share)
                for first, end in _spans(_draw("time", seed), config.time_masks, widest, length):
                    stretches[n, first:end] = True
            if config.frequency_masks:
                bins, widest = int(self.mel_bins.max()) + 1, config.frequency_mask_bins
                draw = _draw("frequency", seed)
                for first, end in _spans(draw, config.frequency_masks, widest, bins):
                    bands[n] |= (self.mel_bins >= first) & (self.mel_bins < end)
        stretches, bands = stretches.to(frames.device), bands.to(frames.device)
        real = length_mask(lengths, size).unsqueeze(2)
        return frames.masked_fill((stretches.unsqueeze(2) | bands.unsqueeze(1)) & real, 0.0)

    def _add(self, speech: Waveform, noise: Waveform, draw: np.random.Generator) -> Waveform:
        return add_at(draw.uniform(self.config.snr_min_db, self.config.snr_max_db), speech, noise)


def seed_of(seed: int, epoch: int, utterance_id: str) -> int:
    """The seed of one utterance in one epoch, whatever the worker and the other utterances."""
    digest = hashlib.sha256(f"{seed} {epoch} {utterance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _draw(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, *kind.encode()))


def _chosen(kind: str, share: float, seed: int) -> np.random.Generator | None:
    """Random numbers for a kind of change, or None for the utterances that are not changed."""
    if not share:
        return None
    draw = _draw(kind, seed)
    return draw if draw.random() < share else None


def _spans(
    draw: np.random.Generator, count: int, widest: int, size: int
) -> Iterator[tuple[int, int]]:
    """Stretches [first, end) of 0…size, width uniform in 0…widest, place uniform."""
    for _ in range(count):
        width = int(draw.integers(min(widest, size), endpoint=True))
        first = int(draw.integers(size - width, endpoint=True))
        yield first, first + width
