"""espeak-ng through ctypes, and where its sounds lie: speech with TIMIT labels at exact samples.

An event of espeak-ng says which phoneme sounds and roughly when; the rules of `label` find from the
waveform where TIMIT would put the boundary. `reshape` then edits waveform and labels together, into
what people do and espeak-ng never does: unreleased stops, flapped nasals, silent gaps, devoiced
vowels, phones of other lengths. Tables: `asr/tables/synthetic`; rules: `docs/synthetic.md`. This
file knows no corpus and writes no files.
"""

import ctypes
import math
import os
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import DataError
from asr.phones import table_lines

SPEAK_RATE = 22_050  # samples per second
FRAME = 22  # samples: frames of 1 ms
MIN_FRAMES = 5  # no label is shorter

# Values of espeak-ng's speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT, UTF8, PHONEMES = 2, 0x0001, 0x8000, 1, 0x100
EVENT_END_OF_LIST, EVENT_PHONEME = 0, 7
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH, PARAMETER_RANGE = 1, 2, 3, 4
VOLUME = 60  # of 100, at which some voices would clip inside espeak-ng

Floats = npt.NDArray[np.float32]


GLOTTAL_STOP = "[[?]]"  # a word of its own before the one that begins with it


@cache
def labels_of_mnemonic(language: str = "en-us") -> dict[str, tuple[str, ...]]:
    """espeak-ng mnemonic → the TIMIT labels it holds, none if it has no sound of its own."""
    table: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(("en-us", language)):  # the second overrides the first
        for line in table_lines(f"synthetic/espeak-phones-{name}.txt"):
            mnemonic, *labels = line.split()
            table[mnemonic] = () if labels == ["-"] else tuple(labels)
    return table


@cache
def classes() -> dict[str, frozenset[str]]:
    rows = (line.split(":") for line in table_lines("synthetic/phone-classes.txt"))
    return {name: frozenset(labels.split()) for name, labels in rows}


@cache
def duration_factors() -> dict[str, float]:
    """Label → how much longer people speak it than espeak-ng does."""
    rows = (line.split() for line in table_lines("synthetic/durations.txt"))
    return {phone: float(factor) for phone, factor in rows}


# ---------------------------------------------------------------- espeak-ng through ctypes


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("type", "unique_identifier", "text_position")),
        *((name, ctypes.c_int) for name in ("length", "audio_position", "sample")),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Sound:
    """A phoneme of espeak-ng without its stress mark, or a TIMIT label; the next one ends it."""

    phone: str
    start: int  # sample at SPEAK_RATE
    word: int  # its place among the words spoken, counted from 0


class Espeak:
    """espeak-ng with the voice of one speaker; it can be opened once in a process."""

    def __init__(self, data: Path, voice: str, seed: int) -> None:
        """`voice` is a language and a variant of it, such as `en-us+MAAA0`."""
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self._wave: list[bytes] = []
        self._sounds: list[Sound] = []
        self._starts: list[int] = []
        self._callback = _Callback(self._receive)  # kept: the library holds only its address
        opened = self._library.espeak_Initialize(
            SYNCHRONOUS, 0, os.fsencode(data), PHONEME_EVENTS | DONT_EXIT
        )
        if opened != SPEAK_RATE:
            raise DataError(f"espeak-ng does not start with the data in {data} ({opened})")
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng does not know the voice {voice}")
        self._library.espeak_SetParameter(PARAMETER_VOLUME, VOLUME, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def speak(
        self, words: Sequence[str], rate: int, pitch: int, span: int = 50
    ) -> tuple[Floats, list[Sound]]:
        """Speak at `rate` words a minute, `pitch` and its range `span` 0-99.

        Words carry their punctuation; `[[…]]` is one in espeak-ng's mnemonics. Gives the waveform
        `(S,)` in [-1, 1] and its sounds.
        """
        self._wave.clear()
        self._sounds.clear()
        self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        self._library.espeak_SetParameter(PARAMETER_RANGE, span, 0)
        spoken, self._starts = "", []
        for word, after in zip(words, [*words[1:], ""], strict=True):
            self._starts.append(len(spoken) + 1)  # espeak-ng counts characters from 1
            # Between plain spaces espeak-ng merges pairs such as "of the" into one word, but next
            # to [[ ]] it takes no other space.
            plain = word.endswith(",") or "[[" in word + after
            spoken += word + (" " if plain else "\u00a0")
        text = spoken.rstrip().encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8 | PHONEMES, None, None)
        samples = np.frombuffer(b"".join(self._wave), dtype=np.int16)
        return samples.astype(np.float32) / np.float32(32768), list(self._sounds)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._wave.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            event = events[index]
            if event.type == EVENT_PHONEME:
                mnemonic = bytes(event.id.string).decode().lstrip("'%,=")
                word = bisect_right(self._starts, event.text_position) - 1
                self._sounds.append(Sound(mnemonic, event.sample, word))
            index += 1
        return 0


# ---------------------------------------------------------------- sounds to labels


class Picture:
    """What the rules see of a waveform `(S,)`, in frames of 1 ms.

    `power`, `high` (above 1.5 kHz): `(T,)` over 4 and 6 ms; `bands` `(T, 30)`: log spectrum to
    5 kHz, smoothed over 15 ms so that single glottal pulses do not show.
    """

    def __init__(self, wave: Floats) -> None:
        frames = len(wave) // FRAME + 1
        padded = np.pad(wave, (64, 128 + FRAME))
        sums = np.concatenate([[0.0], np.cumsum(padded.astype(np.float64) ** 2)])
        starts = np.arange(frames) * FRAME
        self.power = sums[starts + 64 + 44] - sums[starts + 64 - 44]
        cut = np.lib.stride_tricks.sliding_window_view(padded, 128)[::FRAME][:frames]
        spectra = np.abs(np.fft.rfft(cut * np.hanning(128), axis=1)) ** 2  # 172 Hz a bin
        self.high = spectra[:, 9:].sum(axis=1)
        total = np.concatenate([np.zeros((1, 30)), np.cumsum(spectra[:, 1:31], axis=0)])
        low, high = np.clip([np.arange(frames) - 7, np.arange(frames) + 8], 0, frames)
        self.bands = np.log((total[high] - total[low]) / (high - low)[:, None] + 1e-6)
        self.quiet = 0.01**2 * np.quantile(self.power, 0.95)

    def silence_start(self, end: int, floor: int) -> int:
        """The first frame of the silence that ends at `end`; `end` itself if there is none."""
        start = end - 2  # the window of the last frames already reaches into the sound at `end`
        while start > floor and self.power[start - 1] < self.quiet:
            start -= 1
        return max(start - 2, floor) if start < end - 2 else end

    def release(self, start: int, end: int) -> int:
        """The frame in [start, end) where a voiced closure bursts: high frequencies rise most."""
        high = self.high[start : max(end - 8, start + 2)]  # what follows rises as well
        sums = np.concatenate([[0.0], np.cumsum(np.log(high + 0.03 * high.max()))])
        at = np.arange(1, len(high))
        width = np.minimum(8, np.minimum(at, len(high) - at))
        rise = (sums[at + width] + sums[at - width] - 2 * sums[at]) / width
        return start + 1 + int(np.argmax(rise * np.sqrt(width)))

    def crossing(self, before: range, after: range, search: range) -> int:
        """The last frame of `search` nearer to the spectrum of `before` than to that of `after`."""
        here, there = (self.bands[r.start : r.stop].mean(axis=0) for r in (before, after))
        way = there - here
        share = (self.bands[search.start : search.stop] - here) @ way / max(way @ way, 1e-9)
        near = np.flatnonzero(share < 0.5)
        return search.start + (int(near[-1]) + 1 if len(near) else 0)


def label(wave: Floats, sounds: Sequence[Sound], language: str = "en-us") -> list[Sound]:
    """Labels of a spoken sentence `(S,)` at SPEAK_RATE, from the first sound to the final silence.

    An event of espeak-ng stands at the release of a stop (of a voiced one after a vowel: at its
    closure), after the transition of a nasal or liquid into a vowel, and after that of a vowel
    into a liquid; silence, burst and spectrum tell the rest. Raises `DataError` on a mnemonic
    that the table lacks.
    """
    table, kinds = labels_of_mnemonic(language), classes()
    for sound in sounds:
        if sound.phone not in table:
            raise DataError(
                f"espeak-ng said {sound.phone!r}, unknown to espeak-phones-{language}.txt"
            )
    sounds = [sound for sound in sounds if table[sound.phone]]
    while table[sounds[-2].phone] == ("pau",):
        sounds.pop()  # one final silence is enough
    picture = Picture(wave)
    frames = _moved_events(picture, sounds, table)
    labels: list[Sound] = []
    for index, sound in enumerate(sounds[:-1]):
        phones, start = table[sound.phone], frames[index]
        end = max(picture.silence_start(frames[index + 1], start), start + 2)
        quiet = picture.silence_start(start, frames[index - 1] + MIN_FRAMES if index else 0)
        before = labels[-1].phone if labels else "pau"
        edges = [start]
        if phones == ("r",) and before == "r" and labels[-1].word == sound.word:
            continue  # the r that links "for a" is the end of the vowel before it
        if phones == ("pau",) and before == "pau":
            continue
        if phones == ("q",) and "pau" in (before, *table[sounds[index + 1].phone]):
            continue  # a pause hides the closed glottis
        if phones in (("pau",), ("q",)):
            edges = [quiet]
        elif phones[0].endswith("cl"):
            voiced = phones[0] in ("bcl", "dcl", "gcl")
            after_vowel = index and table[sounds[index - 1].phone][0] in kinds["vowel"]
            # A pause hides where the closure begins: like TIMIT, label none there.
            edges = [
                start if before == "pau" else quiet,
                picture.release(start, end) if voiced and after_vowel else start,
            ]
            if edges[1] - edges[0] < MIN_FRAMES:
                phones, edges = phones[1:], edges[:1]
        elif len(phones) == 2:
            here, there, search = (
                range(start + int(a * (end - start)), start + int(b * (end - start)) + 1)
                for a, b in ((0.15, 0.35), (0.7, 0.9), (0.25, 0.85))
            )
            edges = [start, picture.crossing(here, there, search)]
        for phone, frame in zip(phones, edges, strict=True):
            labels.append(Sound(phone, frame * FRAME, sound.word))
    last = picture.silence_start(frames[-1], frames[-2] + MIN_FRAMES)
    labels.append(Sound("h#", last * FRAME, 0))
    return _in_context(labels)


def _moved_events(
    picture: Picture, sounds: Sequence[Sound], table: dict[str, tuple[str, ...]]
) -> list[int]:
    """First frames of the sounds, with vowel-liquid and nasal- or liquid-vowel events put right."""
    kinds = classes()
    frames = [round(sound.start / FRAME) for sound in sounds]
    for index in range(1, len(sounds) - 1):
        last, this = table[sounds[index - 1].phone][-1], table[sounds[index].phone][0]
        start, event, end = frames[index - 1 : index + 2]
        length = event - start
        if length < 10:
            continue
        if last in kinds["nasal"] | kinds["liquid"] and this in kinds["vowel"]:
            frames[index] = picture.crossing(
                before=range(start + length // 5, start + length // 2 + 1),
                after=range(event + 5, event + 20),
                search=range(start + length // 3, event + 10),
            )
        elif last in kinds["vowel"] - kinds["rhotic"] and this in kinds["liquid"]:
            # Before a consonant the whole liquid lies in the vowel's event and its own is empty.
            body = min(picture.silence_start(end, event), event + 10)
            frames[index] = picture.crossing(
                before=range(start + length // 3, start + length // 2 + 1),
                after=range(event - 10, max(body, event)),
                search=range(start + length * 2 // 5, event + 5),
            )
    return frames


def _in_context(labels: list[Sound]) -> list[Sound]:
    """Labels that TIMIT chooses by neighbours: hv between voiced phones, ux after coronals."""
    kinds = classes()
    phones = ["h#", *(sound.phone for sound in labels), "h#"]
    for index, (last, this, after) in enumerate(zip(phones, phones[1:], phones[2:], strict=False)):
        if this == "hh" and last in kinds["voiced"] and after in kinds["voiced"]:
            labels[index] = replace(labels[index], phone="hv")
        elif this == "uw" and last in kinds["coronal"] and after != "l":
            labels[index] = replace(labels[index], phone="ux")
    return labels


# ---------------------------------------------------------------- what espeak-ng never does


@dataclass(frozen=True)
class Habits:
    """In how many of the places that allow it a speaker does something, from 0 to 1."""

    unreleased: float  # a stop before a consonant keeps its closure and loses its burst
    taps: float  # n between vowels, the second of them weak, becomes a flap
    gaps: float  # a silence opens between a fricative and a nasal, l or w
    devoiced: float  # a schwa between voiceless sounds is whispered


TAP_S = (0.020, 0.034)
TAP_LIMIT_S = 0.035  # an n between vowels that is no longer is a flap, whatever made it so
GAP_S = (0.015, 0.060)
DEVOICED_S = (0.025, 0.045)
SPREAD, PAUSE_SPREAD = 0.12, 0.4  # of the logarithm of a duration
FADE = 88  # samples, 4 ms


def reshape(
    wave: Floats, labels: Sequence[Sound], habits: Habits, rng: random.Random
) -> tuple[Floats, list[Sound]]:
    """Edit a labelled sentence `(S,)` at SPEAK_RATE; every label still says what is heard.

    Labels end with the final silence, as `label` gives them, and do so afterwards.
    """
    kinds = classes()
    phones = [sound.phone for sound in labels]
    at = labels[0].start
    pieces, shaped = [wave[:at]], list[Sound]()
    joined = -1  # index of the closure that only prolongs the one before it
    for index, (sound, following) in enumerate(pairwise(labels)):
        this, after = sound.phone, following.phone
        last = phones[index - 1] if index else "h#"
        piece = wave[sound.start : following.start]
        closed = last in kinds["closure"] and index - 1 != joined
        if closed and _may_stay_closed(sound, following) and rng.random() < habits.unreleased:
            pieces[-1] = _faded(pieces[-1])  # the burst may reach into its last samples
            joined = index + 1 if after in kinds["closure"] else joined
            continue
        between = last in kinds["vowel"] and after in kinds["vowel"]
        voiceless = last in kinds["voiceless"] and after in kinds["voiceless"]
        if this == "n" and between and after in kinds["weak"] and rng.random() < habits.taps:
            piece = _resized(piece, round(rng.uniform(*TAP_S) * SPEAK_RATE))
        elif this in ("ax", "ix") and voiceless and rng.random() < habits.devoiced:
            piece = _resized(_whispered(piece, rng), round(rng.uniform(*DEVOICED_S) * SPEAK_RATE))
            this = "ax-h"
        else:
            spread = PAUSE_SPREAD if this == "pau" else SPREAD
            factor = duration_factors().get(this, 1.0) * math.exp(rng.gauss(0, spread))
            piece = _resized(piece, max(round(factor * len(piece)), MIN_FRAMES * FRAME))
        if this == "n" and between and len(piece) <= TAP_LIMIT_S * SPEAK_RATE:
            this = "nx"
        if index != joined:
            shaped.append(Sound(this, at, sound.word))
        at += len(piece)
        pieces.append(piece)
        if this in kinds["hissing"] and after in kinds["gapped"] and rng.random() < habits.gaps:
            pieces[-1] = _faded(piece)
            pieces.append(np.zeros(round(rng.uniform(*GAP_S) * SPEAK_RATE), np.float32))
            shaped.append(Sound("epi", at, following.word))
            at += len(pieces[-1])
    shaped.append(replace(labels[-1], start=at))
    return np.concatenate([*pieces, wave[labels[-1].start :]]), shaped


def _may_stay_closed(this: Sound, after: Sound) -> bool:
    """Whether a release may be left out: the sound after it must show where the closure ends."""
    kinds = classes()
    if this.phone not in kinds["release"]:
        return False
    if after.phone in kinds["closure"] | kinds["release"]:
        return True
    if this.phone in ("t", "d") and after.phone in ("s", "z"):
        return True
    return this.word != after.word and after.phone in kinds["closing"]


def _faded(piece: Floats) -> Floats:
    """The piece with its last 4 ms led to zero."""
    faded = piece.copy()
    faded[-FADE:] *= np.linspace(1, 0, min(FADE, len(piece)), dtype=np.float32)
    return faded


def _resized(piece: Floats, samples: int) -> Floats:
    """The piece with samples cut out of its middle, or repeated there, near the length asked for.

    The join is where the waveform before and behind it agree best, so that a voiced sound loses or
    gains whole glottal periods; at most 60 % are added.
    """
    change = min(samples - len(piece), len(piece) * 6 // 10)
    join, reach = 44, 160  # 2 ms on either side; half the period of 70 Hz
    if abs(change) < FRAME or len(piece) < 6 * join:
        return piece
    middle = (len(piece) + change) // 2
    low = max(middle - change - reach, join)
    high = min(middle - change + reach, len(piece) - join)
    middle = min(max(middle, join), len(piece) - join)
    if high <= low:
        return piece
    here = piece[middle - join : middle + join]
    there = np.lib.stride_tricks.sliding_window_view(piece[low - join : high + join], 2 * join)
    likeness = there @ here / (np.sqrt((there**2).sum(axis=1)) + 1e-3)
    best = low + int(np.argmax(likeness))
    ramp = np.linspace(0, 1, 2 * join, dtype=np.float32)
    joined = here * (1 - ramp) + piece[best - join : best + join] * ramp
    return np.concatenate([piece[: middle - join], joined, piece[best + join :]])


def _whispered(piece: Floats, rng: random.Random) -> Floats:
    """Noise with the spectral envelope of a vowel, 9 dB below it: what is left without a voice."""
    size = len(piece)
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(size), 1024)) + 1e-4
    cepstrum = np.fft.irfft(np.log(spectrum))
    cepstrum[40:-39] = 0  # keeps 1.8 ms: formants, not pitch
    envelope = np.exp(np.fft.rfft(cepstrum).real)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(size + 1024)
    filtered = np.fft.irfft(
        np.fft.rfft(noise, 4096)
        * np.interp(np.linspace(0, 1, 2049), np.linspace(0, 1, 513), envelope)
    )[:size]
    level = 0.35 * np.linalg.norm(piece) / (np.linalg.norm(filtered) + 1e-6)
    return np.asarray(level * filtered, np.float32)
