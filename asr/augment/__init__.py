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

from asr.augment import sounds
from asr.augment.layout import Layout, breaks, fragment, pieces
from asr.augment.sounds import Waveform
from asr.batch import length_mask
from asr.errors import DataError
from asr.knobs import Knobs, Limits, knob
from asr.records import Utterance

EMPTY_S = (1.0, 8.0)  # duration of an example without speech
EMPTY_LEVEL_DB = (-80.0, -15.0)  # of an example without speech, relative to full scale
ROOM_SNR_DB = (30.0, 60.0)  # of the noise in pauses that are not digital silence
LOWPASS_HZ = (3500.0, 7500.0)  # where MP3 encoders cut, from 24 kbit/s on
CLIPPED_AT = (0.15, 0.8)  # of the largest sample

SHARE = "share of utterances with"
FRACTION = Limits(at_least=0, at_most=1)
HALF = Limits(at_least=0, at_most=0.5)


@dataclass(frozen=True)
class AugmentConfig(Knobs, group="augment"):
    """How much training utterances are changed; the defaults change nothing."""

    speed: float = knob(0.0, "play at 1 - speed, 1 or 1 + speed times the pace", **HALF)
    vtlp: float = knob(
        0.0, "scale frequencies by a factor from 1 ± vtlp: other lengths of the vocal tract", **HALF
    )
    gain_db: float = knob(0.0, "change the level by up to ± this many dB", at_least=0)
    noise: float = knob(0.0, f"{SHARE} coloured noise, from white to brown", **FRACTION)
    babble: float = knob(0.0, f"{SHARE} other utterances in the background", **FRACTION)
    voices: int = knob(4, "utterances of a babble; each is another file to decode", at_least=1)
    snr_min_db: float = knob(5.0, "lowest SNR of noise and babble, over the whole utterance")
    snr_max_db: float = knob(25.0, "highest SNR of noise and babble")
    reverb: float = knob(0.0, f"{SHARE} the echo of a room", **FRACTION)
    rt60_min_s: float = knob(0.1, "shortest time in which an echo falls by 60 dB", at_least=0.01)
    rt60_max_s: float = knob(0.5, "longest time in which an echo falls by 60 dB")
    drr_min_db: float = knob(0.0, "lowest ratio of direct sound to its whole echo")
    drr_max_db: float = knob(12.0, "highest ratio of direct sound to its whole echo")
    cut: float = knob(0.0, f"{SHARE} only a piece between two pauses", **FRACTION)
    cut_anywhere: float = knob(
        0.0, "share of these pieces with edges anywhere, also in a phone", **FRACTION
    )
    cut_min_s: float = knob(1.0, "shortest piece", more_than=0)
    cut_max_s: float = knob(6.0, "longest piece")
    pauses: float = knob(0.0, f"{SHARE} silence before, within or after", **FRACTION)
    pause_max_s: float = knob(4.0, "longest of up to three silences", more_than=0)
    digital: float = knob(
        0.4, "share of these silences that are exactly 0; others have room noise", **FRACTION
    )
    empty: float = knob(0.0, "share of utterances replaced by noise without phones", **FRACTION)
    clipping: float = knob(0.0, f"{SHARE} the loudest samples cut off", **FRACTION)
    telephone: float = knob(0.0, f"{SHARE} 300 to 3400 Hz in 8-bit µ-law", **FRACTION)
    lowpass: float = knob(0.0, f"{SHARE} the highest frequencies cut off, as in an MP3", **FRACTION)
    time_masks: int = knob(0, "stretches of frames set to the training mean", at_least=0)
    time_mask_frames: int = knob(20, "longest time mask", at_least=1)
    time_mask_share: float = knob(0.2, "most frames in all time masks together", **FRACTION)
    frequency_masks: int = knob(0, "bands of mel filters set to the training mean", at_least=0)
    frequency_mask_bins: int = knob(8, "widest frequency mask", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(100 * self.speed - round(100 * self.speed)) > 1e-6:
            self.refuse("speed", "expected whole hundredths")
        for quantity, unit in (("snr", "db"), ("rt60", "s"), ("drr", "db"), ("cut", "s")):
            low, high = (f"{quantity}_{end}_{unit}" for end in ("min", "max"))
            if getattr(self, low) > getattr(self, high):
                self.refuse(low, f"expected at most {getattr(self, high)} (augment.{high})")

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
                f"augment.cut={config.cut} needs; add them with `asr align --output`, or set "
                f"augment.cut=0"
            )
        if draw := _chosen("cut", config.cut, seed):
            if place := _chosen("anywhere", config.cut_anywhere, seed):
                parts = fragment(utterance, config.cut_min_s, config.cut_max_s, place)
            else:
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
            room = self._noise(draw, len(samples))
            if layout.parts:
                samples = sounds.add_at(draw.uniform(*ROOM_SNR_DB), samples, room)
            else:
                level = sounds.amplitude(draw.uniform(*EMPTY_LEVEL_DB))
                samples = room * (level / float(room.std()))
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
        samples = sounds.accelerate(waveform.numpy(), percent)
        if draw := _chosen("reverb", config.reverb, seed):
            rt60_s = draw.uniform(config.rt60_min_s, config.rt60_max_s)
            drr_db = draw.uniform(config.drr_min_db, config.drr_max_db)
            room = sounds.impulse_response(draw, rt60_s, drr_db, self.sample_rate)
            samples = sounds.convolve(samples, room)
        if draw := _chosen("noise", config.noise, seed):
            samples = self._add(samples, self._noise(draw, len(samples)), draw)
        if draw := _chosen("babble", config.babble, seed):
            voices = [others(int(draw.integers(1 << 31))).numpy() for _ in range(config.voices)]
            samples = self._add(samples, sounds.babble(draw, voices, len(samples)), draw)
        if config.gain_db:
            gain_db = _draw("gain", seed).uniform(-config.gain_db, config.gain_db)
            samples = samples * sounds.amplitude(gain_db)
        if draw := _chosen("clipping", config.clipping, seed):
            limit = np.float32(draw.uniform(*CLIPPED_AT) * np.abs(samples).max(initial=0.0))
            samples = samples.clip(-limit, limit)
        if draw := _chosen("lowpass", config.lowpass, seed):
            samples = sounds.band_pass(samples, 0.0, draw.uniform(*LOWPASS_HZ), self.sample_rate)
        if draw := _chosen("telephone", config.telephone, seed):
            samples = sounds.telephone(samples, self.sample_rate)
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
        snr_db = draw.uniform(self.config.snr_min_db, self.config.snr_max_db)
        return sounds.add_at(snr_db, speech, noise)

    def _noise(self, draw: np.random.Generator, samples: int) -> Waveform:
        return sounds.coloured_noise(draw, samples, self.sample_rate, draw.uniform(0.0, 2.0))


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
