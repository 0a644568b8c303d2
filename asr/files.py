"""Text files read by line, the names in them, and files that get theirs when they are complete."""

import os
import secrets
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from asr.errors import FULL, DataError, raise_problems

# Unicode's categories of characters that a name cannot have, as they are called in messages.
UNFIT = {
    "Zs": "white space",
    "Zl": "a line break",
    "Zp": "a line break",
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half of a surrogate pair",
}


def read_lines(path: str | Path, utf16: bool = False) -> list[str]:
    """The lines of a UTF-8 text file with any line ends, without byte order mark.

    With `utf16` that encoding is read too; without a mark, by a first character that is ASCII.
    Raises `DataError` for a file that cannot be read, or that has another encoding.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read as text ({error.strerror})") from error
    encoding = "utf-8-sig"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif utf16 and 0 in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    if encoding == "utf-16" and not utf16:
        raise DataError(
            f"{path}: is UTF-16, expected UTF-8; convert it with `iconv -f utf-16 -t utf-8`"
        )
    if encoding == "utf-8-sig" and b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + 1
        raise DataError(
            f"{path}:{line}: a NUL byte, expected UTF-8 text; if it is UTF-16 without a mark, "
            f"convert it with `iconv -f utf-16le -t utf-8`"
        )
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise DataError(f"{path}: is not complete UTF-16 ({error.reason})") from None
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; if it is Latin-1, "
            f"convert it with `iconv -f latin1 -t utf-8`"
        ) from None
    # splitlines would also break at form feeds and at other characters inside a line
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_rows(
    path: str | Path, maxsplit: int = -1, comment: str = "#"
) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line of a text file, without blank lines and comments."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip() and not line.startswith(comment):
            yield number, line.strip().split(maxsplit=maxsplit)


def read_table(path: str | Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """The place (file and line) and the rest of each line `id rest`, by id.

    Comments are skipped as in `read_rows`; lines with an id that is already there are problems.
    """
    table: dict[str, tuple[str, str]] = {}
    for number, (id_, *rest) in read_rows(path, maxsplit=1):
        place = f"{path}:{number}"
        if table.setdefault(id_, (place, "".join(rest)))[0] != place:
            first = table[id_][0].rpartition(":")[2]
            problems.append(f"{place}: {id_} is a duplicate of line {first}; remove one of them")
    return table


def name(text: str, where: str, what: str) -> str:
    """An identifier, a speaker or a phone as it enters from a file: in Unicode's form NFC.

    `where` (file and line) and `what` it is begin the message. Raises `DataError` for one that is
    empty or that has a blank, a line break, a control or an invisible character in it.
    """
    if not text:
        raise DataError(f"{where}: {what} is empty, expected at least one character")
    for character in "" if text.isprintable() and " " not in text else text:
        if (unfit := UNFIT.get(unicodedata.category(character))) is not None:
            raise DataError(
                f"{where}: {what} {text!r} has {unfit} in it (U+{ord(character):04X}), expected "
                f"one word; remove or replace it"
            )
    return unicodedata.normalize("NFC", text)


def require_new(paths: Iterable[str | Path], overwrite: bool) -> None:
    """Raise one `DataError` that names each file that is already there, unless `overwrite`."""
    present = [] if overwrite else [path for path in paths if os.path.lexists(path)]
    raise_problems(
        f"{path}: already exists and would be overwritten; choose another --output, move it away, "
        f"or set --overwrite"
        for path in present
    )


@contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`, which is renamed to `path` at the end.

    On an error it is removed. The error of a full disk names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in FULL:
            error.filename = str(path)
        raise
