"""Utterances of one synthetic speaker: spoken, labelled, and written as WAV, PHN, WRD and TXT."""

import json
import random
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from asr.corpora.synthetic.boundaries import label
from asr.corpora.synthetic.espeak import GLOTTAL_STOP, SPEAK_RATE, Espeak, Floats, Sound
from asr.corpora.synthetic.habits import Habits, reshape
from asr.corpora.synthetic.sentences import words_of
from asr.corpora.synthetic.speakers import RATE, Speaker
from asr.errors import DataError
from asr.phones import table_rows

MIN_SAMPLES = 80  # 5 ms: no label is shorter
CONSONANT_FIRST = {"one", "once", "europe", "eugene"}  # begin with a vowel letter only


def speak_task() -> None:
    """Write the utterances of the speaker on standard input: all that a process does."""
    task = json.load(sys.stdin)
    speaker = Speaker(**task["speaker"])
    voice = f"{speaker.language}+{speaker.name}"
    espeak = Espeak(Path(task["data"]), voice, speaker.seed)
    habits = Habits(**{field.name: speaker.values[field.name] for field in fields(Habits)})
    half = "TRAIN" if speaker.split == "train" else "TEST"
    folder = Path(task["folder"], half, f"DR{speaker.dialect}", speaker.name)
    folder.mkdir(parents=True)
    rng = random.Random(speaker.seed)
    noise = np.random.default_rng(speaker.seed)
    for stem, sentence in speaker.sentences:
        rate = round(speaker.values["rate"] * rng.uniform(0.9, 1.1))
        words, places = _as_spoken(sentence, speaker.values, rng)
        pitch, span = 50 + rng.randint(-10, 10), rng.randint(25, 75)
        wave, sounds = espeak.speak(words, rate, pitch, span)
        margins = rng.randint(2205, 5512), rng.randint(2205, 5512)  # 100-250 ms at SPEAK_RATE
        wave, labels = reshape(wave, label(wave, sounds, speaker.language), habits, rng)
        labels = [replace(x, word=places[x.word]) for x in labels]
        _write_utterance(folder / stem, sentence, wave, labels, margins, speaker, noise)


def _as_spoken(
    sentence: str, values: dict[str, float], rng: random.Random
) -> tuple[list[str], list[int]]:
    """Words as given to espeak-ng, and the position of each in the sentence."""
    words: list[str] = []
    places: list[int] = []
    syllabics = dict(table_rows("synthetic/syllabics.txt"))  # with a syllabic nasal
    for place, word in enumerate(sentence.split()):
        plain = word.strip(".,?").lower()
        by_vowel = plain[0] in "aeio" and plain not in CONSONANT_FIRST
        if by_vowel and place and rng.random() < values["glottal"]:
            words.append(GLOTTAL_STOP)
            places.append(place)
        if plain in syllabics and rng.random() < values["syllabic"]:
            word = f"[[{syllabics[plain]}]]{word[len(plain) :]}"
        words.append(word)
        places.append(place)
    return words, places


def _write_utterance(
    path: Path,
    sentence: str,
    wave: Floats,
    labels: list[Sound],
    margins: tuple[int, int],
    speaker: Speaker,
    noise: np.random.Generator,
) -> None:
    """Write WAV, PHN, WRD and TXT of one sentence, with `margins` of silence around the speech."""
    lead, trail = margins
    first, last = labels[0].start, labels[-1].start
    padded = np.pad(wave[first:last], (lead, trail))
    audio = _channel(soxr.resample(padded, SPEAK_RATE, RATE), speaker.values, noise)
    starts = [round((lead + x.start - first) * RATE / SPEAK_RATE) for x in labels]
    for index in range(1, len(starts)):  # shifts are made up for by the silence at the end
        starts[index] = max(starts[index], starts[index - 1] + MIN_SAMPLES)
    phones = ["h#", *(x.phone for x in labels)]
    edges = [0, *starts, len(audio)]
    rows = zip(edges[:-1], edges[1:], phones, strict=True)
    phn = "".join(f"{a} {b} {p}\n" for a, b, p in rows)
    places = [-1, *(-1 if x.phone in ("pau", "h#") else x.word for x in labels)]
    path.with_suffix(".PHN").write_bytes(phn.encode())
    path.with_suffix(".WRD").write_bytes(_words_text(sentence, edges, places).encode())
    path.with_suffix(".TXT").write_bytes(f"0 {len(audio)} {sentence}\n".encode())
    path.with_suffix(".WAV").write_bytes(_sphere_header(len(audio)) + audio.astype("<i2").tobytes())


def _words_text(sentence: str, edges: list[int], places: list[int]) -> str:
    """`start end word` lines; a word lasts from its first to its last label."""
    lines = []
    for place, word in enumerate(words_of(sentence)):
        inside = [index for index, other in enumerate(places) if other == place]
        if not inside:
            raise DataError(f"espeak-ng merged {word!r} with its neighbour in {sentence!r}")
        lines.append(f"{edges[inside[0]]} {edges[inside[-1] + 1]} {word}\n")
    return "".join(lines)


def _channel(
    wave: Floats, values: dict[str, float], noise: np.random.Generator
) -> npt.NDArray[np.int16]:
    """16-bit samples `(S,)` of a resampled wave: spectral tilt, level and noise of one speaker."""
    tilted = wave - np.float32(values["tilt"]) * np.concatenate([[np.float32(0)], wave[:-1]])
    tilted *= 10 ** (values["peak_db"] / 20) / max(np.abs(tilted).max(), 1e-6)
    tilted += 10 ** (values["noise_db"] / 20) * noise.standard_normal(len(wave), np.float32)
    return np.round(tilted * 32767).astype(np.int16)


def _sphere_header(samples: int) -> bytes:
    """NIST SPHERE 1.0 header of 1024 bytes, fields as in TIMIT."""
    source = "synthetic speech (espeak-ng)"
    fields = [
        f"database_id -s{len(source)} {source}",
        f"channel_count -i 1\nsample_count -i {samples}\nsample_rate -i {RATE}",
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16",
        "sample_coding -s3 pcm\nend_head\n",
    ]
    return "\n".join(["NIST_1A", "   1024", *fields]).encode().ljust(1024)


if __name__ == "__main__":
    speak_task()
