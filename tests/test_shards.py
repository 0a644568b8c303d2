"""Tar shards: a member is its file bit for bit, everywhere; a folder of them is whole or absent."""

import dataclasses
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import complete, utterances_of
from test_interrupted import in_folder, same
from test_train import config  # noqa: F401

from asr import audio, labels, train
from asr.commands import decode, exchange
from asr.config import RunConfig
from asr.corpora import FolderConfig, shards
from asr.errors import DataError
from asr.files.shards import Member, file_of
from asr.records import Manifest, Segment, Utterance, read_jsonl, write_jsonl
from asr.training.run_directory import RunDirectory

RATE = 16_000
KINDS = ("wav", "flac", "ogg", "mp3", "aiff", "SPH", "unended.wav", "unended.flac", "")


def speak(path: Path, seed: int) -> int:
    """Write noise in the format that the path names; the number of samples."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 8_000 + 10 * seed)
    kind = {"sph": "NIST", "": "WAV"}.get(path.suffix[1:].lower())
    soundfile.write(path, samples, RATE, format=kind)
    content = bytearray(path.read_bytes())
    if path.name.endswith("unended.wav"):  # as a program writes it into a pipe
        content[40:44] = b"\xff\xff\xff\xff"
    elif path.name.endswith("unended.flac"):
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    path.write_bytes(content)
    return len(samples)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of manifests train, dev and test, with a speaker for each and every kind of file."""
    for split, sex in (("train", "f"), ("dev", "m"), ("test", None)):
        utterances = []
        for number, kind in enumerate(KINDS if split == "train" else KINDS[:2]):
            path = tmp_path / "audio files" / f"{split}{number}"
            path.parent.mkdir(exist_ok=True)
            path = path.with_suffix(f".{kind}" if kind else "")
            end_s = speak(path, 100 * len(split) + number) / RATE
            times = (Segment("h#", 0.0, 0.25), Segment("aa", 0.25, end_s))
            utterances.append(
                Utterance(
                    *(f"{split}/é.{number}", str(path), end_s, split, ("h#", "aa")),
                    segments=times if number else None,
                    corpus="folder",
                    split=split,
                    sex=sex,
                    words="one two" if number == 1 else None,
                )
            )
        write_jsonl(tmp_path / "manifests" / f"{split}.jsonl", utterances)
    return tmp_path / "manifests"


def pairs(source: Path, folder: Path) -> Iterator[tuple[Utterance, Utterance]]:
    for split in ("train", "dev", "test"):
        before = read_jsonl(source / f"{split}.jsonl", Utterance)
        yield from zip(before, Manifest(folder / split / shards.MANIFEST), strict=True)


def test_a_member_is_its_file_in_every_format(source: Path, tmp_path: Path) -> None:
    exchange.run("shards", source, tmp_path / "out", size_mb=0.0512)
    sizes = [path.stat().st_size for path in shards.of(tmp_path / "out" / "train")]
    assert len(sizes) > 2
    assert max(sizes) == 51_200
    for before, after in pairs(source, tmp_path / "out"):
        assert after == dataclasses.replace(before, audio=after.audio)
        member = Member.of(after.audio)
        assert member is not None
        assert str(member) == after.audio
        with tarfile.open(member.shard) as tar:  # as other programs read it
            (listed,) = [one for one in tar if one.name == member.name]
            assert (listed.offset_data, listed.size) == (member.start, member.size)
        assert member.name.partition(".")[0] == before.id.replace("/", "%2F").replace(".", "%2E")
        assert member.read() == Path(before.audio).read_bytes()
        assert audio.info(after.audio) == audio.info(before.audio)
        np.testing.assert_array_equal(audio.load(after.audio), audio.load(before.audio))
        for of_file, of_member in zip(
            (audio.inspect(before.audio, RATE), list(audio.stream(before.audio, 8000, 1, print))),
            (audio.inspect(after.audio, RATE), list(audio.stream(after.audio, 8000, 1, print))),
            strict=True,
        ):
            assert str(of_file) == str(of_member).replace(after.audio, before.audio)
        assert labels.words_beside(after.audio) == ""
        assert labels.beside(after.audio) is None


def test_shards_are_a_corpus_and_can_be_packed_again(source: Path, tmp_path: Path) -> None:
    assert exchange.main(["shards", str(source), str(tmp_path / "out"), "--size-mb", "0.05"]) == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    splits = utterances_of(FolderConfig(root=str(tmp_path / "moved")))
    write_jsonl(tmp_path / "again.jsonl", (one for some in splits.values() for one in some))
    again = read_jsonl(tmp_path / "again.jsonl", Utterance)
    for (before, _), after in zip(pairs(source, tmp_path / "moved"), again, strict=True):
        assert after == dataclasses.replace(before, audio=after.audio)
        assert file_of(after.audio).startswith(str(tmp_path / "moved" / before.split))
    exchange.run("shards", tmp_path / "again.jsonl", tmp_path / "one")
    assert [path.name for path in shards.of(tmp_path / "one")] == ["000000.tar"]
    for before, after in zip(again, Manifest(tmp_path / "one" / shards.MANIFEST), strict=True):
        ours, theirs = Member.of(before.audio), Member.of(after.audio)
        assert ours is not None
        assert theirs is not None
        assert ours.read() == theirs.read()
    for format_name in ("kaldi", "lhotse"):
        with pytest.raises(DataError, match=r"again\.jsonl: the audio is in tar shards"):
            exchange.run(format_name, tmp_path / "again.jsonl", tmp_path / "other")
    shards.of(tmp_path / "moved" / "dev")[0].unlink()
    with pytest.raises(DataError, match=r"dev/manifest\.jsonl:1: .*000000\.tar does not exist"):
        complete(FolderConfig(root=str(tmp_path / "moved")))


def test_a_folder_of_shards_is_whole_or_absent(source: Path, tmp_path: Path) -> None:
    def contents(folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    out = tmp_path / "out"
    lost = next(one for one in Manifest(source / "train.jsonl"))
    there = contents(tmp_path)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.corpora.shards.os.rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            exchange.run("shards", source, out)
    assert contents(tmp_path) == there
    out.mkdir()
    exchange.run("shards", source, out)
    there = contents(tmp_path)
    with pytest.raises(DataError, match=r"out/dev/manifest\.jsonl: already exists"):
        exchange.run("shards", source, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.corpora.shards.json.dumps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            exchange.run("shards", source, out, overwrite=True)
    Path(lost.audio).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"train0\.wav: no such file, expected the audio that"):
        exchange.run("shards", source, out, overwrite=True)
    (tmp_path / "elsewhere").rename(lost.audio)
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match=r"out: has other files in it \(mine\.txt\)"):
        exchange.run("shards", source, out, overwrite=True)
    (out / "mine.txt").unlink()
    assert contents(tmp_path) == there
    exchange.run("shards", source / "dev.jsonl", out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["000000.tar", "manifest.jsonl"]
    assert out.stat().st_mode & 0o777 == source.stat().st_mode & 0o777


def test_a_shard_that_is_absent_truncated_or_changed_is_named(source: Path, tmp_path: Path) -> None:
    exchange.run("shards", source / "dev.jsonl", tmp_path / "out")
    shard = tmp_path / "out" / "000000.tar"
    packed = Manifest(tmp_path / "out" / shards.MANIFEST)
    first, second = (Member.of(one.audio) for one in packed)
    assert first is not None
    assert second is not None
    content = shard.read_bytes()

    def with_byte(place: int) -> bytes:
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    for changed, says in (
        (None, r"no such file, expected the tar shard that holds dev%2Fé%2E1\.flac; copy it"),
        (
            content[: second.start + 99],
            r"truncated, dev%2Fé%2E1\.flac is in its bytes \d+ to \d+, ",
        ),
        (with_byte(second.start - 1), ""),
        (with_byte(second.start), r"its bytes \d+ to \d+ have the CRC-32 \w{8}, expected \w{8} of"),
        (with_byte(second.start + second.size - 1), "the shard is damaged, or was packed anew"),
        (with_byte(second.start + second.size), ""),
    ):
        shard.unlink(missing_ok=True)
        if changed is not None:
            shard.write_bytes(changed)
            audio.load(str(first))
        if says:
            with pytest.raises(DataError, match=says) as error:
                audio.load(str(second))
            assert str(error.value).startswith(f"{shard}: ")
            assert audio.inspect(str(second), RATE).problems == (str(error.value),)
        else:
            audio.load(str(second))


def test_only_the_spelling_of_a_member_is_one() -> None:
    good = "/a b/000000.tar#512:10:0a0b0c0d/x.flac"
    assert Member.of(good) == ("/a b/000000.tar", 512, 10, 0x0A0B0C0D, "x.flac")
    assert file_of(Path(good)) == "/a b/000000.tar"
    for other in (
        "a.tar",
        good[:-7],
        good.replace(":0a", ":0A"),
        good.replace("#", "/"),
        f"{good}/",
    ):
        assert Member.of(other) is None
        assert file_of(other) == other


def test_training_from_shards_is_training_from_files(
    config: RunConfig,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=1))
    cached = dataclasses.replace(config, cache=str(tmp_path / "cache"))
    train.run(cached)
    decode.run(cached)
    entries = sorted((tmp_path / "cache").rglob("frames/*/*"))
    exchange.run("shards", Path(config.run_dir), tmp_path / "packed", size_mb=0.1)
    shutil.move(tmp_path / "packed", tmp_path / "shards")
    for cache in ("", str(tmp_path / "cache")):
        run = in_folder(config, tmp_path / f"from shards{len(cache)}")
        run_dir = Path(run.run_dir)
        (run_dir / "manifests").unlink()
        (run_dir / "manifests").mkdir()
        for split in ("train", "dev", "test"):
            packed = tmp_path / "shards" / split / shards.MANIFEST
            shutil.copy(packed, run_dir / "manifests" / f"{split}.jsonl")
        with pytest.raises(DataError, match=r"packed/train/000000\.tar does not exist, nor in"):
            train.run(run)
        moved = dataclasses.replace(config.corpus, root=str(tmp_path / "shards"))
        training = dataclasses.replace(config.training, workers=1 if cache else 0)
        run = dataclasses.replace(run, corpus=moved, cache=cache, training=training)
        if cache:  # which has the frames of the files
            monkeypatch.setattr(audio, "load", None)
        train.run(run)
        decode.run(run)
        assert same(cached, run)
    assert sorted((tmp_path / "cache").rglob("frames/*/*")) == entries
    first, second = (RunDirectory(one.run_dir).hypotheses("test") for one in (cached, run))
    assert first.read_bytes() == second.read_bytes()
