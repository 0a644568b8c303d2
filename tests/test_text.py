"""Plain text → words → phones → n-grams: what is read, where sentences are cut, what is refused."""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.commands import ngram
from asr.corpora import lexicon, text
from asr.corpora.text import TextReader, cut, joined, missing, replaced, spelled, times_read
from asr.errors import DataError
from asr.files import read_lines
from asr.records import Utterance, write_jsonl
from asr.search.arpa import read_arpa
from asr.search.ngram import Sentences, estimate

LEXICON = """a AH0
a(2) EY1
big B IH1 G
cat K AE1 T
it's IH1 T S
on AA1 N
one W AH1 N
sat S AE1 T
students' S T UW1 D AH0 N T S
the DH AH0
very V EH1 R IY0
well-known W EH1 L N OW1 N
"""
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.fixture
def words_of(tmp_path: Path) -> lexicon.Dictionary:
    (tmp_path / "words.dict").write_text(LEXICON)
    return lexicon.read(tmp_path / "words.dict")


def written(folder: Path, content: str | bytes, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(sentences: Sentences) -> list[str]:
    """The symbols of each sentence, | for a cut."""
    names = ("|", *sentences.symbols)
    begins = [0, *sentences.ends]
    return [
        " ".join(names[n] for n in sentences.labels[begin:end])
        for begin, end in zip(begins, sentences.ends, strict=False)
    ]


def read(words_of: lexicon.Dictionary, path: Path, ids: bool | None = None) -> list[str]:
    reader = TextReader(words_of, ids)
    reader.add(path)
    return texts(reader.sentences())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("THE CAT SAT ON IT'S", "the cat sat on it's"),
        (
            "The cat\u2014a \u201cbig\u201d one; it\u2019s (very) big!",
            "the cat a big one it's very big",
        ),
        ("the well-known big-cat, students' cat's'", "the well-known big cat students' cat's"),
        ("_Very_ big, *the* [noise] cat", "very big the cat"),
        ("the cat in 1984 sat", "the cat in | sat"),
        ("the [Illustration: A cat] cat <unk> sat wor- on", "the | cat | sat | on"),
        ("cat(s) & the 4-year cat", "| | the | cat"),
        ("cafe\u0301 CAFÉ кот", "café café |"),
    ],
)
def test_words_are_read_by_the_rules_of_transcripts(
    line: str, expected: str, words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    assert read(words_of, written(tmp_path, f"the cat\r\n\n{line}\n")) == ["the cat", expected]


@pytest.mark.parametrize(
    ("content", "ids", "expected"),
    [
        ("19-198-0000 THE CAT\n19-198-0001 SAT\n", None, ["the cat", "sat"]),
        ("utt1 the cat\n\nutt2\nutt3 sat", None, ["the cat", "sat"]),
        ("utt1 the cat\nutt1 sat", None, ["| the cat", "| sat"]),
        ("one the cat\nbig sat", None, ["one the cat", "big sat"]),
        ("one the cat\nbig sat", True, ["the cat", "sat"]),
        ("1 the\n2 cat", False, ["| the", "| cat"]),
    ],
)
def test_ids_are_decided_for_a_whole_file(
    content: str,
    ids: bool | None,
    expected: list[str],
    words_of: lexicon.Dictionary,
    tmp_path: Path,
) -> None:
    assert read(words_of, written(tmp_path, content), ids) == expected


@pytest.mark.parametrize("ending", PACK)
def test_compression_is_told_by_content(
    ending: str, words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    content = "\ufeffthe cat\nsat\n".encode()
    packed = written(tmp_path, PACK[ending](content), "text")
    assert read(words_of, packed) == ["the cat", "sat"]
    assert read_lines(packed) == ["the cat", "sat", ""]


LONG = b"the cat sat\n" * 40_000  # several blocks


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            gzip.compress(random.Random(1).randbytes(600_000).hex().encode())[:-300_000],
            "a:1: .*cut",
        ),
        (gzip.compress(LONG)[:-4], "a:(?!1:).*damaged or cut off"),
        (gzip.compress(LONG)[:-8] + b"12345678", "damaged"),
        (lzma.compress(LONG)[:-30], "damaged or cut off"),
        (bz2.compress(LONG)[:-30] + b"x" * 30, "damaged"),
        (LONG + b"caf\xe9\n", "a:40001: byte 0xe9 is not UTF-8"),
        (gzip.compress(LONG + b"\ncaf\xe9\n"), "a:40002: byte 0xe9 is not UTF-8"),
        (LONG + b"\0", "a:40001: a NUL byte"),
        ("the cat".encode("utf-16"), "is UTF-16"),
        (b"", "a: no words"),
        (gzip.compress(b"\n \n"), "a: no words"),
        (b"1984 &\n", "a: no words"),
        (b'{"id": "a"}\n', "is JSON text, expected lines of text"),
    ],
)
def test_what_is_no_text_is_one_message(
    content: bytes, message: str, words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read(words_of, written(tmp_path, content, "a"))
    assert "\n" not in str(refused.value)


def test_a_folder_is_read_with_all_its_transcripts(
    words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    for chapter in ("1-2", "1-3"):
        (tmp_path / "set" / chapter).mkdir(parents=True)
        written(tmp_path / "set" / chapter, f"{chapter}-0 THE CAT\n", f"{chapter}.trans.txt")
    reader = TextReader(words_of)
    assert reader.add(tmp_path / "set") == f"{tmp_path / 'set'}: 2 lines, with ids, 4 words"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no "):
        reader.add(tmp_path / "empty")


def test_arrays_do_what_lists_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK", 7)
    draw = random.Random(3)
    lines = [[draw.randrange(1, 6) for _ in range(draw.randrange(5))] for _ in range(50)]
    parts = [(), (0,), (2, 0, 1), (), (1, 1), (0, 0)]
    labels = np.array([one for line in lines for one in line], np.int32)
    ends = np.cumsum([len(line) for line in lines])
    result = replaced(labels, ends, parts)
    expected = [[one for label in line for one in parts[label]] for line in lines]
    assert texts(Sentences(("a", "b"), *result)) == [
        " ".join("|ab"[one] for one in line) for line in expected
    ]
    pieces = ["".join("|ab"[n] for n in line).split("|") for line in expected]
    assert texts(cut(Sentences(("a", "b"), *result))) == [
        " ".join(piece) for line in pieces for piece in line if piece
    ]


def test_texts_are_joined_with_all_their_symbols() -> None:
    parts = [Sentences.of([["b", "a"], ["b"]]), Sentences.of([["c", "b"]])]
    assert texts(joined(parts)) == ["b a", "b", "c b"]
    assert joined(parts).symbols == ("a", "b", "c")


def test_sentences_are_cut_at_words_without_phones(
    words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    reader = TextReader(words_of)
    reader.add(written(tmp_path, "the cat zorg sat\nzorg zorg\nblap\n"))
    sentences = reader.sentences()
    phones = spelled(sentences, {word: words_of[word][0] for word in ("the", "cat", "sat")})
    assert texts(phones) == ["dh ah k ae t", "s ae t"]
    assert phones.ends.dtype == np.int64
    assert phones.labels.dtype == np.int32
    assert missing(times_read(sentences), words_of, "words.dict") == (
        "words.dict does not have 4 of 7 running words (57.14 %), 2 of 5 different ones; "
        "sentences are cut there: zorg 3×, blap 1×"
    )


# ── command ──────────────────────────────────────────────────────────────────────────────────

CORPUS = ["the cat sat on a big one", "a very big cat", "the zorg sat", "it's the one", "on a cat"]


@pytest.fixture
def command(tmp_path: Path, words_of: lexicon.Dictionary) -> Callable[..., int]:
    written(tmp_path, gzip.compress("\n".join(CORPUS).encode()), "a.gz")
    sentences = [["k", "ae", "t"], ["s", "ae", "t", "aa", "n"]]
    spoken = ["cat", "sat on"]
    write_jsonl(
        tmp_path / "dev.jsonl",
        (
            Utterance(f"u{n}", "", 1.0, "s", tuple(one), words=spoken[n])
            for n, one in enumerate(sentences)
        ),
    )

    def run(*options: str) -> int:
        names = [str(tmp_path / one[1:]) if one.startswith("@") else one for one in options]
        return ngram.main([*names, "--lexicon", str(tmp_path / "words.dict")])

    return run


def pieces(words_of: lexicon.Dictionary) -> list[str]:
    """The corpus, cut where the lexicon has no word."""
    return [part for line in CORPUS for part in line.split(" zorg ")]


def test_the_command_adds_texts_to_manifests(
    command: Callable[..., int],
    words_of: lexicon.Dictionary,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = ("@dev.jsonl", "--text", "@a.gz", "--order", "4", "--output", "@lm.arpa.gz")
    assert command(*told, "--perplexity", "@a.gz", "@dev.jsonl") == 0
    phones = [[p for word in one.split() for p in words_of[word][0]] for one in pieces(words_of)]
    manifest = [["k", "ae", "t"], ["s", "ae", "t", "aa", "n"]]
    every = {p for variants in words_of.values() for one in variants for p in one}
    model = estimate([*manifest, *phones], 4, every)
    assert read_arpa(tmp_path / "lm.arpa.gz") == model
    assert (tmp_path / "lm.arpa.gz").read_bytes()[:2] == b"\x1f\x8b"
    printed = capsys.readouterr().out
    assert "5 lines, 20 words" in printed
    assert "words.dict does not have 1 of 20 running words" in printed
    for held_out, name in ((phones, "a.gz"), (manifest, "dev.jsonl")):
        assert f"perplexity {model.perplexity(held_out):7.2f}  {tmp_path / name}" in printed


def test_the_command_makes_n_grams_of_words(
    command: Callable[..., int], words_of: lexicon.Dictionary, tmp_path: Path
) -> None:
    told = ("--words", "--text", "@a.gz", "--order", "2", "--overwrite")
    assert command("@dev.jsonl", *told, "--output", "@lm.arpa", "--perplexity", "@dev.jsonl") == 0
    whole = [*(one.split() for one in pieces(words_of)), ["cat"], ["sat", "on"]]
    assert read_arpa(tmp_path / "lm.arpa") == estimate(whole, 2)
    assert command(*told, "--output", "@lm.arpa", "--most-words", "3") == 0
    assert set(read_arpa(tmp_path / "lm.arpa").phones) == {"a", "cat", "the"}


@pytest.mark.parametrize(("size", "most"), [("30", 30), ("0.04k", 40), ("1B", 0), ("30 GB", 0)])
def test_the_command_prunes_to_a_size(
    size: str, most: int, command: Callable[..., int], tmp_path: Path
) -> None:
    told = ("--text", "@a.gz", "--output", "@lm.arpa", "--prune-to", size)
    if size.endswith("GB"):
        with pytest.raises(SystemExit, match="2"):
            command(*told)
    elif most:
        assert command(*told) == 0
        model = read_arpa(tmp_path / "lm.arpa")
        assert sum(map(model.count, range(1, 4))) <= most
    else:  # fewer bytes than the unigrams need
        assert command(*told) == 1
        assert not (tmp_path / "lm.arpa").exists()


def test_the_command_refuses_a_damaged_text_and_writes_nothing(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = (tmp_path / "a.gz").read_bytes()
    written(tmp_path, packed[:-6], "a.gz")
    assert command("--text", "@a.gz", "--output", "@lm.arpa") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'a.gz'}:1: compressed data")
    assert not (tmp_path / "lm.arpa").exists()


def test_texts_and_words_need_a_lexicon(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--text", "a.txt"], ["--words", "a.jsonl"]):
        with pytest.raises(SystemExit, match="2"):
            ngram.main([*options, "--output", "lm.arpa"])
        assert "need --lexicon" in capsys.readouterr().err
