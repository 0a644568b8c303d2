"""Alphabets of phones: each phone has one symbol, and is read again from every usual spelling."""

import unicodedata
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import soundfile
from conftest import tones_of

import asr
from asr.assessment import AssessedWord, Assessment, Extra, Sound, in_symbols
from asr.commands import align, transcribe
from asr.commands import score as score_command
from asr.errors import DataError
from asr.phones import Vocabulary, fold_to_arpabet, phone_set, table_rows
from asr.records import Segment, Transcript, Utterance, Word, write_jsonl
from asr.scoring import in_phones, read_transcripts
from asr.symbols import (
    ALPHABETS,
    KEPT,
    read_in,
    readings,
    require_alphabet,
    symbols_of,
    written,
)

SETS = {"arpabet": "arpabet39", "ipa": "timit61", "timit": "timit61", "xsampa": "timit61"}

# What phonecodes 2.0.0 says: timit2ipa, and X-SAMPA of which xsampa2ipa makes the same
# IPA (where ɚ and
# ɝ are ə and ɜ with the mark ˞). It has no ties, and no unreleased stops: closures are not here.
ORACLE = {
    "aa": "ɑ A", "ae": "æ {", "ah": "ʌ V", "ao": "ɔ O", "aw": "aʊ aU", "ax": "ə @",
    "ax-h": "ə̥ @_0", "axr": "ɚ @`", "ay": "aɪ aI", "b": "b b", "ch": "tʃ tS", "d": "d d",
    "dh": "ð D", "dx": "ɾ 4", "eh": "ɛ E", "el": "l̩ l=", "em": "m̩ m=", "en": "n̩ n=",
    "eng": "ŋ̩ N=", "er": "ɝ 3`", "ey": "eɪ eI", "f": "f f", "g": "ɡ g", "hh": "h h",
    "hv": "ɦ h\\", "ih": "ɪ I", "ix": "ɨ 1", "iy": "i i", "jh": "dʒ dZ", "k": "k k", "l": "l l",
    "m": "m m", "n": "n n", "ng": "ŋ N", "nx": "ɾ̃ 4~", "ow": "oʊ oU", "oy": "ɔɪ OI",
    "p": "p p", "q": "ʔ ?", "r": "ɹ r\\", "s": "s s", "sh": "ʃ S", "t": "t t", "th": "θ T",
    "uh": "ʊ U", "uw": "u u", "ux": "ʉ }", "v": "v v", "w": "w w", "y": "j j", "z": "z z",
    "zh": "ʒ Z",
}  # fmt: skip


def read(label: str, alphabet: str = "ipa") -> tuple[str, ...]:
    return readings([label], alphabet)[0][label]


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_each_phone_has_one_symbol_and_is_read_from_it(alphabet: str) -> None:
    phones = phone_set(SETS[alphabet])
    symbols = [symbols_of(alphabet)[phone] for phone in phones]
    assert len({*symbols}) == len(phones)
    for form in ("NFC", "NFD"):
        labels = [unicodedata.normalize(form, symbol or "") for symbol in symbols]
        known, wrong = readings(labels, alphabet)
        assert [known[label] for label in labels] == [(phone,) for phone in phones]
        assert not wrong
    assert all(symbol and symbol == unicodedata.normalize("NFC", symbol) for symbol in symbols)


def test_ipa_and_xsampa_are_those_of_an_oracle() -> None:
    closures = {phone for phone in phone_set("timit61") if phone.endswith("cl")}
    assert ORACLE.keys() == {*phone_set("timit61")} - closures - KEPT
    for phone, both in ORACLE.items():
        ipa, xsampa = both.split()
        assert (symbols_of("ipa")[phone] or "").replace("͡", "") == ipa
        assert symbols_of("xsampa")[phone] == xsampa
        assert read(ipa) == read(xsampa, "xsampa") == (phone,)


def test_ipa_is_arpabet_through_the_protocol_of_timit() -> None:
    for row in (row for row in table_rows("ipa.txt") if row[0] in phone_set("arpabet39")):
        assert symbols_of("ipa")[row[0].upper() + "1"] == row[1]
    for phone in phone_set("timit61"):
        (again,) = read(symbols_of("ipa")[phone] or "")
        assert symbols_of("arpabet")[again] == fold_to_arpabet().target[phone]


@pytest.mark.parametrize(
    ("written", "phones"),
    [
        ("ˈhɛloʊ", "hh eh l ow"),
        ("/həˈləʊ/", "hh ax l ow"),
        ("ˈt͡ʃɝt͡ʃ", "ch er ch"),
        ("tʃɜːtʃ", "ch er ch"),
        ("t͜ʃɜɹʧ", "ch er ch"),
        ("ˈmʌð.ɚ", "m ah dh axr"),
        ("ˈmʌðəɹ", "m ah dh axr"),
        ("ˈmʌðər", "m ah dh axr"),
        ("əˈɹaʊnd", "ax r aw n d"),  # a mark is between
        ("dɹɔˈɪŋ", "d r ao ih ng"),
        ("goʊ", "g ow"),
        ("ɡo̞ʊ̯", "g ow"),
        ("kʰæ̃n", "k ae n"),
        ("bɑːɹ", "b aa r"),
        ("oːɹ", "ao r"),
        ("faɪɚ", "f ay er"),
        ("ˈlɪɾl̩", "l ih dx el"),
        ("bʌʔn̩", "b ah q en"),
        ("naw", "n aw"),
        ("ɫɪlʷ", "l ih l"),
        ("ˈ", ""),
    ],
)
def test_usual_spellings_are_read(written: str, phones: str) -> None:
    for form in ("NFC", "NFD"):
        assert read(unicodedata.normalize(form, written)) == tuple(phones.split())


def test_espeak_symbols_are_those_of_its_table() -> None:
    fold = fold_to_arpabet()
    other = {"ɾ", "ʔ", "l̩", "m̩", "n̩", "ɑ̃", "ɔ̃", "ɛ̃"}  # TIMIT has them, or they are the vowel
    for sound, *phones in table_rows("espeak-to-arpabet.txt"):
        if sound not in other:
            assert fold(read(sound)) == tuple(phones), sound


def test_sil_is_a_silence_among_phones_and_three_sounds_among_words() -> None:
    assert readings(["sil", "k", "spn"], "ipa")[0] == {
        "sil": ("sil",),
        "k": ("k",),
        "spn": ("sil",),
    }
    assert readings(["sil", "kæt"], "ipa")[0]["sil"] == ("s", "iy", "l")


@pytest.mark.parametrize(
    ("alphabet", "label", "says"),
    [
        ("ipa", "ʀu", r"'ʀ' \(U\+0280\) in 'ʀu' .* nearest is 'ɹ'"),
        ("ipa", "βa", "nearest is 'v'"),
        ("ipa", "S", "nearest is 's'"),
        ("ipa", "Ɛ", "nearest is 'ɛ'"),
        ("xsampa", "H", "nearest is 'h'"),
        ("xsampa", "B", "nearest is 'v'"),
        ("arpabet", "ix", "set symbols timit"),
        ("arpabet", "zhh", "did you mean 'zh'"),
        ("timit", "axx", "did you mean 'ax'"),
    ],
)
def test_other_symbols_are_refused_with_the_nearest(alphabet: str, label: str, says: str) -> None:
    known, wrong = readings([label], alphabet)
    assert not known
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(wrong[label])


def test_arpabet_is_not_read_as_ipa() -> None:
    for alphabet in ("ipa", "xsampa"):
        with pytest.raises(DataError, match="labels of ARPABET"):
            readings(["DH", "ah0", "k", "ae", "t", "sil"], alphabet)
    with pytest.raises(DataError, match="'ipa'"):
        require_alphabet("ipaa")
    with pytest.raises(DataError, match="phone 'ä'"):
        require_alphabet("ipa", ["a", "ä"][1:])


# ── writing ──────────────────────────────────────────────────────────────────────────────────


def said(*labels: str) -> Transcript:
    phones = tuple(Segment(one, n / 10, (n + 1) / 10, 0.5) for n, one in enumerate(labels))
    return Transcript("a.wav", len(labels) / 10, phones, (Word("w", 0.0, 1.0, 0.5, labels),))


def test_closures_are_part_of_their_stops_in_arpabet() -> None:
    result = written(said("h#", "q", "aa", "tcl", "t", "tcl", "ix", "kcl", "h#"), "arpabet")
    times = [(one.phone, round(10 * one.start_s), round(10 * one.end_s)) for one in result.phones]
    assert times == [("aa", 2, 3), ("t", 3, 5), ("t", 5, 6), ("ih", 6, 7), ("k", 7, 8)]
    assert result.words is not None
    assert result.words[0].phones == ("aa", "t", "t", "ih", "k")


def test_other_alphabets_keep_every_phone_and_its_times() -> None:
    before = said("h#", "dcl", "JH", "AH0", "ng")
    for alphabet, names in {"ipa": "h# d̚ d͡ʒ ʌ ŋ", "timit": "h# dcl jh ah ng"}.items():
        after = written(before, alphabet)
        assert [one.phone for one in after.phones] == names.split()
        assert [one[1:] for one in after.phones] == [one[1:] for one in before.phones]
        assert after.words is not None
        assert after.words[0].phones == tuple(names.split())
    assert written(before, None) is before


def test_phones_of_a_list_are_those_of_the_vocabulary() -> None:
    phones = read_in(["ð", "ə", "ˈkæt"], "ipa", Vocabulary(phone_set("arpabet39")))
    assert phones == ["dh", "ah", "k", "ae", "t"]
    with pytest.raises(DataError, match="nearest is 'v'"):
        read_in(["β"], "ipa", Vocabulary(["aa"]))


def test_an_assessment_is_in_the_same_symbols() -> None:
    sound, extra = Sound("th", 0.0, 0.1, 3.0, "-"), Extra("ah", 0.1, 5.0, 1)
    word = AssessedWord("w", 0.0, 0.1, 3.0, False, (sound,), (extra,))
    result = Assessment("a.wav", 1.0, 3.0, 3.0, 100.0, (word,))
    (changed,) = in_symbols(result, "ipa").words
    assert changed.phones == (replace(sound, phone="θ"),)
    assert changed.extra == (replace(extra, phone="ʌ"),)
    assert in_symbols(result, "arpabet") == in_symbols(result, None) == result


# ── commands ─────────────────────────────────────────────────────────────────────────────────


def test_scores_are_the_same_in_every_alphabet(tmp_path: Path) -> None:
    sides = {
        "ref": {"a": "dh ah k ae t", "b": "ch er ch"},
        "hyp": {"a": "dh ah k aa t s", "b": "ch er"},
    }
    totals = set()
    for alphabet in ALPHABETS:
        coded = [
            {id: [symbols_of(alphabet)[p] or "" for p in line.split()] for id, line in side.items()}
            for side in sides.values()
        ]
        totals.add(asr.score(*coded, symbols=alphabet).line())
        for name, side in zip(sides, coded, strict=True):
            lines = [f"{id} {' '.join(phones)}\n" for id, phones in side.items()]
            (tmp_path / f"{name}.{alphabet}").write_text("".join(lines), encoding="utf-8")
    ref, hyp = tmp_path / "ref.timit", tmp_path / "hyp.xsampa"
    (report,) = score_command.run(ref, [hyp], symbols=("timit", "xsampa"), bootstrap=0)
    assert len(totals) == 1
    assert (report.score.total.err, report.score.total.ref) == (3, 8)
    assert "%PER 37.50 [ 3 / 8, 1 ins, 1 del, 1 sub ]" in totals.pop()
    words = asr.score({"a": "ðə kæt"}, {"a": "ð ʌ k æ t"}, symbols="ipa")
    assert (words.total.err, words.total.ref) == (0, 5)
    mixed = asr.score({"a": ["AH0", "T"]}, {"a": "ʌɾ"}, "arpabet", symbols=("arpabet", "ipa"))
    assert mixed.total.err == 0


def test_what_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ref").write_text("a ðə kæt\nb ˈgoʊ\n", encoding="utf-8")
    (tmp_path / "hyp").write_text("a ðə kæt\nb ˈɢoʊ\n", encoding="utf-8")
    ref, hyp = str(tmp_path / "ref"), str(tmp_path / "hyp")
    assert score_command.main([ref, hyp, "--symbols", "ipa"]) == 1
    assert f"{hyp}:2: symbol 'ɢ' (U+0262)" in capsys.readouterr().err
    assert score_command.main([ref, hyp]) == 1
    assert "--symbols ipa" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        score_command.main([ref, hyp, "--symbols", "ipa,sampa"])


def test_every_format_of_transcribe_has_the_symbols(
    tmp_path: Path, tone_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phones = ("aa", "s", "m", "iy", "aa")
    soundfile.write(tmp_path / "a.wav", tones_of(phones), 16_000)
    reads = {"x.json": "ipa", "x.TextGrid": "xsampa", "x.txt": "ipa"}
    for name, alphabet in reads.items():
        path = tmp_path / alphabet / name
        path.parent.mkdir(exist_ok=True)
        transcribe.run([tmp_path / "a.wav"], tone_model, output=path, symbols=alphabet)
        read = in_phones(read_transcripts(path), alphabet)
        assert [one.phones for one in read.items.values()] == [phones]
        symbol = {"ipa": "ɑ", "xsampa": '"A"'}[alphabet]
        assert symbol in path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="known are arpabet"):
        asr.load(tone_model, symbols="x")


def test_formats_of_align_have_the_symbols_or_refuse_them(
    tmp_path: Path, tone_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phones = ("aa", "s", "m", "iy")
    soundfile.write(tmp_path / "a.wav", tones_of(phones), 16_000)
    one = Utterance("a", str(tmp_path / "a.wav"), 0.6, "s", phones)
    write_jsonl(tmp_path / "in.jsonl", [one])
    out = {name: str(tmp_path / f"out.{name}") for name in ("jsonl", "ctm")}
    folders = {name: str(tmp_path / name) for name in ("textgrid", "phn")}
    flags = list(chain(*((f"--{name}", path) for name, path in folders.items())))
    command = ["--checkpoint", str(tone_model), str(tmp_path / "in.jsonl"), "--symbols"]
    assert align.main([*command, "ipa", "--output", out["jsonl"], "--ctm", out["ctm"], *flags]) == 0
    for path in (*out.values(), folders["textgrid"], f"{folders['phn']}/a.phn"):
        read = in_phones(read_transcripts(path), "ipa")
        assert [one.phones for one in read.items.values()] == [phones], path
    with pytest.raises(SystemExit):
        align.main([*command, "xsampa", "--phn", folders["phn"]])
    assert ".phn is read in lower case" in capsys.readouterr().err
    segments = asr.align(
        tmp_path / "a.wav", ["ɑs", "m", "iː"], checkpoint=tone_model, symbols="ipa"
    )
    assert isinstance(segments, tuple)
    assert [one.phone for one in segments] == ["ɑ", "s", "m", "i"]
