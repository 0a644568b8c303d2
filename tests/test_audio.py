"""What `audio.load` reads, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.errors import DataError

SAMPLES = (0.5 * np.sin(np.arange(1600) / 9)).astype(np.float32)
AS_INT16 = np.round(SAMPLES * 32768) / 32768


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("riff.wav", {"subtype": "PCM_16"}, 1e-7),
        ("wide.wav", {"subtype": "PCM_24"}, 1 / 32768),
        ("float.wav", {"subtype": "FLOAT"}, 1 / 32768),
        ("sphere.sph", {"format": "NIST", "subtype": "PCM_16"}, 1e-7),
        ("sphere.wav", {"format": "NIST", "subtype": "PCM_16"}, 1e-7),
        ("speech.flac", {"subtype": "PCM_16"}, 1e-7),
        ("flac-inside.wav", {"format": "FLAC", "subtype": "PCM_16"}, 1e-7),
        ("lossy.opus", {"format": "OGG", "subtype": "OPUS"}, None),
        ("lossy.ogg", {"format": "OGG", "subtype": "VORBIS"}, None),
    ],
)
def test_formats(
    tmp_path: Path, name: str, options: dict[str, str], tolerance: float | None
) -> None:
    path = tmp_path / name
    soundfile.write(path, AS_INT16, 16_000, **options)
    waveform = audio.load(path)
    assert waveform.dtype == np.float32
    assert audio.info(path).samples == len(waveform) == len(SAMPLES)
    if tolerance is not None:
        np.testing.assert_allclose(waveform, AS_INT16, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "WAV"}, "truncated, the header says 1600 samples, the file holds 789"),
        ({"format": "WAV", "subtype": "PCM_24"}, "truncated, the header says 1600 samples"),
        ({"format": "NIST"}, "truncated, the header says 1600 samples, the file holds 544"),
        ({"format": "FLAC"}, "truncated or damaged, the FLAC stream cannot be decoded"),
        ({"format": "OGG"}, "truncated, the Ogg stream has no last page"),
    ],
)
def test_a_truncated_file_is_never_read(tmp_path: Path, options: dict[str, str], says: str) -> None:
    path = tmp_path / "cut"
    soundfile.write(path, SAMPLES, 16_000, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"cut: {says}"):
        audio.load(path)


@pytest.mark.parametrize("container", ["WAV", "NIST"])
def test_what_follows_the_samples_is_not_read(tmp_path: Path, container: str) -> None:
    path = tmp_path / "long"
    soundfile.write(path, AS_INT16, 16_000, format=container, subtype="PCM_16")
    with open(path, "ab") as file:
        file.write(b"LIST" * 50)
    np.testing.assert_array_equal(audio.load(path), AS_INT16)


def test_a_hash_is_that_of_the_samples_whatever_holds_them(tmp_path: Path) -> None:
    hashes = set()
    for options in ({"format": "WAV"}, {"format": "FLAC"}, {"format": "WAV", "subtype": "FLOAT"}):
        soundfile.write(tmp_path / "one", AS_INT16, 16_000, **options)
        hashes.add(audio.inspect(tmp_path / "one", 16_000).content)
    assert len(hashes) == 1
    assert None not in hashes


def test_nothing_is_resampled_or_mixed_in_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", SAMPLES, 8_000)
    with pytest.raises(DataError, match=r"slow\.wav: sampled at 8000 Hz, expected 16000 Hz"):
        audio.load(tmp_path / "slow.wav")
    assert len(audio.load(tmp_path / "slow.wav", sample_rate=8_000)) == len(SAMPLES)
    soundfile.write(tmp_path / "two.wav", np.stack([SAMPLES, SAMPLES], axis=1), 16_000)
    with pytest.raises(DataError, match=r"two\.wav: 2 channels, expected 1"):
        audio.load(tmp_path / "two.wav")


def test_what_is_no_audio_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.wav: no such file"):
        audio.load(tmp_path / "absent.wav")
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(DataError, match=r"text\.wav: not a readable audio file"):
        audio.load(tmp_path / "text.wav")
    soundfile.write(tmp_path / "empty.wav", SAMPLES[:0], 16_000)
    for read in (audio.load, audio.info):
        with pytest.raises(DataError, match=r"empty\.wav: no audio"):
            read(tmp_path / "empty.wav")
    broken = SAMPLES.copy()
    broken[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 16_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"nan\.wav: sample 7 is nan"):
        audio.load(tmp_path / "nan.wav")


def test_shorten_is_named_with_its_remedy(tmp_path: Path) -> None:
    header = (
        b"NIST_1A\n   1024\nsample_rate -i 16000\nsample_coding -s26 pcm,embedded-shorten-v2.00\n"
    )
    (tmp_path / "SA1.WAV").write_bytes(header.ljust(1024) + b"ajkg\x02" + bytes(500))
    with pytest.raises(DataError, match=r"SA1\.WAV: SPHERE compressed with shorten.*sph2pipe"):
        audio.load(tmp_path / "SA1.WAV")


def test_a_transfer_in_text_mode_is_told_from_a_truncated_file(
    shared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "one.wav"
    lost = 0
    for original in sorted((shared / "corpora" / "timit-sample").rglob("si*.wav")):
        whole = original.read_bytes()
        as_text = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lost += len(as_text) < len(whole)
        for content, cause in (
            (as_text, "damaged by a transfer in text mode"),
            (whole, "truncated"),
        ):
            path.write_bytes(content[: len(as_text)])
            problems = audio.inspect(path, 16_000).problems
            assert [p.split(",")[0] for p in problems] == (
                [f"{path}: {cause}"] if len(as_text) < len(whole) else []
            )
    assert lost
