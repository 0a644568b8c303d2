"""Folders of recordings: walked in a fixed order, and audio files paired with their label files."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from asr import labels
from asr.errors import DataError
from asr.files.walking import walk

NO_UTF8 = re.compile(r"[\ud800-\udfff]")  # what other bytes of a file's name become


@dataclass(frozen=True)
class Files:
    """An audio file and the files beside it that have its name."""

    folder: str
    stem: str  # the name, without ending
    audio: str
    labels: str
    text: str | None


def require_folder(root: Path) -> None:
    """Raise `DataError` where there is no folder, or nothing in it."""
    if not root.is_dir() or not any(root.iterdir()):
        fault = "the folder is empty" if root.is_dir() else "no such folder"
        raise DataError(f"{root}: {fault}; give the folder of the corpus")


def pairs(
    root: Path,
    audio: Collection[str],
    label_files: Collection[str],
    problems: list[str],
    any_case: bool = False,
    words: bool = False,
) -> Iterator[Files]:
    """Each audio file below `root` that has one label file beside it, or with `words` a `.txt`.

    `audio` and `label_files` are endings in lower case. Files without partner or with several are
    problems. With `any_case`, letter case in names does not matter, and stems are in lower case.
    """
    kind_of = dict.fromkeys(audio, "audio") | dict.fromkeys(label_files, "labels")
    kind_of[".txt"] = "text"
    for folder, names in walk(root, problems):
        groups: dict[str, dict[str, list[str]]] = {}
        for name in names:
            kind = kind_of.get(os.path.splitext(name)[1].lower())
            if kind:
                stem = labels.stem(name.lower() if any_case else name)
                group = groups.setdefault(stem, {"audio": [], "labels": [], "text": []})
                group[kind].append(os.path.join(folder, name))
        for stem, files in sorted(groups.items()):
            if not files["audio"] and not files["labels"]:
                continue
            if words and not files["labels"]:
                files["labels"] = files["text"]
            if problem := _incomplete(os.path.join(folder, stem), files, label_files):
                problems.append(problem)
            else:
                text = files["text"][0] if files["text"] else None
                yield Files(folder, stem, files["audio"][0], files["labels"][0], text)


def _incomplete(path: str, files: dict[str, list[str]], label_files: Collection[str]) -> str | None:
    """What is wrong with the files of one recording."""
    for name in sorted(chain.from_iterable(files.values())):
        if len(name.splitlines()) != 1 or NO_UTF8.search(name):
            in_ascii = repr(name).replace("\\udc", "\\x")
            return f"{in_ascii}: a name with a line break, or not UTF-8; rename it"
    if len(files["labels"]) > 1 or len(files["audio"]) > 1:
        several = sorted(files["audio"] + files["labels"])
        return f"{path}: ambiguous, keep one of {', '.join(several)}"
    if not files["audio"]:
        return f"{files['labels'][0]}: has no audio file beside it; add it, or leave both out"
    if not files["labels"]:
        endings = " or ".join(label_files)
        return f"{files['audio'][0]}: has no {endings} file beside it; add it, or leave both out"
    return None
