"""Laws of texts that are spoken: their words, as they are looked up, and the phones of each."""

import lzma
import re
import sys
from pathlib import Path

import pytest

from asr.corpora import lexicon, spoken
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


def words_of(pronouncer: Pronouncer, text: str) -> str:
    return " ".join(word for word, _ in pronouncer.said(text))


def test_the_packaged_lexicon_is_what_the_reader_of_lexicons_reads(tmp_path: Path) -> None:
    with lzma.open(spoken.CMUDICT, "rt") as file:
        lines = file.read().splitlines()
    assert len(lines) > 130_000
    words = {line.split("(")[0].split()[0] for line in (*lines[::500], "us ", "read ", "a ")}
    own = [line for line in lines if re.split(r"[( ]", line)[0] in words]
    (tmp_path / "some.dict").write_text("\n".join(own))
    packaged = spoken.cmudict()
    for word, variants in lexicon.read(tmp_path / "some.dict").items():
        assert word in packaged
        assert packaged[word] == variants
    for absent in ("", "zzz", "us(2)", "read ", "#", 5):
        assert absent not in packaged
    assert packaged.get("zzz", ()) == ()
    assert (spoken.CMUDICT.parent / "cmudict.license.txt").read_text().startswith("Copyright (C)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("She had your dark suit.", "she had your dark suit"),
        ("SHE HAD YOUR DARK SUIT", "she had your dark suit"),
        ("\"Well,\" he said -- don’t; 'tis O'Brien's!", "well he said don't 'tis o'brien's"),
        ("state-of-the-art well-read forty-two", "state-of-the-art well read forty two"),
        ("students' ’hello’ rock 'n' roll", "students' hello rock 'n roll"),
        ("the U.S. and Q.X.Z., e.g. J.F.K", "the u.s. and q. x. z. e.g. j. f. k."),
        ("he said (quietly, of course): yes (laughs)", "he said quietly of course yes"),
        ("hello [noise] (laughs) <sil> world #", "hello world"),
        ("na\u00efve caf\u00e9 cafe\u0301", "naive cafe cafe"),
        ("hello,world\n\n\tagain", "hello world again"),
        ("Smith vs. Jones Jr. came in.", "smith vs. jones jr. came in"),
    ],
)
def test_words_are_as_they_are_looked_up(pronouncer: Pronouncer, text: str, words: str) -> None:
    before = dict(pronouncer.outside)
    assert words_of(pronouncer, text) == words
    assert pronouncer.outside == before  # each is in the lexicon


@pytest.mark.parametrize(
    ("text", "words", "phones"),
    [
        ("5", "5", "f ay v"),
        ("room 5,000", "room 5,000", "f ay v th aw z ah n d"),
        ("21st-century", "21st century", "t w eh n t iy f er s t"),
        ("1984", "1984", "n ay n t iy n ey t iy f ao r"),
        ("the 1990s'", "the 1990s", "n ay n t iy n n ay n t iy z"),
        ("$5", "$5", "f ay v d aa l er z"),
        ("(-5%)", "5%", "f ay v p er s eh n t"),
        ("#1", "number 1", "w ah n"),
        ("Q&A", "q&a", "k y uw ae n d ey"),
        ("10:30", "10:30", "t eh n th er t iy"),
        ("Blorpy", "blorpy", "b l ao r p iy"),
        ("the XKCD's", "the xkcd's", "eh k s k ey s iy d iy z"),
    ],
)
def test_what_the_lexicon_does_not_have_is_read_aloud_and_named(
    text: str, words: str, phones: str
) -> None:
    pytest.importorskip("phonemizer")
    pytest.importorskip("espeakng_loader")
    pronouncer = Pronouncer()
    said = {one.word: one.pronunciations for one in pronouncer.said(text)}
    assert " ".join(said) == words
    (outside,) = pronouncer.outside
    assert said[lexicon.key(outside)][0] == pronouncer.outside[outside] == tuple(phones.split())
    pronouncer.said(f"again {text} {text}")
    (warning,) = pronouncer.warnings()
    assert warning.startswith(f"{outside!r} is not in CMUdict")
    assert warning.endswith(phones)


def test_capitals_may_be_spelled_unless_all_of_the_text_is_in_capitals(
    pronouncer: Pronouncer,
) -> None:
    spelled = ("eh", "n", "ey", "eh", "s", "ey")
    assert spelled in pronouncer.said("at NASA")[1].pronunciations
    assert spelled not in pronouncer.said("AT NASA")[1].pronunciations
    assert spelled not in pronouncer.said("at Nasa")[1].pronunciations


def test_pronunciations_are_all_of_the_lexicon(pronouncer: Pronouncer) -> None:
    ((_, variants),) = pronouncer.said("either")
    assert set(variants) == {("iy", "dh", "er"), ("ay", "dh", "er")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("well <unk> then", "'<unk>' stands for speech"),
        ("well (unclear) then", "stands for speech"),
        ("cat(s)", "may hold speech"),
        ("ab- abandon", "cut off"),
        ("a\u2665b", "U\\+2665"),
        ("1/2", "U\\+002F"),
        ("\u041f\u0440\u0438", "CYRILLIC"),
        (" ... ", "no words"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(pronouncer: Pronouncer, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        pronouncer.said(text)
    pronouncer.prepare([text])  # says nothing


def test_markup_is_counted_once_for_each_text_that_is_said() -> None:
    once, twice, never = "ma [noise]", "see {breath} # me", "[noise] [unintelligible]"
    pronouncer = Pronouncer(g2p="none")
    pronouncer.prepare([once, twice, never, twice])
    assert pronouncer.warnings() == []
    for text in (once, twice, twice):
        pronouncer.said(text)
    for text in (never, "[noise]", "[noise] blorpyx"):
        with pytest.raises(DataError):
            pronouncer.said(text)
    (warning,) = pronouncer.warnings()
    assert warning == "markup left out: 5 times, {breath} 2×, # 2×, [noise] 1×"


def test_without_the_extra_the_words_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonemizer.backend", None)
    lexicon._espeak.cache_clear()
    pronouncer = Pronouncer()
    assert words_of(pronouncer, "she had it") == "she had it"
    with pytest.raises(DataError, match=r"'blorpy', 'qwortz'.*pip install 'asr-phones\[g2p\]'"):
        pronouncer.prepare(["a blorpy", "the qwortz", "<unk>"])
    with pytest.raises(DataError, match="'blorpy' is not in the lexicon"):
        Pronouncer(g2p="none").said("a blorpy")


def test_a_lexicon_of_other_phones_has_no_g2p(tmp_path: Path) -> None:
    path = tmp_path / "german.txt"
    path.write_text("guten g u: t n\ntag t a: k\nX. I k s\n")
    pronouncer = Pronouncer(path)
    assert [one.pronunciations for one in pronouncer.said("Guten Tag!")] == [
        (("g", "u:", "t", "n"),),
        (("t", "a:", "k"),),
    ]
    with pytest.raises(DataError, match=r"'Abend' is not in the lexicon \(german.txt\)"):
        pronouncer.said("Guten Abend")
