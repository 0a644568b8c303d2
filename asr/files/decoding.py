"""JSON that is decoded strictly: exact types, each key once, and a sentence about what is wrong."""

import json
import re
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from asr.errors import DataError, did_you_mean

T = TypeVar("T")

# msgspec's names of types, as they are called in messages
JSON_TYPES = {
    "str": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object in braces",
}


def impossible(where: str, key: str, value: object, expected: str) -> DataError:
    """The error about a value of the right type that cannot be."""
    text = _short(json.dumps(value, ensure_ascii=False))
    return DataError(f"{where}: {key} is {text}, expected {expected}")


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


@cache
def _known(kind: Any) -> dict[str, None]:
    """The keys of a dataclass, in order."""
    return dict.fromkeys(field.name for field in fields(kind))


def _require_known(keys: Any, kind: Any, where: str, key: str = "") -> None:
    known = _known(kind)
    for unknown in keys:
        if unknown not in known:
            path = _short(f"{key}.{unknown}" if key else unknown)
            hint = did_you_mean(unknown, known)
            raise DataError(f"{where}: unknown key {path!r}, expected {', '.join(known)}{hint}")
    if not isinstance(keys, Mapping):
        return
    for name, hint in get_type_hints(kind).items():
        parts = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        within = keys.get(name)
        if parts and isinstance(within, dict):
            _require_known(within, parts[0], where, f"{key}.{name}" if key else name)


def _unless_none(kind: Any) -> Any:
    """The first type of a union with None; any other type as it is."""
    options = [part for part in get_args(kind) if part is not NoneType]
    return options[0] if NoneType in get_args(kind) and options else kind


def _explained(error: Exception, kind: Any, node: Any, where: str, key: str = "") -> str:
    """A sentence in the file's terms about msgspec's error: `Expected `float`, got `str` - at …`"""
    reason, _, path = str(error).partition(" - at ")
    for name, index in re.findall(r"\.([^.\[`]+)|\[(\d+)\]", path):
        kind = _unless_none(kind)
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
        known = ", ".join(get_type_hints(_unless_none(kind)))
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
