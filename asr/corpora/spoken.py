"""Any text → the words that are said, each with its possible pronunciations.

The rules of transcripts (`asr.corpora.transcripts`) hold, and these: numbers and amounts are read
by espeak-ng as one word, initials and capitals that are no word are spelled. docs/alignment.md has
them all.
"""

import lzma
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from asr.corpora import lexicon
from asr.corpora.lexicon import Dictionary, Pronunciation, Said, key
from asr.corpora.transcripts import WordReader
from asr.errors import DataError
from asr.phones import TABLES, arpabet_spellings, phone_set

CMUDICT = TABLES / "cmudict.dict.xz"  # sorted by code point; its licence is beside it
SIGNS = frozenset("%&$£€¥+=@°×÷½¼¾²³")  # that are read aloud, as digits are
INITIALS = re.compile(r"[A-Za-z](\.[A-Za-z])+\.?")
CAPITALS = re.compile(r"([A-Z]{2,5})('?s)?")
AMOUNT = re.compile(r"([$£€¥])([\d.,]*\d)")
CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros", "¥": "yen"}
NUMBER_SIGN = re.compile(r"(?<!\S)#(?=\d)")
YEAR = re.compile(r"(1[1-9]|20)([1-9]\d)(s?)")  # 1984, nineteen eighty-four


class CMUdict(Dictionary):
    """The packaged CMUdict, of which an entry is parsed when it is looked up."""

    def __init__(self) -> None:
        super().__init__("CMUdict")
        with lzma.open(CMUDICT, "rt", encoding="utf-8") as file:
            self._lines = file.read().split("\n")

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and bool(self._entries(f"{word} "))

    def __getitem__(self, word: str) -> tuple[Pronunciation, ...]:
        entries = [*self._entries(f"{word} "), *self._entries(f"{word}(")]
        if not entries:
            raise KeyError(word)
        spelling = arpabet_spellings()
        sounds = (entry.partition("#")[0].split()[1:] for entry in sorted(entries))
        return tuple(dict.fromkeys(tuple(spelling[s] for s in one) for one in sounds))

    def get(self, word: str, default: Any = None) -> Any:
        try:
            return self[word]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return (line.partition(" ")[0] for line in self._lines)

    def _entries(self, beginning: str) -> list[str]:
        first = last = bisect_left(self._lines, beginning)
        while last < len(self._lines) and self._lines[last].startswith(beginning):
            last += 1
        return self._lines[first:last]


@cache
def cmudict() -> CMUdict:
    """The packaged CMUdict, read once."""
    return CMUdict()


class SpeechReader(WordReader):
    """Text → words, as transcripts are read; numbers, amounts and initials are words too."""

    def spelled(self, word: str, token: str) -> tuple[str, ...]:
        if INITIALS.fullmatch(word):
            letters = tuple(f"{letter}." for letter in word if letter != ".")
            if all(map(self._is_known, letters)):
                return letters
        if any(c in SIGNS or unicodedata.category(c)[0] == "N" for c in word):
            rest = "".join(c for c in word if c not in SIGNS and not c.isdigit() and c not in ".,:")
            if rest:
                self._require_letters(rest, token)
            return (word,)
        return super().spelled(word, token)

    def _form(self, chunk: str) -> str:
        """Looked up with its accents, then without."""
        bare = "".join(
            c for c in unicodedata.normalize("NFD", chunk) if not unicodedata.combining(c)
        )
        return super()._form(chunk) or super()._form(bare)


class Pronouncer:
    """Text → its words with their pronunciations, of a lexicon file or else of CMUdict.

    Words outside the lexicon get theirs from espeak-ng, unless `g2p` is "none", and are remembered
    in `outside`. A lexicon with other phones than ARPAbet has no g2p.
    """

    def __init__(self, path: Path | None = None, g2p: str = "espeak") -> None:
        self.lexicon = cmudict() if path is None else lexicon.read(path, lexicon.EITHER)
        self.outside: dict[str, Pronunciation] = {}
        arpabet = frozenset(phone_set("arpabet39"))
        self._is_arpabet = path is None or arpabet.issuperset(
            phone for variants in self.lexicon.values() for one in variants for phone in one
        )
        self.g2p = g2p if self._is_arpabet else "none"
        self._reader = SpeechReader([self.lexicon])
        self._known: dict[str, tuple[Pronunciation, ...]] = {}

    def said(self, text: str) -> tuple[Said, ...]:
        """The words of a text; `DataError` where it cannot be read, or a word has no phones."""
        words = self._reader(NUMBER_SIGN.sub("number ", text))
        shouted = text.upper() == text  # LibriSpeech and others write all in capitals
        marked = [word.lower() if shouted else word for word in words]
        unknown = [
            w for w in dict.fromkeys(marked) if w not in self._known and not self._look_up(w)
        ]
        if unknown:
            self._ask(unknown)
        return tuple(Said(key(word), self._known[word]) for word in marked)

    def notes(self) -> list[str]:
        """What was left out of the texts, a line for each kind."""
        return self._reader.notes()

    def _look_up(self, word: str) -> bool:
        """Whether the lexicon has a word; capitals may be spelled too."""
        own = self.lexicon.get(key(word), ())
        if own:
            self._known[word] = tuple(dict.fromkeys([*own, *self._spelled(word)]))
        return bool(own)

    def _spelled(self, word: str) -> tuple[Pronunciation, ...]:
        """The names of the letters of a word in capitals, as one pronunciation, or none."""
        match = CAPITALS.fullmatch(word)
        letters = [f"{letter.lower()}." for letter in match[1]] if match else []
        if match is None or not all(letter in self.lexicon for letter in letters):
            return ()
        plural = ("z",) if match[2] and self._is_arpabet else ()
        return ((*(phone for one in letters for phone in self.lexicon[one][0]), *plural),)

    def _ask(self, words: list[str]) -> None:
        """Pronounce words outside the lexicon by espeak-ng."""
        asked = {word: _read_aloud(word) for word in words}
        spelled = {word: self._spelled(word) for word in words}
        if self.g2p == "espeak":
            sounds = lexicon.espeak(one for all in asked.values() for one in all)
        elif without := [word for word in words if not spelled[word]]:
            named = ", ".join(map(repr, without))
            raise DataError(
                f"not in the lexicon {self.lexicon.name}: {named}; add the words to it, or leave "
                f"--g2p none out"
            )
        else:
            sounds = {}
        silent = []
        for word in words:
            variants = [*spelled[word], *(sounds[one] for one in asked[word] if one in sounds)]
            if variants:
                self._known[word] = tuple(dict.fromkeys(variants))
                self.outside[word] = variants[0]
            else:
                silent.append(word)
        if silent:
            raise DataError(
                f"espeak-ng has no phones for {', '.join(map(repr, silent))}; write it out as it "
                f"was spoken, or add it to a lexicon of your own"
            )


def _read_aloud(word: str) -> tuple[str, ...]:
    """What espeak-ng is asked for a word: years in two ways, the currency behind its amount."""
    plain = AMOUNT.sub(lambda match: f"{match[2]} {CURRENCIES[match[1]]}", word)
    if year := YEAR.fullmatch(word):
        return f"{year[1]} {year[2]}{year[3]}", plain
    return (plain if plain != word else key(word),)
