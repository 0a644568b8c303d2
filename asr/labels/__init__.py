"""Label files: phones with their times, as TIMIT's `.phn`, Praat's TextGrid or HTK's `.lab`.

Nothing here opens audio: its number of samples and sample rate are arguments.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from asr.errors import DataError
from asr.labels import lab, phn, textgrid
from asr.labels.checks import checked
from asr.records import Segment

READERS: dict[str, Callable[[Path, int], tuple[Segment, ...]]] = {
    ".phn": phn.read,
    ".textgrid": textgrid.read,
    ".lab": lab.read,
}
ENDINGS = tuple(READERS)


def read(path: str | Path, sample_rate: int = 16_000) -> tuple[Segment, ...]:
    """The segments as the file has them; `.phn` counts samples of `sample_rate`.

    Gaps between segments stay gaps. Raises `DataError` for a file that is not in its format.
    """
    path = Path(path)
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path}: expected a name that ends in {', '.join(ENDINGS)}")
    return READERS[path.suffix.lower()](path, sample_rate)


def read_checked(
    path: str | Path,
    samples: int,
    sample_rate: int,
    phones: Collection[str] | None = None,
    set_name: str = "",
) -> tuple[Segment, ...]:
    """The segments of audio of `samples`; every fault of times and phones is in one `DataError`.

    The last label is cut at the end of the audio, and `.phn` labels come in lower case. `phones`
    is the phone set, called `set_name` in messages; None accepts every phone.
    """
    path = Path(path)
    if path.suffix.lower() == ".phn":
        return phn.read_checked(path, samples, sample_rate, phones, set_name)
    return checked(str(path), read(path), samples / sample_rate, phones, set_name)


def write(path: str | Path, segments: Sequence[Segment], samples: int, sample_rate: int) -> None:
    """Write the segments of audio of `samples`, as `.phn` or else as TextGrid."""
    if Path(path).suffix.lower() == ".phn":
        phn.write(Path(path), segments, sample_rate)
    else:
        textgrid.write(Path(path), segments, samples / sample_rate)


def stem(path: str | Path) -> str:
    """The name without its ending: `SA1` of `SA1.PHN`, `SA1.WAV` and `SA1.WAV.wav`."""
    stem = Path(path).stem
    return stem[:-4] if stem.lower().endswith(".wav") else stem


def beside(audio: str | Path) -> Path | None:
    """The label file in the folder of an audio file with its name, in any letter case.

    Raises `DataError` where there are several.
    """
    audio = Path(audio)
    paths = [
        path
        for path in sorted(audio.parent.iterdir())
        if path.suffix.lower() in ENDINGS and stem(path).lower() == stem(audio).lower()
    ]
    if len(paths) > 1:
        raise DataError(f"{audio}: ambiguous, keep one of {', '.join(map(str, paths))}")
    return paths[0] if paths else None
