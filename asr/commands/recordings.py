"""Recordings on a command line: the flags, folders and places of results that commands share."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from asr import audio
from asr.audio import AudioInfo, Waveform
from asr.audio.kinds import CONVERTED_ENDINGS
from asr.errors import FEW, DataError, cause_of, escaped, raise_problems, the_same
from asr.features.config import FeaturesConfig
from asr.files import in_a_line, kept
from asr.files.walking import walk
from asr.labels.formats import FORMATS


def tell_first_use() -> None:
    """From now on, what only the first use has to do is said on standard error."""
    kept.say = lambda sentence: print(sentence, file=sys.stderr, flush=True)


class Sentences:
    """Errors and warnings of many recordings, on standard error as they come.

    Of one cause a few are printed; `end` says of how many others there were more, and of which.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], list[str]] = defaultdict(list)

    def __call__(self, kind: str, name: str, sentence: str) -> None:
        """Print the sentence, after the recording's name where that does not begin it."""
        from tqdm import tqdm  # takes 0.05 s to import

        name, sentence = escaped(name), escaped(sentence)
        line = sentence if sentence.startswith(name) else f"{name}: {sentence}"
        names = self._names[kind, cause_of(line)]
        names.append(name)
        if len(names) <= FEW:
            tqdm.write(f"{kind}: {line}", file=sys.stderr)

    def end(self) -> None:
        """Print how often causes came that were printed a few times."""
        for (kind, _), names in self._names.items():
            if len(names) > FEW:
                others = the_same(names[FEW:])
                print(f"{kind} of {names[0]}, {others}", file=sys.stderr)
        self._names.clear()


def add_root(parser: argparse.ArgumentParser, what: str) -> None:
    """The option --root, the folder of audio or a corpus that is no longer where it was."""
    of = f"of {what} that has moved"
    parser.add_argument("--root", type=_folder, default="", metavar="FOLDER", help=of)


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder that exists")
    return text


def flags(nargs: str) -> argparse.ArgumentParser:
    """A parent parser: `nargs` recordings, --channel and --overwrite."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument
    recordings = "audio of any format, rate and length; - is standard input"
    add("file" if nargs == "?" else "files", nargs=nargs, metavar="FILE", help=recordings)
    add("--channel", type=int, metavar="N", help="read only this channel, 1 is the first")
    add("--overwrite", action="store_true", help="replace results that are already there")
    return parser


def expanded(paths: Sequence[str | Path], problems: list[str]) -> Iterator[tuple[str | Path, Path]]:
    """Each file, and all audio below each folder, with the path of its result without ending.

    Below a folder that path is relative to it. Audio of other kinds is among it, and a folder
    without any is given as it is: readers say why not. Folders that cannot be listed are problems.
    """
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
                f"{in_a_line(path)}: {header.duration_s:.0f} s, expected at most "
                f"{longest_s:.0f} s, the length of an utterance; cut it first"
            )
        rate, window = config.sample_rate, config.window_samples
        blocks = list(audio.stream(path, rate, window, said.append, channel))
    return np.concatenate(blocks), header, tuple(said)


def targets(
    places: Sequence[tuple[str | Path, Path]],
    format: str | None,
    output: str | Path | None,
    formats: Sequence[str],
) -> tuple[str, Sequence[Path | None]]:
    """The format, and the file that each result goes to; None: standard output.

    `places` are the recordings with the names of their results; the first of the `formats` is that
    where none is named. Raises `DataError` where two results, or one and a recording, would be the
    same file.
    """
    if output is None:
        if format == "textgrid" and len(places) > 1:
            raise DataError("a TextGrid holds one recording; give --output FOLDER for several")
        return format or "text", [None for _ in places]
    output = Path(output)
    endings = [FORMATS[one][0] for one in formats]
    ending = "" if output.is_dir() else output.suffix.lower()
    of_ending = next((one for one in formats if FORMATS[one][0].lower() == ending), None)
    if of_ending is None and ending[1:].isalpha():
        raise DataError(
            f"{in_a_line(output)}: expected a name that ends in {', '.join(endings)}, or a folder; "
            f"make a folder of this name first, if it is to be one"
        )
    if of_ending is None:
        format = format or formats[0]
        targets = [output / f"{name}{FORMATS[format][0]}" for _, name in places]
    else:
        if len(places) > 1:
            raise DataError(f"{output}: is one file for {len(places)} results; give a folder")
        if format not in (None, of_ending):
            raise DataError(
                f"{output}: is the name of a {of_ending} file, but --format is {format}; omit one"
            )
        format, targets = of_ending, [output]
    inputs = {Path(path).resolve() for path, _ in places}
    first: dict[str, str | Path] = {}
    problems = []
    for (path, _), target in zip(places, targets, strict=True):
        other = first.setdefault(str(target).lower(), path)
        if other is not path:
            problems.append(
                f"{path}: would be written to {target}, and so would {other}; rename one, leave "
                f"one out, or give the folder above them, whose tree is kept"
            )
        elif target.resolve() in inputs:
            problems.append(f"{path}: would be written to {target}, which is one of the inputs")
    raise_problems(problems)
    return format, targets
