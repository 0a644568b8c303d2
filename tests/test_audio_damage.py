"""Damaged and unusual audio: the samples that were written, or one `DataError` with the file."""

import io
import os
import struct
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import tones_of
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import audio
from asr.audio import frames
from asr.audio.headers import extent_of
from asr.errors import DataError

RATE = 16_000
SPEECH = np.round(tones_of(("aa", "s", "m", "iy")) * 32768) / 32768
MEMORY = 8 << 20  # bytes


def written(container: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, SPEECH, RATE, format=container, subtype=subtype)
    return buffer.getvalue()


WAV, FLAC, MP3, NIST = written("WAV"), written("FLAC"), written("MP3"), written("NIST")
CAF = written("CAF")
OPUS, VORBIS = written("OGG", "OPUS"), written("OGG", "VORBIS")
GOOD = {
    "wav": WAV,
    "24 bits": written("WAV", "PCM_24"),
    "extensible": written("WAVEX"),
    "float": written("WAV", "FLOAT"),
    "flac": FLAC,
    "aiff": written("AIFF"),
    "caf": CAF,
    "w64": written("W64"),
    "rf64": written("RF64"),
    "au": written("AU"),
    "sphere": NIST,
    "ulaw": written("NIST", "ULAW"),
    "mp3": MP3,
    "opus": OPUS,
    "vorbis": VORBIS,
}


def put(content: bytes, place: int, form: str, *values: int) -> bytes:
    """Content with other numbers at a place."""
    changed = bytearray(content)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


def flac_total(total: int, content: bytes = FLAC) -> bytes:
    (fields,) = struct.unpack_from(">Q", content, 18)
    return put(content, 18, ">Q", fields >> 36 << 36 | total)


def xing(count: int) -> bytes:
    return put(MP3, max(MP3.find(b"Xing"), MP3.find(b"Info")) + 8, ">I", count)


def sphere(old: bytes, new: bytes) -> bytes:
    assert old in NIST
    return NIST.replace(old, new.ljust(len(old)), 1)


def chunk(name: bytes, size: int) -> bytes:
    return name + struct.pack("<I", size) + bytes(size + size % 2)


def heard(path: Path) -> np.ndarray:
    """What `stream` gives, after `inspect` and `load` agreed with it."""
    streamed = np.concatenate(list(audio.stream(path, RATE, 400, lambda _: None)))
    assert not audio.inspect(path, RATE).problems
    assert audio.info(path).samples == len(streamed)
    np.testing.assert_array_equal(audio.load(path), streamed)
    return streamed


SAMPLES_AT = len(WAV) - 2 * len(SPEECH)
READ: dict[str, bytes] = {
    **GOOD,
    "wav, size 0": put(WAV, 40, "<I", 0),
    "wav, both sizes 0": put(put(WAV, 40, "<I", 0), 4, "<I", 0),
    "wav, endless": put(put(WAV, 40, "<I", 0xFFFFFFFF), 4, "<I", 0xFFFFFFFF),
    "wav, unknown chunks": WAV[:12] + chunk(b"odd ", 7) + WAV[12:] + chunk(b"LIST", 20),
    "wav, behind the form": WAV + b"ID3" + bytes(5000),
    "wav, no byte rate": put(WAV, 28, "<I", 0),
    "flac, length open": flac_total(0),
    "mp3, no count": xing(0),
    "mp3, a tag": b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + MP3 + b"TAG" + bytes(125),
    "wav, sox of 24 bits": put(WAV, 40, "<I", 0x7FFFEFFF),
    "mp3, bytes behind": MP3 + b"<xml>" * 40,
    "flac, a tag, length open": b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + flac_total(0),
    "caf, length open": put(CAF, CAF.find(b"data") + 4, ">q", -1),
    "au, size 0": put(GOOD["au"], 8, ">I", 0),
    "au, length open": put(GOOD["au"], 8, ">I", 0xFFFFFFFF),
}


@pytest.mark.parametrize("kind", READ)
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(READ[kind])
    samples = heard(path)
    assert len(samples) == len(SPEECH)
    tolerance = {"mp3": 0.2, "opu": 0.2, "vor": 0.1, "ula": 0.02}.get(kind[:3], 1e-4)
    np.testing.assert_allclose(samples, SPEECH, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("quiet", [0, 1, 15, 17, 192, 4096, 70_000])
def test_the_last_frame_of_a_flac_is_seen_however_short(
    quiet: int, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.flac"
    samples = np.stack([np.concatenate([SPEECH, np.zeros(quiet)])] * channels, 1)
    soundfile.write(path, samples, RATE)
    assert audio.info(path).samples == len(samples)
    path.write_bytes(flac_total(0, path.read_bytes()))
    assert audio.info(path).samples == len(samples)
    path.write_bytes(flac_total(len(samples) - 1, path.read_bytes()))
    with pytest.raises(DataError, match=f"the file holds {len(samples)}"):
        audio.info(path)


def test_an_mp3_without_a_xing_header_is_read_to_its_end(tmp_path: Path) -> None:
    length, _ = frames.mp3_frame(MP3[:4]) or (0, 0)
    (tmp_path / "a.mp3").write_bytes(MP3[length:])
    assert len(heard(tmp_path / "a.mp3")) >= len(SPEECH)


NAMED: dict[str, tuple[bytes, str]] = {
    "flac, more": (flac_total(2**36 - 1), "truncated"),
    "flac, fewer": (flac_total(4096), "announces 4096 samples"),
    "flac, cut": (FLAC[: len(FLAC) // 2], "truncated"),
    "flac, open and cut": (flac_total(0)[: len(FLAC) // 2], "truncated"),
    "mp3, more": (xing(2**32 - 1), "truncated"),
    "mp3, fewer": (xing(3), "announces"),
    "mp3, cut": (MP3[: len(MP3) // 2], "truncated"),
    "mp3, noise inside": (MP3[:1500] + b"noise" * 300 + MP3[1500:], ""),
    "opus, cut": (OPUS[: len(OPUS) // 2], "truncated"),
    "opus twice": (OPUS + OPUS, "several recordings"),
    "wav, block": (put(WAV, 32, "<H", 4), "blocks of 4 bytes"),
    "wav, bits": (put(WAV, 34, "<H", 24), "24 bits"),
    "wav, rate": (put(WAV, 24, "<I", 8_000), "8000 blocks"),
    "wav, rate 0": (put(WAV, 24, "<I", 0), "0 Hz"),
    "wav, rate 1": (put(WAV, 24, "<IIH", 1, 2, 2), "sampled at 1 Hz"),
    "wav, rate 10^9": (put(WAV, 24, "<IIH", 10**9, 2 * 10**9, 2), "1000000000 Hz"),
    "wav, 0 channels": (put(WAV, 22, "<H", 0), "0 channels"),
    "wav, 1000 channels": (put(WAV, 22, "<HIIH", 1000, RATE, 2000 * RATE, 2000), "1000 channels"),
    "wav, more": (put(WAV, 40, "<I", 40_000), "truncated, the header says 20000 samples"),
    "wav, fewer": (put(WAV, 40, "<I", 4_000), "in no chunk"),
    "wav, empty": (put(put(WAV, 40, "<I", 0), 4, "<I", 36)[:44], "zero samples"),
    "aiff, cut": (GOOD["aiff"][:9000], "truncated"),
    "aiff, COMM": (put(GOOD["aiff"], 22, ">I", 4_000), "announces 8000 bytes"),
    "caf, cut": (GOOD["caf"][:9000], "truncated"),
    "w64, cut": (GOOD["w64"][:9000], "truncated"),
    "rf64, cut": (GOOD["rf64"][:9000], "truncated"),
    "adpcm, cut": (written("WAV", "MS_ADPCM")[:3000], "bytes of samples, the file holds"),
    "gsm, cut": (written("WAV", "GSM610")[:1000], "bytes of samples, the file holds"),
    "alac, cut": (written("CAF", "ALAC_16")[:5000], "bytes of samples, the file holds"),
    "au, cut": (GOOD["au"][:9000], "truncated"),
    "sphere, more": (sphere(b"sample_count -i 9600", b"sample_count -i 96000"), ""),
    "sphere, fewer": (sphere(b"sample_count -i 9600", b"sample_count -i 4800"), "announces 4800"),
    "sphere, byte order": (sphere(b"-s2 01", b"-s2 10"), "bytes are in the wrong order"),
    "float, beyond": (GOOD["float"][:-4] + struct.pack("<f", 1e30), "expected numbers in [-1, 1]"),
    "float, inf": (GOOD["float"][:-4] + struct.pack("<f", np.inf), "is inf"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_is_damaged_is_named_in_little_memory(kind: str, tmp_path: Path) -> None:
    content, says = NAMED[kind]
    path = tmp_path / "a"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        list(audio.stream(path, RATE, 400, lambda _: None))
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()
    assert len(error.value.problems) == 1
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert audio.inspect(path, RATE).problems


TAGGED = {  # behind any audio
    "nothing": b"",
    "ID3v1": b"TAG" + b"x" * 125,
    "ID3v2": b"ID3\x04\0\0\0\0\x7f\x7f" + b"x" * 16383,
    "APE": b"APETAGEX" + struct.pack("<IIII8x", 2000, 4000, 1, 1 << 31) + b"x" * 4000,
    "two": b"LYRICSBEGIN" + b"x" * 3000 + b"000123LYRICS200TAG" + b"x" * 125,
}
ERRORS_BEHIND = ("caf", "sphere", "ulaw")  # more than 1 kB: the header is wrong


def said_of(path: Path) -> list[str]:
    """The warnings of `stream`, which are those of `inspect`."""
    warnings: list[str] = []
    list(audio.stream(path, RATE, 400, warnings.append))
    assert [one for one in audio.inspect(path, RATE).warnings if "bytes" in one] == warnings
    return warnings


@pytest.mark.parametrize("kind", GOOD)
def test_bytes_behind_the_audio_are_counted_and_tags_are_not(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    junk = np.random.default_rng(1).bytes(200_000)
    for size in (0, 900, 5000, 200_000):
        for tag in TAGGED.values() if size in (0, 5000) and kind not in ERRORS_BEHIND else [b""]:
            path.write_bytes(GOOD[kind] + tag + junk[:size])
            if size > 1024 and kind in ERRORS_BEHIND:
                assert audio.inspect(path, RATE).problems
                continue
            says = f"{path}: the last {size} bytes are behind the audio, and are not read"
            assert said_of(path) == [says] * (size > 1024)
            assert audio.info(path).samples == len(SPEECH)


@pytest.mark.parametrize("other", ["wav", "flac", "mp3", "opus", "sphere"])
@pytest.mark.parametrize("kind", GOOD)
def test_a_recording_behind_another_is_never_lost_without_an_error(
    kind: str, other: str, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    first, behind = GOOD[kind], TAGGED["ID3v1"]
    for content, place in (
        (first + GOOD[other], len(first)),
        (first + behind + GOOD[other], len(first) + len(behind)),
        (first + first, len(first)),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            list(audio.stream(path, RATE, 400, lambda _: None))
        assert f"begins at byte {place}" in str(error.value)
        assert audio.inspect(path, RATE).problems == error.value.problems


@pytest.mark.parametrize("length", [5, 4096, 8192, 40_000])
def test_flacs_of_unequal_length_are_told_apart(length: int, tmp_path: Path) -> None:
    other = io.BytesIO()
    soundfile.write(other, np.resize(SPEECH, length), RATE, format="FLAC")
    for first, second in ((FLAC, other.getvalue()), (other.getvalue(), FLAC)):
        for one in (first, flac_total(0, first)):
            (tmp_path / "a").write_bytes(one + second)
            with pytest.raises(DataError, match=f"begins at byte {len(one)}"):
                audio.info(tmp_path / "a")


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_end_of_a_flac_is_exact(channels: int, subtype: str, tmp_path: Path) -> None:
    path, draw = tmp_path / "a", np.random.default_rng(channels)
    tone = np.sin(np.arange(6000) / 50)
    for level in (0.0, 1e-4, 0.02, 1.0):
        noise = level * draw.uniform(-1, 1, (6000, channels))
        samples = np.clip(0.5 * tone[:, None] + noise, -1, 1) if level else noise
        soundfile.write(path, samples, RATE, format="FLAC", subtype=subtype)
        with open(path, "ab") as file:
            file.write(draw.bytes(1025))
        with open(path, "rb") as file:
            assert extent_of(file)[0].left == 1025


@settings(max_examples=60)
@given(kind=st.sampled_from(sorted(GOOD)), data=st.data())
def test_any_change_of_a_header_is_samples_or_one_sentence(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 99))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    problems: list[str] = []
    tracemalloc.start()
    try:
        assert len(np.concatenate(list(audio.stream(path, RATE, 400, lambda _: None))))
    except DataError as error:
        problems.extend(error.problems)
    problems.extend(audio.inspect(path, RATE).problems)
    assert all(one.startswith(f"{path}: ") for one in problems)
    assert tracemalloc.get_traced_memory()[1] < 4 * MEMORY
    tracemalloc.stop()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", WAV)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "ffmpeg -i"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc" * 99, "ffmpeg -i"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel", "ffmpeg -i"),
        (b"#!AMR\n" + bytes(99), "ffmpeg -i"),
        (b"\x1aE\xdf\xa3" + bytes(99), "ffmpeg -i"),
        (b"RIFF\x24\0\0\0AVI LIST", "ffmpeg -i"),
        (b"  <!DOCTYPE html><html><body>404 Not Found", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
        (zipped(), "ZIP archive; unpack"),
        ("Sie hören ein Wort.\r\n\tNoch eins.\n".encode() * 60, "a text, 'Sie hören"),
        (b"", "0 bytes"),
        (np.random.default_rng(0).bytes(3000), "not a readable audio file"),
    ],
)
def test_what_is_no_audio_is_named_as_what_it_is(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "my recording.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"my recording\.wav") as error:
        audio.load(path)
    assert says in str(error.value)
    assert "ffmpeg" not in says or f"'{path}'" in str(error.value)


@pytest.mark.parametrize(
    ("samples", "says"),
    [
        (SPEECH / 1000, "nearly silent"),
        (np.concatenate([SPEECH, 0 * SPEECH, 0 * SPEECH]), "66.7% of it is exactly 0"),
        (SPEECH, None),
    ],
)
def test_a_recording_with_hardly_a_sound_is_named(
    samples: np.ndarray, says: str | None, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    warnings: list[str] = []
    list(audio.stream(tmp_path / "a.wav", RATE, 400, warnings.append))
    assert [says in one for one in warnings if says] == [True] * bool(says)
    assert bool(warnings) == bool(says)


# ── channels ─────────────────────────────────────────────────────────────────────────────────

NOISE = 0.1 * np.random.default_rng(1).standard_normal(len(SPEECH))
HUM = 0.3 * np.sin(2 * np.pi * 50 / RATE * np.arange(len(SPEECH)))


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        ((SPEECH, SPEECH), None),
        ((SPEECH, 0.5 * SPEECH + 0.001 * NOISE), None),
        ((SPEECH, -SPEECH), "opposite phase"),
        ((SPEECH, -0.9 * SPEECH), "opposite phase"),
        ((SPEECH, 0 * SPEECH), "channel 2 is silent"),
        ((1e-4 * NOISE, SPEECH), "channel 1 is silent"),
        ((SPEECH, NOISE), "correlation"),
        ((SPEECH, SPEECH + 4 * HUM), "use channel 1 or 2 alone"),
        ((SPEECH, SPEECH, NOISE), "channels 1 and 3 are different"),
    ],
)
def test_channels_that_are_unfit_to_mix_are_named(
    channels: tuple[np.ndarray, ...], says: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    stacked = np.stack(channels, axis=1)
    soundfile.write(path, stacked, RATE, subtype="FLOAT")
    warnings: list[str] = []
    list(audio.stream(path, RATE, 400, warnings.append))
    advice = [one for one in warnings if one.endswith(" alone")]
    assert len(advice) == bool(says)
    assert all(one.startswith(f"{path}: ") and str(says) in one for one in advice)
    of_array: list[str] = []
    audio.from_array(stacked, RATE, RATE, 400, of_array.append)
    assert [one.replace("the array", str(path)) for one in of_array] == warnings


def test_a_channel_is_chosen_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([SPEECH, NOISE], axis=1), RATE, subtype="FLOAT")
    for number, wanted in ((1, SPEECH), (2, NOISE)):
        blocks = list(audio.stream(path, RATE, 400, pytest.fail, number))
        np.testing.assert_allclose(np.concatenate(blocks), wanted, atol=1e-6)
    wrong: list[Any] = [0, 3, -1, 1.0, "1"]
    for number in wrong:
        with pytest.raises(DataError, match=rf"a\.wav: no channel {number!r}, expected 1 to 2"):
            list(audio.stream(path, RATE, 400, pytest.fail, number))


# ── pipes ────────────────────────────────────────────────────────────────────────────────────


def through_a_pipe(content: bytes, read: Callable[[str], object]) -> object:
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return read(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        writer.join()


def test_a_pipe_is_read_as_often_as_a_file(tmp_path: Path) -> None:
    def twice(path: str) -> list[np.ndarray]:
        with audio.on_disk(path):
            return [np.concatenate(list(audio.stream(path, RATE, 400, str))) for _ in range(2)]

    for result in through_a_pipe(flac_total(0), twice):
        np.testing.assert_allclose(result, SPEECH, atol=1e-4)
    named = tmp_path / "fifo"
    os.mkfifo(named)
    writer = threading.Thread(target=named.write_bytes, args=(WAV,))
    writer.start()
    np.testing.assert_allclose(np.concatenate(list(audio.stream(named, RATE, 400, str))), SPEECH)
    writer.join()
    with pytest.raises(DataError, match="is a pipe"):
        audio.load(named)


def test_a_truncated_standard_input_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").write_bytes(WAV[: len(WAV) // 2])
    with open(tmp_path / "part") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(DataError, match=r"^-: truncated, the header says \d+ samples"):
            list(audio.stream("-", RATE, 400, str))


def test_what_has_no_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LARGEST_PIPE", 10_000)
    with pytest.raises(DataError, match=r"/dev/fd/\d+: more than"):
        through_a_pipe(WAV, lambda path: list(audio.stream(path, RATE, 400, str)))
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(DataError, match=f"{device}: is a device"):
            list(audio.stream(device, RATE, 400, str))
