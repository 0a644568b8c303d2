"""Recordings on a command line: the flags, folders and places of results that commands share."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from asr import audio
from asr.audio import AudioInfo, Waveform
from asr.audio.kinds import CONVERTED_ENDINGS
from asr.corpora.trees import walk
from asr.errors import DataError, raise_problems
from asr.features import FeaturesConfig


def flags(nargs: str) -> argparse.ArgumentParser:
    """A parent parser: `nargs` recordings, --channel and --overwrite."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    recordings = "audio of any format, rate and length; - is standard input"
    add("file" if nargs == "?" else "files", nargs=nargs, metavar="FILE", help=recordings)
    add("--channel", type=int, metavar="N", help="read only this channel, 1 is the first")
    add("--overwrite", action="store_true", help="replace results that are already there")
    return parser


def expanded(paths: Sequence[str | Path]) -> Iterator[tuple[str | Path, Path]]:
    """Each file, and all audio below each folder, with the path of its result without ending.

    Below a folder that path is relative to it. Audio of other kinds is among it, and a folder
    without any is given as it is: readers say why not. Raises `DataError` for folders that cannot
    be listed.
    """
    problems: list[str] = []
    for path in paths:
        inside = [
            Path(folder, name)
            for folder, names in (walk(Path(path), problems) if Path(path).is_dir() else ())
            for name in names
            if name.lower().endswith(audio.ENDINGS + CONVERTED_ENDINGS)
        ]
        yield from ((one, one.relative_to(path).with_suffix("")) for one in inside)
        if not inside:
            yield path, Path("stdin" if str(path) == "-" else Path(path).stem)
    raise_problems(problems)


def read(
    path: str | Path, config: FeaturesConfig, longest_s: float, channel: int | None
) -> tuple[Waveform, AudioInfo, tuple[str, ...]]:
    """A whole recording (S,) at the rate of the features, the file's header, and warnings.

    Raises `DataError` as `audio.stream`, and for a recording of more than `longest_s`.
    """
    said: list[str] = []
    with audio.on_disk(path):
        header = audio.info(path)
        if header.duration_s > longest_s:
            raise DataError(
                f"{path}: {header.duration_s:.0f} s, expected at most {longest_s:.0f} s, the "
                f"length of an utterance; cut it first"
            )
        rate, window = config.sample_rate, config.window_samples
        blocks = list(audio.stream(path, rate, window, said.append, channel))
    return np.concatenate(blocks), header, tuple(said)
