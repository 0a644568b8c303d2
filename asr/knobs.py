"""Knobs as data: default, help and limits of a configuration's key, in one line.

    layers: int = knob(3, "recurrent layers; 0: the encoder stacks frames only", at_least=0)

Limits are checked when a configuration is made, and printed by `asr train --help`; a number without
an upper limit of its own is finite, and below 2^31 if it is whole. What two keys may not be at the
same time is code, in the configuration's own `__post_init__`.
"""

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, ClassVar, NoReturn, TypedDict, Unpack

REQUIRED: Any = MISSING  # in place of the default of a key that must be set


class Limits(TypedDict, total=False):
    """What a value must be; all that are given must hold."""

    at_least: float
    more_than: float
    at_most: float
    less_than: float
    one_of: Collection[object]
    filled: bool  # text or a list that is not empty


IS_WITHIN: dict[str, Callable[[Any, Any], bool]] = {
    "at_least": operator.ge,
    "more_than": operator.gt,
    "at_most": operator.le,
    "less_than": operator.lt,
    "one_of": lambda value, known: value in known,
    "filled": lambda value, _: bool(value.strip() if isinstance(value, str) else value),
}


def knob(default: Any, help: str = "", **limits: Unpack[Limits]) -> Any:
    """The field of a dataclass, with its help and its limits.

    In a subclass, a field with another default keeps the help, and the limits if it sets none.
    """
    metadata: dict[str, Any] = {"help": help} if help else {}
    if limits:
        metadata["limits"] = limits
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


class Knobs:
    """Base of a dataclass of knobs; `group` comes before its keys on a command line."""

    group: ClassVar[str] = ""

    def __init_subclass__(cls, group: str | None = None) -> None:
        if group is not None:
            cls.group = group

    def __post_init__(self) -> None:
        """ValueError for the first value that is beyond a limit, with its full key."""
        for part in fields(self):  # type: ignore[arg-type]
            value, within = getattr(self, part.name), limits(type(self), part.name)
            if not all(IS_WITHIN[name](value, limit) for name, limit in within.items()):
                self.refuse(part.name, f"expected {in_words(within)}")
            numbers = value if isinstance(value, list) else [value]
            if not within.keys() & {"at_most", "less_than"}:
                if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
                    self.refuse(part.name, "expected a finite number")
                if any(isinstance(one, int) and abs(one) >= 2**31 for one in numbers):
                    self.refuse(part.name, "expected a whole number below 2^31")

    def refuse(self, key: str, reason: str) -> NoReturn:
        """ValueError for the value of a key: its full key, the value, and what is wrong."""
        raise ValueError(f"{full_key(type(self), key)} is {getattr(self, key)!r}, {reason}")


def full_key(knobs: type[Knobs], name: str) -> str:
    """The name of a key on a command line, `encoder.layers`."""
    return f"{knobs.group}.{name}" if knobs.group else name


def limits(knobs: type[Knobs], name: str) -> Limits:
    """The limits of a key."""
    within: Limits = _metadata(knobs, name)["limits"]
    return within


def in_words(limits: Mapping[str, Any]) -> str:
    """Limits as a phrase: `0…1`, `at least 0 and less than 1`, `kaldi or librosa`."""
    if limits.keys() == {"at_least", "at_most"}:
        return f"{limits['at_least']}…{limits['at_most']}"
    words = []
    for name, limit in limits.items():
        if name == "one_of":
            words.append(" or ".join(", ".join(map(str, limit)).rsplit(", ", 1)))
        elif name == "filled":
            words.append("a value that is not empty")
        else:
            words.append(f"{name.replace('_', ' ')} {limit}")
    return " and ".join(words)


def described(knobs: type[Knobs], beside: type[Knobs] | None = None) -> Iterator[tuple[str, str]]:
    """`key=default` and help of each knob; with `beside`, of those that are otherwise there."""
    for part in fields(knobs):  # type: ignore[arg-type]
        other = getattr(beside, "__dataclass_fields__", {}).get(part.name)
        metadata = _metadata(knobs, part.name)
        if part is not other and metadata["help"]:
            limits = {k: limit for k, limit in metadata["limits"].items() if k != "filled"}
            text = metadata["help"] + (f" ({in_words(limits)})" if limits else "")
            yield f"{full_key(knobs, part.name)}={_default(part)}", text


def _metadata(knobs: type[Knobs], name: str) -> dict[str, Any]:
    merged: dict[str, Any] = {"help": "", "limits": {}}
    for base in reversed(knobs.__mro__):
        part: Field[Any] | None = getattr(base, "__dataclass_fields__", {}).get(name)
        merged.update(part.metadata if part else {})
    return merged


def _default(part: "Field[Any]") -> str:
    if part.default_factory is not MISSING:
        return "[" + ",".join(map(str, part.default_factory())) + "]"
    texts = {None: "null", True: "true", False: "false", MISSING: "…"}
    is_number = isinstance(part.default, int | float) and not isinstance(part.default, bool)
    return str(part.default) if is_number else texts.get(part.default, str(part.default))
