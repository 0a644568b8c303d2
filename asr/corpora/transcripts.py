"""What is spoken of a written transcript: its words, without markup and punctuation.

Every corpus whose phones come from a lexicon reads its words here; docs/corpora.md has the rules.
Text that may hide speech is a problem of its utterance.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from asr.corpora import lexicon
from asr.corpora.lexicon import SPOKEN_NOISE, Dictionary, Spoken, key, plain
from asr.corpora.recording import Recording
from asr.errors import DataError

EDGES = "[]<>{}()+"
BRACKETS = re.compile(r"\[[^][]*\]|<[^<>]*>|\{[^{}]*\}|\([^()]*\)|(?<!\S)\++[\w-]+\++(?!\S)")
BARE = re.compile(r"#\d*|!(sil|enter|exit|null)", re.IGNORECASE)  # markup of Kaldi and HTK
# Names of markup that stands for speech of which nobody wrote the words.
UNWRITTEN = re.compile(
    r"|unk|unknown|oov|spn|spoken.?noise|unintelligible|inaudible|indistinct|unclear|mumbl\w*|x+|"
    r"foreign.*|hes\w*|pii|redacted|cross.?talk|overlap\w*|laughter-.+|[aeu]+[hmr]+|h?m+",
    re.IGNORECASE,
)
# Sounds and pauses: in parentheses, which also hold spoken words, nothing else is markup.
SOUND = re.compile(
    r"\w*[-_]?noise|sil|silence|pause|laugh\w*|cough\w*|breath\w*|inhal\w*|exhal\w*|sigh\w*|"
    r"sneez\w*|sniff\w*|click\w*|music|applause|clap\w*|cry\w*|beep",
    re.IGNORECASE,
)
# Also without a blank behind, but for a comma between digits.
DIVIDERS = re.compile(r"(?:[;!?…\"“”„«»‹›—–。、，！？؟،۔।]|(?<!\d),|,(?!\d))+|--+|\.\.+")
CUT_OFF = re.compile(r"[^\W_]-(?!-)\W*$")
SIGNS = EDGES + "'&%@#*/\\§‰_"  # of Unicode's punctuation, those that are not merely stripped


class Transcript(NamedTuple):
    """A text as it was read: its words, its markup, and its punctuation marks."""

    words: list[str]
    markup: list[str]
    marks: Counter[str]


@dataclass
class WordReader:
    """Transcript → words, each in a form that a lexicon has or else as written; counts the rest.

    Only a call counts, and only a transcript that it could read. Raises `DataError` for a
    transcript that does not say what was spoken.
    """

    dictionaries: Sequence[Dictionary]
    markup: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    seen: dict[str, tuple[str, ...] | None] = field(default_factory=dict)  # token; None: markup

    def __call__(self, text: str) -> list[str]:
        return self.counted(self.read(text))

    def counted(self, transcript: Transcript) -> list[str]:
        """The words of a transcript that was read, of which the rest is counted."""
        self.markup.update(transcript.markup)
        self.marks.update(transcript.marks)
        return transcript.words

    def read(self, text: str) -> Transcript:
        """The words of a text, and what is left out of it; counts nothing."""
        words, markup, marks = Transcript([], [], Counter())

        def left_out(match: re.Match[str]) -> str:
            spoken = self.unspoken(match)
            if spoken.isspace():
                markup.append(match.group())
            return spoken

        text = plain(text)
        if not set(EDGES).isdisjoint(text):
            text = BRACKETS.sub(left_out, text)
        for token in text.split():
            if token not in self.seen:
                self.seen[token] = self.words_of(token)
            spoken = self.seen[token]
            if spoken is None:
                markup.append(token)
            else:
                words += spoken
                if spoken != (token,):
                    marks.update(Counter(token) - Counter("".join(spoken)))
        if not words:
            raise DataError("no words, expected at least one; leave the utterance out")
        return Transcript(words, markup, marks)

    def notes(self) -> list[str]:
        """What was left out, a line for each kind."""
        return [
            f"{what}: {n} {'time' if n == 1 else 'times'}, {lexicon.examples(counts)}"
            for what, counts in (
                ("markup left out", self.markup),
                ("punctuation stripped", self.marks),
            )
            if (n := counts.total())
        ]

    def unspoken(self, match: re.Match[str]) -> str:
        """A blank for markup between brackets that stands for no speech."""
        markup = match.group()
        name = markup.strip(EDGES + "/ ")
        around = match.string[max(match.start() - 1, 0) : match.end() + 1]
        touches = markup[0] != "<" and (around[0].isalnum() or around[-1].isalnum())
        is_sound = SOUND.fullmatch(name)
        if UNWRITTEN.fullmatch(name) or (self._entry(markup) in SPOKEN_NOISE and not is_sound):
            raise DataError(UNKNOWN.format(markup))
        if len(name.split()) > 1 or (markup[0] == "(" and not is_sound) or touches:
            raise DataError(
                f"{markup!r} may hold speech; write spoken words without brackets, and a sound as "
                f"one word in square brackets between blanks, as in [noise]"
            )
        return " "

    def words_of(self, token: str) -> tuple[str, ...] | None:
        """The words of a token without blanks; None for markup."""
        entry = self._entry(token)
        if entry in SPOKEN_NOISE:
            raise DataError(UNKNOWN.format(token))
        if entry is not None or BARE.fullmatch(token):
            return None
        if CUT_OFF.search(token) and not self._is_known(token):
            raise DataError(
                f"{token!r} is cut off, its phones are unknown; write it as it was spoken, or "
                f"leave the utterance out"
            )
        if whole := self._form(token):
            return (whole,)
        words: list[str] = []
        for chunk in DIVIDERS.split(token):
            whole = self._form(chunk)
            parts = [whole] if whole else re.split("[-‐‑]", _bare(chunk))
            for word in filter(None, (self._form(part) or part.strip("'") for part in parts)):
                words += self.spelled(word, token)
        return tuple(words)

    def spelled(self, word: str, token: str) -> tuple[str, ...]:
        """A word of a token, in letters; `DataError` for one that is not written as spoken."""
        self._require_letters(word, token)
        return (word,)

    def _form(self, chunk: str) -> str:
        """The form that a lexicon has of a chunk, or "".

        Without the marks around it; then without apostrophes at its ends; then with its full stop,
        which comes first for a single letter.
        """
        bare = _bare(chunk)
        forms = [bare, bare.lstrip("'"), bare.rstrip("'"), bare.strip("'")]
        if bare and chunk.partition(bare)[2].startswith("."):
            forms.insert(0 if len(bare) == 1 else len(forms), f"{bare}.")
        return next((form for form in forms if self._is_known(form)), "")

    def _is_known(self, word: str) -> bool:
        return any(key(word) in dictionary for dictionary in self.dictionaries)

    def _entry(self, token: str) -> str | None:
        """The phones, such as sil or spn, that a lexicon has for what is no word."""
        entries = (dictionary.skipped.get(key(token)) for dictionary in self.dictionaries)
        return next((entry for entry in entries if entry is not None), None)

    @cached_property
    def _scripts(self) -> set[str]:
        letters = set[str]().union(*(word for words in self.dictionaries for word in words))
        return {_script(c) for c in letters if c.isalpha()}

    def _require_letters(self, word: str, token: str) -> None:
        """Raise `DataError` for an unknown word with other signs than letters of its script."""
        for c in "" if self._is_known(word) else word:
            kind = unicodedata.category(c)[0]
            if kind not in "LM" and c != "'":
                what = "digits" if kind == "N" else f"{c!r} (U+{ord(c):04X})"
                remedy = "remove it" if kind == "C" else "write it out as it was spoken"
                raise DataError(f"{token!r} has {what} in it; {remedy}")
            if kind == "L" and _script(c) not in self._scripts:
                raise DataError(
                    f"{token!r} has {c!r}, a letter of a script ({_script(c)}) in which the "
                    f"lexicon has no word; add the word to the lexicon, or correct the letter"
                )


def pronounce(
    splits: Mapping[str, Sequence[Recording]],
    dictionaries: Sequence[Dictionary],
    g2p: str,
    remedy: str,
    problems: list[str],
) -> tuple[dict[str, list[Recording]], Spoken, list[str]]:
    """Recordings with the words that are spoken in them, their pronunciations, and notes.

    A recording whose transcript is not what was spoken, or has a word without phones, becomes a
    problem. Recordings without transcript stay.
    """
    reader = WordReader(dictionaries)
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    kept: dict[str, list[Recording]] = {split: [] for split in splits}
    for split, recording in ((s, one) for s, recordings in splits.items() for one in recordings):
        place = f"{recording.place}: {recording.id}"
        try:
            words = reader(recording.words) if recording.words is not None else []
        except DataError as error:
            problems.append(f"{place}: {error}")
            continue
        counts.update(words)
        for word in words:
            first.setdefault(word, place)
        kept[split].append(replace(recording, words=" ".join(words) or None))
    spoken = lexicon.pronounce(counts, dictionaries, g2p)
    problems.extend(spoken.problems(first, remedy))
    notes = [*reader.notes(), *(note for dictionary in dictionaries for note in dictionary.notes())]
    absent = frozenset(spoken.absent)
    complete = {
        split: [r for r in recordings if absent.isdisjoint((r.words or "").split())]
        for split, recordings in kept.items()
    }
    return complete, spoken, notes


UNKNOWN = "{!r} stands for speech of which the words are not written; write them, or leave it out"


def _bare(chunk: str) -> str:
    """A chunk without the punctuation marks around it."""
    inner = [n for n, c in enumerate(chunk) if unicodedata.category(c)[0] != "P" or c in SIGNS]
    return chunk[inner[0] : inner[-1] + 1] if inner else ""


def _script(letter: str) -> str:
    """LATIN, GREEK, CJK …: the first word of the letter's name."""
    return unicodedata.name(letter, "UNNAMED").split()[0]
