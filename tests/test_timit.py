"""The TIMIT reader on small trees of every layout and letter case, and on their faults."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import utterances_of

from asr.corpora import TimitConfig, timit
from asr.corpora.timit import COMPLETE
from asr.errors import DataError
from asr.phones import table_lines

SAMPLES = 4800
PHN = f"0 1000 h#\n1000 2400 hv\n2400 3200 q\n3200 {SAMPLES} h#\n"
# speaker → folder of the full TIMIT and split in the standard protocol
SPEAKERS = {
    "fcjf0": ("TRAIN", "DR1", "train"),
    "mdab0": ("TEST", "DR1", "test"),
    "faks0": ("TEST", "DR1", "dev"),
    "mreb0": ("TEST", "DR1", "dev"),
    "fdrd1": ("TEST", "DR2", None),  # in the full test set only
}
SENTENCES = ("sa1", "sa2", "si648", "sx37")


def write(folder: Path, audio: str, labels: str, phn: str = PHN, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-999, 999, SAMPLES).astype(np.int16)
    sphere = audio.upper().endswith("WAV") and not audio.lower().endswith(".wav.wav")
    soundfile.write(folder / audio, samples, 16_000, format="NIST" if sphere else "WAV")
    (folder / labels).write_text(phn)


def ldc_upper(root: Path) -> None:
    for speaker, (folder, region, _) in SPEAKERS.items():
        for sentence in SENTENCES:
            stem = sentence.upper()
            write(root / folder / region / speaker.upper(), f"{stem}.WAV", f"{stem}.PHN")


def ldc_lower(root: Path) -> None:
    for speaker, (folder, region, _) in SPEAKERS.items():
        for sentence in SENTENCES:
            where = root / folder.lower() / region.lower() / speaker
            write(where, f"{sentence}.wav", f"{sentence}.phn")


def ldc_converted(root: Path) -> None:
    """As re-packed copies have it: below data/, SA1.WAV.wav beside SA1.PHN."""
    for speaker, (folder, region, _) in SPEAKERS.items():
        for sentence in SENTENCES:
            stem = sentence.upper()
            where = root / "data" / folder / region / speaker.upper()
            write(where, f"{stem}.WAV.wav", f"{stem}.PHN")


def ldc_mixed(root: Path) -> None:
    for speaker, (folder, region, _) in SPEAKERS.items():
        for sentence in SENTENCES:
            where = root / folder.title() / region.lower() / speaker.title()
            write(where, f"{sentence.title()}.Wav", f"{sentence}.PHN")


def tree(root: Path, layout: Callable[[Path], None] = ldc_upper) -> TimitConfig:
    layout(root)
    return TimitConfig(root=str(root), complete=False)


@pytest.mark.parametrize("layout", [ldc_upper, ldc_lower, ldc_converted, ldc_mixed])
def test_every_layout_gives_the_standard_protocol(
    tmp_path: Path, layout: Callable[[Path], None]
) -> None:
    splits = utterances_of(tree(tmp_path, layout))
    for split, utterances in splits.items():
        expected = [
            f"{speaker}_{sentence}"
            for speaker, (_, _, member) in sorted(SPEAKERS.items())
            for sentence in ("si648", "sx37")
            if member == split
        ]
        assert [utterance.id for utterance in utterances] == expected
        for utterance in utterances:
            assert utterance.phones == ("h#", "hv", "q", "h#")
            assert utterance.duration_s == SAMPLES / 16_000
            assert utterance.segments is not None
            assert utterance.segments[1].start_s == 1000 / 16_000
            assert (utterance.corpus, utterance.split) == ("timit", split)
            assert utterance.dialect == "1"
            assert utterance.sex == utterance.speaker[0]


def test_the_nltk_layout_is_split_by_its_list_and_named_a_sample(tmp_path: Path) -> None:
    for name in ("dr1-fvmh0", "dr3-madc0", "dr6-fapb0", "dr1-mcpm0"):
        for sentence in SENTENCES:
            where = tmp_path / name
            where.mkdir(exist_ok=True)
            soundfile.write(where / f"{sentence}.wav", np.arange(SAMPLES, dtype=np.int16), 16_000)
            (where / f"{sentence}.phn").write_text(PHN)
    splits = utterances_of(TimitConfig(root=str(tmp_path)))
    assert {split: {u.speaker for u in members} for split, members in splits.items()} == {
        "train": {"fvmh0"},
        "dev": {"madc0", "fapb0"},
        "test": {"mcpm0"},
    }
    utterance = splits["train"][0]
    assert (utterance.corpus, utterance.dialect) == ("timit-sample", "1")
    speakers = tmp_path / "speakers.txt"
    speakers.write_text("mcpm0 train\nmadc0 dev\nfapb0 dev\nfvmh0 test\n")
    splits = utterances_of(TimitConfig(root=str(tmp_path), speakers=str(speakers)))
    assert {(u.speaker, u.corpus) for u in splits["test"]} == {("fvmh0", "timit-sample")}


def test_all_sixteen_speakers_of_the_nltk_sample_have_a_split(tmp_path: Path) -> None:
    speakers = {
        "train": ("1-fvmh0", "2-faem0", "3-falk0", "4-maeb0", "5-ftlg0", "5-mbgt0", "7-madd0"),
        "dev": ("3-madc0", "6-fapb0"),
        "test": ("1-mcpm0", "2-marc0", "4-falr0", "6-mbma1", "7-fblv0", "8-fbcg1", "8-mbcg0"),
    }
    for split in speakers.values():
        for speaker in split:
            write(tmp_path / f"dr{speaker}", "sx1.wav.wav", "sx1.phn")
    splits = utterances_of(TimitConfig(root=str(tmp_path)))
    assert {
        split: tuple(sorted(f"{u.dialect}-{u.speaker}" for u in members))
        for split, members in splits.items()
    } == speakers


def test_a_list_of_speakers_takes_the_place_of_the_protocol(tmp_path: Path) -> None:
    config = tree(tmp_path / "timit")
    speakers = tmp_path / "speakers.txt"
    speakers.write_text("# mine\nFCJF0 test\nmdab0 train\nfaks0 dev\n")
    splits = utterances_of(TimitConfig(root=config.root, speakers=str(speakers)))
    assert [splits[s][0].speaker for s in ("train", "dev", "test")] == ["mdab0", "faks0", "fcjf0"]
    speakers.write_text("fcjf0 test\nfcjf0 train\n")
    with pytest.raises(DataError, match=r"speakers\.txt:2: speaker fcjf0 is already in test"):
        utterances_of(TimitConfig(root=config.root, speakers=str(speakers)))


def test_less_than_the_whole_of_timit_is_refused_unless_meant(tmp_path: Path) -> None:
    config = tree(tmp_path)
    with pytest.raises(DataError, match=r"train has 2 of 3696 utterances.*corpus\.complete=false"):
        utterances_of(TimitConfig(root=config.root))


def test_the_whole_of_timit_has_the_published_numbers(tmp_path: Path) -> None:
    """A tree with TIMIT's 630 speakers, ten sentences each, all of them the same short noise."""
    write(tmp_path, "one.WAV", "one.PHN")
    wav, phn = (tmp_path / "one.WAV").read_bytes(), (tmp_path / "one.PHN").read_bytes()
    for path in (tmp_path / "one.WAV", tmp_path / "one.PHN"):
        path.unlink()
    named = [*table_lines("timit-dev-speakers.txt"), *table_lines("timit-core-test-speakers.txt")]
    train = [f"mtr{number}" for number in range(462)]
    test = named + [f"fte{number}" for number in range(168 - len(named))]
    for part, speakers in (("TRAIN", train), ("TEST", test)):
        for speaker in speakers:
            folder = tmp_path / part / "DR1" / speaker.upper()
            folder.mkdir(parents=True)
            for number in range(10):
                stem = f"SA{number}" if number < 2 else f"SX{number}"
                (folder / f"{stem}.WAV").write_bytes(wav)
                (folder / f"{stem}.PHN").write_bytes(phn)
    splits = utterances_of(TimitConfig(root=str(tmp_path)))
    assert {split: len(utterances) for split, utterances in splits.items()} == COMPLETE
    assert [len({u.speaker for u in splits[s]}) for s in ("train", "dev", "test")] == [462, 50, 24]
    full = timit.find(TimitConfig(root=str(tmp_path), full_test=True)).splits["test-full"]
    assert (len(full), len({recording.speaker for recording in full})) == (1344, 168)
    (tmp_path / "TRAIN" / "DR1" / "MTR7" / "SX2.WAV").unlink()
    (tmp_path / "TRAIN" / "DR1" / "MTR7" / "SX2.PHN").unlink()
    with pytest.raises(DataError, match="train has 3695 of 3696 utterances"):
        utterances_of(TimitConfig(root=str(tmp_path)))


def test_the_full_test_set_belongs_to_the_standard_protocol(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus\.speakers replaces that protocol"):
        TimitConfig(root="anywhere", speakers="list", full_test=True)
    write(tmp_path / "dr1-fvmh0", "sx1.wav", "sx1.phn")
    with pytest.raises(DataError, match=r"has no TEST folder, which corpus\.full_test needs"):
        utterances_of(TimitConfig(root=str(tmp_path), full_test=True))


def test_the_protocol_has_the_published_numbers() -> None:
    assert COMPLETE == {"train": 3696, "dev": 400, "test": 192}
    dev = set(table_lines("timit-dev-speakers.txt"))
    test = set(table_lines("timit-core-test-speakers.txt"))
    assert (len(dev), len(test)) == (50, 24)
    assert not dev & test
    assert 8 * len(dev) == COMPLETE["dev"]  # five SX and three SI sentences of each speaker
    assert 8 * len(test) == COMPLETE["test"]


@pytest.mark.parametrize(
    ("phn", "says"),
    [
        ("0 1000 h#\n1000 900 hv\n", r"SX37\.PHN:2: label starts at 1000 and ends at 900"),
        (
            "0 1000 h#\n900 2000 hv\n",
            r"SX37\.PHN:2: starts at 900, before the previous label's end 1000",
        ),
        ("0 9000 h#\n", r"SX37\.PHN:1: label ends at 9000, the audio at 4800"),
        ("0 1000 hh#\n", r"SX37\.PHN:1: phone 'hh#' is not in the TIMIT labels; did you mean 'h"),
        ("0 0.3 h#\n", r"SX37\.PHN:1: found '0 0\.3 h#', expected `start end label` in samples"),
        ("0 1000\n", r"SX37\.PHN:1: found '0 1000', expected"),
        ("", r"SX37\.PHN: no labels"),
    ],
)
def test_bad_labels_are_named_by_file_and_line(tmp_path: Path, phn: str, says: str) -> None:
    config = tree(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SX37.PHN").write_text(phn)
    with pytest.raises(DataError, match=says):
        utterances_of(config)


@pytest.mark.parametrize(
    "phn", [PHN.replace("\n", "\r\n"), "\ufeff" + PHN.upper(), f"\n{PHN[:-1]}"]
)
def test_harmless_varieties_of_labels_are_read_alike(tmp_path: Path, phn: str) -> None:
    config = tree(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SX37.PHN").write_text(phn, encoding="utf-8")
    assert utterances_of(config)["train"][1].phones == ("h#", "hv", "q", "h#")


def test_a_label_just_behind_the_audio_is_moved_to_its_end(tmp_path: Path) -> None:
    config = tree(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SX37.PHN").write_text(f"0 1000 h#\n1000 {SAMPLES + 1} aa\n")
    segments = utterances_of(config)["train"][1].segments
    assert segments is not None
    assert segments[-1].end_s == SAMPLES / 16_000


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    config = tree(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/SX37.PHN").write_text("0 1 xx\n5 6\n")
    (tmp_path / "TEST/DR1/MDAB0/SI648.WAV").write_text("no audio")
    with pytest.raises(DataError) as error:
        utterances_of(config)
    assert "SX37.PHN:1" in str(error.value)
    assert "SX37.PHN:2" in str(error.value)
    assert "SI648.WAV: not a readable audio file" in str(error.value)


def test_files_without_partner_and_doubles_are_listed(tmp_path: Path) -> None:
    config = tree(tmp_path)
    speaker = tmp_path / "TRAIN/DR1/FCJF0"
    (speaker / "SX37.PHN").unlink()
    (speaker / "SI648.WAV").unlink()
    write(tmp_path / "TRAIN/DR2/FCJF0", "SX99.WAV", "SX99.PHN")
    write(tmp_path / "TRAIN/DR3/FCJF0", "SX99.WAV", "SX99.PHN")
    write(tmp_path / "TRAIN/DR3/FCJF0", "sx98.wav", "sx98.phn")
    write(tmp_path / "TRAIN/DR3/FCJF0", "SX98.WAV", "sx98.phn")
    with pytest.raises(DataError) as error:
        utterances_of(config)
    report = str(error.value)
    assert "SX37.WAV: has no .phn file beside it" in report
    assert "SI648.PHN: has no audio file beside it" in report
    assert "fcjf0_sx99 is also" in report
    assert "ambiguous" in report


def test_hidden_files_and_loops_of_links_do_no_harm(tmp_path: Path) -> None:
    config = tree(tmp_path)
    (tmp_path / "TRAIN/DR1/FCJF0/._SX37.WAV").write_text("left by another system")
    (tmp_path / "TRAIN/DR1/loop").symlink_to(tmp_path / "TRAIN")
    assert len(utterances_of(config)["train"]) == 2


def test_a_root_that_is_none_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        utterances_of(TimitConfig(root=str(tmp_path / "absent")))
    with pytest.raises(DataError, match="the folder is empty"):
        utterances_of(TimitConfig(root=str(tmp_path)))
    (tmp_path / "notes.txt").write_text("no speech")
    with pytest.raises(DataError, match="no utterances found"):
        utterances_of(TimitConfig(root=str(tmp_path)))


def test_the_real_sample(shared: Path) -> None:
    splits = utterances_of(TimitConfig(root=str(shared / "corpora" / "timit-sample")))
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 56,
        "dev": 16,
        "test": 24,
    }
    assert all(u.phones[0] == "h#" for utterances in splits.values() for u in utterances)
