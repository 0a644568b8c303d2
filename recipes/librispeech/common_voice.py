"""Write clips of Common Voice v1 that utterance lists name into a tree of LibriSpeech's layout.

    python recipes/librispeech/common_voice.py cv_corpus_v1 data/LibriSpeech \
        recipes/librispeech/train-18h.txt recipes/librispeech/dev-common-voice.txt

The published archive has `cv-valid-dev.csv` and MP3 at 48 kHz. Training resamples nothing, so each
clip becomes FLAC at 16 kHz with one channel. The id of a clip contains its number:
`common-voice-v1 0-3-0054` is cv-valid-dev/sample-000354.mp3 and becomes
`common-voice-v1/0/3/0-3-0054.flac`. Votes, age, gender and accent are discarded.
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from asr import audio
from asr.corpora.librispeech import read_utterance_list
from asr.errors import DataError, exit_code, raise_problems
from asr.files import read_lines
from asr.files.outputs import atomic_open

SUBSETS = "common-voice-v1"  # prefix of the subsets of Common Voice in a list
TABLE = "cv-valid-dev.csv"
SAMPLE_RATE = 16_000


class Clip(NamedTuple):
    """A line of the table: the audio file and what was read."""

    audio: Path
    words: str


def run(corpus: Path, target: Path, lists: Sequence[Path]) -> int:
    """Write the clips of all `lists` below `target`; return their number.

    Raises `DataError`, before anything is written, for all missing clips and invalid texts, and at
    the end for all files that cannot be decoded.
    """
    clips = read_table(corpus)
    chapters: dict[Path, dict[str, Clip]] = {}
    problems: list[str] = []
    for path in lists:
        for subset, ids in read_utterance_list(path).items():
            for id_ in sorted(ids) if subset.startswith(SUBSETS) else ():
                try:
                    speaker, chapter, number = numbered(id_)
                    clip = clip_of(number, clips, corpus)
                except DataError as error:
                    problems.append(f"{path}: {subset} {id_}: {error}")
                else:
                    folder = target / subset / speaker / chapter
                    chapters.setdefault(folder, {})[id_] = clip
    raise_problems(problems)
    if not chapters:
        raise DataError(
            f"no list names a subset {SUBSETS}…; give recipes/librispeech/train-18h.txt"
        )
    total = sum(map(len, chapters.values()))
    with tqdm(total=total, unit=" clips", disable=None) as progress:
        for folder, members in sorted(chapters.items()):
            written = {}
            for id_, clip in sorted(members.items()):
                try:
                    write_clip(clip.audio, folder / f"{id_}.flac")
                    written[id_] = clip.words
                except DataError as error:
                    problems.append(str(error))
                progress.update()
            speaker, chapter = folder.parts[-2:]
            with atomic_open(folder / f"{speaker}-{chapter}.trans.txt") as file:
                file.writelines(f"{id_} {words}\n" for id_, words in written.items())
    raise_problems(problems)
    return total


def read_table(corpus: Path) -> dict[int, tuple[str, str, str]]:
    """Number of a clip → its line in the table, its file name, and its text as published."""
    path = corpus / TABLE
    rows = csv.DictReader(read_lines(path))
    if not {"filename", "text"} <= set(rows.fieldnames or ()):
        raise DataError(
            f"{path}:1: found {','.join(rows.fieldnames or ())!r}, expected columns filename and "
            f"text; is this the table of Common Voice v1?"
        )
    clips: dict[int, tuple[str, str, str]] = {}
    problems = []
    for row in rows:
        place = f"{path}:{rows.line_num}"
        name = row["filename"] or ""
        number = re.fullmatch(r"cv-valid-dev/sample-(\d{6})\.mp3", name)
        if number is None:
            problems.append(f"{place}: found {name!r}, expected cv-valid-dev/sample-NNNNNN.mp3")
        elif int(number[1]) in clips:
            problems.append(f"{place}: {name} is a duplicate of {clips[int(number[1])][0]}")
        else:
            clips[int(number[1])] = place, name, row["text"] or ""
    raise_problems(problems)
    return clips


def numbered(id_: str) -> tuple[str, str, int]:
    """Speaker, chapter and number of a clip from its id: 0-3-0054 → 0, 3, 354."""
    parts = re.fullmatch(r"(\d+)-(\d+)-00(\d\d)", id_)
    if parts is None:
        raise DataError("expected an id such as 0-3-0054, which is sample-000354")
    return parts[1], parts[2], 100 * int(parts[2]) + int(parts[3])


def clip_of(number: int, clips: Mapping[int, tuple[str, str, str]], corpus: Path) -> Clip:
    """The clip of a number; its file is where the table says, or in the folder `cv-valid-dev`."""
    if number not in clips:
        raise DataError(f"sample-{number:06d} is not in {corpus / TABLE}; get the whole archive")
    place, name, text = clips[number]
    for path in (corpus / name, corpus / "cv-valid-dev" / name):
        if path.is_file():
            return Clip(path, words_of(text, place))
    raise DataError(f"{corpus / name}: no such file; download the whole archive")


def words_of(text: str, place: str) -> str:
    """The text in capitals, A–Z and apostrophe, with a space between words.

    Punctuation becomes a space, a typographic apostrophe a plain one. Digits and other letters are
    a `DataError`, because their pronunciation is not known.
    """
    words = re.sub(r"[^\w']|_", " ", text.replace("\u2019", "'")).split()
    for word in words:
        if not re.fullmatch(r"'*[A-Za-z][A-Za-z']*", word):
            raise DataError(
                f"{place}: found {word!r} in {text!r}, expected A-Z and apostrophe; write the "
                f"words as they were read"
            )
    if not words:
        raise DataError(f"{place}: no words in {text!r}")
    return " ".join(words).upper()


def write_clip(source: Path, target: Path) -> None:
    """Write a clip of any rate and number of channels as FLAC at 16 kHz with one channel."""
    blocks = audio.stream(source, SAMPLE_RATE, SAMPLE_RATE // 40, lambda warning: None)
    samples = np.concatenate(list(blocks))
    with atomic_open(target, "wb") as file:
        soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("corpus", type=Path, help=f"folder with {TABLE}")
    parser.add_argument("target", type=Path, help="folder of LibriSpeech's subsets, for the output")
    parser.add_argument("list", type=Path, nargs="+", help="file of `SUBSET ID` lines")
    options = parser.parse_args(arguments)
    total = run(options.corpus, options.target, options.list)
    print(f"{options.target}: {total} clips of Common Voice")


if __name__ == "__main__":
    sys.exit(main())
