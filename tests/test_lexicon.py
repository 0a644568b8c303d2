"""Lexica of every dialect of CMUdict's format, espeak-ng's IPA, and words that nobody knows."""

from collections import Counter
from pathlib import Path

import pytest

from asr.corpora import lexicon
from asr.errors import DataError
from asr.phones import phone_set, table_lines

WORDS = {
    "a": (("ah",), ("ey",)),
    "speech": (("s", "p", "iy", "ch"),),
    "don't": (("d", "ow", "n", "t"),),
}
PLAIN = "a AH0\na(2) EY1\na(3) AH1\nspeech S P IY1 CH # noun\ndon't D OW1 N T\n"
CMUDICT_07 = (
    ";;; # CMUdict  --  Major Version: 0.07\n"
    "A  AH0\nA(1)  EY1\nSPEECH  S P IY1 CH\nDON'T  D OW1 N T\n"
)
LIBRISPEECH = "A\tAH0\nA\tEY1\nSPEECH  S P IY1 CH\n\nDON'T\tD OW1 N T\n"


@pytest.mark.parametrize("text", [PLAIN, CMUDICT_07, LIBRISPEECH, PLAIN.replace("\n", "\r\n")])
def test_every_dialect_of_the_format_gives_the_same_lexicon(tmp_path: Path, text: str) -> None:
    path = tmp_path / "words.dict"
    path.write_text(text)
    assert lexicon.read(path) == WORDS


def test_written_and_read_is_identity(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("".join(lexicon.lines(WORDS)))
    assert lexicon.read(path) == WORDS


def test_latin_1_is_read_of_cmudict_alone(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    entries = "DÉJÀ  D EY2 ZH AA1\n#HASH  HH AE1 SH\n(PAREN  P ER0 EH1 N\n"
    path.write_bytes(f";;; # CMUdict\n{entries}".encode("latin-1"))
    assert set(lexicon.read(path)) == {"déjà", "#hash", "(paren"}
    path.write_bytes(entries.encode("latin-1"))
    with pytest.raises(DataError, match=r"words\.dict:1: .*iconv -f latin1"):
        lexicon.read(path)


HELLO, THERE = ("hh", "ah", "l", "ow"), ("dh", "eh", "r")


@pytest.mark.parametrize(
    ("text", "words", "skipped"),
    [
        ("hello\t0.99\t0.2\t1.0\t1.0\tHH AH0 L OW1\nthere\t1.0\tDH EH1 R\n", {}, set()),
        (
            "HELLO 1.0 HH AH0 L OW1\nTHERE 0.4 DH AH0 R\nTHERE 0.6 DH EH1 R\n",
            {"there": (THERE, ("dh", "ah", "r"))},  # the most probable first
            set(),
        ),
        ("HELLO 1 HH AH0 L OW1\nTHERE 0.5 DH EH1 R\nTHERE 1e-3 DH EH0 R\n", {}, set()),
        (
            "!SIL SIL\n<UNK> SPN\n[noise] NSN\nHELLO HH AH0 L OW1\nTHERE DH EH1 R\n#0 #0\n",
            {},
            {"!sil", "<unk>", "[noise]"},
        ),
        ("!SIL SIL_S\nHELLO HH_B AH0_I L_I OW1_E\nTHERE DH_B EH1_I R_E\n", {}, {"!sil"}),
        ("HELLO hh ah l ow sp\nTHERE dh eh r sil\nSIL sil\n", {}, {"sil"}),  # HTK
        ("HELLO HH AH0 L OW1\nhello HH AH1 L OW0\nTHERE DH EH1 R\nthere DH EH1 R\n", {}, set()),
    ],
)
def test_dictionaries_of_aligners_are_read(
    tmp_path: Path,
    text: str,
    words: dict[str, tuple[lexicon.Pronunciation, ...]],
    skipped: set[str],
) -> None:
    path = tmp_path / "words.dict"
    path.write_text(text)
    dictionary = lexicon.read(path)
    assert dictionary == {"hello": (HELLO,), "there": (THERE,)} | words
    assert lexicon.read(path, lexicon.EITHER) == dictionary
    assert set(dictionary.skipped) - {"#0"} == skipped


def test_other_sets_of_phones_are_as_written(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("öl 2: l\ndeutsch d OY t_S\nweg 9 a0 e\u0301\n")
    written = {"öl": (("2:", "l"),), "deutsch": (("d", "OY", "t_S"),), "weg": (("9", "a0", "é"),)}
    assert lexicon.read(path, "mine") == written
    assert lexicon.read(path, "mine", ["2:", "l", "d", "OY", "t_S", "9", "a0", "é"]) == written
    assert lexicon.read(path, lexicon.EITHER) == written
    with pytest.raises(DataError, match=r"words\.dict:3: phone '9' is not in mine"):
        lexicon.read(path, "mine", ["2:", "l", "d", "OY", "t_S"])
    with pytest.raises(DataError, match=r"words\.dict:1: phone '2:' .*corpus\.phone_set"):
        lexicon.read(path)


@pytest.mark.parametrize(
    "line", ["there 1.5 DH EH1 R", "there 0.5 0.5 DH EH1 R", "there 0.5", "there DH\u200b EH1 R"]
)
def test_a_line_that_no_dictionary_has_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "words.dict"
    path.write_text(f"hello HH AH0 L OW1\n{line}\n")
    with pytest.raises(DataError, match=r"words\.dict:2: "):
        lexicon.read(path)


def test_bad_lines_are_listed_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("fine F AY1 N\nmute\nodd AX0 D\n")
    with pytest.raises(DataError) as error:
        lexicon.read(path)
    assert "words.dict:2: 'mute' has no phones; expected `word P1 P2`" in error.value.problems[0]
    assert "words.dict:3: phone 'AX' is not in arpabet39" in error.value.problems[1]
    path.write_text("odd AX0 D\n" * 100)
    with pytest.raises(DataError, match="and 80 more lines like these"):
        lexicon.read(path)
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="no words"):
        lexicon.read(path)
    with pytest.raises(DataError, match=r"absent\.dict: cannot be read"):
        lexicon.read(tmp_path / "absent.dict")


def test_the_phones_are_39_and_every_sound_of_espeak_maps_to_them() -> None:
    phones = phone_set("arpabet39")
    assert len(phones) == 39
    for line in table_lines("espeak-to-arpabet.txt"):
        sound, *mapped = line.split()
        assert mapped, sound
        assert set(mapped) <= set(phones), line


@pytest.mark.parametrize(
    ("sounds", "phones"),
    [
        ("θ ˈɔː t", "th ao t"),
        ("ɛ m b ɹ ɔɪ d ɚ ɹ i z", "eh m b r oy d er iy z"),  # no r after er
        ("ɑːɹ ɹ oʊ", "aa r ow"),  # nor after r
        ("b ɹ ɪ ʔ n̩", "b r ih t ah n"),
    ],
)
def test_ipa_becomes_arpabet(sounds: str, phones: str) -> None:
    assert " ".join(lexicon.from_ipa(sounds.split(), "word")) == phones


def test_a_sound_that_no_table_has_names_the_word() -> None:
    with pytest.raises(DataError, match="espeak-ng says 'ʘ' in 'kiss'"):
        lexicon.from_ipa(["k", "ʘ"], "kiss")


def test_words_are_looked_up_in_turn_and_the_rest_is_told(tmp_path: Path) -> None:
    main, own = tmp_path / "main.dict", tmp_path / "own.dict"
    main.write_text(PLAIN)
    own.write_text("XYLO  Z AY1 L OW0\nSPEECH  S P IH1 CH\n")
    counts = Counter({"A": 5, "SPEECH": 2, "XYLO": 2, "QWRTX": 1})
    spoken = lexicon.pronounce(counts, [lexicon.read(main), lexicon.read(own)], "none")
    assert spoken.first() == {
        "A": ("ah",),
        "SPEECH": WORDS["speech"][0],
        "XYLO": ("z", "ay", "l", "ow"),
    }
    assert spoken.absent == ["QWRTX"]
    assert spoken.summary() == (
        "main.dict does not have 3 of 10 running words (30.00 %), 2 of 4 different ones (50.0 %): "
        "1 by own.dict, listed in manifests/oov.txt"
    )
    assert spoken.report("first")["lexicon.txt"] == "a ah\nspeech s p iy ch\nxylo z ay l ow\n"
    assert "a(2) ey\n" in spoken.report("all")["lexicon.txt"]
    assert spoken.report("all")["oov.txt"].splitlines()[1:] == ["XYLO 2 own.dict z ay l ow"]


def test_espeak_says_what_no_lexicon_has(tmp_path: Path) -> None:
    pytest.importorskip("phonemizer")
    main = tmp_path / "main.dict"
    main.write_text(PLAIN)
    spoken = lexicon.pronounce(Counter(["BLACKMAILERS", "A"]), [lexicon.read(main)], "espeak")
    assert " ".join(spoken.first()["BLACKMAILERS"]) == "b l ae k m ey l er z"
    assert spoken.source == {"BLACKMAILERS": "espeak-ng"}
    assert lexicon.espeak([]) == {}


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "phonemizer.backend", None)
    lexicon._espeak.cache_clear()
    with pytest.raises(DataError, match=r"pip install 'asr-phones\[g2p\]'"):
        lexicon.espeak(["word"])


def test_espeak_agrees_with_cmudict_more_often_than_not(shared: Path) -> None:
    """Not a quality claim: a wrong line in the table would move thousands of words."""
    pytest.importorskip("phonemizer")
    known = lexicon.read(shared / "corpora" / "cmudict" / "cmudict.dict")
    assert len(known) > 120_000
    words = [word for word in sorted(known)[::100] if word.isalpha()]
    spoken = lexicon.espeak(words)
    assert sum(spoken[word] in known[word] for word in words) > 0.25 * len(words)


def test_reported_lexicons(shared: Path) -> None:
    folder = shared / "conformance" / "reports" / "lexicon"
    there = {"there": (THERE,)}
    assert lexicon.read(folder / "with_probabilities.dict") == {"hello": (HELLO,)} | there
    assert lexicon.read(folder / "lexiconp.txt")["there"] == (THERE, ("dh", "ah", "r"))
    kaldi = lexicon.read(folder / "kaldi_lexicon.txt")
    assert kaldi == {"hello": (HELLO,)} | there
    assert kaldi.skipped == {"!sil": "sil", "<unk>": "spn"}
    assert lexicon.read(folder / "position_dependent.txt") == {"hello": (HELLO,), "a": (("ah",),)}
    other = lexicon.read(
        folder / "another_language.txt", "listed", ["h", "a", "l", "o", "v", "e", "t"]
    )
    assert other == {"hallo": (tuple("halo"),), "welt": (tuple("velt"),)}
