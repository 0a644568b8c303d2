"""`asr listen`: what comes through a pipe or from a microphone is what the same file has."""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_streaming import RATE, recognizer_of, speech

import asr
from asr import checkpoint
from asr.audio import live
from asr.checkpoint import Checkpoint
from asr.commands import listen
from asr.errors import DataError


class Pipe(io.BufferedReader):
    """Bytes that come a few at a time, as from another program."""

    def __init__(self, data: bytes, size: int = 777) -> None:
        self.size = size
        super().__init__(io.BytesIO(data))  # type: ignore[arg-type]

    def read1(self, size: int = -1) -> bytes:
        return super().read1(min(size, self.size))

    def isatty(self) -> bool:
        return False


def in_wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


def heard(incoming: live.Incoming) -> np.ndarray:
    return np.concatenate(list(incoming.blocks))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("listen") / "model.safetensors"
    checkpoint.save(path, Checkpoint(recognizer_of()))
    return path


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def pipe(data: bytes) -> None:
        stdin = SimpleNamespace(buffer=Pipe(data), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", stdin)

    return pipe


# ── pipes ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("encoding", live.ENCODINGS)
def test_raw_samples_of_every_encoding(encoding: str, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (999, channels))
    raw = io.BytesIO()
    subtype = live.ENCODINGS[encoding]
    soundfile.write(raw, samples, RATE, subtype, "LITTLE", "RAW")
    incoming = live.pipe(Pipe(raw.getvalue()), RATE, encoding, channels)
    assert incoming[1:3] == (RATE, channels)
    tolerance = {"s8": 0.01, "u8": 0.01, "ulaw": 0.03, "alaw": 0.03}.get(encoding, 1e-4)
    np.testing.assert_allclose(heard(incoming), samples, atol=tolerance)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW"])
def test_wav_says_what_it_is(subtype: str) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (999, 2))
    data = in_wav(samples, 22_050, subtype)
    incoming = live.pipe(Pipe(data))
    assert incoming[1:3] == (22_050, 2)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(heard(incoming), expected)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_of_no_known_length_goes_on_to_its_end(size: int) -> None:
    data = in_wav(speech(0.3))
    place = data.index(b"data")
    remark = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"
    streamed = data[:place] + remark + b"data" + struct.pack("<I", size) + data[place + 8 :]
    np.testing.assert_array_equal(heard(live.pipe(Pipe(streamed))), heard(live.pipe(Pipe(data))))


def test_what_follows_the_samples_of_a_wav_is_not_heard() -> None:
    data = in_wav(speech(0.3))
    behind = data + b"LIST" + struct.pack("<I", 400) + bytes(range(200)) * 2
    np.testing.assert_array_equal(heard(live.pipe(Pipe(behind))), heard(live.pipe(Pipe(data))))


@settings(max_examples=10)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=4).filter(lambda s: sum(s) > 300))
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_resampling_does_not_depend_on_the_blocks(rate: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (rate, 1)).astype(np.float32)

    def blocks() -> Iterator[np.ndarray]:
        begin, n = 0, 0
        while begin < len(samples):
            yield samples[begin : begin + sizes[n % len(sizes)]]
            begin, n = begin + sizes[n % len(sizes)], n + 1

    whole = np.concatenate(list(live.mono([samples], rate, RATE)))
    assert len(whole) == RATE
    np.testing.assert_allclose(
        np.concatenate(list(live.mono(blocks(), rate, RATE))), whole, atol=1e-6
    )


@pytest.mark.parametrize(
    ("data", "said", "arguments"),
    [
        (b"", "nothing came", {}),
        (b"fLaC" + bytes(99), "is FLAC", {}),
        (b"once upon a time", "set --rate and --encoding", {}),
        (bytes(99), "set --rate and --encoding", {"sample_rate": 16_000}),
        (bytes(99), "did you mean 's16'", {"sample_rate": 16_000, "encoding": "s16le"}),
        (in_wav(np.zeros(99)), "has 16000 for --rate 8000", {"sample_rate": 8_000}),
        (in_wav(np.zeros(99))[:30], "without samples", {}),
        (bytes(99), "--channels is 0", {"sample_rate": 8, "encoding": "s16", "channels": 0}),
        (b"RIFF" + bytes(4) + b"AVI " + bytes(99), "no WAV", {}),
        (in_wav(np.zeros(99)).replace(b"fmt \x10\0\0\0\1", b"fmt \x10\0\0\0\2"), "coding 2", {}),
    ],
)
def test_what_is_no_audio_is_named(data: bytes, said: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=said):
        live.pipe(Pipe(data), **arguments)


def test_a_wav_that_ends_early_is_named_and_what_came_is_heard() -> None:
    said: list[str] = []
    whole = heard(live.pipe(Pipe(in_wav(speech())), warn=said.append))
    assert not said
    np.testing.assert_array_equal(
        heard(live.pipe(Pipe(in_wav(speech())[:1044]), warn=said.append)), whole[:500]
    )
    (sentence,) = said
    assert "behind 1000 of the" in sentence


def test_samples_of_another_encoding_are_no_numbers() -> None:
    with pytest.raises(DataError, match="read as f32"):
        heard(live.pipe(Pipe(bytes(8) + b"\xff" * 8), RATE, "f32"))


# ── the command ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_phones_of_a_pipe_are_those_of_the_file(
    format: str,
    model: Path,
    piped: Callable[[bytes], None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    data = in_wav(speech())
    (tmp_path / "a.wav").write_bytes(data)
    expected = asr.load(model).transcribe(tmp_path / "a.wav").phones
    assert len(expected) > 3
    piped(data)
    assert listen.main(["--checkpoint", f"{model}", "--format", format]) == 0
    lines = capsys.readouterr().out.splitlines()
    if format == "jsonl":
        assert [json.loads(line) for line in lines] == [one._asdict() for one in expected]
    else:
        start, end, phone, confidence = lines[0].split()
        first = expected[0]
        assert (float(start), float(end)) == pytest.approx((first.start_s, first.end_s), abs=1e-3)
        assert (phone, float(confidence)) == (
            first.phone,
            pytest.approx(first.confidence, abs=0.01),
        )


def test_wrong_use_is_one_sentence(
    model: Path, piped: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--checkpoint", f"{model}"]
    for arguments, said in (
        (["Desk", "--rate", "8000"], "for a pipe"),
        (["-", "--channel", "3"], "no channel 3"),
        (["-", "--rate", "100", "--encoding", "s16"], "sampled at 100 Hz"),
    ):
        piped(bytes(999) if "--rate" in arguments else in_wav(np.zeros(99)))
        assert listen.main([*given, *arguments]) == 1
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
        assert not captured.out


def test_ctrl_c_ends_with_the_last_phones(model: Path, tmp_path: Path) -> None:
    """Of a program that has heard two seconds, and waits for more."""
    samples = speech(2.0)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    expected = asr.load(model).transcribe(tmp_path / "a.wav").phones
    command = [sys.executable, "-m", "asr", "listen", "--checkpoint", str(model), "--rate", "16000"]
    with subprocess.Popen(
        [*command, "--encoding", "s16"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tobytes())
        process.stdin.flush()
        lines = [process.stdout.readline()]  # it is flushed
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        assert process.wait(20) == 0
    assert [line.split()[2].decode() for line in lines] == [one.phone for one in expected]


# ── microphones ──────────────────────────────────────────────────────────────────────────────


def device(samples: np.ndarray, rate: int) -> ModuleType:
    """sounddevice with one microphone of one rate, where Ctrl-C is pressed at the end."""
    fake: Any = ModuleType("sounddevice")
    fake.PortAudioError = type("PortAudioError", (Exception,), {})

    def query_devices(name: str | int | None, kind: str) -> dict[str, Any]:
        assert kind == "input"
        if name not in (None, 1, "Desk"):
            raise ValueError(f"No input device matching {name!r}")
        return {"name": "Desk microphone", "default_samplerate": float(rate)}

    def check_input_settings(
        name: object, channels: int, dtype: str, extra: object, r: int
    ) -> None:
        if r != rate:
            raise fake.PortAudioError("Invalid sample rate")

    class InputStream:
        def __init__(self, *arguments: object, callback: Any, latency: str) -> None:
            assert arguments == (rate, 0, arguments[2], 1, "float32")
            for begin in range(0, len(samples), 500):
                callback(samples[begin : begin + 500, None], 500, None, "")

        def __enter__(self) -> "InputStream":
            self.asked = 0
            return self

        def __exit__(self, *_: object) -> None:
            pass

        @property
        def active(self) -> bool:
            self.asked += 1
            if self.asked > -(-len(samples) // 500):
                os.kill(os.getpid(), signal.SIGINT)
            return True

    fake.query_devices, fake.check_input_settings = query_devices, check_input_settings
    fake.InputStream = InputStream
    return fake  # type: ignore[no-any-return]


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_microphone_is_heard_until_ctrl_c(
    rate: int,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = speech(2.0).repeat(rate // RATE)
    monkeypatch.setitem(sys.modules, "sounddevice", device(samples, rate))
    assert listen.main(["Desk", "--checkpoint", f"{model}"]) == 0
    captured = capsys.readouterr()
    assert f"listening to Desk microphone at {rate} Hz" in captured.err
    stream = asr.load(model, streaming=True).stream()
    mono = np.concatenate(list(live.mono([samples[:, None]], rate, RATE)))
    expected = [*stream.feed(mono), *stream.finish()]
    assert [line.split()[2] for line in captured.out.splitlines()] == [p.phone for p in expected]


def test_a_microphone_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", device(np.zeros(9, np.float32), RATE))
    with pytest.raises(DataError, match="no microphone 'Shelf' that can be read"):
        live.microphone("Shelf", RATE, print)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DataError, match=r"asr-phones\[microphone\]"):
        live.microphone(None, RATE, print)
