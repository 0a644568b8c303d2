"""TIMIT labels at exact samples, from a waveform and the phoneme events of espeak-ng.

An event says which phoneme sounds and roughly when; the rules of `label` find in the waveform where
TIMIT would put the boundary. Tables: `asr/tables/synthetic`; rules: `docs/synthetic.md`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from asr.corpora.synthetic.espeak import Floats, Sound
from asr.errors import DataError
from asr.phones import table_rows

FRAME = 22  # samples: frames of 1 ms
MIN_FRAMES = 5  # no label is shorter


@cache
def labels_of_mnemonic(language: str) -> dict[str, tuple[str, ...]]:
    """espeak-ng mnemonic → TIMIT labels, none if it has no sound of its own."""
    table: dict[str, tuple[str, ...]] = {}
    for name in dict.fromkeys(("en-us", language)):  # the second overrides the first
        for mnemonic, *labels in table_rows(f"synthetic/espeak-phones-{name}.txt"):
            table[mnemonic] = () if labels == ["-"] else tuple(labels)
    return table


@cache
def classes() -> dict[str, frozenset[str]]:
    """Name of a class of phones → its TIMIT labels."""
    rows = table_rows("synthetic/phone-classes.txt")
    return {name.rstrip(":"): frozenset(labels) for name, *labels in rows}


class Frames:
    """Power and spectrum of a waveform `(S,)`, in frames of 1 ms.

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


def label(wave: Floats, sounds: Sequence[Sound], language: str) -> list[Sound]:
    """Labels of a spoken sentence `(S,)` at SPEAK_RATE, from the first sound to the final silence.

    An event of espeak-ng is at the release of a stop (of a voiced one after a vowel: at its
    closure), after the transition of a nasal or liquid into a vowel, and after that of a vowel
    into a liquid; silence, burst and spectrum tell the rest. Raises `DataError` on a mnemonic
    that is not in the table.
    """
    table, kinds = labels_of_mnemonic(language), classes()
    for sound in sounds:
        if sound.phone not in table:
            source = f"espeak-phones-{language}.txt"
            raise DataError(f"espeak-ng said {sound.phone!r}, expected a mnemonic of {source}")
    sounds = [sound for sound in sounds if table[sound.phone]]
    while table[sounds[-2].phone] == ("pau",):
        sounds.pop()  # one final silence is enough
    view = Frames(wave)
    frames = _moved_events(view, sounds, table)
    labels: list[Sound] = []
    for index, sound in enumerate(sounds[:-1]):
        phones, start = table[sound.phone], frames[index]
        end = max(view.silence_start(frames[index + 1], start), start + 2)
        quiet = view.silence_start(start, frames[index - 1] + MIN_FRAMES if index else 0)
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
                view.release(start, end) if voiced and after_vowel else start,
            ]
            if edges[1] - edges[0] < MIN_FRAMES:
                phones, edges = phones[1:], edges[:1]
        elif len(phones) == 2:
            here, there, search = (
                range(start + int(a * (end - start)), start + int(b * (end - start)) + 1)
                for a, b in ((0.15, 0.35), (0.7, 0.9), (0.25, 0.85))
            )
            edges = [start, view.crossing(here, there, search)]
        for phone, frame in zip(phones, edges, strict=True):
            labels.append(Sound(phone, frame * FRAME, sound.word))
    last = view.silence_start(frames[-1], frames[-2] + MIN_FRAMES)
    labels.append(Sound("h#", last * FRAME, 0))
    return _in_context(labels)


def _moved_events(
    view: Frames, sounds: Sequence[Sound], table: dict[str, tuple[str, ...]]
) -> list[int]:
    """First frames of the sounds, with vowel-liquid and nasal- or liquid-vowel events corrected."""
    kinds = classes()
    frames = [round(sound.start / FRAME) for sound in sounds]
    for index in range(1, len(sounds) - 1):
        last, this = table[sounds[index - 1].phone][-1], table[sounds[index].phone][0]
        start, event, end = frames[index - 1 : index + 2]
        length = event - start
        if length < 10:
            continue
        if last in kinds["nasal"] | kinds["liquid"] and this in kinds["vowel"]:
            frames[index] = view.crossing(
                before=range(start + length // 5, start + length // 2 + 1),
                after=range(event + 5, event + 20),
                search=range(start + length // 3, event + 10),
            )
        elif last in kinds["vowel"] - kinds["rhotic"] and this in kinds["liquid"]:
            # Before a consonant the whole liquid lies in the vowel's event and its own is empty.
            body = min(view.silence_start(end, event), event + 10)
            frames[index] = view.crossing(
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
