"""espeak-ng through ctypes, and where its sounds lie: speech with TIMIT labels at exact samples.

An event of espeak-ng says which phoneme sounds and roughly when; the rules of `label` find from the
waveform where TIMIT would put the boundary. Tables: `asr/tables/synthetic/espeak-phones.txt` and
`phone-classes.txt`. This file knows no corpus and writes no files.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.phones import table_lines
from asr.records import DataError

SPEAK_RATE = 22_050  # samples per second
FRAME = 22  # samples: frames of 1 ms
MIN_FRAMES = 5  # no label is shorter

# Values of espeak-ng's speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT, UTF8 = 2, 0x0001, 0x8000, 1
EVENT_END_OF_LIST, EVENT_PHONEME = 0, 7
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH = 1, 2, 3
VOLUME = 60  # of 100, at which some voices would clip inside espeak-ng

Floats = npt.NDArray[np.float32]


@cache
def labels_of_mnemonic() -> dict[str, tuple[str, ...]]:
    """espeak-ng mnemonic → the TIMIT labels it holds, none if it has no sound of its own."""
    rows = (line.split() for line in table_lines("synthetic/espeak-phones.txt"))
    return {mnemonic: () if labels == ["-"] else tuple(labels) for mnemonic, *labels in rows}


@cache
def classes() -> dict[str, frozenset[str]]:
    rows = (line.split(":") for line in table_lines("synthetic/phone-classes.txt"))
    return {name: frozenset(labels.split()) for name, labels in rows}


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
    position: int  # of the first character of its word, counted from 1


class Espeak:
    """espeak-ng with the voice of one speaker; it can be opened once in a process."""

    def __init__(self, data: Path, voice: str, seed: int) -> None:
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self._wave: list[bytes] = []
        self._sounds: list[Sound] = []
        self._callback = _Callback(self._receive)  # kept: the library holds only its address
        opened = self._library.espeak_Initialize(
            SYNCHRONOUS, 0, os.fsencode(data), PHONEME_EVENTS | DONT_EXIT
        )
        if opened != SPEAK_RATE:
            raise DataError(f"espeak-ng does not start with the data in {data} ({opened})")
        self._library.espeak_SetSynthCallback(self._callback)
        if self._library.espeak_SetVoiceByName(f"en-us+{voice}".encode()) != 0:
            raise DataError(f"espeak-ng does not know the voice en-us+{voice}")
        self._library.espeak_SetParameter(PARAMETER_VOLUME, VOLUME, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def speak(self, sentence: str, rate: int, pitch: int) -> tuple[Floats, list[Sound]]:
        """Speak at `rate` words a minute and `pitch` 0-99: waveform `(S,)` in [-1, 1], sounds."""
        self._wave.clear()
        self._sounds.clear()
        self._library.espeak_SetParameter(PARAMETER_RATE, rate, 0)
        self._library.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
        # Between plain spaces espeak-ng merges pairs such as "of the" into one word.
        text = sentence.replace(" ", "\u00a0").replace(",\u00a0", ", ").encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
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
                self._sounds.append(Sound(mnemonic, event.sample, event.text_position))
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


def label(wave: Floats, sounds: Sequence[Sound]) -> list[Sound]:
    """Labels of a spoken sentence `(S,)` at SPEAK_RATE, from the first sound to the final silence.

    An event of espeak-ng stands at the release of a stop (of a voiced one after a vowel: at its
    closure), after the transition of a nasal or liquid into a vowel, and after that of a vowel
    into a liquid; silence, burst and spectrum tell the rest. Raises `DataError` on a mnemonic
    that the table lacks.
    """
    table, kinds = labels_of_mnemonic(), classes()
    for sound in sounds:
        if sound.phone not in table:
            raise DataError(f"espeak-ng said {sound.phone!r}, unknown to espeak-phones.txt")
    sounds = [sound for sound in sounds if table[sound.phone]]
    while table[sounds[-2].phone] == ("pau",):
        sounds.pop()  # one final silence is enough
    picture = Picture(wave)
    frames = _moved_events(picture, sounds)
    labels: list[Sound] = []
    for index, sound in enumerate(sounds[:-1]):
        phones, start = table[sound.phone], frames[index]
        end = max(picture.silence_start(frames[index + 1], start), start + 2)
        quiet = picture.silence_start(start, frames[index - 1] + MIN_FRAMES if index else 0)
        before = labels[-1].phone if labels else "pau"
        edges = [start]
        if phones == ("r",) and before == "r" and labels[-1].position == sound.position:
            continue  # the r that links "for a" is the end of the vowel before it
        if phones == ("pau",) and before == "pau":
            continue
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
            labels.append(Sound(phone, frame * FRAME, sound.position))
    last = picture.silence_start(frames[-1], frames[-2] + MIN_FRAMES)
    labels.append(Sound("h#", last * FRAME, 0))
    return _in_context(labels)


def _moved_events(picture: Picture, sounds: Sequence[Sound]) -> list[int]:
    """First frames of the sounds, with vowel-liquid and nasal- or liquid-vowel events put right."""
    table, kinds = labels_of_mnemonic(), classes()
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
