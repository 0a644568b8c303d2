"""Words to phones: dictionaries in CMUdict's format, and espeak-ng for words outside of them.

Phones are the 39 of CMUdict in lower case, without stress. A word has all pronunciations of its
dictionary, in their order there. Words are looked up as they are written, in lower case: no ending
is stripped and no spelling corrected.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from asr.errors import DataError, pip_install, raise_problems
from asr.phones import arpabet_spellings, phone_set, table_rows, unknown_phone

Pronunciation = tuple[str, ...]
Lexicon = Mapping[str, tuple[Pronunciation, ...]]  # word in lower case → its pronunciations

MAX_PROBLEMS = 20  # listed of one file

log = logging.getLogger(__name__)


def read(path: str | Path) -> dict[str, tuple[Pronunciation, ...]]:
    """The pronunciations of each word, from `word P1 P2` lines; one `DataError` lists bad lines.

    Reads `cmudict.dict` (`word(2)`, `# comment` after an entry), CMUdict 0.7 (`;;;` comments, two
    spaces, Latin-1) and LibriSpeech's lexicon (each variant a line with the same word).
    Pronunciations that differ only in stress are the same.
    """
    known = arpabet_spellings()
    lexicon: dict[str, list[Pronunciation]] = {}
    problems: list[str] = []
    for number, line in enumerate(_text(Path(path)).splitlines(), start=1):
        if line.startswith((";;;", "##", "# ")) or not line.strip():
            continue
        word, *symbols = line.split()
        comment = next((i for i, symbol in enumerate(symbols) if symbol.startswith("#")), None)
        symbols = symbols[:comment]
        unknown = [symbol for symbol in symbols if symbol not in known]
        if not symbols:
            problems.append(f"{path}:{number}: {word!r} has no phones; expected `word P1 P2`")
        elif unknown:
            sentence = unknown_phone(unknown[0].rstrip("012"), phone_set("arpabet39"), "arpabet39")
            problems.append(f"{path}:{number}: {sentence}")
        else:
            variants = lexicon.setdefault(re.sub(r"(?<=.)\(\d+\)$", "", word).lower(), [])
            pronunciation = tuple(known[symbol] for symbol in symbols)
            if pronunciation not in variants:
                variants.append(pronunciation)
    if len(problems) > MAX_PROBLEMS:
        more = f"{path}: … and {len(problems) - MAX_PROBLEMS} more lines like these"
        problems = [*problems[:MAX_PROBLEMS], more]
    raise_problems(problems)
    if not lexicon:
        raise DataError(f"{path}: no words; expected lines such as `speech S P IY1 CH`")
    return {word: tuple(variants) for word, variants in lexicon.items()}


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
        used = {word.lower(): variants[:keep] for word, variants in self.pronunciations.items()}
        head = f"# words that {self.lexicon_name} does not have: word, times read, source, phones\n"
        rows = [
            f"{word} {self.counts[word]} {source} {' '.join(self.pronunciations[word][0])}\n"
            for word, source in sorted(self.source.items())
        ]
        return {"lexicon.txt": "".join(lines(used)), "oov.txt": "".join([head, *rows])}


def pronounce(
    counts: Mapping[str, int], path: str | Path, second: str | Path | None, g2p: str
) -> Spoken:
    """Pronunciations of a lexicon, else of a second one, else of espeak-ng unless `g2p` is "none".

    Words without phones are in `Spoken.absent`; the log has how many are in no lexicon.
    """
    main = read(path)
    known = {word: main[word.lower()] for word in counts if word.lower() in main}
    source: dict[str, str] = {}
    if second is not None:
        own = read(second)
        for word in sorted(counts.keys() - known.keys()):
            if word.lower() in own:
                known[word], source[word] = own[word.lower()], Path(second).name
    if g2p == "espeak":
        spoken = espeak(word.lower() for word in counts.keys() - known.keys())
        for word in sorted(counts.keys() - known.keys()):
            if word.lower() in spoken:
                known[word], source[word] = (spoken[word.lower()],), "espeak-ng"
    result = Spoken(Path(path).name, counts, known, source)
    log.info("%s", result.summary())
    return result


def espeak(words: Iterable[str]) -> dict[str, Pronunciation]:
    """One pronunciation of each word, by espeak-ng's rules for American English.

    Words for which espeak-ng gives no sound are not in the result. Raises `DataError` where the
    extra `g2p` is not installed, or espeak-ng gives a sound that the table does not have.
    """
    asked = sorted(set(words))
    if not asked:
        return {}
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
        from phonemizer.separator import Separator
    except ImportError:
        raise DataError(
            f"words outside the lexicon need espeak-ng; run: {pip_install('g2p')}, or add them to "
            f"a lexicon of your own"
        ) from None
    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.Logger("phonemizer", logging.CRITICAL)
    backend = EspeakBackend("en-us", language_switch="remove-flags", logger=quiet)
    spoken = backend.phonemize(asked, Separator(phone=" ", word="|"), strip=True)
    if len(spoken) != len(asked):
        raise DataError(f"espeak-ng gave {len(spoken)} pronunciations for {len(asked)} words")
    by_word = {
        word: from_ipa(sounds.replace("|", " ").split(), word)
        for word, sounds in zip(asked, spoken, strict=True)
    }
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
def _espeak_table() -> dict[str, tuple[str, ...]]:
    return {sound: tuple(phones) for sound, *phones in table_rows("espeak-to-arpabet.txt")}


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the lexicon cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")  # as CMUdict 0.7b is
