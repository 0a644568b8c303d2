"""Scoring protocols: what is done to both sides before they are aligned.

The protocols are in `asr/tables/protocols.toml`, each with its source. A phone that a protocol does
not know is an error.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from asr.errors import DataError
from asr.files import names, read_rows
from asr.phones import TABLES, fold_to_39, fold_to_arpabet, phone_set, unknown_phone
from asr.scoring.transcripts import DELETED, KNOWN, Phones, Transcripts, code_of

Side = Literal["reference", "hypothesis"]
EVERY_PHONE = "*"
WORDS = "words"  # the protocol of which the symbols are words
FOLDINGS = {"timit39": fold_to_39, "arpabet39": fold_to_arpabet}


@dataclass(frozen=True)
class Protocol:
    """One way of scoring. `target` maps a label to the phone scored, or to None if it is deleted.

    `target` None scores labels as written. `releases` maps a closure to the phones that it is
    joined to when they follow. A run of phones that are `merged` on a side counts as one.
    """

    name: str
    says: str
    source: str
    set_name: str = "the labels"
    target: Mapping[str, str | None] | None = None
    releases: Mapping[str, frozenset[str]] = field(default_factory=dict)
    merged: Mapping[str, frozenset[str]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def apply(self, phones: Sequence[str], side: Side) -> tuple[tuple[str, ...], Sequence[int]]:
        """Phones as scored, and for each the index of the label it comes from.

        A merged run takes the index of its first label. Raises `DataError` on an unknown label.
        """
        marked = self._marked(Phones.of(phones).code, side)
        indices = tuple(n for n, character in enumerate(marked) if character != DELETED)
        return tuple(Phones(marked.replace(DELETED, ""))), indices

    def _marked(self, code: str, side: Side) -> str:
        """What is scored of each label of a `Phones.code`, or DELETED."""
        for closure in self._closures:
            code = closure.sub(DELETED, code)
        code = code.translate(self._folded)
        if side in self._runs:
            code = self._runs[side].sub(lambda m: m[1] + DELETED * (len(m[0]) - 1), code)
        return code

    @cached_property
    def _folded(self) -> "_Folded":
        return _Folded(self)

    @cached_property
    def _closures(self) -> list[re.Pattern[str]]:
        """Each closure before one of its releases."""
        rules = self.releases.items()
        return [re.compile(f"{_any_of([one])}(?={_any_of(releases)})") for one, releases in rules]

    @cached_property
    def _runs(self) -> dict[str, re.Pattern[str]]:
        """Of each side, runs of a phone that is merged, also with deleted phones in between."""
        some = {side: merged for side, merged in self.merged.items() if merged}
        phone = {
            side: f"[^{DELETED}]" if EVERY_PHONE in merged else _any_of(merged)
            for side, merged in some.items()
        }
        return {side: re.compile(f"({one})(?:{DELETED}*\\1)+", re.S) for side, one in phone.items()}

    def apply_all(self, transcripts: Transcripts, side: Side) -> Transcripts:
        """The transcripts as scored; one `DataError` lists all unknown labels."""
        if self.name == WORDS:
            return _of_words(transcripts, side)
        if self.target is None and not self.releases and not self.merged.get(side):
            return transcripts
        items = {}
        try:
            for id_, one in transcripts.items.items():
                marked = self._marked(Phones.of(one.phones).code, side)
                times = one.times_s and tuple(
                    time
                    for time, phone in zip(one.times_s, marked, strict=True)
                    if phone != DELETED
                )
                phones = Phones(marked.replace(DELETED, ""))
                items[id_] = one._replace(phones=phones, times_s=times)
        except DataError:
            raise self._unknown_labels(transcripts, side) from None
        return replace(transcripts, items=items)

    def _unknown_labels(self, transcripts: Transcripts, side: Side) -> DataError:
        assert self.target is not None
        every = transcripts.items.values()
        outside = Counter(p for t in every for p in t.phones if p not in self.target)
        first = next(t for t in every if not outside.keys().isdisjoint(t.phones))
        listed = ", ".join(f"{phone!r} ({n}×)" for phone, n in outside.most_common(20))
        more = f" and {len(outside) - 20} more" if len(outside) > 20 else ""
        hint = unknown_phone(outside.most_common(1)[0][0], self.target, self.set_name)
        if not "".join(outside).isascii():
            hint += f"; for IPA set {transcripts.option('symbols', 'ipa')}"
        return DataError(
            f"{transcripts.where(first)}: the {side} holds {len(outside)} labels outside "
            f"{self.set_name}, first in {first.id}: {listed}{more}; {hint}; "
            f"set {transcripts.option('protocol', 'none')}"
            + ("" if transcripts.in_memory else " without --map, or give a --map that has them")
        )


class _Folded(dict[int, str]):
    """The character of `Phones` that is scored for each one that occurs, or DELETED."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol

    def __missing__(self, label: int) -> str:
        phone, target = KNOWN[label], self.protocol.target
        if phone and target is not None:
            if phone not in target:
                raise DataError(unknown_phone(phone, target, self.protocol.set_name))
            phone = target[phone] or ""
        self[label] = code_of(phone) if phone else DELETED
        return self[label]


def _any_of(phones: Iterable[str]) -> str:
    return f"[{''.join(re.escape(code_of(phone)) for phone in sorted(phones))}]"


def protocol_names() -> tuple[str, ...]:
    """The names of all protocols, in the order of their file."""
    return tuple(_definitions())


def _of_words(transcripts: Transcripts, side: Side) -> Transcripts:
    """Words in place of phones, without times; `DataError` where a transcript has none."""
    items = {}
    for id_, one in transcripts.items.items():
        if one.words is None and (one.phones or side == "reference"):
            raise DataError(
                f"{transcripts.where(one)}: the {side} {id_} has no words, expected a manifest of "
                f"a corpus with a lexicon, and hypotheses of search=words or the JSON of "
                f"`asr transcribe --words`"
            )
        words = Phones.of((one.words or "").split())
        items[id_] = one._replace(phones=words, times_s=None)
    return replace(transcripts, items=items)


def protocols_named(name: str, map_file: str | Path | None = None) -> list[Protocol]:
    """The protocol of this name; for "all", every one whose folding `map_file` can replace."""
    if name != "all":
        return [protocol(name, map_file)]
    every = [protocol(known) for known in protocol_names()]
    return [protocol(p.name, map_file) for p in every if map_file is None or not p.releases]


def protocol(name: str, map_file: str | Path | None = None) -> Protocol:
    """The protocol of this name; `DataError` names the known ones.

    `map_file` replaces the folding: two columns `label phone`, or Kaldi's three of 61, 48 and 39
    phones; a label alone on its line is deleted.
    """
    if name == WORDS and map_file is None:
        return Protocol(WORDS, "words in lower case, of word error rate", "sclite -i")
    if name not in protocol_names():
        known = ", ".join((*protocol_names(), WORDS))
        raise DataError(f"unknown protocol {name!r}: known are {known}")
    entry = _definitions()[name]
    target, set_name = _target(entry, map_file)
    says = entry["says"]
    if map_file is not None:
        says = f"map {Path(map_file).name}" + (f", {says}" if "fold" in entry else "")

    def rule(key: str) -> frozenset[str]:
        return frozenset(entry.get(key, ()))

    merged = {side: rule(f"merge_{side}") for side in ("reference", "hypothesis")}
    releases, optional = _releases(entry), rule("optional")
    return Protocol(name, says, entry["source"], set_name, target, releases, merged, optional)


@cache
def _definitions() -> dict[str, dict[str, Any]]:
    return tomllib.loads((TABLES / "protocols.toml").read_text(encoding="utf-8"))


def _releases(entry: Mapping[str, Any]) -> Mapping[str, frozenset[str]]:
    return FOLDINGS[entry["fold"]]().releases if "fold" in entry else {}


def _target(
    entry: Mapping[str, Any], map_file: str | Path | None
) -> tuple[dict[str, str | None] | None, str]:
    renamed, deleted = entry.get("map", {}), entry.get("delete", ())
    if map_file is not None:
        if _releases(entry):
            raise DataError("--map cannot replace the table of this protocol; choose another one")
        target, set_name = _read_map(Path(map_file)), str(map_file)
        rules = ("merge_reference", "merge_hypothesis", "optional", "delete")
        ruled = {*chain(*(entry.get(rule, ()) for rule in rules)), *renamed.values()}
        absent = ruled - {*target.values(), EVERY_PHONE}
        if absent:
            raise DataError(
                f"{set_name}: the protocol has a rule for {', '.join(sorted(absent))}, and the map "
                f"has no such phone; add it to the map or set --protocol none"
            )
    elif "fold" in entry:
        fold = FOLDINGS[entry["fold"]]()
        target, set_name = dict(fold.target), fold.name
    else:
        return None, "the labels"
    target |= renamed
    return {p: None if t in deleted else t for p, t in target.items()}, set_name


def _read_map(path: Path) -> dict[str, str | None]:
    """Label → phone; the labels of every column but the last are mapped to the last."""
    rows = [
        (number, names(row, f"{path}:{number}", "label"))
        for number, row in read_rows(path, comment="# ")
    ]
    columns = max((len(row) for _, row in rows), default=0)
    if columns not in (2, 3):
        raise DataError(f"{path}: expected lines of two or three columns, found {columns}")
    target: dict[str, str | None] = {}
    first_seen: dict[str, int] = {}
    for number, row in rows:
        if len(row) not in (1, columns):
            raise DataError(
                f"{path}:{number}: expected {columns} columns as in the other lines, or the label "
                f"alone to delete it, found {len(row)}: {' '.join(row)!r}"
            )
        if (first := first_seen.setdefault(row[0], number)) != number:
            raise DataError(
                f"{path}:{number}: duplicate label {row[0]!r}, first in line {first}; keep one"
            )
        target[row[0]] = row[-1] if len(row) > 1 else None
    if columns == 3:
        _require_61_48_39(path, rows)
    for _, row in rows:
        for phone in row[1:]:
            target.setdefault(phone, row[-1])
    return target


def _require_61_48_39(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Three columns are Lee & Hon's sets: all 61 labels, 48 and 39 classes."""
    absent = sorted(set(phone_set("timit61")) - {row[0] for _, row in rows})
    if absent:
        raise DataError(f"{path}: no line for {', '.join(absent)}; add it, alone to delete it")
    for column, expected in ((1, 48), (2, 39)):
        classes = {row[column] for _, row in rows if len(row) == 3}
        if len(classes) != expected:
            raise DataError(
                f"{path}: expected {expected} classes in column {column + 1}, found {len(classes)}"
            )
