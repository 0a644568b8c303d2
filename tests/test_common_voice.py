"""Common Voice v1 as published → a tree that the LibriSpeech reader takes, by utterance lists."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import recipe, utterances_of

from asr import audio
from asr.corpora import LibriSpeechConfig
from asr.errors import DataError

REPOSITORY = Path(__file__).parents[1]
COLUMNS = "filename,text,up_votes,down_votes,age,gender,accent,duration\n"
RATE = 48_000

common_voice = recipe("librispeech/common_voice")


def tone(hertz: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder such as cv_corpus_v1, with four clips of a second, each a tone of its own."""
    folder = tmp_path / "cv_corpus_v1"
    (folder / "cv-valid-dev").mkdir(parents=True)
    rows = {7: "the cat sat", 354: "the cat's hat", 355: '"the cat, the cat"', 1200: "don’t"}
    for place, number in enumerate(rows):
        path = folder / "cv-valid-dev" / f"sample-{number:06d}.mp3"
        soundfile.write(path, tone(300 * (place + 1)), RATE)
    lines = [f"cv-valid-dev/sample-{n:06d}.mp3,{text},1,0,,,,\n" for n, text in rows.items()]
    lines[2] = 'cv-valid-dev/sample-000355.mp3,"""the cat, the cat""",1,0,,,,\n'
    (folder / "cv-valid-dev.csv").write_text(COLUMNS + "".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_text(
        "train-clean-5 19-198-0000\ncommon-voice-v1 0-3-0055\ncommon-voice-v1 0-3-0054\n"
        "common-voice-v1 0-0-0007\ncommon-voice-v1-dev 1-12-0000\n"
    )
    return path


def test_the_clips_become_a_tree_that_training_reads(
    published: Path, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "LibriSpeech"
    assert common_voice.main([str(published), str(root), str(listed)]) == 0
    assert "4 clips" in capsys.readouterr().out
    text = (root / "common-voice-v1" / "0" / "3" / "0-3.trans.txt").read_text()
    assert text == "0-3-0054 THE CAT'S HAT\n0-3-0055 THE CAT THE CAT\n"
    other = root / "mine-test" / "7" / "7"
    other.mkdir(parents=True)
    (other / "7-7.trans.txt").write_text("7-7-0000 CAT\n")
    soundfile.write(other / "7-7-0000.flac", tone(2000)[::3], 16_000)
    (tmp_path / "words.dict").write_text(
        "the DH AH0\ncat K AE1 T\ncat's K AE1 T S\nhat HH AE1 T\nsat S AE1 T\ndon't D OW1 N T\n"
    )
    (tmp_path / "two.txt").write_text("common-voice-v1 0-3-0054\ncommon-voice-v1 0-0-0007\n")
    splits = utterances_of(
        LibriSpeechConfig(
            root=str(root),
            train="common-voice-v1",
            dev="common-voice-v1-dev",
            test="mine-test",
            lexicon=str(tmp_path / "words.dict"),
            g2p="none",
            utterance_list=str(tmp_path / "two.txt"),
        )
    )
    assert [(u.id, u.words, u.speaker) for u in splits["train"]] == [
        ("0-0-0007", "THE CAT SAT", "0"),
        ("0-3-0054", "THE CAT'S HAT", "0"),
    ]
    assert [(u.id, u.words, u.speaker) for u in splits["dev"]] == [("1-12-0000", "DON'T", "1")]


def test_a_clip_keeps_its_sound_at_16_khz(published: Path, listed: Path, tmp_path: Path) -> None:
    common_voice.run(published, tmp_path, [listed])
    for place, name in enumerate(("0/0/0-0-0007", "0/3/0-3-0054", "0/3/0-3-0055")):
        waveform = audio.load(tmp_path / "common-voice-v1" / f"{name}.flac", 16_000)
        assert len(waveform) == 16_000
        loudest = np.argmax(np.abs(np.fft.rfft(waveform)))  # bins of 1 Hz
        assert loudest == 300 * (place + 1)


def test_clips_in_a_folder_within_the_folder_are_taken_too(
    published: Path, listed: Path, tmp_path: Path
) -> None:
    clips = published / "cv-valid-dev"
    clips.rename(published / "inner")
    clips.mkdir()
    (published / "inner").rename(clips / "cv-valid-dev")
    assert common_voice.run(published, tmp_path / "out", [listed]) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("be careful", "BE CAREFUL"),
        ("  Well-known, isn’t it?  ", "WELL KNOWN ISN'T IT"),
        ("'tis the boys' own_", "'TIS THE BOYS' OWN"),
    ],
)
def test_text_is_capitals_and_apostrophes(text: str, words: str) -> None:
    assert common_voice.words_of(text, "here:1") == words


@pytest.mark.parametrize("text", ["at 6 o'clock", "the café", "straße", "", "?!", "' a", "a ''"])
def test_text_that_cannot_be_read_aloud_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="here:1: "):
        common_voice.words_of(text, "here:1")


def test_whatever_is_missing_is_listed_before_anything_is_written(
    published: Path, listed: Path, tmp_path: Path
) -> None:
    (published / "cv-valid-dev" / "sample-000007.mp3").unlink()
    with open(listed, "a") as file:
        file.write("common-voice-v1 0-40-0099\ncommon-voice-v1 19-198-0123\n")
    with pytest.raises(DataError) as error:
        common_voice.run(published, tmp_path / "out", [listed])
    absent, unknown, foreign = error.value.problems
    assert "0-0-0007: " in absent
    assert "sample-000007.mp3" in absent
    assert "0-40-0099: sample-004099 is not in" in unknown
    assert "19-198-0123: expected an id such as" in foreign
    assert not (tmp_path / "out").exists()


def test_a_clip_that_cannot_be_decoded_is_named_and_the_others_are_written(
    published: Path, listed: Path, tmp_path: Path
) -> None:
    (published / "cv-valid-dev" / "sample-000354.mp3").write_bytes(b"no audio at all")
    with pytest.raises(DataError, match="sample-000354"):
        common_voice.run(published, tmp_path / "out", [listed])
    folder = tmp_path / "out" / "common-voice-v1" / "0" / "3"
    assert sorted(path.name for path in folder.iterdir()) == ["0-3-0055.flac", "0-3.trans.txt"]
    assert (folder / "0-3.trans.txt").read_text() == "0-3-0055 THE CAT THE CAT\n"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("path,sentence\n", r"cv-valid-dev\.csv:1: found 'path,sentence', expected columns"),
        (f"{COLUMNS}cv-valid-test/sample-000001.mp3,a,,,,,,\n", r"\.csv:2: found 'cv-valid-test/"),
        (COLUMNS + 2 * "cv-valid-dev/sample-000001.mp3,a,,,,,,\n", r"\.csv:3: .* is a duplicate"),
    ],
)
def test_another_table_is_refused(published: Path, listed: Path, table: str, says: str) -> None:
    (published / "cv-valid-dev.csv").write_text(table)
    with pytest.raises(DataError, match=says):
        common_voice.run(published, published / "out", [listed])


def test_a_list_without_clips_is_refused(published: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("train-clean-5 19-198-0000\n")
    with pytest.raises(DataError, match="no list names a subset common-voice-v1"):
        common_voice.run(published, tmp_path / "out", [tmp_path / "list.txt"])
