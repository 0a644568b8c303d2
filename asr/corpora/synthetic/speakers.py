"""Speakers of the synthetic corpus: voices for espeak-ng, and what each speaker says."""

import random
from dataclasses import dataclass
from functools import cache

from asr.corpora.recording import CorpusConfig
from asr.corpora.splits import SPLITS
from asr.corpora.synthetic.sentences import Sentences
from asr.knobs import knob
from asr.phones import table_rows

RATE = 16_000  # samples per second


@dataclass(frozen=True)
class SyntheticConfig(CorpusConfig):
    """Amount of synthetic speech; its bytes do not depend on `jobs`.

    The defaults give about 0.9 h of train, 4 min of dev and 5 min of test.
    """

    name: str = "synthetic"
    root: str = "data/synthetic"
    phone_set: str = knob("timit61", one_of=("timit61",))
    sample_rate: int = knob(RATE, one_of=(RATE,))
    train_speakers: int = knob(64, "speakers of the training set", at_least=1)
    dev_speakers: int = knob(8, "speakers of dev", at_least=1)
    test_speakers: int = knob(12, "speakers of the test set", at_least=1)
    train_utterances: int = knob(18, "of each speaker", at_least=1)
    dev_utterances: int = knob(9, "of each speaker", at_least=1)
    test_utterances: int = knob(9, "of each speaker", at_least=1)
    seed: int = knob(0, "of the generated speech", at_least=0)
    jobs: int = knob(0, "processes that generate speech; 0: one for each core", at_least=0)


@dataclass(frozen=True)
class Speaker:
    """One voice and its sentences: the input of one process."""

    name: str
    split: str
    sex: str
    dialect: int
    seed: int
    values: dict[str, float]  # one draw from each range of voices.txt
    language: str  # espeak-ng voice
    variant: str  # content of the espeak-ng file that modifies it
    sentences: list[tuple[str, str]]  # file stem, sentence


def plan(config: SyntheticConfig) -> list[Speaker]:
    """Draw all speakers and sentences; no voice and no sentence is in two splits.

    Test is drawn first and train last: dev and test do not depend on the amount of training speech.
    """
    speakers: list[Speaker] = []
    said: set[str] = set()
    for split in reversed(SPLITS):
        rng = random.Random(f"{config.seed} {split}")
        count = getattr(config, f"{split}_utterances")
        draw = Sentences(rng, said)
        for index in range(getattr(config, f"{split}_speakers")):
            sex, dialect = "MF"[index % 2], index // 2 % 8 + 1
            values = {
                name: rng.uniform(*ranges[sex == "F"]) for name, ranges in _voice_ranges().items()
            }
            letters = (chr(ord("A") + len(speakers) // 26**power % 26) for power in (2, 1, 0))
            name = f"{sex}{''.join(letters)}0"
            language, replaced = _accents()[dialect]
            seed = rng.randrange(1, 2**31)
            variant = _variant(rng, name, sex, values) + replaced
            unspoken = _unspoken().get(language, frozenset())
            sentences = [(f"SI{len(said)}", draw(unspoken)) for _ in range(count)]
            speakers.append(
                Speaker(name, split, sex, dialect, seed, values, language, variant, sentences)
            )
    return speakers


def _variant(rng: random.Random, name: str, sex: str, values: dict[str, float]) -> str:
    """An espeak-ng voice variant file (docs/voices.md there) for one draw of the ranges."""
    ranges = _voice_ranges()

    def draw(parameter: str) -> int:
        return round(rng.uniform(*ranges[parameter][sex == "F"]))

    lines = ["language variant", f"name {name}", f"gender {'fe' if sex == 'F' else ''}male"]
    lines.append(f"pitch {values['pitch']:.0f} {values['pitch'] * values['span']:.0f}")
    for formant in range(6):
        scaled = values["tract"] * draw("formant") / 100
        lines.append(f"formant {formant} {scaled:.0f} {draw('height')} {draw('width')}")
    for parameter in ("flutter", "roughness", "voicing"):
        lines.append(f"{parameter} {values[parameter]:.0f}")
    lines.append(f"consonants {values['consonants']:.0f} {values['voiced_noise']:.0f}")
    lines.append("breath 0 " + " ".join(str(draw("breath")) for _ in range(5)))
    lines.append("stressAdd " + " ".join(str(draw("stress_length")) for _ in range(8)))
    tones = zip((600, 1200, 2000), ("tone1", "tone2", "tone3"), strict=True)
    lines.append("tone " + " ".join(f"{hertz} {values[tone]:.0f}" for hertz, tone in tones))
    return "\n".join(lines) + "\n"


@cache
def _voice_ranges() -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Parameter → (low, high) of men and of women."""
    ranges = {}
    for name, *bounds in table_rows("synthetic/voices.txt"):
        m_low, m_high, f_low, f_high = map(float, bounds)
        ranges[name] = ((m_low, m_high), (f_low, f_high))
    return ranges


@cache
def _accents() -> dict[int, tuple[str, str]]:
    """Region → language of espeak-ng, last lines of the voice files."""
    accents = {}
    for region, language, *pairs in table_rows("synthetic/accents.txt"):
        lines = (f"replace 0 {' '.join(pair.split('>'))}\n" for pair in pairs)
        accents[int(region.rstrip(":"))] = (language, "".join(lines))
    return accents


@cache
def _unspoken() -> dict[str, frozenset[str]]:
    """Language of espeak-ng → words for which it gives no position."""
    rows = table_rows("synthetic/unspoken.txt")
    return {name.rstrip(":"): frozenset(map(str.lower, words)) for name, *words in rows}
