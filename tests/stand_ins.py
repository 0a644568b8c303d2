"""Corpora spoken by espeak-ng in the layout of real ones: a TIMIT sample, LibriSpeech, CMUdict.

Speakers and utterances have the names of the lists in asr/tables and recipes/librispeech, which
choose from them. Nothing is learned from such speech; commands run on it.
"""

import lzma
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import soundfile

from asr.corpora.spoken import CMUDICT, CMUdict
from asr.corpora.synthetic import SyntheticConfig, generate

REPOSITORY = Path(__file__).parents[1]
SAMPLE = (
    "dr1-fvmh0 dr1-mcpm0 dr2-faem0 dr3-falk0 dr3-madc0 dr4-maeb0 dr5-ftlg0 dr5-mbgt0 dr6-fapb0 "
    "dr7-fblv0 dr7-madd0 dr8-mbcg0"
)
LISTS = "train-18h.txt", "dev-and-test.txt", "dev-common-voice.txt"
UNLISTED = {"test-part": 4, "dev-clean": 4, "train-clean-100": 4}  # more readers of them
READERS, UTTERANCES = 2, 4  # of each subset, of each reader
SPOKEN = SyntheticConfig(
    train_speakers=12, train_utterances=10, dev_speakers=1, dev_utterances=1, test_speakers=1
)


def _wanted() -> Iterator[tuple[str, str]]:
    """The subset and id of each utterance of LibriSpeech: the first that the lists name."""
    listed: dict[str, dict[str, list[str]]] = {}
    for name in LISTS:
        for line in (REPOSITORY / "recipes/librispeech" / name).read_text().splitlines():
            if line[0] != "#":
                subset, id = line.split()
                listed.setdefault(subset, {}).setdefault(id.split("-")[0], []).append(id)
    for subset, readers in listed.items():
        for ids in islice(readers.values(), UNLISTED.get(subset, READERS)):
            chapter = ids[0].rpartition("-")[0]
            for id in [one for one in ids if one.rpartition("-")[0] == chapter][:UTTERANCES]:
                yield subset, id


def _sample(folder: Path, recordings: list[Path]) -> None:
    """NLTK's sample of TIMIT: twelve speakers, and a dictionary of their words."""
    voices = sorted({path.parent for path in recordings})
    words = set()
    for name, voice in zip(SAMPLE.split(), voices, strict=True):
        target = folder / name
        target.mkdir(parents=True)
        for path in voice.iterdir():
            shutil.copy(path, target / path.name.lower())
        for path in target.glob("*.wrd"):
            words |= {line.split()[2] for line in path.read_text().splitlines()}
    dictionary = CMUdict()
    known = ((word, dictionary[word][0]) for word in sorted(words) if word in dictionary)
    lines = (f"{word}  /{' '.join(phones)}/\n" for word, phones in known)
    (folder / "timitdic.txt").write_text("".join(lines))


def _librispeech(folder: Path, recordings: list[Path]) -> None:
    readers = {}
    for (subset, id), path in zip(_wanted(), recordings, strict=False):
        reader, chapter, _ = id.split("-")
        target = folder / subset / reader / chapter
        target.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(target / f"{id}.flac", samples, rate)
        text = re.sub(r"[^A-Z' ]", "", path.with_suffix(".TXT").read_text().upper()).strip()
        with open(target / f"{reader}-{chapter}.trans.txt", "a") as file:
            file.write(f"{id} {text}\n")
        readers[reader] = f"{reader} | F | {subset} | 1.0 | espeak-ng\n"
    (folder / "SPEAKERS.TXT").write_text("".join(readers.values()))


def speak(folder: Path) -> None:
    """Write timit-sample, LibriSpeech and cmudict below the folder."""
    generate(folder / "spoken", SPOKEN)
    recordings = sorted((folder / "spoken" / "TRAIN").glob("*/*/*.WAV"))
    _sample(folder / "timit-sample", recordings)
    _librispeech(folder / "LibriSpeech", recordings)
    (folder / "cmudict").mkdir()
    with lzma.open(CMUDICT) as packed, open(folder / "cmudict" / "cmudict.dict", "wb") as file:
        shutil.copyfileobj(packed, file)
