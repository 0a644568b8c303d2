"""A corpus in TIMIT's layout that espeak-ng speaks: exact labels, no licence, no download.

Sentences come from a grammar, speakers from ranges of voice parameters; the tables are in
`asr/tables/synthetic`. Each speaker is a fresh process, so the corpus is the same bytes whatever
`jobs` is, given one machine and one espeak-ng. This file does not imitate people: a PER on its
corpus checks a pipeline and says nothing about human speech. There is no reverberation. Only the
regions of `accents.txt` that name an accent have one. Rules, counts, limits: `docs/synthetic.md`.
"""

import importlib.metadata
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.corpora.base import (
    SPLITS,
    CorpusConfig,
    Found,
    PhnLabeller,
    find_recordings,
    split_by_speaker,
)
from asr.corpora.synthetic.espeak import (
    GLOTTAL_STOP,
    SPEAK_RATE,
    Espeak,
    Floats,
    Habits,
    Sound,
    label,
    reshape,
)
from asr.errors import DataError, pip_install
from asr.phones import table_lines

GENERATOR = 2  # raise it when the same configuration would give other bytes
RATE = 16_000
CANDIDATES = 8  # sentences drawn for each one kept
MIN_SAMPLES = 80  # 5 ms: no label is shorter
CONSONANT_FIRST = {"one", "once", "europe", "eugene"}  # begin with a vowel letter only


@dataclass(frozen=True)
class SyntheticConfig(CorpusConfig):
    """How much synthetic speech; `jobs` never changes a byte of it.

    The defaults are about 0.9 h to train, 4 min to develop and 5 min to test.
    """

    name: str = "synthetic"
    root: str = "data/synthetic"
    train_speakers: int = 64
    dev_speakers: int = 8
    test_speakers: int = 12
    train_utterances: int = 18  # of each speaker
    dev_utterances: int = 9
    test_utterances: int = 9
    seed: int = 0
    jobs: int = 0  # processes at a time; 0 = one for each core

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in SPLITS:
            for field in (f"{split}_speakers", f"{split}_utterances"):
                if (found := getattr(self, field)) < 1:
                    raise ValueError(f"corpus.{field} is {found}, expected at least 1")
        for field in ("seed", "jobs"):
            if (found := getattr(self, field)) < 0:
                raise ValueError(f"corpus.{field} is {found}, expected at least 0")
        for field, only in (("sample_rate", RATE), ("phone_set", "timit61")):
            if (found := getattr(self, field)) != only:
                raise ValueError(f"corpus.{field} is {found}, the synthetic corpus has {only}")


@dataclass(frozen=True)
class Speaker:
    """One voice and what it says: all that its process needs to know."""

    name: str
    split: str
    sex: str
    dialect: int
    seed: int
    values: dict[str, float]  # one draw from each range of voices.txt
    language: str  # the espeak-ng voice that the variant is one of
    variant: str  # its espeak-ng voice file
    sentences: list[tuple[str, str]]  # file stem, sentence


def find(config: SyntheticConfig) -> Found:
    """Recordings of train, dev and test; a corpus that is not there yet is spoken first."""
    root = Path(config.root)
    generate(root, config)
    splits = split_by_speaker(find_recordings(root), root / "speakers.txt")
    return Found(config.name, splits, PhnLabeller(config.phone_set), config.sample_rate)


def generate(root: Path, config: SyntheticConfig) -> None:
    """Write the corpus to `root`, which appears only when it is complete.

    Returns at once if `root` already holds this configuration; `DataError` if it holds anything
    else, or if espeak-ng is not installed.
    """
    record = _record(config)
    if root.exists():
        try:
            found = json.loads((root / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if found == record:
            return
        raise DataError(_other_corpus(root, found, record))
    speakers = plan(config)
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        partial.chmod(0o755)
        _speak_all(partial, speakers, config.jobs or os.cpu_count() or 1)
        _describe(partial, record, speakers)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _other_corpus(root: Path, found: Any, record: dict[str, Any]) -> str:
    """What lies in `root` instead of the corpus asked for, and what to do."""
    if not isinstance(found, dict) or "generator" not in found:
        return (
            f"{root}: exists and is not a synthetic corpus; move it away or choose another "
            f"corpus.root"
        )
    if found["generator"] != record["generator"]:
        return (
            f"{root}: spoken by generator {found['generator']}, this version of asr has generator "
            f"{record['generator']} and speaks another corpus; remove the folder {root} and run "
            f"the same command again, which speaks it anew in about a minute, or choose another "
            f"corpus.root to keep both"
        )
    differ = ", ".join(
        f"{key} is {found.get(key)}, asked for {value}"
        for key, value in record.items()
        if found.get(key) != value
    )
    return (
        f"{root}: not the synthetic corpus asked for ({differ}); remove the folder or choose "
        f"another corpus.root"
    )


# ---------------------------------------------------------------- who says what


def plan(config: SyntheticConfig) -> list[Speaker]:
    """Draw all speakers and sentences; no voice and no sentence is in two splits.

    Test is drawn first and train last, so more training speech leaves dev and test as they are.
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
            speakers.append(
                Speaker(
                    name=name,
                    split=split,
                    sex=sex,
                    dialect=dialect,
                    seed=rng.randrange(1, 2**31),
                    values=values,
                    language=language,
                    variant=_variant(rng, name, sex, values) + replaced,
                    sentences=[
                        (f"SI{len(said)}", draw(_unspoken().get(language, frozenset())))
                        for _ in range(count)
                    ],
                )
            )
    return speakers


class Grammar:
    """The sentences of `grammar.txt` over the words of `lexicon.txt`."""

    def __init__(self) -> None:
        self.rules: dict[str, list[list[str]]] = {}
        for line in table_lines("synthetic/grammar.txt"):
            name, alternatives = line.split(":", 1)
            self.rules.setdefault(name, []).extend(a.split() for a in alternatives.split("|"))
        self.words: dict[str, list[str]] = {}
        forms: list[str] = []
        name = ""
        for line in table_lines("synthetic/lexicon.txt"):
            if line.startswith("["):
                name, *forms = line.strip("[]").split()
                continue
            for entry in line.split(";"):
                spoken = entry.split() if len(forms) > 1 else [entry.strip()]
                for form, word in zip(forms, spoken, strict=True):
                    self.words.setdefault(f"{name}.{form}", []).append(word)
        self.takes_an = {word for alternative in self.rules["AN"] for word in alternative}

    def sentence(self, rng: random.Random) -> str:
        """Draw one sentence of 4 to 12 words, with its capital and its full stop."""
        while True:
            tokens = self._expand("SENTENCE", rng)
            for here, after in enumerate(tokens[1:]):
                if tokens[here] == "a" and (after[0] in "aeio" or after in self.takes_an):
                    tokens[here] = "an"
            text = " ".join(tokens)
            for mark in ".?,":
                text = text.replace(f" {mark}", mark)
            if 4 <= len(text.split()) <= 12:
                return text[0].upper() + text[1:]

    def _expand(self, symbol: str, rng: random.Random) -> list[str]:
        if symbol in self.rules:
            parts = rng.choice(self.rules[symbol])
            return [token for part in parts for token in self._expand(part, rng)]
        return rng.choice(self.words[symbol]).split() if symbol in self.words else [symbol]


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return [word.strip(".,?").lower() for word in sentence.split()]


class Sentences:
    """Draws sentences not yet in `said`, and adds them to it.

    Each is the one of CANDIDATES whose words were used least so far: a short list of sentences
    then meets most of the lexicon, and with it the rare phones.
    """

    def __init__(self, rng: random.Random, said: set[str]) -> None:
        self.rng, self.said = rng, said
        self.grammar = Grammar()
        self.used: Counter[str] = Counter()

    def __call__(self, unspoken: frozenset[str]) -> str:
        while True:
            drawn = (self.grammar.sentence(self.rng) for _ in range(CANDIDATES))
            sentence = max(drawn, key=self._freshness)
            words = words_of(sentence)
            if sentence not in self.said and unspoken.isdisjoint(words):
                self.said.add(sentence)
                self.used.update(words)
                return sentence

    def _freshness(self, sentence: str) -> float:
        return sum(1 / (1 + self.used[word]) for word in words_of(sentence))


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


# ---------------------------------------------------------------- tables


@cache
def _voice_ranges() -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Parameter → (low, high) of men and of women."""
    ranges = {}
    for line in table_lines("synthetic/voices.txt"):
        name, *bounds = line.split()
        m_low, m_high, f_low, f_high = map(float, bounds)
        ranges[name] = ((m_low, m_high), (f_low, f_high))
    return ranges


@cache
def _accents() -> dict[int, tuple[str, str]]:
    """Region → language of espeak-ng, and the lines that its voice files end with."""
    accents = {}
    for line in table_lines("synthetic/accents.txt"):
        region, rest = line.split(":", 1)
        language, *pairs = rest.split()
        lines = (f"replace 0 {' '.join(pair.split('>'))}\n" for pair in pairs)
        accents[int(region)] = (language, "".join(lines))
    return accents


@cache
def _unspoken() -> dict[str, frozenset[str]]:
    """Language of espeak-ng → words that it cannot place."""
    rows = (line.split(":") for line in table_lines("synthetic/unspoken.txt"))
    return {language: frozenset(words.lower().split()) for language, words in rows}


@cache
def _syllabics() -> dict[str, str]:
    """Word → its mnemonics with a syllabic nasal."""
    return dict(line.split() for line in table_lines("synthetic/syllabics.txt"))


# ---------------------------------------------------------------- one speaker, one process


def _speak_all(folder: Path, speakers: list[Speaker], jobs: int) -> None:
    """Speak with `jobs` processes at a time, each of them fresh for one speaker."""
    from tqdm import tqdm

    if importlib.util.find_spec("espeakng_loader") is None or not importlib.util.find_spec("soxr"):
        raise DataError(f"the synthetic corpus needs espeak-ng; run: {pip_install('synthetic')}")
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as home:
        data = _espeak_data(Path(home), speakers)
        bar = tqdm(total=len(speakers), desc="synthetic speakers", unit="", disable=None)
        with bar, ThreadPoolExecutor(jobs) as pool:
            work = [pool.submit(_speak_in_process, folder, data, speaker) for speaker in speakers]
            try:
                for done in work:
                    done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _espeak_data(home: Path, speakers: list[Speaker]) -> Path:
    """Copy the 1 MB of espeak-ng's data that English needs, and add the speakers' voices."""
    import espeakng_loader

    source, data = Path(espeakng_loader.get_data_path()), home / "espeak-ng-data"
    languages = [f"lang/gmw/{name}" for name in ("en", "en-US", "en-US-nyc")]
    for name in ["phondata", "phonindex", "phontab", "intonations", "en_dict", *languages]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, data / name)
    (data / "voices" / "!v").mkdir(parents=True)
    for speaker in speakers:
        _write_text(data / "voices" / "!v" / speaker.name, speaker.variant)
    return data


def _speak_in_process(folder: Path, data: Path, speaker: Speaker) -> None:
    package = str(Path(__file__).parents[3])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    task = {"folder": str(folder), "data": str(data), "speaker": asdict(speaker)}
    finished = subprocess.run(
        [sys.executable, "-c", "from asr.corpora import synthetic; synthetic.speak_task()"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
    )
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise DataError(f"speaker {speaker.name} could not be spoken: {reason}")


def speak_task() -> None:
    """Speak the speaker described on standard input; the body of each process."""
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
    """What espeak-ng is given word by word, and the place in the sentence that each belongs to."""
    words: list[str] = []
    places: list[int] = []
    for place, word in enumerate(sentence.split()):
        plain = word.strip(".,?").lower()
        by_vowel = plain[0] in "aeio" and plain not in CONSONANT_FIRST
        if by_vowel and place and rng.random() < values["glottal"]:
            words.append(GLOTTAL_STOP)
            places.append(place)
        if plain in _syllabics() and rng.random() < values["syllabic"]:
            word = f"[[{_syllabics()[plain]}]]{word[len(plain) :]}"
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
    import soxr

    lead, trail = margins
    first, last = labels[0].start, labels[-1].start
    padded = np.pad(wave[first:last], (lead, trail))
    audio = _channel(soxr.resample(padded, SPEAK_RATE, RATE), speaker.values, noise)
    starts = [round((lead + x.start - first) * RATE / SPEAK_RATE) for x in labels]
    for index in range(1, len(starts)):  # the silence at the end takes up what this shifts
        starts[index] = max(starts[index], starts[index - 1] + MIN_SAMPLES)
    phones = ["h#", *(x.phone for x in labels)]
    edges = [0, *starts, len(audio)]
    rows = list(zip(edges[:-1], edges[1:], phones, strict=True))
    _write_text(path.with_suffix(".PHN"), "".join(f"{a} {b} {p}\n" for a, b, p in rows))
    places = [-1, *(-1 if x.phone in ("pau", "h#") else x.word for x in labels)]
    _write_text(path.with_suffix(".WRD"), _words_text(sentence, edges, places))
    _write_text(path.with_suffix(".TXT"), f"0 {len(audio)} {sentence}\n")
    path.with_suffix(".WAV").write_bytes(_sphere_header(len(audio)) + audio.astype("<i2").tobytes())


def _words_text(sentence: str, edges: list[int], places: list[int]) -> str:
    """`start end word` lines; a word lasts from the first to the last label of its place."""
    lines = []
    for place, word in enumerate(words_of(sentence)):
        inside = [index for index, found in enumerate(places) if found == place]
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


# ---------------------------------------------------------------- the corpus folder


def _record(config: SyntheticConfig) -> dict[str, Any]:
    """What decides the bytes: the generator, how much it speaks, and the seed."""
    no_matter = {"jobs", *(part.name for part in fields(CorpusConfig))}
    settings = {key: value for key, value in asdict(config).items() if key not in no_matter}
    return {"generator": GENERATOR, **settings}


def _describe(folder: Path, record: dict[str, Any], speakers: list[Speaker]) -> None:
    """Write speakers.txt, README.txt and config.json."""
    rows = sorted(f"{s.name} {s.split} {s.sex} DR{s.dialect}" for s in speakers)
    _write_text(folder / "speakers.txt", "\n".join(["# speaker split sex dialect", *rows, ""]))
    settings = ", ".join(f"{name}={value}" for name, value in record.items())
    version = importlib.metadata.version("espeakng-loader")
    about = (
        "Synthetic speech, not recordings of people: a PER on it says nothing about human speech.\n"
        f"Spoken by espeak-ng (espeakng-loader {version}), asr.corpora.synthetic: {settings}.\n"
        "The sentences are the project's own and free to use; espeak-ng, which is not in this "
        "folder, is GPL-3.0-or-later.\n"
    )
    _write_text(folder / "README.txt", about)
    _write_text(folder / "config.json", json.dumps(record, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
