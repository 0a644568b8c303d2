"""Alphabets of phones: ARPABET, IPA, TIMIT's labels and X-SAMPA, written and read by tables.

Phones are TIMIT's labels, of which CMUdict's are some. IPA is in `asr/tables/ipa.txt`, its other
spellings in `ipa-variants.txt`; X-SAMPA is IPA in other characters (`xsampa.txt`).
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from asr.errors import DataError, did_you_mean
from asr.phones import (
    SILENCES,
    Vocabulary,
    arpabet_spellings,
    fold_to_arpabet,
    table_rows,
    unknown_phone,
)
from asr.records import Segment, Transcript

ALPHABETS = ("arpabet", "ipa", "timit", "xsampa")
JOINED = ("ipa", "xsampa")  # which are also written without blanks between phones
KEPT = SILENCES | {"cl", "vcl"}  # the same in every alphabet
TELLING = 3  # distinct labels of ARPABET, each of several letters, that tell it from IPA

Phones = tuple[str, ...]


class Spellings(NamedTuple):
    """What IPA is made of: spellings with their phones, and other letters with the nearest."""

    phones: Mapping[str, Phones]
    stripped: Mapping[int, None]  # characters that are removed first, for `str.translate`
    nearest: Mapping[str, str]
    pattern: re.Pattern[str]


def require_alphabet(alphabet: str | None, phones: Iterable[str] = ()) -> None:
    """Raise `DataError` for an unknown alphabet, or one that has no symbol for some phone."""
    if alphabet not in (None, *ALPHABETS):
        hint = did_you_mean(str(alphabet), ALPHABETS)
        raise DataError(f"symbols {alphabet!r}: known are {', '.join(ALPHABETS)}{hint}")
    for phone in phones if alphabet else ():
        if phone not in symbols_of(alphabet or ""):
            raise DataError(
                f"symbols {alphabet}: the model has the phone {phone!r}, expected TIMIT's or "
                f"CMUdict's; leave symbols out for the model's own"
            )


@cache
def symbols_of(alphabet: str) -> Mapping[str, str | None]:
    """The symbol of each label of TIMIT, and of CMUdict's in all spellings; None: not written.

    Different labels of TIMIT have different symbols, but for ARPABET, to which they are folded.
    """
    if alphabet == "arpabet":
        return dict.fromkeys(KEPT) | dict(fold_to_arpabet().target)
    ipa = dict(table_rows("ipa.txt"))
    if alphabet == "xsampa":
        code: dict[str, str] = {"͡": ""}
        for typed, character in table_rows("xsampa.txt"):
            code.setdefault(character, typed)
        ipa = {phone: "".join(map(code.__getitem__, symbol)) for phone, symbol in ipa.items()}
    elif alphabet == "timit":
        ipa = {phone: phone for phone in ipa}
    of_words = {label: ipa[phone] for label, phone in arpabet_spellings().items()}
    return {name: name for name in KEPT} | of_words | ipa


def written(transcript: Transcript, alphabet: str | None) -> Transcript:
    """A transcript in the symbols of an alphabet; None: as it is.

    In ARPABET a closure and its release are one phone, and what TIMIT has besides phones is left
    out, as `phones.fold_to_arpabet` has it.
    """
    if alphabet is None:
        return transcript
    table = symbols_of(alphabet)
    releases = fold_to_arpabet().releases if alphabet == "arpabet" else {}
    phones: list[Segment] = []
    kept: list[str | None] = []
    closure: Segment | None = None
    for one, following in pairwise((*transcript.phones, Segment("", 0.0, 0.0))):
        is_closure = following.phone in releases.get(one.phone, ())
        kept.append(None if is_closure else table[one.phone])
        if (symbol := kept[-1]) is not None:
            touches = closure is not None and one.start_s - closure.end_s < 1e-3
            start_s = closure.start_s if closure and touches else one.start_s
            phones.append(one._replace(phone=symbol, start_s=start_s))
        closure = one if is_closure else None
    words, symbols = transcript.words, iter(kept)
    if words is not None:
        words = tuple(
            word._replace(phones=tuple(s for _, s in zip(word.phones, symbols, strict=False) if s))
            for word in words
        )
    return Transcript(transcript.file, transcript.duration_s, tuple(phones), words)


def readings(
    labels: Collection[str], alphabet: str
) -> tuple[Mapping[str, Phones], Mapping[str, str]]:
    """The phones of each distinct label of one side, and what is wrong with each other label.

    A label may be several phones: IPA without blanks. Where some are, `sil` and `pau` are sounds
    too, elsewhere silences. Raises `DataError` where IPA or X-SAMPA are ARPABET's labels.
    """
    require_alphabet(alphabet)
    known: dict[str, Phones] = {}
    wrong: dict[str, str] = {}
    if alphabet in JOINED:
        arpabet = symbols_of("arpabet")
        own = {label for label in labels if label.lower() in arpabet}
        if len(own) == len(labels) and sum(len(p) > 1 for p in own - KEPT) >= TELLING:
            several = ", ".join(sorted(own - KEPT)[:TELLING])
            raise DataError(f"labels of ARPABET ({several}, …), expected {alphabet}'s symbols")
    for label in labels:
        try:
            known[label] = _phones_of(label, alphabet)
        except DataError as error:
            wrong[label] = str(error)
    is_joined = any(len(phones) > 2 for label, phones in known.items() if label not in KEPT)
    for label in KEPT.intersection(labels):
        if not is_joined or label in wrong:
            known[label] = (label if label in fold_to_arpabet().target else "sil",)
            wrong.pop(label, None)
    return known, wrong


def read_in(phones: Iterable[str], alphabet: str, vocabulary: Vocabulary) -> list[str]:
    """Labels of an alphabet as phones of a vocabulary, or their ARPABET where it has no other."""
    labels = list(phones)
    known, wrong = readings(set(labels), alphabet)
    for sentence in wrong.values():
        raise DataError(sentence)
    arpabet = fold_to_arpabet().target
    read = (phone for label in labels for phone in known[label])
    return [phone if phone in vocabulary else arpabet[phone] or phone for phone in read]


def _phones_of(label: str, alphabet: str) -> Phones:
    if alphabet == "arpabet":
        if (phone := arpabet_spellings().get(label)) is None:
            hint = "; set symbols timit" if label.lower() in symbols_of("timit") else ""
            raise DataError(unknown_phone(label, arpabet_spellings(), "CMUdict's phones") + hint)
        return (phone,)
    if alphabet == "timit":
        if (phone := symbols_of("timit").get(label.lower())) is None:
            raise DataError(unknown_phone(label, symbols_of("timit"), "TIMIT's phones"))
        return (phone,)
    return _of_ipa(label, _from_xsampa(label) if alphabet == "xsampa" else label, alphabet)


def _of_ipa(label: str, ipa: str, alphabet: str) -> Phones:
    spellings = _spellings()
    phones: list[str] = []
    for match in spellings.pattern.finditer(
        unicodedata.normalize("NFD", ipa).translate(spellings.stripped)
    ):
        if (spelled := spellings.phones.get(match[0])) is None:
            near = spellings.nearest.get(match[0]) or _alike(match[0])
            raise DataError(_unknown(label, match[0], "ipa", near))
        phones += spelled
    return tuple(phones)


def _from_xsampa(label: str) -> str:
    code, pattern = _xsampa()
    characters = pattern.findall(label)
    for one in characters:
        if one not in code:
            near = one.swapcase() if one.swapcase() in code else ""
            raise DataError(_unknown(label, one, "xsampa", near))
    return "".join(map(code.__getitem__, characters))


@cache
def _xsampa() -> tuple[Mapping[str, str], re.Pattern[str]]:
    code = dict(table_rows("xsampa.txt"))
    return code, _longest_first(code)


def _unknown(label: str, symbol: str, alphabet: str, near: str) -> str:
    where = f" in {label!r}" if label != symbol else ""
    hint = f"; the nearest is {near!r}" if near else ""
    code = f" (U+{ord(symbol):04X})" if not symbol.isascii() else ""
    return f"symbol {symbol!r}{code}{where} is not in {alphabet}'s for English{hint}"


def _alike(symbol: str) -> str:
    """The letter of IPA with the most similar name in Unicode; "" where none is similar."""
    names = {unicodedata.name(one): one for one in _spellings().phones if len(one) == 1}
    from difflib import get_close_matches

    near = get_close_matches(unicodedata.name(symbol, ""), names, n=1, cutoff=0.7)
    return names[near[0]] if near else ""


@cache
def _spellings() -> Spellings:
    rows = [
        *(([sound, *phones]) for sound, *phones in table_rows("espeak-to-arpabet.txt")),
        *table_rows("ipa-variants.txt"),
        *([symbol, phone] for phone, symbol in table_rows("ipa.txt")),
    ]
    phones: dict[str, Phones] = {}
    nearest: dict[str, str] = {}
    marks: set[str] = set()
    for spelling, *targets in rows:
        spelling = unicodedata.normalize("NFD", spelling)
        if targets[0][0] == "?":
            nearest[spelling] = targets[0][1:]
        elif targets[0] == "~":
            marks.add(spelling)
        else:
            phones[spelling.replace("͡", "")] = () if targets == ["-"] else tuple(targets)
    stripped = marks - set("".join(phones))
    phones |= dict.fromkeys(marks - stripped, ())
    removed = dict.fromkeys(map(ord, stripped))
    return Spellings(phones, removed, nearest, _longest_first(phones))


def _longest_first(spellings: Iterable[str]) -> re.Pattern[str]:
    """The longest spelling that there is in a place, or else one character."""
    longest = sorted(spellings, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) + "|.", re.DOTALL)
