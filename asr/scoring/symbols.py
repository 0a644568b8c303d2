"""Transcripts in IPA or another alphabet → in the phones that protocols know."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from asr.errors import DataError, raise_problems
from asr.scoring.transcripts import Transcript, Transcripts
from asr.symbols import JOINED, Phones, readings


def in_phones(side: Transcripts, alphabet: str | None) -> Transcripts:
    """One side with its labels read as symbols of `asr.symbols`; None: as they are.

    The time of a label that is several phones is shared among them. Raises `DataError` that lists
    each label that cannot be read, with the place where it is first.
    """
    if alphabet is None:
        return side
    first: dict[str, Transcript] = {}
    for one in side.items.values():
        for phones in (one.phones, *(part.phones for part in one.parts)):
            for label in phones or ():
                first.setdefault(label, one)
    try:
        known, wrong = readings(first, alphabet)
    except DataError as error:
        raise DataError(f"{side.path}: {error}; set {side.option('symbols', 'arpabet')}") from None
    raise_problems(f"{_place(side, first[label])}: {wrong[label]}" for label in wrong)
    return replace(side, items={id: _read(one, known) for id, one in side.items.items()})


def in_words(phones: object, alphabet: str | None) -> object:
    """The words of a string of IPA or X-SAMPA; everything else as it is."""
    return phones.split() if alphabet in JOINED and isinstance(phones, str) else phones


def _place(side: Transcripts, one: Transcript) -> str:
    if one.line == 0 and one.file:
        return one.file
    return side.where(one) if one.line else f"{side.path} {one.id!r}"


def _read(one: Transcript, known: Mapping[str, Phones]) -> Transcript:
    def of(labels: Sequence[str]) -> Phones:
        return tuple(phone for label in labels for phone in known[label])

    times = None
    if one.times_s is not None:
        times = tuple(
            (start + (end - start) * n / count, start + (end - start) * (n + 1) / count)
            for label, (start, end) in zip(one.phones, one.times_s, strict=True)
            for count in [len(known[label])]
            for n in range(count)
        )
    parts = tuple(
        part if part.phones is None else part._replace(phones=of(part.phones)) for part in one.parts
    )
    return one._replace(phones=of(one.phones), times_s=times, parts=parts)
