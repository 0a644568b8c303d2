"""Laws of the synthetic corpus: its layout, its labels, and the same bytes every time."""

import os
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import espeak
from asr.corpora import synthetic
from asr.corpora.synthetic import SyntheticConfig, generate, plan, words_of
from asr.phones import phone_set
from asr.records import DataError

SMALL = SyntheticConfig(
    train_speakers=3,
    dev_speakers=2,
    test_speakers=2,
    train_utterances=40,
    dev_utterances=3,
    test_utterances=3,
    jobs=2,
)
TINY = replace(SMALL, train_speakers=1, dev_speakers=1, test_speakers=1, train_utterances=2)
NEVER = {"em", "eng", "epi", "nx"}  # espeak-ng has no such sounds in en-us


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader")
    root = tmp_path_factory.mktemp("corpora") / "synthetic"
    generate(root, SMALL)
    return root


@pytest.fixture
def can_speak() -> None:
    pytest.importorskip("espeakng_loader")


def rows_of(path: Path) -> list[tuple[int, int, str]]:
    rows = [line.split(maxsplit=2) for line in path.read_text().splitlines()]
    return [(int(start), int(end), text) for start, end, text in rows]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def speakers_of(root: Path) -> list[list[str]]:
    lines = (root / "speakers.txt").read_text().splitlines()
    assert lines[0].startswith("#")
    return [line.split() for line in lines[1:]]


# ---------------------------------------------------------------- layout


def test_files_lie_as_in_timit(corpus: Path) -> None:
    stems = {path.with_suffix("") for path in corpus.rglob("*.WAV")}
    assert len(stems) == 3 * 40 + 2 * 3 + 2 * 3
    for stem in stems:
        place = str(stem.relative_to(corpus).as_posix())
        assert re.fullmatch(r"(TRAIN|TEST)/DR[1-8]/[MF][A-Z]{3}0/SI\d+", place)
        for ending in (".PHN", ".WRD", ".TXT"):
            assert stem.with_suffix(ending).is_file()


def test_speakers_txt_names_every_speaker_once_and_in_the_right_half(corpus: Path) -> None:
    folders = {path.parent for path in corpus.rglob("*.WAV")}
    speakers = speakers_of(corpus)
    assert sorted(s[0] for s in speakers) == sorted(folder.name for folder in folders)
    for name, split, sex, dialect in speakers:
        half = "TRAIN" if split == "train" else "TEST"
        assert corpus / half / dialect / name in folders
        assert name[0] == sex


def test_readme_says_synthetic_in_three_lines(corpus: Path) -> None:
    lines = (corpus / "README.txt").read_text().splitlines()
    assert len(lines) == 3
    assert "Synthetic" in lines[0]
    assert "seed=0" in lines[1]


# ---------------------------------------------------------------- audio and labels


def test_audio_is_mono_16_khz_sphere_without_clipping_or_digital_silence(corpus: Path) -> None:
    for path in corpus.rglob("*.WAV"):
        header = path.read_bytes()[:1024]
        assert header.startswith(b"NIST_1A\n   1024\n")
        assert b"synthetic" in header
        samples, rate = soundfile.read(path, dtype="int16")
        assert (rate, samples.ndim) == (16_000, 1)
        assert np.abs(samples.astype(int)).max() < 32_000
        blocks = samples[: len(samples) // 160 * 160].reshape(-1, 160)
        assert blocks.any(axis=1).all()  # no 10 ms of zeros


def test_labels_are_contiguous_known_and_end_with_the_audio(corpus: Path) -> None:
    known = set(phone_set("timit61"))
    for path in corpus.rglob("*.PHN"):
        rows = rows_of(path)
        assert rows[0][0] == 0
        assert rows[-1][1] == soundfile.info(path.with_suffix(".WAV")).frames
        assert [end for _, end, _ in rows[:-1]] == [start for start, _, _ in rows[1:]]
        assert all(end - start >= 80 for start, end, _ in rows)
        assert {phone for _, _, phone in rows} <= known
        assert rows[0][2] == rows[-1][2] == "h#"
        assert all(1_600 <= end - start <= 4_160 for start, end, _ in (rows[0], rows[-1]))


def test_words_are_those_of_the_sentence_and_begin_with_labels(corpus: Path) -> None:
    for path in corpus.rglob("*.WRD"):
        ((start, end, sentence),) = rows_of(path.with_suffix(".TXT"))
        phones = rows_of(path.with_suffix(".PHN"))
        words = rows_of(path)
        assert (start, end) == (0, phones[-1][1])
        assert [word for _, _, word in words] == words_of(sentence)
        edges = {begin for begin, _, _ in phones}
        assert all({begin, finish} <= edges and begin < finish for begin, finish, _ in words)
        assert all(a[1] <= b[0] for a, b in pairwise(words))


def test_voiceless_closures_are_as_quiet_as_the_silence_and_vowels_are_not(corpus: Path) -> None:
    above: dict[str, list[float]] = {"closure": [], "vowel": []}
    kinds = {"pcl": "closure", "tcl": "closure", "kcl": "closure"}
    kinds |= dict.fromkeys(("aa", "ae", "eh", "iy", "ow"), "vowel")
    for path in corpus.rglob("*.PHN"):
        samples, _ = soundfile.read(path.with_suffix(".WAV"))
        rows = rows_of(path)
        silence_db = level_db(samples[: rows[0][1] - 80])
        for start, end, phone in rows:
            if phone in kinds and end - start > 320:
                inside = level_db(samples[start + 80 : end - 80])
                above[kinds[phone]].append(inside - silence_db)
    assert np.quantile(above["closure"], 0.95) < 3
    assert np.quantile(above["vowel"], 0.05) > 9


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2)))


def test_a_hundred_sentences_hold_all_phones_of_espeak(corpus: Path) -> None:
    said = {phone for path in corpus.glob("TRAIN/**/*.PHN") for _, _, phone in rows_of(path)}
    assert set(phone_set("timit61")) - said <= NEVER | {"ax-h"}
    assert not said & NEVER


# ---------------------------------------------------------------- sentences


def test_splits_share_no_speaker_and_no_sentence() -> None:
    speakers = plan(SyntheticConfig())
    names = [speaker.name for speaker in speakers]
    voices = [speaker.variant for speaker in speakers]
    sentences = [text for speaker in speakers for _, text in speaker.sentences]
    stems = [stem for speaker in speakers for stem, _ in speaker.sentences]
    for items in (names, voices, sentences, stems):
        assert len(set(items)) == len(items)


def test_sentences_have_4_to_12_words_out_of_many() -> None:
    speakers = plan(SyntheticConfig())
    words = [words_of(text) for speaker in speakers for _, text in speaker.sentences]
    assert all(4 <= len(sentence) <= 12 for sentence in words)
    assert len({word for sentence in words for word in sentence}) > 1_500
    articles = [pair for s in words for pair in pairwise(s) if pair[0] == "an"]
    assert articles
    assert all(noun[0] in "aeiou" or noun in ("honest", "hour") for _, noun in articles)


def test_more_training_speech_leaves_dev_and_test_as_they_are() -> None:
    def held_out(config: SyntheticConfig) -> list[synthetic.Speaker]:
        return [speaker for speaker in plan(config) if speaker.split != "train"]

    assert held_out(SMALL) == held_out(replace(SMALL, train_speakers=9, train_utterances=5))


def test_another_seed_says_other_sentences() -> None:
    def sentences(seed: int) -> set[str]:
        return {text for s in plan(replace(SMALL, seed=seed)) for _, text in s.sentences}

    assert len(sentences(0) & sentences(1)) < 5


def test_tables_hold_only_timit_labels() -> None:
    known = set(phone_set("timit61"))
    for labels in espeak.labels_of_mnemonic().values():
        assert set(labels) <= known
    for members in espeak.classes().values():
        assert members <= known


# ---------------------------------------------------------------- the same, all of it, or nothing


@pytest.mark.usefixtures("can_speak")
def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    generate(tmp_path / "one", replace(TINY, jobs=1))
    generate(tmp_path / "three", replace(TINY, jobs=3))
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_a_finished_corpus_is_left_alone(corpus: Path) -> None:
    before = {path: os.stat(path).st_mtime_ns for path in corpus.rglob("*")}
    generate(corpus, replace(SMALL, jobs=1))
    assert before == {path: os.stat(path).st_mtime_ns for path in corpus.rglob("*")}


def test_another_configuration_is_refused(corpus: Path) -> None:
    with pytest.raises(DataError, match="not the synthetic corpus asked for"):
        generate(corpus, replace(SMALL, seed=1))


def test_a_foreign_folder_is_refused_and_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        generate(tmp_path / "data", TINY)
    assert contents(tmp_path) == {os.path.join("data", "thesis.txt"): b"mine"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DataError("no voice")])
@pytest.mark.usefixtures("can_speak")
def test_an_interrupted_generation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    spoken: list[synthetic.Speaker] = []
    speak = synthetic._speak_in_process

    def speak_once(folder: Path, data: Path, speaker: synthetic.Speaker) -> None:
        if spoken:
            raise stop
        speak(folder, data, speaker)
        spoken.append(speaker)

    monkeypatch.setattr(synthetic, "_speak_in_process", speak_once)
    with pytest.raises((KeyboardInterrupt, DataError)):
        generate(tmp_path / "synthetic", replace(TINY, jobs=1))
    assert spoken
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("can_speak")
def test_a_speaker_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_espeak_data", lambda home, speakers: home / "nothing")
    with pytest.raises(DataError, match=r"speaker MAAA0 could not be spoken.*espeak-ng"):
        generate(tmp_path / "synthetic", TINY)
    assert not list(tmp_path.iterdir())


def test_without_espeak_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r'pip install "asr\[synthetic\]"'):
        generate(tmp_path / "synthetic", TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [("train_speakers", 0), ("test_utterances", 0), ("jobs", -1), ("sample_rate", 8_000)],
)
def test_impossible_configurations_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        SyntheticConfig(**{field: value})  # type: ignore[arg-type]
