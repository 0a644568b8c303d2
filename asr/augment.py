"""Changed copies of the training utterances, drawn from (seed, epoch, utterance) alone.

Every kind of change has a stream of chance of its own, so that switching one on leaves the draws of
the others as they were. Waveforms are changed in numpy, whose results do not depend on how many
threads a worker has.

Not here: reading files (`dataset`), and the warped filterbanks of VTLP (`features`). Only clipping
and telephones know full scale: elsewhere samples may go beyond it, where features have no ceiling
and floats do not wrap.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from asr.batch import length_mask
from asr.errors import DataError
from asr.records import Segment, Utterance

Waveform = npt.NDArray[np.float32]

LOWEST_HZ = 20.0  # of coloured noise: below, where features see nothing, brown noise has its power
SHORTEST_RT60_S = 0.01
PAUSE_S = 0.1  # the least time without a phone that is a pause, where an utterance may be cut
SHORTEST_PHONE_S = 0.05  # on average in a piece: fewer frames would be too few for CTC
EMPTY_S = (1.0, 8.0)  # of an example without speech
ROOM_SNR_DB = (30.0, 60.0)  # of the room's noise in pauses that are not digital silence
EMPTY_LEVEL_DB = (-80.0, -15.0)  # of an example without speech, relative to full scale
TELEPHONE_HZ = (300.0, 3400.0)  # ITU-T G.712, with the µ-law of G.711
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
        """Whether features must be computed anew in every epoch: masks and paces do without."""
        kinds = (self.vtlp, self.gain_db, self.noise, self.babble, self.reverb, self.clipping)
        return self.moves or any(kind > 0 for kind in (*kinds, self.telephone, self.lowpass))

    @property
    def moves(self) -> bool:
        """Whether an utterance may become shorter or longer, besides its pace."""
        return any(share > 0 for share in (self.cut, self.pauses, self.empty))


@dataclass(frozen=True)
class Layout:
    """Which parts of a recording are played, and the silence before, between and after them.

    Without parts it is silence alone, and has no phones.
    """

    parts: tuple[tuple[float, float], ...]  # start and end in seconds of the recording, in order
    pauses: tuple[float, ...]  # seconds, one more than parts
    digital: bool = False  # whether the pauses are exactly 0

    @property
    def duration_s(self) -> float:
        return sum(self.pauses) + sum(end - start for start, end in self.parts)

    def begins(self) -> list[float]:
        """Where each part begins, in seconds."""
        begins, now = [], 0.0
        for (start, end), pause in zip(self.parts, self.pauses, strict=False):
            begins.append(now + pause)
            now = begins[-1] + end - start
        return begins

    def waveform(self, samples: Waveform, sample_rate: int) -> Waveform:
        """(S,) → (S',): the parts, and zeros in the pauses."""
        pieces = [np.zeros(round(self.pauses[0] * sample_rate), np.float32)]
        for (start, end), pause in zip(self.parts, self.pauses[1:], strict=True):
            pieces.append(samples[round(start * sample_rate) : round(end * sample_rate)])
            pieces.append(np.zeros(round(pause * sample_rate), np.float32))
        return np.concatenate(pieces)

    def silence(self, samples: Waveform, sample_rate: float) -> Waveform:
        """Zeros in the pauses of what has become of `waveform`, (S,), at another pace too."""
        silent, now = samples.copy(), 0.0
        for begin, (start, end) in zip(self.begins(), self.parts, strict=True):
            silent[round(now * sample_rate) : round(begin * sample_rate)] = 0.0
            now = begin + end - start
        silent[round(now * sample_rate) :] = 0.0
        return silent

    def utterance(self, utterance: Utterance) -> Utterance:
        """The utterance with the phones of the parts, at their new times."""
        if utterance.segments is None:
            phones = utterance.phones if self.parts else ()
            return replace(utterance, phones=phones, duration_s=self.duration_s)
        moved = tuple(
            Segment(one.phone, one.start_s - start + begin, one.end_s - start + begin)
            for begin, (start, end) in zip(self.begins(), self.parts, strict=True)
            for one in utterance.segments
            if start <= (one.start_s + one.end_s) / 2 < end
        )
        phones = tuple(one.phone for one in moved)
        return replace(utterance, phones=phones, segments=moved, duration_s=self.duration_s)


class Augment:
    """Applies an `AugmentConfig`: every change is a function of an utterance and its seed.

    `mel_bins` F says for each value of a frame which mel filter it comes from, -1 for none.
    """

    def __init__(self, config: AugmentConfig, sample_rate: int, mel_bins: Sequence[int]) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.mel_bins = torch.tensor(mel_bins)

    def pace(self, seed: int) -> int:
        """Percent of its pace at which an utterance is played: one of three."""
        step = round(100 * self.config.speed)
        return 100 + step * int(_draw("speed", seed).integers(-1, 2)) if step else 100

    def layout(self, utterance: Utterance, seed: int) -> Layout:
        """Which part of the utterance is played, with which pauses.

        Raises `DataError` where an utterance is to be cut and the times of its phones are unknown.
        """
        config = self.config
        if draw := _chosen("empty", config.empty, seed):
            return Layout((), (draw.uniform(*EMPTY_S),), draw.random() < config.digital)
        start, end = 0.0, utterance.duration_s
        if config.cut and utterance.segments is None:
            raise DataError(
                f"{utterance.id}: the manifest has no times of its phones, between which "
                f"augment.cut={config.cut} could cut; add them with `asr align --manifest`, or "
                f"set augment.cut=0"
            )
        breaks = _breaks(utterance)
        if draw := _chosen("cut", config.cut, seed):
            pieces = [
                piece
                for piece in combinations((start, *breaks, end), 2)
                if config.cut_min_s <= piece[1] - piece[0] <= config.cut_max_s
                and _phones_in(utterance, piece) * SHORTEST_PHONE_S < piece[1] - piece[0]
            ]
            if pieces:
                start, end = pieces[draw.integers(len(pieces))]
        if draw := _chosen("pauses", config.pauses, seed):
            places = [start, *(time for time in breaks if start < time < end), end]
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
        """As `waveform`, of a piece of the utterance with pauses, and the phones that are left.

        Times in the utterance are those before the change of pace.
        """
        layout = self.layout(utterance, seed)
        samples = layout.waveform(waveform.numpy(), self.sample_rate)
        if any(layout.pauses) and not layout.digital:
            draw = _draw("room", seed)
            room = coloured_noise(draw, len(samples), self.sample_rate, draw.uniform(0.0, 2.0))
            if layout.parts:
                samples = add_at(draw.uniform(*ROOM_SNR_DB), samples, room)
            else:
                samples = room * (_amplitude(draw.uniform(*EMPTY_LEVEL_DB)) / float(room.std()))
        changed, speed = self.waveform(torch.from_numpy(samples), seed, others)
        if layout.digital:
            silent = layout.silence(changed.numpy(), self.sample_rate / speed)
            changed = torch.from_numpy(silent)
        return layout.utterance(utterance), changed, speed

    def waveform(
        self, waveform: Tensor, seed: int, others: Callable[[int], Tensor]
    ) -> tuple[Tensor, float]:
        """(S,) → (S',) and the factor by which speech got faster, with S' = ⌈S / factor⌉.

        In the order of the world: the speaker, the room, the noise, the microphone and its gain,
        what is cut off and kept of the sound.
        `others(n)` is the waveform of some other training utterance, for babble.
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
            samples = samples * _amplitude(gain_db)
        if draw := _chosen("clipping", config.clipping, seed):
            limit = np.float32(draw.uniform(*CLIPPED_AT) * np.abs(samples).max(initial=0.0))
            samples = samples.clip(-limit, limit)
        if draw := _chosen("lowpass", config.lowpass, seed):
            samples = band_pass(samples, 0.0, draw.uniform(*LOWPASS_HZ), self.sample_rate)
        if draw := _chosen("telephone", config.telephone, seed):
            samples = telephone(samples, self.sample_rate)
        return torch.from_numpy(samples), percent / 100

    def warps(self, seeds: tuple[int, ...]) -> Tensor | None:
        """Factors by which the frequency axis of each utterance is warped, (N,).

        Vocal tract length perturbation (Jaitly & Hinton 2013).
        """
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
    """The seed of one utterance in one epoch: no other utterance or worker has a part in it."""
    digest = hashlib.sha256(f"{seed} {epoch} {utterance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def accelerate(waveform: Waveform, percent: int) -> Waveform:
    """Played at `percent` of its pace, (S,) → (⌈100 S / percent⌉,): pitch moves along.

    Resampled through the spectrum: torchaudio's convolution rounds differently with other threads.
    """
    if percent == 100:
        return waveform
    step = _fft_size(1 + len(waveform) // percent)
    spectrum = np.fft.rfft(waveform, percent * step)
    samples = -(-100 * len(waveform) // percent)
    resampled = np.fft.irfft(spectrum * np.float32(100 / percent), 100 * step)[:samples]
    return resampled.astype(np.float32, copy=False)


def add_at(snr_db: float, speech: Waveform, noise: Waveform) -> Waveform:
    """Speech with noise behind it, (S,), (S,) → (S,); silence stays silence.

    Both powers are variances over the whole utterance, pauses included, so an offset has none.
    """
    power = float(noise.var())
    if power == 0:
        return speech
    return speech + noise * (_amplitude(-snr_db) * float(np.sqrt(speech.var() / power)))


def coloured_noise(
    draw: np.random.Generator, samples: int, sample_rate: int, exponent: float
) -> Waveform:
    """Noise with power ∝ 1 / frequency^exponent from 20 Hz on: 0 white, 1 pink, 2 brown, (S,)."""
    size = max(_fft_size(samples), _fft_size(int(sample_rate / LOWEST_HZ)))
    spectrum = np.fft.rfft(draw.standard_normal(size, dtype=np.float32))
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    audible = hertz >= LOWEST_HZ
    slope = np.zeros(len(hertz), dtype=np.float32)
    slope[audible] = hertz[audible] ** (-exponent / 2)
    return np.fft.irfft(spectrum * slope)[:samples].astype(np.float32, copy=False)


def babble(draw: np.random.Generator, voices: Sequence[Waveform], samples: int) -> Waveform:
    """The sum of utterances made equally loud, each repeated from a place drawn for it, (S,)."""
    total = np.zeros(samples, dtype=np.float32)
    for voice in voices:
        start = int(draw.integers(len(voice)))
        loudness = float(voice.std())
        if loudness > 0:
            total += np.resize(np.roll(voice, -start), samples) / loudness
    return total


def impulse_response(
    draw: np.random.Generator, rt60_s: float, drr_db: float, sample_rate: int
) -> Waveform:
    """Of a simulated room: 1 for the direct sound at time 0, behind it noise that dies away.

    The echo loses 60 dB in `rt60_s`, where it is cut off; its energy is `drr_db` below the direct
    sound's (Polack's model).
    """
    time_s = np.arange(round(rt60_s * sample_rate)) / sample_rate
    response = draw.standard_normal(len(time_s)) * 10 ** (-3 * time_s / rt60_s)
    response[0] = 0.0
    response *= _amplitude(-drr_db) / np.linalg.norm(response)
    response[0] = 1.0
    return response.astype(np.float32)


def convolve(waveform: Waveform, response: Waveform) -> Waveform:
    """(S,), (L,) → (S,): what comes behind the end is cut off, so that times stay as they are."""
    size = _fft_size(len(waveform) + len(response) - 1)
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum)[: len(waveform)].astype(np.float32, copy=False)


def band_pass(waveform: Waveform, low_hz: float, high_hz: float, sample_rate: int) -> Waveform:
    """Frequencies between two limits, which fall to 0 within a tenth of each: (S,) → (S,)."""
    size = _fft_size(len(waveform))
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    gain = np.interp(hertz, (high_hz, 1.1 * high_hz), (1.0, 0.0))
    if low_hz:
        gain *= np.interp(hertz, (0.9 * low_hz, low_hz), (0.0, 1.0))
    limited = np.fft.irfft(np.fft.rfft(waveform, size) * gain.astype(np.float32))
    return limited[: len(waveform)].astype(np.float32, copy=False)


def telephone(waveform: Waveform, sample_rate: int) -> Waveform:
    """The band of a telephone, then 8-bit µ-law whose full scale is the largest sample, (S,)."""
    limited = band_pass(waveform, *TELEPHONE_HZ, sample_rate)
    peak = float(np.abs(limited).max(initial=0.0))
    if peak == 0:
        return limited
    steps = mu_law_encoding(torch.from_numpy(limited / np.float32(peak)), 256)
    decoded: Waveform = mu_law_decoding(steps, 256).numpy()
    return decoded * np.float32(peak)


def _breaks(utterance: Utterance) -> list[float]:
    """The middles of the pauses between phones, in seconds; none where times are unknown."""
    return [
        (before.end_s + after.start_s) / 2
        for before, after in pairwise(utterance.segments or ())
        if after.start_s - before.end_s >= PAUSE_S
    ]


def _phones_in(utterance: Utterance, piece: tuple[float, float]) -> int:
    return sum(piece[0] <= one.start_s < piece[1] for one in utterance.segments or ())


def _draw(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, *kind.encode()))


def _chosen(kind: str, share: float, seed: int) -> np.random.Generator | None:
    """The chance of a kind of change that only a share of the utterances undergoes."""
    if not share:
        return None
    draw = _draw(kind, seed)
    return draw if draw.random() < share else None


def _spans(
    draw: np.random.Generator, count: int, widest: int, size: int
) -> Iterator[tuple[int, int]]:
    """Stretches [first, end) of 0…size, 0 to `widest` wide, each width and place as likely."""
    for _ in range(count):
        width = int(draw.integers(min(widest, size), endpoint=True))
        first = int(draw.integers(size - width, endpoint=True))
        yield first, first + width


def _amplitude(db: float) -> float:
    """The factor on a waveform that changes its level by so many dB."""
    return 10 ** (db / 20)


def _fft_size(samples: int) -> int:
    """The next power of two: lengths with large prime factors take many times as long."""
    return 1 << max(1, (samples - 1).bit_length())
