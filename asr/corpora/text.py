"""Plain text, a sentence a line → words → phones, as arrays, for n-grams.

Words are read by the rules of transcripts (`asr.corpora.transcripts`), with one difference: a word
that cannot be read, such as 1984, or that has no phones ends the sentence before it, and another
sentence begins after it. docs/search.md has the rules.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.corpora.lexicon import Dictionary, examples, key, plain
from asr.corpora.transcripts import BRACKETS, EDGES, WordReader
from asr.errors import DataError
from asr.files import read_blocks
from asr.search.ngram import Sentences

CUT = 0  # label of what cannot be read
MARKS = re.compile(rf"[{re.escape(EDGES)}_*]")
# Round brackets around words, and the signs of emphasis in books without typography: _very_
AROUND = re.compile(r"(?<![^\W_])[(_*]+|[)_*]+(?![^\W_])")
DIGIT = re.compile(r"\d")
CHUNK = 1 << 20  # labels


class TextReader:
    """Files of plain text → sentences of words, each as `key` writes it.

    `ids` tells whether an utterance id is in front of each line; None: in a file where the first
    fields of all lines are different and have digits.
    """

    def __init__(self, dictionary: Dictionary, ids: bool | None = None) -> None:
        self.words: dict[str, int] = {}  # word → its label
        self.unread: Counter[str] = Counter()  # what cannot be read, such as 1984
        self.dictionary = dictionary
        self._reader = WordReader([dictionary])
        self._ids = ids
        self._parts: dict[str, tuple[int, ...]] = {}  # token → labels of its words
        self._labels: list[NDArray[np.int32]] = []
        self._ends: list[NDArray[np.int64]] = []
        self._length = 0

    def add(self, path: str | Path) -> str:
        """Read a file, or all transcripts `*.trans.txt` in a folder; a line on what was in it.

        Raises `DataError` for a file that is no text, that is damaged or that has no words.
        """
        path = Path(path)
        files = sorted(path.rglob("*.trans.txt")) if path.is_dir() else [path]
        if not files:
            raise DataError(
                f"{path}: holds no *.trans.txt, expected a file of text or a folder of LibriSpeech"
            )
        before = len(self._ends)
        ids = [self.add_lines(map(self._line, _lines(file)), self._ids) for file in files]
        words = sum(map(np.count_nonzero, self._labels[before:]))
        if not words:
            raise DataError(f"{path}: no words, expected lines of words, a sentence each")
        lines = sum(map(len, self._ends[before:]))
        return f"{path}: {lines} lines{', with ids' * all(ids)}, {words} words"

    def add_lines(self, lines: Iterable[str], ids: bool | None = False) -> bool:
        """Add sentences; returns whether utterance ids were in front of them."""
        number_of: defaultdict[str, int] = defaultdict(count().__next__)
        tokens, ends = array("i"), array("q")
        for line in lines:
            tokens.extend(map(number_of.__getitem__, line.split()))
            if len(tokens) > (ends[-1] if ends else 0):
                ends.append(len(tokens))
        labels, stops = np.frombuffer(tokens, np.int32), np.frombuffer(ends, np.int64)
        names = list(number_of)
        starts = np.concatenate([np.zeros(len(stops[:1]), np.int64), stops[:-1]])
        if ids is None:
            firsts = np.unique(labels[starts])
            ids = len(firsts) == len(starts) and all(DIGIT.search(names[n]) for n in firsts)
        if ids:
            labels, stops = np.delete(labels, starts), stops - np.arange(1, len(stops) + 1)
        times = np.bincount(labels, minlength=len(names)).tolist()
        parts = [self._labels_of(*one) if one[1] else () for one in zip(names, times, strict=True)]
        labels, stops = replaced(labels, stops, parts)
        self._labels.append(labels)
        self._ends.append(np.unique(stops[stops > 0]) + self._length)
        self._length += len(labels)
        return ids

    def sentences(self) -> Sentences:
        """All that was read; words that cannot be read have the label `CUT`."""
        labels, ends = np.zeros(0, np.int32), np.zeros(0, np.int64)
        labels, ends = np.concatenate([labels, *self._labels]), np.concatenate([ends, *self._ends])
        return Sentences(tuple(self.words), labels, ends)

    def _line(self, line: str) -> str:
        """A line without markup of sounds, emphasis and round brackets around words."""
        return AROUND.sub("", BRACKETS.sub(self._markup, line)) if MARKS.search(line) else line

    def _markup(self, match: re.Match[str]) -> str:
        markup = match.group()
        try:
            return self._reader.unspoken(match)
        except DataError:
            return markup if markup[0] == "(" else f" {'_'.join(markup.split())} "

    def _labels_of(self, token: str, times: int) -> tuple[int, ...]:
        if token not in self._parts:
            self._parts[token] = self._words_of(token)
        if CUT in self._parts[token]:
            self.unread[token] += times
        return self._parts[token]

    def _words_of(self, token: str) -> tuple[int, ...]:
        try:
            plainly = token.isalpha() and token.lower() in self.dictionary
            words = [token] if plainly else self._reader.words_of(token) or ()
        except DataError:
            return (CUT,)
        return tuple(self.words.setdefault(key(word), len(self.words) + 1) for word in words)


def _lines(path: Path) -> Iterator[str]:
    for block in read_blocks(path):
        text = block if block.isascii() and "`" not in block else plain(block)
        yield from text.split("\n")


def times_read(sentences: Sentences) -> Counter[str]:
    """How often each word occurs in sentences, the most frequent first."""
    counts = np.bincount(sentences.labels, minlength=len(sentences.symbols) + 1)[1:].tolist()
    read = zip(sentences.symbols, counts, strict=True)
    return Counter(dict(sorted(read, key=lambda one: (-one[1], one[0]))))


def missing(counts: Counter[str], spellings: Mapping[str, object], name: str) -> str:
    """A line about the words that have no symbols in what is called `name`."""
    missed = Counter({word: times for word, times in counts.items() if word not in spellings})
    share = 100 * missed.total() / max(counts.total(), 1)
    line = (
        f"{name} does not have {missed.total()} of {counts.total()} running words ({share:.2f} %), "
        f"{len(missed)} of {len(counts)} different ones"
    )
    return f"{line}; sentences are cut there: {examples(missed)}" if missed else line


def replaced(
    labels: NDArray[np.int32], ends: NDArray[np.int64], parts: Sequence[Sequence[int]]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels and ends after each label n became the labels `parts[n]`."""
    lengths = np.array([len(part) for part in parts], np.int64)
    offsets = np.cumsum(lengths) - lengths
    flat = np.array([label for part in parts for label in part], np.int32)
    stops = np.cumsum(lengths[labels])  # of each label's replacement
    result = np.empty(int(stops[-1]) if len(stops) else 0, np.int32)
    done = 0
    for begin in range(0, len(labels), CHUNK):
        of = labels[begin : begin + CHUNK]
        stop = int(stops[begin + len(of) - 1])
        shift = offsets[of] - (stops[begin : begin + CHUNK] - lengths[of])
        result[done:stop] = flat[np.arange(done, stop) + np.repeat(shift, lengths[of])]
        done = stop
    return result, np.concatenate([[0], stops])[ends].astype(np.int64)


def cut(sentences: Sentences) -> Sentences:
    """The pieces of sentences between labels `CUT`."""
    keep = sentences.labels != CUT
    ends = np.union1d(sentences.ends, np.flatnonzero(~keep))
    ends = np.unique(np.concatenate([[0], np.cumsum(keep)])[ends])
    return Sentences(sentences.symbols, sentences.labels[keep], ends[ends > 0].astype(np.int64))


def joined(parts: Sequence[Sentences]) -> Sentences:
    """All sentences of several texts, with the symbols of all."""
    symbols = tuple(sorted(set[str]().union(*(part.symbols for part in parts))))
    number = {symbol: n for n, symbol in enumerate(symbols, start=1)}
    labels = [
        np.array([number[s] for s in part.symbols], np.int32)[part.labels - 1] for part in parts
    ]
    begins = np.cumsum([0, *map(len, labels)])
    ends = [part.ends + begin for part, begin in zip(parts, begins, strict=False)]
    return Sentences(symbols, np.concatenate(labels), np.concatenate(ends))


def spelled(sentences: Sentences, spellings: Mapping[str, Sequence[str]]) -> Sentences:
    """Sentences with the symbols of each word in its place, cut at words without symbols."""
    symbols = tuple(sorted({symbol for spelling in spellings.values() for symbol in spelling}))
    number = {symbol: n for n, symbol in enumerate(symbols, start=1)}
    parts = [
        tuple(number[symbol] for symbol in spellings[word]) if word in spellings else (CUT,)
        for word in sentences.symbols
    ]
    return cut(Sentences(symbols, *replaced(sentences.labels, sentences.ends, [(CUT,), *parts])))
