"""ARPA files: the text format of back-off n-grams."""

from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import name, read_lines
from asr.files.outputs import atomic_open
from asr.search.ngram import LanguageModel, Ngram, wrong_log10


def write_arpa(path: str | Path, model: LanguageModel) -> None:
    """Write a model with all digits of its log10 values, so that reading it back gives the same."""
    with atomic_open(path) as file:
        if model.about:
            file.write(f"# {model.about}\n\n")
        file.write("\\data\\\n")
        for order in range(1, model.order + 1):
            file.write(f"ngram {order}={model.count(order)}\n")
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            for ngram, prob in model.log10_probs.items():
                if len(ngram) == order:
                    backoff = model.log10_backoffs.get(ngram)
                    weight = "" if backoff is None else f"\t{backoff!r}"
                    file.write(f"{prob!r}\t{' '.join(ngram)}{weight}\n")
        file.write("\n\\end\\\n")


def read_arpa(path: str | Path) -> LanguageModel:
    """Read an ARPA file from any program; `DataError` names the line that is wrong."""
    probs: dict[Ngram, float] = {}
    backoffs: dict[Ngram, float] = {}
    line_of: dict[Ngram, int] = {}
    about: list[str] = []
    stated: list[tuple[int, str]] = []  # number of n-grams by order, and where
    order, where = 0, f"{path}"
    for number, text in enumerate(read_lines(path), start=1):
        where, line = f"{path}:{number}", text.strip()
        if not line:
            continue
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
            order += 1
            if _number(line[1 : -len("-grams:")], int, where) != order or order > len(stated):
                raise DataError(
                    f"{where}: found {line}, expected the {len(stated)} orders of the header, "
                    f"each once, from 1"
                )
        elif order:
            prob, *ngram = line.split()
            weight = ngram.pop() if len(ngram) == order + 1 else None
            if len(ngram) != order:
                raise DataError(
                    f"{where}: expected a probability, {order} symbols and an optional "
                    f"back-off weight, found {line!r}"
                )
            key = tuple(name(symbol, where, "the symbol") for symbol in ngram)
            if line_of.setdefault(key, number) != number:
                raise DataError(f"{where}: {' '.join(key)} is a duplicate of line {line_of[key]}")
            for symbol in key if order > 1 else ():
                if (symbol,) not in probs:
                    raise DataError(f"{where}: {symbol!r} is not one of the unigrams")
            probs[key] = _log10(prob, "probability", where)
            if weight is not None:
                backoffs[key] = _log10(weight, "back-off", where)
        elif line != "\\data\\":
            raise DataError(f"{where}: expected an ARPA file, found {line!r}")
    else:
        raise DataError(f"{path}: the file ends without \\end\\")
    model = LanguageModel(len(stated), probs, backoffs, " ".join(about))
    for n, (promised, place) in enumerate(stated, start=1):
        if model.count(n) != promised:
            raise DataError(
                f"{place}: the header states {promised} n-grams of order {n}, the file has "
                f"{model.count(n)}"
            )
    if not stated:
        raise DataError(f"{where}: the header states no n-grams, expected lines `ngram 1=…`")
    model.require_sound(f"{path}")
    return model


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
