"""Alignment of an hour with its whole text: memory, time, drift, and texts that are not complete.

    python recipes/align/long.py MODEL MANIFEST [--minutes 60] [--case plain gaps page around]

Utterances of the manifest, in a drawn order, are one recording, of which the stretch of each
utterance is known. Printed for each case: the peak memory of the process so far; the real-time
factor; of the words of each tenth of the recording, how many lie in the stretch of their utterance;
of their phones' boundaries, how many lie within 20 ms of those of the utterance aligned alone.

plain    the text is what is said
gaps     5 % of the utterances are not in the text, of 5 % more only the text is there, 2 % are
         said twice, and between some there are 5 s of noise
page     90 s of the speech have no text, and later 90 s of the text no speech
around   30 s of noise come first, and 30 s of a melody last
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr import audio
from asr.aligner import Aligner
from asr.audio import Waveform
from asr.augment.sounds import coloured_noise
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import exit_code
from asr.records import Manifest, Utterance, Word
from asr.transcriber import load_model

RATE = 16_000
NEAR_S = 0.0201
SLACK_S = 0.1  # that a word may reach out of its stretch
TENTHS = 10
CASES = ("plain", "gaps", "page", "around")


@dataclass(frozen=True)
class Part:
    """An utterance, or else a sound; whether it is in the recording, and in the text."""

    utterance: Utterance | None
    sound: Waveform | None = None
    is_spoken: bool = True
    is_written: bool = True

    def waveform(self) -> Waveform:
        if self.utterance is None:
            assert self.sound is not None
            return self.sound
        return audio.load(self.utterance.audio, RATE)


def noise(draw: np.random.Generator, seconds: float) -> Waveform:
    return (0.03 * coloured_noise(draw, round(seconds * RATE), RATE, 1.0)).astype(np.float32)


def melody(draw: np.random.Generator, seconds: float) -> Waveform:
    """Chords of three tones with four harmonics, two in a second."""
    time_s = np.arange(RATE // 2) / RATE
    chords = []
    for _ in range(round(2 * seconds)):
        tones = 220 * 2 ** (draw.choice(12, 3, replace=False) / 12)
        waves = [np.sin(2 * np.pi * f * h * time_s) / h for f in tones for h in (1, 2, 3, 4)]
        chords.append(0.03 * np.exp(-2 * time_s) * np.sum(waves, axis=0))
    return np.concatenate(chords).astype(np.float32)


def arranged(case: str, utterances: list[Utterance], draw: np.random.Generator) -> list[Part]:
    parts = [Part(utterance) for utterance in utterances]
    if case == "gaps":
        mixed = []
        for part in parts:
            kind = draw.random()
            mixed.append(
                Part(part.utterance, is_spoken=not kind < 0.05, is_written=not 0.05 <= kind < 0.1)
            )
            if 0.1 <= kind < 0.12:
                mixed.append(Part(part.utterance, is_written=False))
            elif 0.12 <= kind < 0.14:
                mixed.append(Part(None, noise(draw, 5), is_written=False))
        return mixed
    if case == "page":
        for place, field in ((0.3, "is_written"), (0.6, "is_spoken")):
            n, seconds = round(place * len(parts)), 0.0
            while seconds < 90 and n < len(parts):
                seconds += utterances[n].duration_s
                parts[n] = Part(utterances[n], **{field: False})
                n += 1
    if case == "around":
        first = Part(None, noise(draw, 30), is_written=False)
        return [first, *parts, Part(None, melody(draw, 30), is_written=False)]
    return parts


def run(aligner: Aligner, pronouncer: Pronouncer, case: str, parts: list[Part], alone: int) -> None:
    said = list[Said]()
    stretches: list[tuple[Utterance, float, float, int, int, bool]] = []
    now_s = 0.0
    for part in parts:
        if part.utterance is None:
            now_s += len(part.waveform()) / RATE
            continue
        words = pronouncer.said(part.utterance.words or "") if part.is_written else ()
        end_s = now_s + part.utterance.duration_s * part.is_spoken
        span = len(said), len(said) + len(words)
        stretches.append((part.utterance, now_s, end_s, *span, part.is_spoken))
        now_s = end_s
        said += words

    def blocks() -> Iterator[Waveform]:
        for part in parts:
            if part.is_spoken:
                yield part.waveform()

    start, warnings = time.process_time(), list[str]()
    numbered = [Said(f"{n}", each.pronunciations) for n, each in enumerate(said)]
    transcript = aligner.transcript(case, blocks(), numbered, warnings.append)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{case}: {transcript.duration_s / 60:.1f} min, {len(said)} words; real-time factor "
        f"{spent / transcript.duration_s:.4f}, peak {peak:.0f} MB"
    )
    by_number = {int(one.word): one for one in transcript.words or ()}
    report(aligner, said, stretches, by_number, transcript.duration_s, alone)
    for warning in warnings[:12]:
        print("   ", warning)
    if len(warnings) > 12:
        print(f"    … and {len(warnings) - 12} more")


def report(
    aligner: Aligner,
    said: list[Said],
    stretches: list[tuple[Utterance, float, float, int, int, bool]],
    words: dict[int, Word],
    duration_s: float,
    most_alone: int,
) -> None:
    tenths: list[list[tuple[int, int, int, int]]] = [[] for _ in range(TENTHS)]
    absent = aligned = without_text = intruders = 0
    for utterance, begin_s, end_s, first, last, is_spoken in stretches:
        if not is_spoken:
            absent += last - first
            aligned += sum(n in words for n in range(first, last))
            continue
        if first == last:
            without_text += 1
            inside = (w for w in words.values() if begin_s < (w.start_s + w.end_s) / 2 < end_s)
            intruders += sum(1 for _ in inside)
            continue
        inside = [
            begin_s - SLACK_S <= words[n].start_s and words[n].end_s <= end_s + SLACK_S
            for n in range(first, last)
            if n in words
        ]
        if sum(inside) < last - first:
            print(
                f"    {sum(inside)} of {last - first} words lie in {begin_s:.1f} to {end_s:.1f} s"
            )
        near, total = 0, 0
        tenth = min(TENTHS - 1, int(TENTHS * begin_s / duration_s))
        if len(tenths[tenth]) < most_alone:
            alone = aligner.transcript("", [audio.load(utterance.audio, RATE)], said[first:last])
            for n, word in enumerate(alone.words or (), start=first):
                if n in words:
                    total += 2
                    near += abs(words[n].start_s - begin_s - word.start_s) <= NEAR_S
                    near += abs(words[n].end_s - begin_s - word.end_s) <= NEAR_S
        tenths[tenth].append((last - first, sum(inside), near, total))
    sums = [np.array(tenth or [(0, 0, 0, 0)]).sum(axis=0) for tenth in tenths]
    shown = (f"{100 * inside / max(1, count):.1f}" for count, inside, *_ in sums)
    print("  words in their utterance, %:", *shown)
    shown = (f"{100 * near / max(1, total):.1f}" for *_, near, total in sums)
    print("  word edges within 20 ms of the utterance alone, %:", *shown)
    if absent or without_text:
        print(f"  {aligned} of {absent} words that nobody says are aligned")
        print(f"  {intruders} words lie in {without_text} utterances without text")


@exit_code
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--alone", type=int, default=8, help="utterances of each tenth")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    aligner = Aligner(load_model(options.model, language_model=False).network)
    pronouncer = Pronouncer()
    manifest = Manifest(options.manifest)
    for case in options.case:
        draw = np.random.default_rng(options.seed)
        utterances, seconds = list[Utterance](), 0.0
        for n in draw.permutation(len(manifest)).tolist():
            if seconds < 60 * options.minutes:
                utterances.append(manifest[n])
                seconds += utterances[-1].duration_s
        run(aligner, pronouncer, case, arranged(case, utterances, draw), options.alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
