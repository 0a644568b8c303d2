"""Text and JSON that is read line by line, the names in it, and files written as a whole."""

import fcntl
import glob
import json
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType
from typing import IO, Any, TypeVar, cast, get_args, get_type_hints

from asr.errors import FULL, DataError, raise_problems

T = TypeVar("T")

MOST_NAMES = 1 << 16  # that are remembered as sound
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


def shown(path: str | Path) -> str:
    """The name of a file as text; bytes of it that are not UTF-8 become escapes, `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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


def impossible(where: str, key: str, value: object, expected: str) -> DataError:
    """The error about a value of the right type that cannot be."""
    text = _short(json.dumps(value, ensure_ascii=False))
    return DataError(f"{where}: {key} is {text}, expected {expected}")


# msgspec's names of types, as they are called in messages
JSON_TYPES = {
    "str": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object in braces",
}


def decode(line: bytes | str, kind: type[T], where: str, other_keys: bool = False) -> T:
    """One JSON value as a `kind`: a dataclass of an object, a NamedTuple of a list, or `list[…]`.

    Types are exact (RFC 8259, so no NaN; an integer is a number too). Keys are once and, without
    `other_keys`, all known.
    `DataError` begins with `where` (file and line), then has the key, what was read and what was
    expected.
    """
    import msgspec  # which takes longer to import than `asr score --help` to answer

    raw = line if isinstance(line, bytes) else line.encode(errors="surrogatepass")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    decoder, raw_keys = _decoders(cast(Hashable, kind))
    try:
        if raw_keys is not None:
            keys = raw_keys(raw)
            if raw.count(b'":') != len(keys):  # or a colon in text, or an object within
                json.loads(raw, object_pairs_hook=lambda pairs: _once(pairs, where))
            _require_known([] if other_keys else list(keys), kind, where)
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
    text = _short(" ".join(raw.decode(errors="backslashreplace").split())) or "nothing"
    raise DataError(f"{where}: found {text}, expected one JSON value in UTF-8 ({reason})")


def convert(node: Any, kind: type[T], where: str, key: str = "") -> T:
    """A value that was decoded before, at `key` of its file, as a `kind`; raises as `decode`."""
    import msgspec

    try:
        if is_dataclass(kind) and isinstance(node, dict):
            _require_known(node, kind, where, key)
        return msgspec.convert(node, kind)
    except (RecursionError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: {key} cannot be read ({error})") from None
    except msgspec.ValidationError as error:
        raise DataError(_explained(error, kind, node, where, key)) from None


def require_json(node: Any, where: str, key: str) -> None:
    """Raise `DataError` for a value with NaN or half a character in it, which `json` lets pass."""
    import msgspec

    try:
        msgspec.json.decode(json.dumps(node))
    except (msgspec.DecodeError, RecursionError):
        raise DataError(f"{where}: {_not_json(node, key)}") from None


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


def _require_known(keys: Any, kind: Any, where: str, key: str = "") -> None:
    known = [field.name for field in fields(kind)]
    for unknown in keys:
        if unknown not in known:
            near = get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            path = f"{key}.{unknown}" if key else unknown
            raise DataError(
                f"{where}: unknown key {_short(path)!r}, expected {', '.join(known)}{hint}"
            )
    for name, hint in get_type_hints(kind).items() if isinstance(keys, Mapping) else ():
        parts = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        within = keys.get(name)
        if parts and isinstance(within, dict):
            _require_known(within, parts[0], where, f"{key}.{name}" if key else name)


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
    if not reason.startswith(("Expected", "Number")):  # a sentence of the dataclass itself
        return f"{where}: {reason}"
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


def moved(path: str, root: str) -> tuple[str, str]:
    """The folder that `path` began with, and the folder below `root` where the file is now.

    Both are "" where the file has not moved, or is not below `root` either.
    """
    parts = Path(path).parts
    for n in range(1, 0 if os.path.exists(path) else len(parts)):
        if root and os.path.exists(Path(root, *parts[n:])):
            return str(Path(*parts[:n])), str(Path(root).absolute())
    return "", ""


def require_new(paths: Iterable[str | Path], overwrite: bool) -> None:
    """Raise one `DataError` for all files that cannot be written, before the work.

    It names each that is already there, unless `overwrite`; each that is a folder; and each file
    where a folder is needed.
    """
    chosen = [Path(path) for path in paths]
    problems = []
    for folder in dict.fromkeys(path.parent for path in chosen):
        nearest = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
        if not nearest.is_dir():
            problems.append(f"{nearest}: is a file, expected a folder to write into")
    for path in chosen:
        if path.is_dir():
            problems.append(f"{path}: is a folder, expected the name of a file to write")
        elif not overwrite and (path.is_file() or path.is_symlink()):
            problems.append(
                f"{path}: already exists and would be overwritten; choose another place, move it "
                f"away, or set --overwrite"
            )
    raise_problems(dict.fromkeys(problems))


@contextmanager
def atomic_open(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`, which is renamed to `path` at the end.

    On an error it is removed; what a killed process left, the next writer of `path` replaces. The
    error of a full disk names `path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path, mode) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        if error.errno in FULL:
            error.filename = str(path)
        raise


def _temporary(path: Path, mode: str) -> IO[Any]:
    """`.NAME.asr-part`, locked, maybe left by a killed process; where that is in use, another."""
    encoding = None if "b" in mode else "utf-8"
    with suppress(OSError):
        own = path.with_name(f".{path.name}.asr-part")
        return open(own, mode, encoding=encoding, opener=_locked)
    return open(path.with_name(f".{path.name}.{secrets.token_hex(4)}"), mode, encoding=encoding)


def _locked(name: str, flags: int) -> int:
    """An `opener` that empties a file only when no other process is writing it."""
    file = os.open(name, flags & ~os.O_TRUNC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(name).st_ino != os.fstat(file).st_ino:
            raise BlockingIOError  # renamed in between
        os.ftruncate(file, 0)
    except BaseException:
        os.close(file)
        raise
    return file


@contextmanager
def temporary_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `place` that is removed at the end; so are those that killed processes left.

    Its name is `prefix` and eight characters.
    """
    for left in place.glob(f"{glob.escape(prefix)}????????"):
        with suppress(OSError), _locked_folder(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        with _locked_folder(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """Raises `OSError` where a living process has locked it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
