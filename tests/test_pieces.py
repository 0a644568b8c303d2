"""A prepared run in pieces of limited size: the same data elsewhere, or a name of what is wrong."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import recipe

from asr import checkpoint
from asr.errors import DataError
from asr.phones import Vocabulary
from asr.records import Segment, Utterance, read_jsonl, write_jsonl

REPOSITORY = Path(__file__).parents[1]
LIMIT = 48 << 10  # bytes
RATE = 16_000

pieces = recipe("librispeech/pieces")


def utterance(path: Path, split: str) -> Utterance:
    seconds = soundfile.info(path).duration
    segments = (Segment("aa", 0.0, 0.5), Segment("s", 0.5, seconds))
    return Utterance(path.stem, str(path), seconds, "1", ("aa", "s"), segments, split=split)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A run directory as `asr prepare` leaves it: FLAC and Opus to train, WAV for dev."""
    run_dir, speech = tmp_path / "run", tmp_path / "speech"
    rng = np.random.default_rng(1)
    (run_dir / "manifests").mkdir(parents=True)
    (run_dir / "manifests" / "lexicon.txt").write_text("A aa\n")
    (run_dir / "vocabulary.txt").write_text("aa\ns\n")
    for split, endings in (("train", ["flac", "opus"] * 6), ("dev", ["wav"] * 3)):
        utterances = []
        for number, ending in enumerate(endings):
            path = speech / split / "é" / f"{split}-{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = rng.uniform(-0.9, 0.9, RATE + 100 * number)
            kind = {"format": "OGG", "subtype": "OPUS"} if ending == "opus" else {}
            soundfile.write(path, noise, RATE, **kind)
            utterances.append(utterance(path, split))
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", utterances)
    return run_dir


def both(run_dir: Path, other: Path) -> Iterator[tuple[Utterance, Utterance]]:
    for split in ("train", "dev"):
        manifests = [folder / "manifests" / f"{split}.jsonl" for folder in (run_dir, other)]
        yield from zip(*(read_jsonl(path, Utterance) for path in manifests), strict=True)


def copy(folder: Path, target: Path, *names: str) -> None:
    target.mkdir(exist_ok=True)
    for name in ("SHA256SUMS", *names):
        shutil.copy(folder / name, target)


def elsewhere(*folders: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "recipes" / "librispeech" / "elsewhere.sh"
    environment = os.environ | {"PY": sys.executable} | settings
    return subprocess.run(
        ["sh", script, *folders], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )


def files(folder: Path) -> dict[str, bytes]:
    result = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in result}


def test_piece_by_piece_the_same_run(prepared: Path, tmp_path: Path) -> None:
    packed, arrived, other = tmp_path / "packed", tmp_path / "arrived", tmp_path / "other"
    names = pieces.pack(prepared, packed, LIMIT)
    assert len(names) > 3
    for number, name in enumerate(reversed(names), start=1):
        assert not (other / "vocabulary.txt").exists()
        copy(packed, arrived, name)
        assert pieces.unpack(arrived, other) == names[: len(names) - number]
        (arrived / name).unlink()
    shutil.rmtree(tmp_path / "speech" / "train")  # nothing may depend on where it was
    for one, there in both(prepared, other):
        assert replace(there, audio=one.audio) == one
        assert other in Path(there.audio).parents
        assert soundfile.info(there.audio).duration == one.duration_s
    for name in ("vocabulary.txt", "manifests/lexicon.txt"):
        assert (other / name).read_bytes() == (prepared / name).read_bytes()
    before = files(other)
    assert pieces.unpack(arrived, other) == []
    assert files(other) == before


def test_recordings_are_as_they_were_and_pcm_is_flac(prepared: Path, tmp_path: Path) -> None:
    pieces.pack(prepared, tmp_path / "packed", LIMIT)
    pieces.unpack(tmp_path / "packed", tmp_path / "other")
    for one, there in both(prepared, tmp_path / "other"):
        if one.split == "train":
            assert Path(there.audio).read_bytes() == Path(one.audio).read_bytes()
        else:
            assert soundfile.info(there.audio).format == "FLAC"
            samples = [soundfile.read(path, dtype="int16")[0] for path in (one.audio, there.audio)]
            np.testing.assert_array_equal(*samples)


def test_decoded_once_they_sound_the_same(prepared: Path, tmp_path: Path) -> None:
    pieces.pack(prepared, tmp_path / "packed", LIMIT)
    pieces.unpack(tmp_path / "packed", tmp_path / "other", wav=True, jobs=1)
    for one, there in both(prepared, tmp_path / "other"):
        info = soundfile.info(there.audio)
        assert (info.format, info.subtype) == ("WAV", "PCM_16")
        heard, decoded = (
            soundfile.read(path, dtype="float32")[0] for path in (one.audio, there.audio)
        )
        bound = 0.51 / 32768 if one.audio.endswith("opus") else 0.0
        assert np.abs(heard.clip(-1, 1 - 1 / 32768) - decoded).max() <= bound


@pytest.mark.parametrize("limit", [LIMIT, 3 * LIMIT, 1 << 24])
def test_no_piece_is_beyond_the_limit_or_could_hold_more(
    prepared: Path, tmp_path: Path, limit: int
) -> None:
    names = pieces.pack(prepared, tmp_path / "packed", limit)
    sizes = [(tmp_path / "packed" / name).stat().st_size for name in names]
    assert max(sizes) <= limit
    largest = max(path.stat().st_size for path in (tmp_path / "speech").rglob("*.*"))
    assert all(size > limit - largest - 12 * 1024 for size in sizes[:-1])


def test_equal_data_make_equal_pieces(prepared: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pieces.pack(prepared, tmp_path / name, LIMIT)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_damaged_piece_is_named_and_the_others_are_read(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = pieces.pack(prepared, tmp_path / "packed", LIMIT)
    damaged = tmp_path / "packed" / names[1]
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:9000] + bytes([sound[9000] ^ 1]) + sound[9001:])
    other = tmp_path / "other"
    arguments = ["unpack", str(tmp_path / "packed"), str(other)]
    assert pieces.main(arguments) == 1
    assert f"{damaged}: damaged" in capsys.readouterr().err
    assert not (other / "vocabulary.txt").exists()
    assert not (other / "manifests").exists()
    read = (other / "packed" / "SHA256SUMS").read_text()
    assert [name for name in names if name not in read] == [names[1]]
    damaged.unlink()
    assert pieces.main(arguments) == 3
    assert names[1] in capsys.readouterr().err
    damaged.write_bytes(sound)
    assert pieces.main(arguments) == 0
    assert len(list(both(prepared, other))) == 15


def test_nothing_is_half_written(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "_as_flac", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            pieces.pack(prepared, tmp_path / "packed", LIMIT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "speech"]
    pieces.pack(prepared, tmp_path / "packed", LIMIT)
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "_write_sums", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            pieces.unpack(tmp_path / "packed", tmp_path / "other")
    assert not list((tmp_path / "other").glob(".unpack*"))
    assert pieces.unpack(tmp_path / "packed", tmp_path / "other") == []
    (tmp_path / "other" / "vocabulary.txt").unlink()
    recording = Path(read_jsonl(tmp_path / "other" / "manifests" / "dev.jsonl", Utterance)[0].audio)
    recording.unlink()
    with pytest.raises(DataError, match=f"{recording}: no such file"):
        pieces.unpack(tmp_path / "packed", tmp_path / "other")
    assert not (tmp_path / "other" / "vocabulary.txt").exists()


def test_what_cannot_be_packed_or_unpacked_is_said(prepared: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    with pytest.raises(
        DataError, match=r"needs a piece of .*expected at most 0\.02; raise --limit"
    ):
        pieces.pack(prepared, packed, 20 << 10)
    assert not packed.exists()
    pieces.pack(prepared, packed, LIMIT)
    with pytest.raises(DataError, match="packed: holds files already"):
        pieces.pack(prepared, packed, LIMIT)
    with pytest.raises(DataError, match=r"nothing/vocabulary\.txt: no such file"):
        pieces.pack(tmp_path / "nothing", tmp_path / "other", LIMIT)
    with pytest.raises(DataError, match="holds a run that was not unpacked here"):
        pieces.unpack(packed, prepared)
    with pytest.raises(DataError, match=r"speech/SHA256SUMS: no such file"):
        pieces.unpack(tmp_path / "speech", tmp_path / "other")
    pieces.unpack(packed, tmp_path / "other")
    (prepared / "vocabulary.txt").write_text("aa\ns\nz\n")
    pieces.pack(prepared, tmp_path / "changed", LIMIT)
    with pytest.raises(DataError, match=r"other: holds other data than .*changed"):
        pieces.unpack(tmp_path / "changed", tmp_path / "other")


def test_sha256sum_checks_them_too(prepared: Path, tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("needs sha256sum")
    pieces.pack(prepared, tmp_path / "packed", LIMIT)
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path / "packed", check=True)


def test_the_script_waits_for_all_pieces_and_refuses_a_damaged_one(
    prepared: Path, tmp_path: Path
) -> None:
    names = pieces.pack(prepared, tmp_path / "packed", LIMIT)
    copy(tmp_path / "packed", tmp_path / "arrived", *names[:-1])
    folders = (tmp_path / "arrived", tmp_path / "other", tmp_path / "output")
    called = elsewhere(*folders)
    assert (called.returncode, called.stdout) == (0, "")
    assert f"still missing {names[-1]}" in called.stderr
    (tmp_path / "arrived" / names[-1]).write_bytes(b"")
    called = elsewhere(*folders)
    assert called.returncode == 1
    assert names[-1] in called.stderr
    assert not (tmp_path / "output").exists()


def test_the_script_trains_and_leaves_what_is_to_be_taken_home(
    tones: list[Utterance], tmp_path: Path
) -> None:
    run_dir, output = tmp_path / "run", tmp_path / "output"
    for split, part in (("train", tones[:6]), ("dev", tones[6:])):
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", part)
    Vocabulary(["aa", "iy", "m", "s"]).save(run_dir / "vocabulary.txt")
    pieces.pack(run_dir, tmp_path / "packed", 1 << 20)
    called = elsewhere(
        *(tmp_path / "packed", tmp_path / "other", output),
        EXPERIMENT="librispeech-small",
        SEEDS="3",
        EPOCHS="1",
        ARGS="encoder.hidden=4 encoder.layers=1 cache= device=cpu threads=1 training.workers=0",
    )
    assert called.returncode == 0, called.stdout + called.stderr
    assert {path.name for path in output.iterdir()} == {"3.safetensors", "runs.tar.gz"}
    result = checkpoint.load(output / "3.safetensors")
    assert result.about["seed"] == 3
    assert result.training is None
    assert "\n| 3 | " in called.stdout
    texts = {"config.yaml", "conditions.txt", "log.txt", "train.jsonl", "training.json"}
    with tarfile.open(output / "runs.tar.gz") as tar:
        assert {f"3/{name}" for name in texts} <= set(tar.getnames())
