"""Laws of the synthetic corpus: its layout, its labels, and the same bytes every time."""

import os
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpora.synthetic import SyntheticConfig, boundaries, generate, habits
from asr.corpora.synthetic import corpus as generation
from asr.corpora.synthetic.espeak import Sound
from asr.corpora.synthetic.habits import Habits, reshape
from asr.corpora.synthetic.sentences import words_of
from asr.corpora.synthetic.speakers import Speaker, plan
from asr.errors import DataError
from asr.phones import phone_set

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
RARE = {"em", "eng", "ax-h", "zh"}  # a hundred sentences may miss one of them


Rows = list[tuple[int, int, str]]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader")
    root = tmp_path_factory.mktemp("corpora") / "synthetic"
    generate(root, SMALL)
    return root


@pytest.fixture
def can_speak() -> None:
    pytest.importorskip("espeakng_loader")


def rows_of(path: Path) -> Rows:
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
    assert np.quantile(above["vowel"], 0.05) > 8


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2)))


def test_a_hundred_sentences_hold_all_phones_of_espeak(corpus: Path) -> None:
    said = {phone for path in corpus.glob("TRAIN/**/*.PHN") for _, _, phone in rows_of(path)}
    assert set(phone_set("timit61")) - said <= RARE


# ---------------------------------------------------------------- labels by rule


def neighbours(root: Path) -> Iterator[tuple[Path, Rows]]:
    """Each label of the corpus between the two beside it, with its audio file."""
    for path in sorted(root.rglob("*.PHN")):
        rows = rows_of(path)
        for three in zip(rows, rows[1:], rows[2:], strict=False):
            yield path.with_suffix(".WAV"), list(three)


def silence_and_inside_db(path: Path, start: int, end: int) -> tuple[float, float]:
    """Level of the silence before the sentence and of the middle of a label."""
    samples, _ = soundfile.read(path)
    margin = (end - start) // 5
    first_end = rows_of(path.with_suffix(".PHN"))[0][1]
    return level_db(samples[: first_end - 80]), level_db(samples[start + margin : end - margin])


@pytest.mark.parametrize("label", ["epi", "q"])
def test_gaps_and_glottal_stops_are_silent(corpus: Path, label: str) -> None:
    result = [(path, rows[1]) for path, rows in neighbours(corpus) if rows[1][2] == label]
    assert len(result) > 5
    for path, (start, end, _) in result:
        silence_db, inside_db = silence_and_inside_db(path, start, end)
        assert inside_db < silence_db + 4
        assert end - start >= 160


def test_gaps_lie_between_a_fricative_and_a_sonorant(corpus: Path) -> None:
    kinds = boundaries.classes()
    for _, (before, this, after) in neighbours(corpus):
        if this[2] == "epi":
            assert before[2] in kinds["hissing"]
            assert after[2] in kinds["gapped"]


def test_a_glottal_stop_touches_no_pause(corpus: Path) -> None:
    for _, (before, this, after) in neighbours(corpus):
        if this[2] == "q":
            assert not {before[2], after[2]} & {"h#", "pau"}


def test_n_between_vowels_is_a_flap_if_and_only_if_it_is_short(corpus: Path) -> None:
    vowels = boundaries.classes()["vowel"]
    flaps = 0
    for _, (before, this, after) in neighbours(corpus):
        if this[2] == "nx" or (this[2] == "n" and {before[2], after[2]} <= vowels):
            duration_s = (this[1] - this[0]) / 16_000
            rounding_s = 0.0002  # to samples at two rates
            if this[2] == "nx":
                assert duration_s <= habits.TAP_LIMIT_S + rounding_s
            else:
                assert duration_s >= habits.TAP_LIMIT_S - rounding_s
            assert before[2] in vowels
            assert after[2] in vowels
            flaps += this[2] == "nx"
    assert flaps > 10


def test_closures_end_in_a_release_or_in_a_sound_that_shows_their_end(corpus: Path) -> None:
    kinds = boundaries.classes()
    shown = kinds["release"] | kinds["closing"] | {"ch", "jh"}
    own = {"pcl": "p", "tcl": "t", "kcl": "k", "bcl": "b", "dcl": "d", "gcl": "g"}
    pairs = [(rows[1][2], rows[2][2]) for _, rows in neighbours(corpus) if rows[1][2] in own]
    assert {after for _, after in pairs} <= shown
    unreleased = [pair for pair in pairs if pair[1] not in (own[pair[0]], "ch", "jh")]
    assert 0.05 < len(unreleased) / len(pairs) < 0.3


def test_a_devoiced_schwa_is_aperiodic_and_a_voiced_one_is_not() -> None:
    period = 200
    pulses = np.zeros(22 * 60, np.float32)
    pulses[::period] = 1
    voiced = np.convolve(pulses, np.hanning(60) * np.cos(np.arange(60)), "same")
    whispered = habits._whispered(voiced.astype(np.float32), random.Random(0))
    assert len(whispered) == len(voiced)
    assert np.std(whispered) == pytest.approx(0.35 * np.std(voiced), rel=0.1)
    assert correlation(voiced, period) > 0.5
    assert abs(correlation(whispered, period)) < 0.3


def correlation(wave: np.ndarray, lag: int) -> float:
    return float(np.corrcoef(wave[lag:], wave[:-lag])[0, 1])


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.3, 1.6])
def test_resizing_a_voiced_sound_keeps_its_pitch_and_its_ends(factor: float) -> None:
    wave = np.sin(2 * np.pi * np.arange(2_000) / 100).astype(np.float32)
    resized = habits._resized(wave, round(factor * len(wave)))
    assert abs(len(resized) - factor * len(wave)) <= 160
    assert np.array_equal(resized[:50], wave[:50])
    assert np.array_equal(resized[-50:], wave[-50:])
    assert np.abs(np.diff(resized)).max() < 1.05 * np.abs(np.diff(wave)).max()


def test_without_habits_only_durations_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(habits, "SPREAD", 0.0)
    monkeypatch.setattr(habits, "duration_factors", dict)
    phones = ["s", "m", "ae", "tcl", "t", "dh", "ax", "kcl", "k", "ax", "tcl", "t", "h#"]
    labels = [Sound(phone, 3_000 * n, n) for n, phone in enumerate(phones)]
    wave = np.random.default_rng(0).standard_normal(3_000 * 14).astype(np.float32)
    none = Habits(unreleased=0, taps=0, gaps=0, devoiced=0)
    same, kept = reshape(wave, labels, none, random.Random(0))
    assert np.array_equal(same, wave)
    assert kept == labels
    every = Habits(unreleased=1, taps=1, gaps=1, devoiced=1)
    _, shaped = reshape(wave, labels, every, random.Random(0))
    assert [sound.phone for sound in shaped] == (
        ["s", "epi", "m", "ae", "tcl", "dh", "ax", "kcl", "k", "ax-h", "tcl", "t", "h#"]
    )


def test_of_two_stops_one_is_released_and_one_closure_is_left() -> None:
    phones = ["ae", "kcl", "k", "tcl", "t", "dh", "ax", "h#"]
    labels = [Sound(phone, 3_000 * n, n) for n, phone in enumerate(phones)]
    every = Habits(unreleased=1, taps=1, gaps=1, devoiced=1)
    _, shaped = reshape(np.zeros(27_000, np.float32), labels, every, random.Random(0))
    assert [sound.phone for sound in shaped] == ["ae", "kcl", "t", "dh", "ax", "h#"]


def test_the_new_yorkers_drop_their_r() -> None:
    assert boundaries.labels_of_mnemonic("en-us")["A@"] == ("aa", "r")
    assert boundaries.labels_of_mnemonic("en-us-nyc")["A@"] == ("aa",)
    assert boundaries.labels_of_mnemonic("en-us-nyc")["i:"] == ("iy",)
    for speaker in plan(SyntheticConfig()):
        assert (speaker.language == "en-us-nyc") == (speaker.dialect == 6)
        if speaker.dialect == 6:
            assert not any("huge" in words_of(text) for _, text in speaker.sentences)


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
    def held_out(config: SyntheticConfig) -> list[Speaker]:
        return [speaker for speaker in plan(config) if speaker.split != "train"]

    assert held_out(SMALL) == held_out(replace(SMALL, train_speakers=9, train_utterances=5))


def test_another_seed_says_other_sentences() -> None:
    def sentences(seed: int) -> set[str]:
        return {text for s in plan(replace(SMALL, seed=seed)) for _, text in s.sentences}

    assert len(sentences(0) & sentences(1)) < 5


def test_tables_hold_only_timit_labels() -> None:
    known = set(phone_set("timit61"))
    for language in ("en-us", "en-us-nyc"):
        for labels in boundaries.labels_of_mnemonic(language).values():
            assert set(labels) <= known
    assert habits.duration_factors().keys() <= known
    for members in boundaries.classes().values():
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


def test_a_corpus_that_another_process_has_made_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    def speak(folder: Path, *_: object) -> None:
        begun.append(folder)
        if len(begun) == 1:
            generate(tmp_path / "corpus", SMALL)

    monkeypatch.setattr(generation, "_speak_all", speak)
    generate(tmp_path / "corpus", SMALL)
    assert len(begun) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "corpus"]


def test_another_configuration_is_refused(corpus: Path) -> None:
    with pytest.raises(DataError, match="seed is 0, expected 1"):
        generate(corpus, replace(SMALL, seed=1))


def test_the_corpus_of_another_generator_is_refused_with_the_way_out(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(corpus)
    monkeypatch.setattr(generation, "GENERATOR", generation.GENERATOR + 1)
    with pytest.raises(
        DataError, match=rf"generator is .*{generation.GENERATOR}\).*remove the folder {corpus}"
    ):
        generate(corpus, SMALL)
    assert contents(corpus) == before


def test_a_foreign_folder_is_refused_and_left_untouched(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not a synthetic corpus"):
        generate(tmp_path / "data", TINY)
    assert contents(tmp_path) == {os.path.join("data", "thesis.txt"): b"mine"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, DataError("no voice")])
@pytest.mark.usefixtures("can_speak")
def test_an_interrupted_generation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    spoken: list[Speaker] = []
    speak = generation._speak_in_process

    def speak_once(folder: Path, data: Path, speaker: Speaker) -> None:
        if spoken:
            raise stop
        speak(folder, data, speaker)
        spoken.append(speaker)

    monkeypatch.setattr(generation, "_speak_in_process", speak_once)
    with pytest.raises((KeyboardInterrupt, DataError)):
        generate(tmp_path / "synthetic", replace(TINY, jobs=1))
    assert spoken
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("can_speak")
def test_a_speaker_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_espeak_data", lambda home, speakers: home / "nothing")
    with pytest.raises(DataError, match=r"speaker MAAA0: .*nothing"):
        generate(tmp_path / "synthetic", TINY)
    assert not list(tmp_path.iterdir())


def test_without_espeak_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'asr-phones\[synthetic\]'"):
        generate(tmp_path / "synthetic", TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value"),
    [("train_speakers", 0), ("test_utterances", 0), ("jobs", -1), ("sample_rate", 8_000)],
)
def test_impossible_configurations_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        SyntheticConfig(**{field: value})  # type: ignore[arg-type]
