"""ARPA files: the text format of back-off n-grams."""

import math
from array import array
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.files import name, read_lines
from asr.files.outputs import atomic_open
from asr.search.ngram import LanguageModel, wrong_log10


def write_arpa(path: str | Path, model: LanguageModel) -> None:
    """Write a model with all digits of its log10 values, so that reading it back gives the same."""
    with atomic_open(path) as file:
        if model.about:
            file.write(f"# {model.about}\n\n")
        file.write("\\data\\\n")
        for order in range(1, model.order + 1):
            file.write(f"ngram {order}={model.count(order)}\n")
        names, first = [""], 0
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            nodes = model.nodes(order)
            prefixes, symbols = model.parent[nodes].tolist(), model.symbol[nodes].tolist()
            names = [
                f"{names[prefix - first]}{' ' * (order > 1)}{model.symbols[symbol]}"
                for prefix, symbol in zip(prefixes, symbols, strict=True)
            ]
            first = nodes.start
            probs, backoffs = model.log10_prob[nodes], model.log10_backoff[nodes]
            values = zip_longest(probs.tolist(), names, backoffs.tolist(), fillvalue=math.nan)
            for prob, ngram, backoff in values:
                if not math.isnan(prob):
                    weight = "" if math.isnan(backoff) else f"\t{backoff!r}"
                    file.write(f"{prob!r}\t{ngram}{weight}\n")
        file.write("\n\\end\\\n")


def read_arpa(path: str | Path) -> LanguageModel:
    """Read an ARPA file from any program; `DataError` names the line that is wrong."""
    number: dict[str, int] = {}  # of each unigram, from 1
    ngrams, probs, backoffs = array("i"), array("d"), array("d")  # n-grams of one order
    parts: list[Any] = []  # of each order: n-grams, padded, and their values
    lines: list[int] = []  # of the n-grams of one order
    about: list[str] = []
    stated: list[tuple[int, str]] = []  # number of n-grams by order, and where
    order, where = 0, f"{path}"

    def close() -> None:
        """Check and keep the n-grams of the order that ends here."""
        rows = np.array(ngrams, np.int32).reshape(-1, order)
        _require_distinct(rows, lines, [*number], f"{path}")
        padded = np.zeros((len(rows), len(stated)), np.int32)
        padded[:, :order] = rows
        parts.append((padded, np.array(probs), np.array(backoffs)))
        for values in (ngrams, probs, backoffs, lines):
            del values[:]

    for line_number, text in enumerate(read_lines(path), start=1):
        line = text.strip()
        if not line:
            continue
        if order and not line.startswith("\\"):
            where = f"{path}:{line_number}"
            prob, *ngram = line.split()
            weight = ngram.pop() if len(ngram) == order + 1 else None
            if len(ngram) != order:
                raise DataError(
                    f"{where}: expected a probability, {order} symbols and an optional "
                    f"back-off weight, found {line!r}"
                )
            if order == 1:
                number.setdefault(name(ngram[0], where, "the symbol"), len(number) + 1)
            try:
                ngrams.extend([number[symbol] for symbol in ngram])
            except KeyError as error:
                raise DataError(f"{where}: {error} is not one of the unigrams") from None
            probs.append(_log10(prob, "probability", where))
            backoffs.append(math.nan if weight is None else _log10(weight, "back-off", where))
            lines.append(line_number)
            continue
        where = f"{path}:{line_number}"
        if line.startswith("#") and not stated:
            about.append(line.removeprefix("#").strip())
        elif line.startswith("ngram ") and order == 0:
            of, _, count = line.removeprefix("ngram ").partition("=")
            if _number(of, int, where) != len(stated) + 1:
                raise DataError(f"{where}: order {of}, expected {len(stated) + 1}")
            stated.append((_number(count, int, where), where))
        elif line == "\\end\\":
            break
        elif line.startswith("\\") and line.endswith("-grams:"):
            if order:
                close()
            order += 1
            if _number(line[1 : -len("-grams:")], int, where) != order or order > len(stated):
                raise DataError(
                    f"{where}: found {line}, expected the {len(stated)} orders of the header, "
                    f"each once, from 1"
                )
        elif line != "\\data\\":
            raise DataError(f"{where}: expected an ARPA file, found {line!r}")
    else:
        raise DataError(f"{path}: the file ends without \\end\\")
    if order:
        close()
    counts = [len(rows) for rows, *_ in parts] + [0] * (len(stated) - order)
    for n, (promised, place) in enumerate(stated, start=1):
        if counts[n - 1] != promised:
            raise DataError(
                f"{place}: the header states {promised} n-grams of order {n}, the file has "
                f"{counts[n - 1]}"
            )
    if not number:
        raise DataError(f"{where}: the header states no n-grams, expected lines `ngram 1=…`")
    rows, *values = (np.concatenate(part) for part in zip(*parts, strict=True))
    model = LanguageModel.of_ngrams([*number], rows, *values, about=" ".join(about))
    model.require_sound(f"{path}")
    return model


def _require_distinct(rows: Any, lines: Sequence[int], symbols: list[str], path: str) -> None:
    """Raise `DataError` for two lines with the same n-gram."""
    order = np.lexsort((np.array(lines), *rows.T[::-1]))
    same = np.flatnonzero((np.diff(rows[order], axis=0) == 0).all(axis=1))
    if len(same):
        at = min(same, key=lambda k: lines[order[k + 1]])
        ngram = " ".join(symbols[n - 1] for n in rows[order[at]])
        first, second = (lines[order[at + k]] for k in (0, 1))
        raise DataError(f"{path}:{second}: {ngram} is a duplicate of line {first}")


def _log10(text: str, what: str, where: str) -> float:
    value: float = _number(text, float, where)
    if reason := wrong_log10(value, what):
        raise DataError(f"{where}: {reason}")
    return value


def _number(text: str, kind: type[Any], where: str) -> Any:
    try:
        return kind(text)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: expected a number, found {text!r}") from None
