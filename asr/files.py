"""Text and JSON that is read line by line, the names in it, and files written as a whole."""

import json
import os
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType
from typing import IO, Any, TypeVar, get_args, get_type_hints

from asr.errors import FULL, DataError, raise_problems

T = TypeVar("T")

# Unicode's categories of characters that a name cannot have, as they are called in messages.
UNFIT = {
    "Zs": "white space",
    "Zl": "a line break",
    "Zp": "a line break",
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half of a surrogate pair",
}


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


# msgspec's names of types, as they are called in messages
JSON_TYPES = {
    "str": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object in braces",
}


def decode(line: bytes | str, kind: type[T], where: str) -> T:
    """One JSON value as a `kind`: a dataclass of an object, a NamedTuple of a list, or `list[…]`.

    Types are exact (RFC 8259, so no NaN; an integer is a number too), and keys are once and known.
    `DataError` begins with `where` (file and line), then has the key, what was read and what was
    expected.
    """
    import msgspec  # which takes longer to import than `asr score --help` to answer

    raw = line if isinstance(line, bytes) else line.encode(errors="surrogatepass")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    decoder, raw_keys = _decoders(kind)
    try:
        if raw_keys is not None:
            keys = raw_keys(raw)
            if raw.count(b'":') != len(keys):  # or a colon in text, or an object within
                json.loads(raw, object_pairs_hook=lambda pairs: _once(pairs, where))
            _require_known(keys, kind, where)
        value: T = decoder(raw)
        return value
    except (msgspec.DecodeError, UnicodeError) as error:
        reason = str(error).removeprefix("JSON is ")
        with suppress(ValueError, RecursionError):
            node = json.loads(raw, parse_int=lambda digits: int(digits[:400]))  # takes NaN too
            if isinstance(error, msgspec.ValidationError):
                reason = _explained(error, kind, node, where)
            else:
                reason = f"{where}: {_not_json(node)}"
        if reason.startswith(where):
            raise DataError(reason) from None
    except RecursionError:
        reason = "brackets within brackets, too deep"
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        reason = "a number with too many digits"
    text = _short(raw.decode(errors="backslashreplace").strip()) or "nothing"
    raise DataError(f"{where}: found {text}, expected one JSON value in UTF-8 ({reason})")


def convert(node: Any, kind: type[T], where: str, key: str = "") -> T:
    """A value that was decoded before, at `key` of its file, as a `kind`; raises as `decode`."""
    import msgspec

    try:
        if is_dataclass(kind) and isinstance(node, dict):
            _require_known(node, kind, where, key)
        return msgspec.convert(node, kind)
    except RecursionError:
        raise DataError(f"{where}: {key} is nested deeper than can be read") from None
    except msgspec.ValidationError as error:
        raise DataError(_explained(error, kind, node, where, key)) from None


@cache
def _decoders(kind: Any) -> tuple[Callable[[bytes], Any], Callable[[bytes], dict[str, Any]] | None]:
    """The decoder of a type and, for a dataclass, one that only reads keys."""
    import msgspec

    keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode if is_dataclass(kind) else None
    return msgspec.json.Decoder(kind).decode, keys


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise DataError(f"{where}: key {key!r} is a duplicate; remove one of them")
    return dict(pairs)


def _require_known(keys: Iterable[str], kind: Any, where: str, key: str = "") -> None:
    known = [field.name for field in fields(kind)]
    for unknown in keys:
        if unknown not in known:
            near = get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            path = f"{key}.{unknown}" if key else unknown
            raise DataError(
                f"{where}: unknown key {_short(path)!r}, expected {', '.join(known)}{hint}"
            )


def _explained(error: Exception, kind: Any, node: Any, where: str, key: str = "") -> str:
    """A sentence in the file's terms about msgspec's error: `Expected `float`, got `str` - at …`"""
    reason, _, path = str(error).partition(" - at ")
    for name, index in re.findall(r"\.([^.\[`]+)|\[(\d+)\]", path):
        options = [part for part in get_args(kind) if part is not NoneType]
        if NoneType in get_args(kind) and options:
            kind = options[0]
        if index and hasattr(kind, "_fields"):
            name = kind._fields[int(index)]
        key += (f".{name}" if key else name) if name else f"[{index}]"
        hints = get_type_hints(kind) if isinstance(kind, type) else {}
        kind = hints.get(name) if name else next(iter(get_args(kind)), None)
        try:
            node = node[int(index)] if index else node[name]
        except (LookupError, TypeError):
            node = None
    if lacking := re.search("missing required field `(.*)`", reason):
        key = f"{key}.{lacking[1]}" if key else lacking[1]
        known = ", ".join(field.name for field in fields(kind)) if is_dataclass(kind) else ""
        return f"{where}: no key {key}, expected {known}; add it"
    expected = re.sub("Expected |, got.*", "", reason)
    expected = expected.replace("Number out of range", "a number below 1e308")
    expected = re.sub("`([^`]*)`", lambda m: _in_words(m[1]), expected).replace(" | ", " or ")
    if "`str" in reason and isinstance(node, int | float):
        expected += "; put it in quotes"
    text = _short(json.dumps(node, ensure_ascii=False))
    return f"{where}: {f'{key} is' if key else 'found'} {text}, expected {expected}"


def _not_json(node: Any, key: str = "") -> str:
    """The first value that Python's json takes and JSON does not allow: NaN, half a character."""
    import msgspec

    if isinstance(node, dict | list):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            try:
                msgspec.json.decode(json.dumps(child))
            except msgspec.DecodeError:
                within = f"{key}[{name}]" if isinstance(node, list) else f"{key}.{name}".strip(".")
                return _not_json(child, within)
    return f"{key or 'found'} is {_short(json.dumps(node))}, expected a value that JSON allows"


def _in_words(types: str) -> str:
    return " or ".join(JSON_TYPES.get(name, name) for name in types.split(" | "))


def _short(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"


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
