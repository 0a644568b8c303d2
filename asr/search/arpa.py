"""ARPA files: the text format of back-off n-grams."""

from pathlib import Path
from typing import Any

from asr.errors import DataError
from asr.files import atomic_open, read_lines
from asr.search.ngram import END, LanguageModel, Ngram


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
    about: list[str] = []
    promised: list[int] = []
    order = 0
    for number, text in enumerate(read_lines(path), start=1):
        where, line = f"{path}:{number}", text.strip()
        if not line:
            continue
        if line.startswith("#") and not promised:
            about.append(line.removeprefix("#").strip())
        elif line.startswith("ngram ") and order == 0:
            promised.append(_number(line.partition("=")[2], int, where))
        elif line == "\\end\\":
            break
        elif line.startswith("\\") and line.endswith("-grams:"):
            order = _number(line[1 : -len("-grams:")], int, where)
        elif order:
            prob, *ngram = line.split()
            if len(ngram) == order + 1:
                weight = _number(ngram.pop(), float, where)
                backoffs[tuple(ngram)] = weight
            if len(ngram) != order:
                raise DataError(
                    f"{where}: expected a probability, {order} symbols and an optional "
                    f"back-off weight, found {line!r}"
                )
            probs[tuple(ngram)] = _number(prob, float, where)
        elif line != "\\data\\":
            raise DataError(f"{where}: expected an ARPA file, found {line!r}")
    else:
        raise DataError(f"{path}: the file ends without \\end\\")
    model = LanguageModel(len(promised), probs, backoffs, " ".join(about))
    counts = [model.count(n) for n in range(1, model.order + 1)]
    if not promised or counts != promised:
        raise DataError(
            f"{path}: the header states {promised} n-grams by order, the file has {counts}"
        )
    if (END,) not in probs:
        raise DataError(f"{path}: no probability of {END}, the end of a sentence")
    return model


def _number(text: str, kind: type[Any], where: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise DataError(f"{where}: expected a number, found {text!r}") from None
