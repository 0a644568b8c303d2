"""N-grams packed into few bytes: quantised values, symbols and numbers of children, compressed.

Values are rounded to a grid of log10 values, for each order, and take a byte before compression; an
order of at most 256 different values keeps them. With a step of 1/16 a probability is off by 7.5 %
at most and 4 % typically, which perplexities do not show.
"""

import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.files import names
from asr.files.decoding import impossible
from asr.search.ngram import LanguageModel

STEP = 1 / 16  # of the grid, in log10
CODES = 256  # values of an order
MOST_NODES = 2**30
STREAMS = ("children", "symbols", "probs", "backoffs")
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class Packed:
    """What the arrays of a packed n-gram do not say."""

    order: int
    symbols: list[str]
    nodes: list[int]  # n-grams of each order, from 1
    values: list[list[float | None]]  # of each code: probabilities by order, then back-offs
    all_backoffs: bool = False  # also of histories that no n-gram continues
    about: str = ""


def pack(model: LanguageModel) -> tuple[Packed, dict[str, Any]]:
    """The model as a header and compressed arrays of bytes, by the names in `STREAMS`."""
    orders = [model.nodes(n) for n in range(1, model.order + 1)]
    size = len(model.symbols)
    numbers = np.diff(model.children)
    others = np.nan_to_num(model.log10_backoff[numbers == 0])
    all_backoffs = bool(np.any(others != 0))  # which no program estimates
    continued = _with_backoffs(numbers, all_backoffs)
    probs = [_coded(model.log10_prob[nodes]) for nodes in orders]
    backoffs = [_coded(model.log10_backoff[n][continued[n]]) for n in orders[:-1]]
    symbols = model.symbol[size + 1 :]
    if size <= CODES:
        begins = model.children[1:-1][numbers[1:] > 0] - size - 1
        steps = np.diff(symbols, prepend=0) - 1
        steps[begins] = symbols[begins]
        symbols = steps
    else:
        symbols = np.argsort(_by_frequency(probs[0][1]))[symbols]
    codes = [np.concatenate([np.zeros(0), *(c for _, c in part)]) for part in (probs, backoffs)]
    streams = zip(STREAMS, (numbers, symbols, *codes), strict=True)
    nodes = [one.stop - one.start for one in orders]
    values = [book for book, _ in probs + backoffs]
    header = Packed(model.order, [*model.symbols], nodes, values, all_backoffs, model.about)
    return header, {name: _compressed(numbers) for name, numbers in streams}


def unpack(packed: Packed, streams: Mapping[str, Any], where: str) -> LanguageModel:
    """The inverse of `pack`, but for rounding; `DataError` where it cannot be one.

    `where`, the file and the key of the header, begins the message.
    """
    size, nodes = len(packed.symbols), packed.nodes
    if len(nodes) != packed.order or nodes[:1] != [size] or min(nodes) < 0 or not size:
        raise impossible(
            where, "n-grams", nodes, f"{packed.order} numbers, of {size} symbols first"
        )
    names(packed.symbols, where, "symbols")
    if len(packed.values) != 2 * packed.order - 1:
        raise impossible(where, "values", len(packed.values), f"{2 * packed.order - 1} lists")
    if sum(nodes) > MOST_NODES or packed.symbols != sorted(set(packed.symbols)):
        raise DataError(f"{where}: too large, or its symbols are not sorted")
    orders = np.cumsum([0, 1, *nodes])  # where the nodes of each order begin
    histories, total = int(orders[-2]), int(orders[-1])

    def stream(name: str, count: int, width: int = 1) -> Any:
        return _numbers(streams.get(name), count, width, f"{where}.{name}")

    numbers = stream("children", histories, 4)
    children = np.ones(histories + 1, np.int64)
    children[1:] += np.cumsum(numbers, dtype=np.int64)
    if not np.array_equal(children[orders[:-1]], orders[1:]):
        raise DataError(f"{where}.children: expected those of {nodes} n-grams of each order")
    continued = _with_backoffs(numbers, packed.all_backoffs)
    sizes = [int(continued[a:b].sum()) for a, b in pairwise(orders[1:-1])]
    codes = stream("probs", total - 1), stream("backoffs", sum(sizes))
    books = packed.values[: packed.order], packed.values[packed.order :]
    prob, backoff = np.full(total, math.nan), np.full(histories, math.nan)
    prob[1:] = _decoded(codes[0], nodes, books[0], f"{where}.probs")
    backoff[continued] = _decoded(codes[1], sizes, books[1], f"{where}.backoffs")
    symbols = stream("symbols", total - 1 - size, 4).astype(np.int64)
    begins = children[1:-1][numbers[1:] > 0] - size - 1  # the first n-gram after each history
    if size <= CODES:
        symbols += 1
        np.cumsum(symbols, out=symbols)
        lengths = numbers[1:][numbers[1:] > 0]
        symbols -= np.repeat(np.concatenate(([0], symbols[begins[1:] - 1]))[: len(begins)], lengths)
        symbols -= 1
    elif symbols.max(initial=0) < size:
        symbols = _by_frequency(codes[0][:size])[symbols]
    rises = np.append(True, symbols[1:] > symbols[:-1])[: len(symbols)]
    rises[begins] = True
    if symbols.max(initial=0) >= size or not rises.all():
        raise DataError(f"{where}.symbols: expected rising indices of {size} symbols")
    symbol = np.empty(total, np.int32)
    symbol[: 1 + size], symbol[1 + size :] = np.arange(-1, size), symbols
    symbols = tuple(packed.symbols)
    model = LanguageModel(packed.order, symbols, children, symbol, prob, backoff, packed.about)
    model.require_sound(where)
    return model


def _with_backoffs(numbers: Any, all_of_them: bool) -> Any:
    """Which histories have a back-off in the file: those with continuations, or all."""
    result = (numbers > 0) | all_of_them
    result[0] = False
    return result


def _coded(values: Any) -> tuple[list[float | None], Any]:
    """The values of an order, on a grid if they are many, and the code of each; NaN is None."""
    step = STEP
    book, codes = np.unique(values.astype(np.float32), return_inverse=True)
    while len(book) > CODES:
        book, codes = np.unique(np.round(values / step) * step, return_inverse=True)
        step *= 2
    return [None if math.isnan(v) else v for v in book.tolist()], codes.astype(np.uint8)


def _decoded(codes: Any, counts: list[int], books: list[list[float | None]], where: str) -> Any:
    """The values of codes, `counts` of each order."""
    parts = np.split(codes, np.cumsum(counts)[:-1]) if counts else []
    if any(part.max(initial=0) >= len(b) for part, b in zip(parts, books, strict=True)):
        raise DataError(f"{where}: a code has no value")
    tables = [
        np.array([math.nan if v is None else v for v in book] or [math.nan]) for book in books
    ]
    values = [table[part] for table, part in zip(tables, parts, strict=True)]
    return np.concatenate([np.zeros(0), *values])


def _by_frequency(codes: Any) -> Any:
    """Symbols, the most probable first, from the codes of the unigrams."""
    return np.argsort(-codes.astype(np.int16), kind="stable")


def _compressed(numbers: Any) -> Any:
    """Numbers from 0, the lowest bytes of all first, compressed."""
    width = max(1, (int(numbers.max(initial=0)).bit_length() + 7) // 8)
    planes = numbers.astype("<u4").view(np.uint8).reshape(-1, 4).T[:width]
    data = lzma.compress(planes.tobytes(), lzma.FORMAT_RAW, filters=FILTERS)
    return np.frombuffer(data, np.uint8)


def _numbers(data: Any, count: int, width: int, where: str) -> Any:
    """The inverse of `_compressed`: `count` unsigned numbers of at most `width` bytes."""
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 1):
        raise DataError(f"{where}: expected an array of bytes")
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
        raw = decompressor.decompress(data.tobytes(), count * width + 1)
    except lzma.LZMAError:
        raise DataError(f"{where}: damaged, cannot be decompressed") from None
    planes = len(raw) // max(count, 1)
    if len(raw) != count * planes or planes > width or bool(planes) != bool(count):
        raise DataError(
            f"{where}: {len(raw)} bytes, expected {count} numbers of 1 to {width} bytes"
        )
    if planes <= 1:
        return np.frombuffer(raw, np.uint8)
    bytes_of = np.zeros((count, 4), np.uint8)
    bytes_of[:, :planes] = np.frombuffer(raw, np.uint8).reshape(planes, count).T
    return bytes_of.view("<u4").reshape(-1)
