"""espeak-ng through ctypes: sentences to waveforms and phoneme events."""

import ctypes
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import DataError

SPEAK_RATE = 22_050  # samples per second
GLOTTAL_STOP = "[[?]]"  # a word of its own before the one that begins with it

# Values of espeak-ng's speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT, UTF8, PHONEMES = 2, 0x0001, 0x8000, 1, 0x100
EVENT_END_OF_LIST, EVENT_PHONEME = 0, 7
PARAMETER_RATE, PARAMETER_VOLUME, PARAMETER_PITCH, PARAMETER_RANGE = 1, 2, 3, 4
VOLUME = 60  # of 100, at which some voices would clip inside espeak-ng

Floats = npt.NDArray[np.float32]


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
        self, words: Sequence[str], rate: int, pitch: int, span: int
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
