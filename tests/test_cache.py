"""The frame cache: the same results with it, one entry for what is the same, no harm from damage.

Speed and size are measured by `recipes/bench/cache.py`.
"""

import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from asr import audio, train
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.augment import Augment, AugmentConfig
from asr.batch import Batch
from asr.commands import decode
from asr.config import AdamConfig, RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.dataset import Batches
from asr.errors import DataError
from asr.features import cache as cache_module
from asr.features.cache import AFTER_STATIC, CachedFrames, FrameCache
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl

VOCABULARY = Vocabulary(["aa", "iy", "m", "s"])
CONFIGS = [
    FeaturesConfig(),
    FeaturesConfig(kind="mfcc", bins=23, deltas=1, context=1, dither=1.0),
    FeaturesConfig(family="librosa", energy=False, normalization="utterance"),
]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests are trusted at once, not two seconds after they were written."""
    monkeypatch.setattr(cache_module, "UNSETTLED_NS", 0)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    write_noise(path, seed=1)
    return path


def write_noise(path: Path, seed: int) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(8000), 16_000)


def computed(path: Path, config: FeaturesConfig = CONFIGS[0]) -> CachedFrames:
    """Frames of a file without any cache."""
    waveform = torch.from_numpy(audio.load(path))
    frames, _ = Features(config).static(waveform.unsqueeze(0), torch.tensor([len(waveform)]))
    return CachedFrames(frames[0], len(waveform))


def never() -> CachedFrames:
    pytest.fail("computed again")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/frames/*/*"))


def batches(utterances: list[Utterance], cache: FrameCache | None, **others: Any) -> list[Batch]:
    return list(Batches(utterances, VOCABULARY, 16_000, 4, cache=cache, **others))


def recognizer_of(config: FeaturesConfig) -> Recognizer:
    torch.manual_seed(1)
    parts = RecognizerConfig(config, EncoderConfig(hidden=8, layers=1), CTCConfig())
    return Recognizer(parts, VOCABULARY).eval()


# ---------------------------------------------------------------- the same results


@pytest.mark.parametrize("config", CONFIGS, ids=["fbank", "dithered mfcc", "librosa"])
def test_losses_are_the_same_bits_with_and_without(
    config: FeaturesConfig, tones: list[Utterance], tmp_path: Path
) -> None:
    recognizer = recognizer_of(config)
    recognizer.features.fit_normalization(batches(tones, None))
    augment = Augment(AugmentConfig(speed=0.1, time_masks=2), 16_000, (0,) * config.width)
    cache = FrameCache(tmp_path, config)
    expected = batches(tones, None, augment=augment)
    for cached in (batches(tones, cache, augment=augment) for _ in ("filling", "filled")):
        for with_cache, without in zip(cached, expected, strict=True):
            assert with_cache.ids == without.ids
            assert with_cache.waveforms.shape[1] == 0
            assert torch.equal(with_cache.waveform_lengths, without.waveform_lengths)
            assert torch.equal(with_cache.target_ends, without.target_ends)
            for masks in (None, augment):
                loss = recognizer.loss(without, masks)
                assert torch.equal(recognizer.loss(with_cache, masks), loss)
    again = recognizer_of(config)
    again.features.fit_normalization(batches(tones, cache))
    assert torch.equal(again.features.mean, recognizer.features.mean)
    assert torch.equal(again.features.std, recognizer.features.std)


def test_one_by_one_equals_batched(tones: list[Utterance], tmp_path: Path) -> None:
    recognizer = recognizer_of(CONFIGS[0])
    cache = FrameCache(tmp_path, CONFIGS[0])
    for batch in batches(tones, cache):
        for id_, loss in zip(batch.ids, recognizer.loss(batch), strict=True):
            (alone,) = batches([u for u in tones if u.id == id_], cache)
            torch.testing.assert_close(recognizer.loss(alone)[0], loss)


def test_workers_share_a_filled_cache(
    tones: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FrameCache(tmp_path, CONFIGS[0])
    filling = batches(tones, cache, workers=2)
    monkeypatch.setattr(audio, "load", lambda *_: never())
    for workers in (0, 2):
        for result, expected in zip(batches(tones, cache, workers=workers), filling, strict=True):
            assert result.ids == expected.ids
            assert result.frames is not None
            assert expected.frames is not None
            assert torch.equal(result.frames, expected.frames)


@pytest.mark.parametrize("config", CONFIGS)
def test_float16_rounds_to_one_part_in_2048(
    config: FeaturesConfig, sound: Path, tmp_path: Path
) -> None:
    cache = FrameCache(tmp_path / "cache", config, "float16")
    exact = computed(sound, config).frames
    filling = cache.get(sound, lambda: computed(sound, config)).frames
    filled = cache.get(sound, never).frames
    assert filled.dtype == torch.float32
    assert torch.equal(filling, filled)
    assert not torch.equal(filled, exact)
    assert bool(((filled - exact).abs() <= exact.abs() / 2048 + 1e-7).all())
    (entry,) = entries(tmp_path / "cache")
    assert 2 * exact.numel() < entry.stat().st_size < 2 * exact.numel() + 300


# ---------------------------------------------------------------- hit, miss, stale


def test_a_changed_file_is_noticed_even_with_its_old_size_and_time(
    sound: Path, tmp_path: Path
) -> None:
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    before = sound.stat()
    first = cache.get(sound, lambda: computed(sound)).frames
    cache.get(sound, never)
    write_noise(sound, seed=2)
    os.utime(sound, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (before.st_size, before.st_mtime_ns) == (sound.stat().st_size, sound.stat().st_mtime_ns)
    second = cache.get(sound, lambda: computed(sound)).frames
    assert torch.equal(second, computed(sound).frames)
    assert not torch.equal(first, second)
    assert len(entries(tmp_path / "cache")) == 2


def test_a_file_written_just_now_is_hashed_each_time(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "UNSETTLED_NS", 3600 * 10**9)
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    cache.get(sound, lambda: computed(sound))
    cache.get(sound, never)
    assert not list((tmp_path / "cache").glob("*/seen/*/*"))


def test_a_file_that_changes_while_it_is_read_is_not_kept(sound: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])

    def overtaken() -> CachedFrames:
        frames = computed(sound)
        sound.write_bytes(sound.read_bytes() + b"\0\0")
        return frames

    cache.get(sound, overtaken)
    assert not entries(tmp_path / "cache")


def test_a_copy_elsewhere_is_the_same_entry(sound: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    result = cache.get(sound, lambda: computed(sound))
    copy = tmp_path / "copy.wav"
    copy.write_bytes(sound.read_bytes())
    assert torch.equal(cache.get(copy, never).frames, result.frames)
    assert len(entries(tmp_path / "cache")) == 1


OTHER: dict[str, Any] = {
    "family": "librosa", "kind": "mfcc", "bins": 23, "sample_rate": 8_000, "window_ms": 20.0,
    "hop_ms": 5.0, "low_hz": 60.0, "high_hz": 7_000.0, "energy": False, "raw_energy": False,
    "energy_floor": 1.0, "window": "hamming", "preemphasis": 0.9, "remove_dc": False,
    "snip_edges": False, "dither": 1.0, "deltas": 1, "delta_window": 3, "context": 2,
    "normalization": "none",
}  # fmt: skip


@pytest.mark.parametrize("key", OTHER)
def test_entries_are_shared_by_configurations_with_the_same_static_frames(
    key: str, sound: Path, tmp_path: Path
) -> None:
    changes = {key: OTHER[key]} | ({"energy": False} if key == "family" else {})
    config, other = CONFIGS[0], dataclasses.replace(CONFIGS[0], **changes)
    same = FrameCache(tmp_path, config).folder == FrameCache(tmp_path, other).folder
    assert same == (key in AFTER_STATIC)
    if same:
        assert torch.equal(computed(sound, config).frames, computed(sound, other).frames)


def test_another_precision_or_code_is_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FrameCache(tmp_path, CONFIGS[0])
    assert FrameCache(tmp_path, CONFIGS[0]).folder == first.folder
    assert FrameCache(tmp_path, CONFIGS[0], "float16").folder != first.folder
    changed = []
    for path in cache_module.SOURCES:
        copy = tmp_path / path.name
        copy.write_text(path.read_text() + "# changed\n")
        sources = [copy if source == path else source for source in cache_module.SOURCES]
        monkeypatch.setattr(cache_module, "SOURCES", sources)
        changed.append(FrameCache(tmp_path, CONFIGS[0]).folder)
        monkeypatch.undo()
    assert {"audio", "augment", "features", "processor"} <= {
        path.parent.name for path in cache_module.SOURCES
    }
    assert len({first.folder, *changed}) == 1 + len(cache_module.SOURCES)
    about = json.loads((first.folder / "about.json").read_text())
    assert about["features"]["bins"] == 40
    assert about["precision"] == "float32"


# ---------------------------------------------------------------- harm


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an entry" * 100),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"asr"', b'"ars"')),
        lambda path: path.write_bytes(path.read_bytes().replace(b": 8000,", b": 8001,")),
        lambda path: path.unlink(),
    ],
    ids=["truncated", "flipped bit", "empty", "other file", "metadata", "samples", "gone"],
)
def test_a_damaged_entry_is_written_anew(damage: Any, sound: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    cache.get(sound, lambda: computed(sound))
    (entry,) = entries(tmp_path / "cache")
    whole = entry.read_bytes()
    damage(entry)
    assert not entry.exists() or entry.read_bytes() != whole
    assert torch.equal(cache.get(sound, lambda: computed(sound)).frames, computed(sound).frames)
    assert entry.read_bytes() == whole
    cache.get(sound, never)


def script(body: str, *arguments: object) -> subprocess.Popen[str]:
    """A process with a cache in `folder / "cache"` and `frames(path)` to fill it with."""
    preamble = """
import resource, sys, time
from pathlib import Path
import torch
from asr.features.cache import CachedFrames, FrameCache
from asr.features.config import FeaturesConfig
from asr.errors import DataError
folder = Path(sys.argv[1])
cache = FrameCache(folder / "cache", FeaturesConfig())
def frames(path):
    seed = int(path.stem)
    return CachedFrames(torch.randn(50, 41, generator=torch.Generator().manual_seed(seed)), seed)
"""
    command = [sys.executable, "-c", preamble + body, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_runs_may_fill_a_cache_at_the_same_time(tmp_path: Path) -> None:
    for seed in range(40):
        (tmp_path / f"{seed}.wav").write_bytes(bytes([seed]))
    fill = """
(folder / f"ready{sys.argv[2]}").touch()
while len(list(folder.glob("ready*"))) < 2:
    time.sleep(0.001)
for path in sorted(folder.glob("*.wav")):
    assert torch.equal(cache.get(path, lambda: frames(path)).frames, frames(path).frames)
print("filled")
"""
    runs = [script(fill, tmp_path, number) for number in range(2)]
    assert [run.communicate()[0] for run in runs] == ["filled\n"] * 2
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    for seed in range(40):
        assert cache.get(tmp_path / f"{seed}.wav", never).samples == seed
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(left) == 1 + 2 * 40  # about.json, entries, and links to them
    assert not [name for name in left if name.startswith(".")]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "1.wav").touch()
    fill = """
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    cache.get(folder / "1.wav", lambda: frames(folder / "1.wav"))
except DataError as error:
    print(error)
"""
    said = script(fill, tmp_path).communicate()[0]
    assert "File too large" in said
    assert str(tmp_path / "cache") in said
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left == ["about.json"]


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match="cannot be written"):
        FrameCache(tmp_path / "cache", CONFIGS[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_file_is_refused_as_without_a_cache(
    workers: int, tones: list[Utterance], tmp_path: Path
) -> None:
    absent = dataclasses.replace(tones[0], audio=str(tmp_path / "absent.wav"))
    for cache in (None, FrameCache(tmp_path, CONFIGS[0])):
        with pytest.raises(DataError) as error:
            batches([absent], cache, workers=workers)
        assert str(error.value) == f"{absent.audio}: no such file"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc to see memory maps in")
def test_entries_are_mapped_and_let_go(tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache", CONFIGS[0])
    kept = []
    for seed in range(20):
        write_noise(path := tmp_path / f"{seed}.wav", seed)
        cache.get(path, lambda path=path: computed(path))
        kept.append(cache.get(path, never))
    assert len(mapped(tmp_path)) == 20
    files = len(list(Path("/proc/self/fd").iterdir()))
    kept.clear()
    gc.collect()
    assert not mapped(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files


def mapped(folder: Path) -> list[str]:
    return [
        line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line
    ]


# ---------------------------------------------------------------- runs


@pytest.fixture
def config(tones: list[Utterance], tmp_path: Path) -> RunConfig:
    run_dir = tmp_path / "run"
    for split, members in (("train", tones[:6]), ("dev", tones[6:8]), ("test", tones[8:])):
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", members)
    VOCABULARY.save(run_dir / "vocabulary.txt")
    return RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        features=FeaturesConfig(bins=20),
        encoder=EncoderConfig(hidden=16, layers=1, subsampling=2),
        training=TrainingConfig(epochs=2, batch_size=2),
        run_dir=str(run_dir),
        device="cpu",
    )


def trained(config: RunConfig, run_dir: Path) -> tuple[dict[str, torch.Tensor], float, str]:
    """Weights, dev PER and the test set's hypotheses of a run of its own."""
    run_dir.mkdir()
    for part in ("manifests", "vocabulary.txt"):
        (run_dir / part).symlink_to(Path(config.run_dir) / part)
    config = dataclasses.replace(config, run_dir=str(run_dir))
    train.run(config)
    decode.run(config)
    result = train.checkpoint.load(run_dir / "checkpoint-last.safetensors")
    summary = json.loads((run_dir / "training.json").read_text())
    heard = (run_dir / "test.hyp.jsonl").read_text()
    return result.recognizer.state_dict(), summary["dev_per"], heard


def test_a_run_ends_with_the_same_weights_with_and_without(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _, expected_heard = trained(config, tmp_path / "without")
    cached = dataclasses.replace(config, cache=str(tmp_path / "cache"))
    for name in ("filling", "filled"):
        result, _, heard = trained(cached, tmp_path / name)
        assert heard == expected_heard
        assert all(torch.equal(result[key], weight) for key, weight in expected.items())
        monkeypatch.setattr(audio, "load", lambda *_: never())
    assert len(entries(tmp_path / "cache")) == 9  # train, dev and test


def test_float16_changes_no_phone_that_is_heard(config: RunConfig, tmp_path: Path) -> None:
    training = TrainingConfig(epochs=8, batch_size=2)
    config = dataclasses.replace(
        config, training=training, optimizer=AdamConfig(learning_rate=0.02), split="train"
    )
    train.run(config)
    heard = []
    for cache in ("", str(tmp_path / "cache")):
        decode.run(dataclasses.replace(config, cache=cache, cache_precision="float16"))
        heard.append(read_jsonl(Path(config.run_dir) / "train.hyp.jsonl", Hypothesis))
    exact, rounded = ([one.phones for one in each] for each in heard)
    assert exact == rounded
    assert any(exact)
    assert [one.score for one in heard[0]] != [one.score for one in heard[1]]


def test_a_run_is_not_continued_with_another_precision(config: RunConfig, tmp_path: Path) -> None:
    train.run(config)
    other = dataclasses.replace(config, cache=str(tmp_path / "cache"), resume="auto")
    train.run(other)
    with pytest.raises(DataError, match="cache_precision=float32 and now has float16"):
        train.run(dataclasses.replace(other, cache_precision="float16"))


def test_a_training_set_whose_waveforms_change_goes_without(
    config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    augment = AugmentConfig(vtlp=0.1)
    train.run(dataclasses.replace(config, cache=str(tmp_path / "cache"), augment=augment))
    assert len(entries(tmp_path / "cache")) == 2  # dev
    assert [r.message for r in caplog.records if r.message.startswith("cache:")] == [
        "cache: for dev only, augment changes the waveforms of the training set"
    ]


def test_an_unknown_precision_is_refused(config: RunConfig) -> None:
    with pytest.raises(ValueError, match=r"^cache_precision is 'int8', expected float32 or float1"):
        dataclasses.replace(config, cache_precision="int8")
