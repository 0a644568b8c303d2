"""Laws of recordings that were copied as text: what is lost, and what comes back."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.copied_as_text import Samples16, is_copied_as_text, restored
from asr.records import DataError

RATE = 16_000


def speech(seed: int, seconds: float = 3.0, peak: int = 20_000) -> Samples16:
    """Voice-like sound: pulses through a few slowly changing resonances, with a little noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(3 * time)) / RATE
    sound = sum(
        np.sin(n * pitch + draw.uniform(0, 6)) / n * (1.2 + np.sin(draw.uniform(2, 9) * time))
        for n in range(1, 25)
    )
    sound += 0.01 * draw.standard_normal(len(time))
    return np.rint(peak * sound / np.abs(sound).max()).astype(np.int16)


def as_text(samples: Samples16) -> Samples16:
    """A whole number of samples of what such a copy leaves."""
    sound = samples.astype("<i2").tobytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return np.frombuffer(sound[: len(sound) // 2 * 2], "<i2").astype(np.int16)


def losses(samples: Samples16) -> list[int]:
    """Samples in which a byte is lost."""
    sound = samples.astype("<i2").tobytes()
    return [n // 2 for n in range(len(sound)) if sound[n : n + 2] == b"\r\n"]


@pytest.mark.parametrize("seed", range(8))
def test_lost_bytes_come_back(seed: int) -> None:
    samples = speech(seed)
    lost = losses(samples)
    apart = [b - a for a, b in itertools.pairwise([0, *lost, len(samples)])]
    assert lost
    assert min(apart) > 50, "chosen so that no two losses make up for each other"
    damaged = as_text(samples)
    noise = np.abs(damaged[lost[0] :].astype(int) - samples[lost[0] : len(damaged)])
    assert np.percentile(noise, 90) > 5000
    found = restored(damaged)
    assert found.bytes_put_back == len(lost)
    count = min(len(samples), len(found.samples))
    assert len(samples) - count <= 1  # the last sample, if half of it was left over
    wrong = np.abs(found.samples[:count].astype(int) - samples[:count]) > 3
    returns = int(np.count_nonzero(samples >> 8 == 0x0D))
    assert np.count_nonzero(wrong) < 0.25 * returns
    assert found.samples_changed == pytest.approx(returns, rel=0.25)


def test_sound_is_not_suspected() -> None:
    assert not is_copied_as_text(speech(0))
    assert is_copied_as_text(as_text(speech(0)))
    assert not is_copied_as_text(np.zeros(RATE, np.int16))
    assert not is_copied_as_text(as_text(speech(0))[:100])  # too short to tell


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_files_are_read_as_they_were(tmp_path: Path, ending: str) -> None:
    samples = speech(0)
    soundfile.write(tmp_path / f"sound.{ending}", samples, RATE)
    soundfile.write(path := tmp_path / f"text.{ending}", as_text(samples), RATE)
    expected = audio.load(tmp_path / f"sound.{ending}")
    waveform = audio.load(path)
    assert np.mean(np.abs(waveform - expected[: len(waveform)])) < 1e-4
    inspected = audio.inspect(path, RATE)
    assert inspected.header == audio.info(path)
    assert audio.info(path).samples == len(waveform) > len(as_text(samples))
    (warning,) = inspected.warnings
    assert f"{len(losses(samples))} lost bytes put back" in warning
    warned: list[str] = []
    blocks = list(audio.stream(path, RATE, 400, warned.append))
    np.testing.assert_array_equal(np.concatenate(blocks), waveform)
    assert warned == [warning]
    assert not audio.inspect(tmp_path / f"sound.{ending}", RATE).warnings


def test_a_header_from_before_is_true_again(tmp_path: Path) -> None:
    samples = speech(0)
    soundfile.write(path := tmp_path / "text.wav", samples, RATE)
    header, damaged = path.read_bytes()[:44], as_text(samples).tobytes()
    assert b"\r" not in header
    path.write_bytes(header + damaged)
    assert abs(audio.info(path).samples - len(samples)) <= 1
    path.write_bytes(header + damaged[: len(damaged) // 2])
    with pytest.raises(DataError, match="truncated, the header says 48000 samples"):
        audio.load(path)
