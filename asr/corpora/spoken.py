"""Any text → the words that are said, each with its possible pronunciations.

The rules of transcripts (`asr.corpora.transcripts`) hold, and these: numbers and amounts are read
by espeak-ng as one word, initials and capitals that are no word are spelled. docs/alignment.md has
them all.
"""

import lzma
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from asr.corpora import lexicon
from asr.corpora.lexicon import Dictionary, Pronunciation, Said, key
from asr.corpora.transcripts import UNWRITTEN, Transcript, WordReader
from asr.errors import DataError
from asr.phones import TABLES, arpabet_spellings, phone_set

CMUDICT = TABLES / "cmudict.dict.xz"  # sorted by code point; its licence is beside it
SIGNS = frozenset("%&$£€¥+=@°×÷½¼¾²³")  # that are read aloud, as digits are
ABBREVIATED = re.compile(r"[^\W\d_]{2,}\.")
ENDS = frozenset({"al.", "in.", "mass."})  # of sentences, rather than abbreviations
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
        return isinstance(word, str) and bool(self._lines_of(f"{word} "))

    def __getitem__(self, word: str) -> tuple[Pronunciation, ...]:
        if word not in self:
            raise KeyError(word)
        entries = [*self._lines_of(f"{word} "), *self._lines_of(f"{word}(")]
        spelling = arpabet_spellings()
        sounds = (entry.partition("#")[0].split()[1:] for entry in entries)
        return tuple(dict.fromkeys(tuple(spelling[s] for s in one) for one in sounds))

    def get(self, word: str, default: Any = None) -> Any:
        try:
            return self[word]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return (line.partition(" ")[0] for line in self._lines)

    def _lines_of(self, beginning: str) -> list[str]:
        if "(" in beginning[:-1]:
            return []
        first, end = (bisect_left(self._lines, beginning + last) for last in ("", "\uffff"))
        return self._lines[first:end]


@cache
def cmudict() -> CMUdict:
    """The packaged CMUdict, read once."""
    return CMUdict()


class SpeechReader(WordReader):
    """Text → words, as transcripts are read; numbers, amounts and initials are words too."""

    def unspoken(self, match: re.Match[str]) -> str:
        """Round brackets around words are punctuation, unless these stand for a sound."""
        markup = match.group()
        try:
            return super().unspoken(match)
        except DataError:
            before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
            touches = before.isalnum() or after.isalnum()
            if markup[0] != "(" or touches or UNWRITTEN.fullmatch(markup.strip("() ")):
                raise
            return f" {markup[1:-1]} "

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
        """Looked up as an abbreviation with its full stop or as initials, with accents, without."""
        if ABBREVIATED.fullmatch(chunk) and self._is_known(chunk) and key(chunk) not in ENDS:
            return chunk
        initials = chunk.rstrip(".") + "."
        if INITIALS.fullmatch(initials) and self._is_known(initials):
            return initials
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
        self._texts: dict[str, Transcript] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Pronounce the words of many texts; what is wrong with one of them, `said` reports.

        Raises `DataError` where words need espeak-ng and it is not installed.
        """
        new: dict[str, None] = {}
        for text in texts:
            with suppress(DataError):
                new |= dict.fromkeys(self._read(text).words)
        self._pronounce(new)

    def said(self, text: str) -> tuple[Said, ...]:
        """The words of a text; `DataError` where it cannot be read, or a word has no phones."""
        transcript = self._read(text)
        words = transcript.words
        self._pronounce(words)
        if silent := [word for word in dict.fromkeys(words) if word not in self._known]:
            named = ", ".join(map(repr, silent))
            if self.g2p == "espeak":
                raise DataError(
                    f"espeak-ng has no phones for {named}; write it out as it was spoken, or add "
                    f"it to a lexicon of your own"
                )
            raise DataError(
                f"{named} {'is' if len(silent) == 1 else 'are'} not in the lexicon "
                f"({self.lexicon.name}); add what is missing, or use CMUdict's phones and "
                f"g2p=espeak"
            )
        self._reader.counted(transcript)
        return tuple(Said(key(word), self._known[word]) for word in words)

    def warnings(self) -> list[str]:
        """A line for each word outside the lexicon, with its phones, and one for markup."""
        outside = f"is not in {self.lexicon.name}, aligned as"
        named = [f"{word!r} {outside} {' '.join(one)}" for word, one in self.outside.items()]
        return named + [note for note in self._reader.notes() if note.startswith("markup")]

    def _read(self, text: str) -> Transcript:
        """A text with its words as written; in lower case where all is in capitals."""
        if text not in self._texts:
            transcript = self._reader.read(NUMBER_SIGN.sub("number ", text))
            if text.isupper():  # as in LibriSpeech
                transcript = transcript._replace(words=[w.lower() for w in transcript.words])
            self._texts[text] = transcript
        return self._texts[text]

    def _pronounce(self, words: Iterable[str]) -> None:
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        if unknown := [word for word in new if not self._look_up(word)]:
            self._ask(unknown)

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

    def _ask(self, words: Sequence[str]) -> None:
        """Pronounce words outside the lexicon: spelled, and by espeak-ng."""
        asked = {word: _read_aloud(word) for word in words}
        is_asked = self.g2p == "espeak"
        sounds = lexicon.espeak(chain.from_iterable(asked.values())) if is_asked else {}
        for word in words:
            variants = [
                *self._spelled(word),
                *(sounds[one] for one in asked[word] if one in sounds),
            ]
            if variants:
                self._known[word] = tuple(dict.fromkeys(variants))
                self.outside[key(word)] = variants[0]


def _read_aloud(word: str) -> tuple[str, ...]:
    """What espeak-ng is asked for a word: years in two ways, the currency behind its amount."""
    plain = AMOUNT.sub(lambda match: f"{match[2]} {CURRENCIES[match[1]]}", word)
    if year := YEAR.fullmatch(word):
        return f"{year[1]} {year[2]}{year[3]}", plain
    return (plain if plain != word else key(word),)
