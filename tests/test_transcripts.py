"""Words of transcripts: what is stripped, what is never spoken, and what nobody can pronounce."""

from collections import Counter
from pathlib import Path

import pytest

from asr.corpora import lexicon
from asr.corpora.transcripts import WordReader
from asr.errors import DataError

ENTRIES = (
    "hello HH\nthere DH\nworld W\nhe HH\nsaid S\ndon't D\nit's IH\n'tis T\nstudents' S\n"
    "well-read W\nwell W\nknown N\nmr. M\na AH\na. EY\nnoise N\nlaughter L\ncafé K\n"
    "!SIL SIL\n<UNK> SPN\n[lipsmack] NSN\n<mumble> SPN\n[vocalized-noise] SPN\n"
)


@pytest.fixture
def reader(tmp_path: Path) -> WordReader:
    path = tmp_path / "words.dict"
    path.write_text(ENTRIES)
    return WordReader([lexicon.read(path)])


@pytest.mark.parametrize(
    ("text", "words", "marks"),
    [
        ("Hello, world.", "Hello world", ",."),
        ('"There," he said; hello!', "There he said hello", '"",;!'),
        ("“Hello”—he said… ‘there’", "Hello he said there", "“”—…''"),
        ("hello,there - world--there", "hello there world there", ",---"),
        ("¿hello? ¡there! «world» 「hello」", "hello there world hello", "¿?¡!«»「」"),
        ("'Tis students' don’t It’s 'hello'", "'Tis students' don't It's hello", "''"),
        ("well-read well-known WELL‐KNOWN", "well-read well known WELL KNOWN", "-‐"),
        ("Mr. There. A. a", "Mr. There A. a", "."),
        ("cafe\u0301 CAFÉ", "café CAFÉ", ""),
        ("hello\tthere\u00a0world", "hello there world", ""),
    ],
)
def test_punctuation_is_stripped_and_counted(
    reader: WordReader, text: str, words: str, marks: str
) -> None:
    assert " ".join(reader(text)) == words
    assert reader.marks == Counter(marks)
    assert not reader.markup


@pytest.mark.parametrize(
    "markup",
    [
        *(
            "[noise]",
            "[NOISE]",
            "<sil>",
            "<eps>",
            "</s>",
            "{breath}",
            "(coughs)",
            "[Musik]",
            "+breath+",
        ),
        *("#", "#0", "!SIL", "[lipsmack]", "[vocalized-noise]", "++NOISE++", "<b>", "[laughter]"),
    ],
)
def test_markup_is_never_spoken(reader: WordReader, markup: str) -> None:
    assert reader(f"hello {markup} there") == ["hello", "there"]
    assert reader.markup == {markup: 1}
    assert reader.notes() == [f"markup left out: 1 time, {markup} 1×"]
    with pytest.raises(DataError, match="no words"):
        reader(markup)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello <unk> there", "'<unk>' stands for speech"),
        ("hello <UNK> there", "'<UNK>' stands for speech"),
        ("hello <SPOKEN_NOISE>", "'<SPOKEN_NOISE>' stands for speech"),
        ("hello (()) there", r"'\(\)' stands for speech"),
        ("[laughter-hello]", r"'\[laughter-hello\]' stands for speech"),
        ("<mumble> hello", "'<mumble>' stands for speech"),
        ("hello ++UM++", "stands for speech"),
        ("hello [unk]", "stands for speech"),
        ("%hesitation hello", "'%hesitation' has '%'"),
        ("hello (there) world", r"'\(there\)' may hold speech"),
        ("hello [there world]", r"'\[there world\]' may hold speech"),
        ("he[llo] there", r"'\[llo\]' may hold speech"),
        ("hello [noise there", r"'\[noise' has '\['"),
        ("hello wor- there", "'wor-' is cut off"),
        ("hello 42", "'42' has digits"),
        ("hello ½", "'½' has digits"),
        ("hello & world", "'&' has '&'"),
        ("hello\u200bthere", r"U\+200B"),
        ("hello 😀", r"U\+1F600"),
        ("hello\ud800", r"U\+D800"),
        ("你好 hello", r"'你好' has '你'.*CJK"),
        ("привет there", "CYRILLIC"),
        ("h\u0435llo", "CYRILLIC"),
        ("ｈello", "FULLWIDTH"),
    ],
)
def test_what_may_hide_speech_or_has_no_phones_is_refused(
    reader: WordReader, text: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        reader(text)


def test_a_lexicon_decides_what_its_script_and_its_words_are(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("привет p\n3d θ\nat&t ɐ\n")
    reader = WordReader([lexicon.read(path, "mine")])
    assert reader("Привет, 3D AT&T") == ["Привет", "3D", "AT&T"]
    assert reader("приветы") == ["приветы"]  # outside of the lexicon, in its script


def test_reported_texts(shared: Path, reader: WordReader) -> None:
    folder = shared / "conformance" / "reports" / "text"
    said: dict[str, list[str]] = {}
    for file in ("markup", "punctuation", "other_scripts"):
        for line in (folder / f"{file}.txt").read_text(encoding="utf-8").splitlines():
            id_, text = line.split(maxsplit=1)
            try:
                said[f"{file} {id_}"] = reader(text)
            except DataError as error:
                said[f"{file} {id_}"] = [str(error).split()[0]]
    assert said == {
        "markup u1": ["'<unk>'"],
        "markup u2": ["hello", "there"],
        "punctuation u1": ["Hello", "world"],
        "punctuation u2": ["There", "he", "said", "hello"],
        "other_scripts u1": ["'你好'"],
        "other_scripts u2": ["'привет'"],
    }
    assert reader.markup.keys() == {"<sil>", "<eps>", "#"}
