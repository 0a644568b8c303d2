"""Text files that are read line by line, and the names in them."""

import bz2
import gzip
import lzma
import os
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import DataError, escaped
from asr.files.shards import file_of

MOST_NAMES = 1 << 16  # that are remembered as sound
BLOCK = 1 << 18  # bytes
COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}

# Unicode's categories of characters that a name cannot have, as they are called in messages.
UNFIT = {
    "Zs": "white space",
    "Zl": "a line break",
    "Zp": "a line break",
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half of a surrogate pair",
}


def require_kind(path: str | Path, expected: str) -> None:
    """Raise `DataError` for a folder, a checkpoint or JSON lines in place of another of them.

    Audio and other files are left to their readers.
    """
    if not os.fspath(path):
        raise DataError(f"the path is empty, expected that of {expected}")
    path = Path(path)
    kind = "a folder" if path.is_dir() else ""
    if path.is_file():
        with open(path, "rb") as file:
            head = file.read(9)
        kind = "JSON text" if head[:1] == b"{" else "a checkpoint" if head[7:] == b"\0{" else ""
    if kind and kind not in expected:
        raise DataError(f"{path}: is {kind}, expected {expected}")


def read_lines(path: str | Path, utf16: bool = False) -> list[str]:
    """The lines of a UTF-8 text file with any line ends, without byte order mark.

    The file may be compressed with gzip, xz or bzip2. With `utf16` that encoding is read too;
    without a mark, by a first character that is ASCII. Raises `DataError` for a file that cannot be
    read, or that has another encoding.
    """
    raw = b"".join(block for _, block in _blocks(path, "lines of text or JSON text"))
    encoding = ""
    if utf16 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif utf16 and 0 in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    try:
        return _unix(raw.decode(encoding) if encoding else _decoded(raw, path)).split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not complete UTF-16 ({error.reason})") from None


def read_blocks(path: str | Path, expected: str = "lines of text") -> Iterator[str]:
    """The text of `read_lines`, some thousand whole lines at a time, each with its `\\n`."""
    for first, raw in _blocks(path, expected):
        yield _unix(_decoded(raw, path, first))


def _blocks(path: str | Path, expected: str) -> Iterator[tuple[int, bytes]]:
    """Whole lines, decompressed, and the number of the first of them."""
    line = 1
    try:
        require_kind(path, expected)
        with open(path, "rb") as plain:
            head = plain.peek(6)  # a pipe has no way back
            opener = next((COMPRESSED[one] for one in COMPRESSED if head.startswith(one)), None)
            with opener(plain) if opener else plain as file:
                while raw := file.read(BLOCK) + file.readline():
                    yield line, raw
                    line += raw.count(b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(
            f"{path}:{line}: compressed data that is damaged or cut off after about this line "
            f"({error}); copy or download the file again"
        ) from error
    except OSError as error:
        reason = error.strerror or f"damaged data after about line {line}: {error}"  # of bzip2
        raise DataError(f"{path}: cannot be read as text ({reason})") from error


def _unix(text: str) -> str:
    # splitlines would also break at form feeds and at other characters inside a line
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(raw: bytes, path: str | Path, first: int = 1) -> str:
    """UTF-8 text that begins in line `first` of a file; `DataError` for any other encoding."""
    if first == 1 and raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            f"{path}: is UTF-16, expected UTF-8; convert it with `iconv -f utf-16 -t utf-8`"
        )
    if b"\0" in raw:
        line = raw.count(b"\n", 0, raw.index(b"\0")) + first
        raise DataError(
            f"{path}:{line}: a NUL byte, expected UTF-8 text; if it is UTF-16 without a mark, "
            f"convert it with `iconv -f utf-16le -t utf-8`"
        )
    try:
        return raw.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + first
        raise DataError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; if it is Latin-1, "
            f"convert it with `iconv -f latin1 -t utf-8`"
        ) from None


def read_rows(
    path: str | Path, maxsplit: int = -1, comment: str = "#", utf16: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line of a text file, without blank lines and comments."""
    for number, line in enumerate(read_lines(path, utf16), start=1):
        if line.strip() and not line.startswith(comment):
            yield number, line.strip().split(maxsplit=maxsplit)


def read_table(path: str | Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """The place (file and line) and the rest of each line `id rest`, by id.

    Comments are skipped as in `read_rows`; lines with an id that is already there are problems.
    """
    table: dict[str, tuple[str, str]] = {}
    for number, (id_, *rest) in read_rows(path, maxsplit=1):
        place, id_ = f"{path}:{number}", unicodedata.normalize("NFC", id_)
        if table.setdefault(id_, (place, "".join(rest)))[0] != place:
            first = table[id_][0].rpartition(":")[2]
            problems.append(f"{place}: {id_} is a duplicate of line {first}; remove one of them")
    return table


def shown(path: str | Path) -> str:
    """The name of a file as text; bytes of it that are not UTF-8 become escapes, `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def in_a_line(path: str | Path) -> str:
    """The name of a file in a message: as it is shown, with its control characters escaped."""
    return escaped(shown(path))


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


_names: set[str] = set()  # that `name` returns as they are


def names(texts: Sequence[str], where: str, what: str) -> tuple[str, ...]:
    """As `name`, of a list: fast where names are few and come often, as phones do."""
    if not _names.issuperset(texts):
        texts = [name(text, where, f"{what}[{n}]") for n, text in enumerate(texts)]
        if len(_names) > MOST_NAMES:
            _names.clear()
        _names.update(texts)
    return tuple(texts)


def moved(path: str, root: str) -> tuple[str, str]:
    """The folder that `path` began with, and the folder below `root` where the file is now.

    Both are "" where the file has not moved, or is not below `root` either.
    """
    parts = Path(path).parts
    for n in range(1, 0 if os.path.exists(file_of(path)) else len(parts)):
        if root and os.path.exists(file_of(Path(root, *parts[n:]))):
            return str(Path(*parts[:n])), str(Path(root).absolute())
    return "", ""
