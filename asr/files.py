"""Text files read by line, and files that get their name only when they are complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from asr.errors import FULL, DataError


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 text file with any line ends, without byte order mark.

    Raises `DataError` for a file that cannot be read, or that has another encoding.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as text ({error.strerror})") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path}: is UTF-16, expected UTF-8; convert it with `iconv -f utf-16 -t utf-8`"
        )
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(
            f"{path}:{line}: a NUL byte, expected UTF-8 text; if it is UTF-16 without a mark, "
            f"convert it with `iconv -f utf-16le -t utf-8`"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; if it is Latin-1, "
            f"convert it with `iconv -f latin1 -t utf-8`"
        ) from None
    # splitlines would also break at form feeds and at other characters inside a line
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_rows(path: str | Path, comment: str = "#") -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line of a text file, without blank lines and comments."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip() and not line.startswith(comment):
            yield number, line.split()


@contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`, which is renamed to `path` at the end.

    On an error it is removed. The error of a full disk names `path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno in FULL:
            error.filename = str(path)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
