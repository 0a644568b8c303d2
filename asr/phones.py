"""Phone sets of TIMIT and CMUdict, their foldings, and the vocabulary of a network."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Self

from asr.errors import DataError, did_you_mean
from asr.files import name, read_rows
from asr.files.outputs import atomic_open

TABLES = Path(__file__).parent / "tables"
BLANK = "<blank>"
DELETED = "-"
# Phones that stand for silence, and no others.
SILENCES = frozenset({"h#", "pau", "epi", "sil", "sp", "spn", "SIL", "<sil>"})


@dataclass(frozen=True)
class Folding:
    """A map from phones to coarser phones; a phone mapped to None is deleted.

    `releases` has, for a closure, the stops of which it is a part when they follow. A call folds
    phones, and raises `DataError` for one that is not in the map.
    """

    name: str
    target: Mapping[str, str | None]
    releases: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __call__(self, phones: Sequence[str]) -> tuple[str, ...]:
        folded = []
        for phone, following in pairwise((*phones, "")):
            if phone not in self.target:
                raise DataError(unknown_phone(phone, self.target, self.name))
            coarser = self.target[phone]
            if coarser is not None and following not in self.releases.get(phone, ()):
                folded.append(coarser)
        return tuple(folded)


def table_lines(name: str) -> list[str]:
    """Stripped lines of a data file in `asr/tables`, without `#` comments and blank lines."""
    lines = (TABLES / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def table_rows(name: str) -> list[list[str]]:
    """The fields of each line of `table_lines`."""
    return [line.split() for line in table_lines(name)]


@cache
def phone_set(name: str) -> tuple[str, ...]:
    """The phones of `timit61`, `timit48`, `timit39` or `arpabet39`, sorted."""
    if name == "arpabet39":
        return tuple(sorted(row[0] for row in table_rows("arpabet.txt")))
    columns = {"timit61": 0, "timit48": 1, "timit39": 2}
    if name not in columns:
        known = ", ".join([*columns, "arpabet39"])
        raise DataError(f"unknown phone set {name!r}: known are {known}")
    return tuple(sorted({row[columns[name]] for row in table_rows("timit-phones.txt")} - {DELETED}))


@cache
def fold_to_39() -> Folding:
    """61 or 48 → 39 labels (Lee & Hon 1989); labels of the 39 stay, `q` is deleted."""
    rows = table_rows("timit-phones.txt")
    target = {phone: _unless_deleted(row[2]) for row in rows for phone in row if phone != DELETED}
    return Folding("timit39", target)


@cache
def fold_to_arpabet() -> Folding:
    """TIMIT's labels, and CMUdict's in either letter case with or without stress → CMUdict's 39."""
    rows = table_rows("timit-to-arpabet.txt")
    target = {label: _unless_deleted(phone) for label, phone, *_ in rows}
    releases = {label: frozenset(stops) for label, _, *stops in rows if stops}
    return Folding("TIMIT's and CMUdict's phones", arpabet_spellings() | target, releases)


@cache
def arpabet_spellings() -> dict[str, str]:
    """The phone of CMUdict for each spelling: in either letter case, with and without stress."""
    return {
        f"{bare}{stress}": phone
        for phone in phone_set("arpabet39")
        for bare in (phone, phone.upper())
        for stress in ("", "0", "1", "2")
    }


def _unless_deleted(phone: str) -> str | None:
    return None if phone == DELETED else phone


def unknown_phone(phone: str, known: Iterable[str], set_name: str) -> str:
    """A sentence about a phone outside a set, with the nearest one in the set."""
    hint = did_you_mean(phone.lower(), known, cutoff=0.4)
    return f"phone {phone!r} is not in {set_name}{hint}"


class Vocabulary:
    """Phones and their labels: 0 is the blank, 1… are the phones in the order given."""

    blank = 0

    def __init__(self, phones: Sequence[str]) -> None:
        if BLANK in phones:
            raise DataError(f"{BLANK} is label 0 of every vocabulary and cannot be a phone")
        if len(set(phones)) != len(phones):
            twice = sorted(phone for phone, count in Counter(phones).items() if count > 1)
            raise DataError(f"vocabulary has phones twice: {', '.join(twice)}")
        self.phones = tuple(phones)
        self._label = {phone: label for label, phone in enumerate(phones, start=1)}

    def __len__(self) -> int:
        """V: the phones and the blank."""
        return len(self.phones) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.phones == other.phones

    def __contains__(self, phone: str) -> bool:
        return phone in self._label

    def encode(self, phones: Iterable[str]) -> list[int]:
        try:
            return [self._label[phone] for phone in phones]
        except KeyError as error:
            raise DataError(unknown_phone(error.args[0], self.phones, "the vocabulary")) from None

    def decode(self, labels: Iterable[int]) -> tuple[str, ...]:
        """Phones of labels 1…V-1; the blank is no phone and raises `IndexError`."""
        phones = []
        for label in labels:
            if not 0 < label < len(self):
                raise IndexError(f"label {label} is not one of 1…{len(self) - 1}")
            phones.append(self.phones[label - 1])
        return tuple(phones)

    def counterparts(self, other: "Vocabulary") -> list[int | None]:
        """The label in `other` of each phone, or of the phone of CMUdict that it folds to.

        None where `other` has neither; the blank is first, with the label of the blank.
        """
        arpabet = fold_to_arpabet().target
        known = other._label
        return [other.blank, *(known.get(p, known.get(arpabet.get(p) or "")) for p in self.phones)]

    def save(self, path: str | Path) -> None:
        """One symbol a line; the line number, counted from 0, is the label."""
        with atomic_open(path) as file:
            file.writelines(f"{symbol}\n" for symbol in (BLANK, *self.phones))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; `DataError` names the line that is not one new phone."""
        line_of: dict[str, int] = {}
        for number, fields in read_rows(path, comment="\0"):  # none: # may begin a phone
            where = f"{path}:{number}"
            symbol = name(" ".join(fields), where, "the phone")
            if not line_of and symbol != BLANK:
                raise DataError(f"{where}: found {symbol}, expected {BLANK} as label 0")
            if line_of.setdefault(symbol, number) != number:
                raise DataError(
                    f"{where}: {symbol!r} is a duplicate of line {line_of[symbol]}; remove one"
                )
        if len(line_of) < 2:
            raise DataError(f"{path}: no phones, expected {BLANK} and then one phone a line")
        return cls([*line_of][1:])
