"""Words to phones: pronunciation dictionaries, and espeak-ng for words outside of them.

A word has all pronunciations of its dictionary: the most probable first where it has
probabilities, else in its order. Letter case does not matter; no spelling is corrected.
"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from asr.errors import NAMED, DataError, pip_install, raise_problems
from asr.files import name, read_lines
from asr.phones import arpabet_spellings, phone_set, table_rows, unknown_phone

Pronunciation = tuple[str, ...]
Lexicon = Mapping[str, tuple[Pronunciation, ...]]  # word in lower case → its pronunciations


class Said(NamedTuple):
    word: str
    pronunciations: tuple[Pronunciation, ...]


MAX_PROBLEMS = 20  # listed of one file
LISTED = 5  # examples in a note
EITHER = "either"  # name of no set: that of the file
SPOKEN_NOISE = ("spn", "unk", "oov")  # "phones" of speech without words
PAUSES = ("sil", "sp")  # HTK has one behind each word
NO_PHONES = (*PAUSES, "nsn", *SPOKEN_NOISE)
NO_WORD = re.compile(r"<.*>|\[.*\]|\{.*\}|!sil|#\d+", re.IGNORECASE)
POSITION = re.compile(r"(?<=.)_[BIES]$")  # of a phone in its word, in Kaldi
PROBABILITY = re.compile(r"\d+\.\d*(e[-+]?\d+)?|\.\d+|\d+e[-+]?\d+", re.IGNORECASE)
TYPEWRITTEN = str.maketrans(dict.fromkeys("‘’‛ʼ＇`´", "'"))

log = logging.getLogger(__name__)


class Dictionary(dict[str, tuple[Pronunciation, ...]]):
    """The pronunciations of each word of a file, and its entries that are no words."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.skipped: dict[str, str] = {}  # silence and unknown words → their phones, lower case

    def notes(self) -> list[str]:
        """A line about the entries that were skipped, if there are any."""
        what = f"{self.name}: {len(self.skipped)} entries of silence and unknown words skipped"
        return [f"{what}: {examples(Counter(list(self.skipped)))}"] if self.skipped else []


def plain(text: str) -> str:
    """Text in Unicode's form NFC, with plain apostrophes."""
    return unicodedata.normalize("NFC", text.translate(TYPEWRITTEN))


def key(word: str) -> str:
    """A word as it is looked up."""
    return plain(word).lower()


def examples(counts: Counter[str]) -> str:
    """The most frequent items, each with its count."""
    listed = ", ".join(f"{one} {count}×" for one, count in counts.most_common(LISTED))
    return listed + (", …" if len(counts) > LISTED else "")


def read(
    path: str | Path, set_name: str = "arpabet39", phones: Collection[str] | None = None
) -> Dictionary:
    """The pronunciations of each word, from `word P1 P2` lines; one `DataError` lists bad lines.

    Reads `cmudict.dict` (`word(2)`, `# comment` after an entry), CMUdict 0.7 (`;;;` comments, two
    spaces, Latin-1), LibriSpeech's lexicon (each variant a line with the same word), the Montreal
    Forced Aligner's (1 or 4 probabilities after the word), and Kaldi's `lexicon.txt` and
    `lexiconp.txt`. Entries of silence and of unknown words are skipped, as are pauses behind words.

    `arpabet39` is read in either letter case and without stress: pronunciations that differ only
    there are the same. Phones of another set are as written, and one of `phones` where given.
    EITHER is arpabet39 if all phones of the file are.
    """
    path = Path(path)
    dictionary = Dictionary(path.name)
    rows = list(_rows(path))
    spellings = arpabet_spellings() if set_name in ("arpabet39", EITHER) else None
    used = {s for *_, symbols in rows for s in symbols if s.lower() not in NO_PHONES}
    if set_name == EITHER and not used <= arpabet_spellings().keys():
        spellings = None
    variants: dict[str, dict[Pronunciation, float]] = {}
    problems: list[str] = []
    for number, word, numbers, symbols in rows:
        probability = float(numbers[0]) if numbers else 1.0
        unknown = [s for s in symbols if s not in (spellings or phones or symbols)]
        if NO_WORD.fullmatch(word) or (symbols and symbols[0].lower() in NO_PHONES):
            dictionary.skipped[key(word)] = " ".join(symbols).lower()
        elif not symbols:
            problems.append(f"{path}:{number}: {word!r} has no phones; expected `word P1 P2`")
        elif len(numbers) not in (0, 1, 4) or probability > 1:
            problems.append(
                f"{path}:{number}: {word!r} has the numbers {' '.join(numbers)}, expected one "
                f"probability 0…1, or four numbers of which it is the first"
            )
        elif unknown:
            symbol = (unknown[0].rstrip("012") if spellings else "") or unknown[0]
            sentence = unknown_phone(symbol, phones or phone_set("arpabet39"), set_name)
            remedy = "; for another set of phones set corpus.phone_set" if spellings else ""
            problems.append(f"{path}:{number}: {sentence}{remedy}")
        else:
            pronunciation = tuple(spellings[s] for s in symbols) if spellings else tuple(symbols)
            of_word = variants.setdefault(key(re.sub(r"(?<=.)\(\d+\)$", "", word)), {})
            of_word[pronunciation] = max(probability, of_word.get(pronunciation, 0.0))
    if len(problems) > MAX_PROBLEMS:
        more = f"{path}: … and {len(problems) - MAX_PROBLEMS} more lines like these"
        problems = [*problems[:MAX_PROBLEMS], more]
    raise_problems(problems)
    if not variants:
        raise DataError(f"{path}: no words; expected lines such as `speech S P IY1 CH`")
    for word, of_word in variants.items():
        dictionary[word] = tuple(sorted(of_word, key=lambda one: -of_word[one]))
    return dictionary


def lines(lexicon: Lexicon) -> Iterator[str]:
    """The lexicon in CMUdict's format, sorted, variants as `word(2)`; `read` reads it back."""
    for word in sorted(lexicon):
        for number, pronunciation in enumerate(lexicon[word], start=1):
            variant = f"{word}({number})" if number > 1 else word
            yield f"{variant} {' '.join(pronunciation)}\n"


@dataclass(frozen=True)
class Spoken:
    """The pronunciations of the words of a corpus, and the source of those outside the lexicon."""

    lexicon_name: str
    counts: Mapping[str, int]  # word as written → occurrences
    pronunciations: dict[str, tuple[Pronunciation, ...]]  # word as written → its pronunciations
    source: dict[str, str]  # word outside the lexicon → where its phones come from

    @property
    def absent(self) -> list[str]:
        """Words that have no phones, sorted."""
        return sorted(self.counts.keys() - self.pronunciations.keys())

    def problems(self, first: Mapping[str, str], remedy: str) -> list[str]:
        """A sentence for each word without phones, in the order of `first`: word → its place."""
        return [
            f"{place}: {word!r} ({self.counts[word]}×, here first) is in no lexicon; {remedy}"
            for word, place in first.items()
            if word not in self.pronunciations
        ]

    def first(self) -> dict[str, Pronunciation]:
        """The first pronunciation of each word."""
        return {word: variants[0] for word, variants in self.pronunciations.items()}

    def summary(self) -> str:
        """A line with the number of words outside the lexicon and the sources of their phones."""
        outside = [*self.source, *self.absent]
        running, missed = sum(self.counts.values()), sum(self.counts[word] for word in outside)
        by_source = sorted(Counter(self.source.values()).items())
        phones = "; ".join(f"{number} by {name}" for name, number in by_source)
        return (
            f"{self.lexicon_name} does not have {missed} of {running} running words "
            f"({100 * missed / max(running, 1):.2f} %), {len(outside)} of {len(self.counts)} "
            f"different ones ({100 * len(outside) / max(len(self.counts), 1):.1f} %)"
            + (f": {phones}, listed in manifests/oov.txt" if phones else "")
        )

    def report(self, policy: str) -> dict[str, str]:
        """The files beside the manifests: `lexicon.txt` of these words, and `oov.txt`.

        `policy` is "first", one pronunciation of each word, or "all".
        """
        keep = 1 if policy == "first" else None
        used = {key(word): variants[:keep] for word, variants in self.pronunciations.items()}
        head = f"# words that {self.lexicon_name} does not have: word, times read, source, phones\n"
        rows = [
            f"{word} {self.counts[word]} {source} {' '.join(self.pronunciations[word][0])}\n"
            for word, source in sorted(self.source.items())
        ]
        return {"lexicon.txt": "".join(lines(used)), "oov.txt": "".join([head, *rows])}


def pronounce(counts: Mapping[str, int], dictionaries: Sequence[Dictionary], g2p: str) -> Spoken:
    """Pronunciations of the first dictionary that has a word, else of espeak-ng unless "none".

    Words without phones are in `Spoken.absent`; the log has how many are not in the first.
    """
    known: dict[str, tuple[Pronunciation, ...]] = {}
    source: dict[str, str] = {}
    for word in sorted(counts):
        for dictionary in dictionaries:
            if word not in known and key(word) in dictionary:
                known[word] = dictionary[key(word)]
                if dictionary is not dictionaries[0]:
                    source[word] = dictionary.name
    if g2p == "espeak":
        spoken = espeak(key(word) for word in counts.keys() - known.keys())
        for word in sorted(counts.keys() - known.keys()):
            if key(word) in spoken:
                known[word], source[word] = (spoken[key(word)],), "espeak-ng"
    result = Spoken(dictionaries[0].name, counts, known, source)
    log.info("%s", result.summary())
    return result


def espeak(words: Iterable[str]) -> dict[str, Pronunciation]:
    """One pronunciation of each word, by espeak-ng's rules for American English.

    Words for which espeak-ng gives no sound, or one that the table does not have, are not in the
    result. Raises `DataError` where the extra `g2p` is not installed.
    """
    asked = sorted(set(words))
    if not asked:
        return {}
    try:
        spoken = _espeak()(asked)
    except ImportError:
        named = ", ".join(map(repr, asked[:NAMED])) + (", …" if len(asked) > NAMED else "")
        raise DataError(
            f"words outside the lexicon need espeak-ng: {named}; run: {pip_install('g2p')}, or add "
            f"them to a lexicon of your own"
        ) from None
    if len(spoken) != len(asked):
        raise DataError(f"espeak-ng gave {len(spoken)} pronunciations for {len(asked)} words")
    by_word: dict[str, Pronunciation] = {}
    for word, sounds in zip(asked, spoken, strict=True):
        try:
            by_word[word] = from_ipa(sounds.replace("|", " ").split(), word)
        except DataError as error:
            log.warning("%s", error)
    return {word: pronunciation for word, pronunciation in by_word.items() if pronunciation}


def from_ipa(sounds: Iterable[str], word: str) -> Pronunciation:
    """The phones of espeak-ng's IPA, one sound an item; messages name `word`."""
    table = _espeak_table()
    phones: list[str] = []
    for sound in sounds:
        bare = sound.strip("ˈˌ")
        mapped = table.get(bare) or table.get(bare.replace("ː", ""))
        if mapped is None:
            raise DataError(
                f"espeak-ng says {sound!r} in {word!r}, which is not in "
                f"asr/tables/espeak-to-arpabet.txt; add the word to a lexicon of your own"
            )
        phones += mapped
    # espeak-ng writes the r of "eurocopter" twice and that of "embroideries" after ɚ; CMUdict once.
    pairs = zip(["", *phones], phones, strict=False)
    return tuple(phone for before, phone in pairs if phone != "r" or before not in ("r", "er"))


@cache
def _espeak() -> Callable[[Sequence[str]], list[str]]:
    """espeak-ng for American English: words → their sounds, `|` between words of one."""
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.Logger("phonemizer", logging.CRITICAL)
    backend = EspeakBackend("en-us", language_switch="remove-flags", logger=quiet)
    between = Separator(phone=" ", word="|")
    return lambda words: list(backend.phonemize(words, between, strip=True))


@cache
def _espeak_table() -> dict[str, tuple[str, ...]]:
    return {sound: tuple(phones) for sound, *phones in table_rows("espeak-to-arpabet.txt")}


def _rows(path: Path) -> Iterator[tuple[int, str, list[str], list[str]]]:
    """Line number, word, numbers and phones of each entry, without positions and final pauses."""
    try:
        lines = read_lines(path)
    except DataError:
        if not path.is_file() or path.read_bytes()[:3] != b";;;":
            raise
        lines = path.read_text("latin-1").split("\n")  # CMUdict 0.7
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith((";;;", "##", "# ")):
            word, *fields = line.split()
            comment = next((n for n, s in enumerate(fields) if s.startswith("#")), None)
            numbers = list(takewhile(PROBABILITY.fullmatch, fields))
            symbols = [
                name(symbol, f"{path}:{number}", "a phone")
                for symbol in fields[len(numbers) : comment]
            ]
            rows.append((number, word, numbers, symbols))
    if all(numbers or symbols[:1] in (["0"], ["1"]) for *_, numbers, symbols in rows):
        rows = [(n, word, p, s) if p else (n, word, s[:1], s[1:]) for n, word, p, s in rows]
    sounds = {s for *_, symbols in rows for s in symbols if s.lower() not in NO_PHONES}
    positions = bool(sounds) and all(map(POSITION.search, sounds))
    for number, word, numbers, symbols in rows:
        spoken = [POSITION.sub("", s) for s in symbols] if positions else symbols
        while len(spoken) > 1 and spoken[-1].lower() in PAUSES:
            spoken.pop()
        yield number, word, numbers, spoken
