"""The Python interface: the examples of docs/python.md run, an array is as its file."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr import audio
from asr.errors import DataError
from asr.transcriber import MODEL

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="no model is in the package")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two seconds of a buzzing voice with pauses, at 16 kHz."""
    time = np.arange(32_000) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 30))
    samples = 0.1 * voice * (np.sin(2 * np.pi * 2 * time) > 0)
    soundfile.write(tmp_path / "my.wav", samples, 16_000)
    return tmp_path / "my.wav"


def test_the_examples_of_the_page_run(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recording.parent)
    code = "\n".join(re.findall(r"^    (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert code.count("asr.") >= 3
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is this")  # it says no hello
        exec(code, names)
    assert names["transcript"] == asr.load().transcribe(names["samples"], 16_000)
    one, other = names["transcripts"]
    assert one == other
    assert one.phones == names["transcript"].phones
    assert [segment.phone for segment in names["segments"]] == ["hh", "ah", "l", "ow"]
    assert names["score"].total.per == pytest.approx(100 / 3)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_an_array_is_transcribed_as_its_file(rate: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    samples = (0.1 * draw.standard_normal((rate, 2))).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    recognizer = asr.load()
    with pytest.warns(UserWarning, match="a.wav"):
        of_file = recognizer.transcribe(tmp_path / "a.wav")
    with pytest.warns(UserWarning, match="the array"):
        of_array = recognizer.transcribe(samples, rate)
    assert of_array.phones == of_file.phones
    with pytest.warns(UserWarning, match="resampled"):
        chosen = recognizer.transcribe(samples, rate, channel=2)
    with pytest.warns(UserWarning, match="resampled"):
        one = recognizer.transcribe(samples[:, 1], rate)
    assert chosen == one


def test_integers_are_scaled(recording: Path) -> None:
    recognizer = asr.load()
    samples, rate = soundfile.read(recording, dtype="int16")
    assert recognizer.transcribe(samples, rate).phones == recognizer.transcribe(recording).phones
    short = (samples[:400] // 256).astype(np.int8)
    for other in (short, (short + 128.0).astype(np.uint8), short.astype(np.int32) << 24):
        scaled = audio.from_array(other, rate, rate, 400)
        np.testing.assert_array_equal(scaled, short.astype(np.float32) / 128)


@pytest.mark.parametrize(
    ("samples", "rate", "problem"),
    [
        (np.ones(16_000, dtype=np.int64), 16_000, "int64"),
        (np.ones((2, 16_000)), 16_000, "transpose"),
        (np.ones(16_000), float("nan"), "rate is nan"),
        (np.ones(16_000), "16000", "rate is '16000'"),
        ((1.0, 2.0), 16_000, "tuple"),
        (np.ones((2, 2, 2)), 16_000, r"shape \(2, 2, 2\)"),
        (np.full(16_000, np.nan), 16_000, "a finite number"),
        (np.ones(3), 16_000, "3 samples"),
        (np.ones(16_000), 100, "100 Hz"),
        (np.ones(16_000), None, "sample_rate"),
        (np.array(["a"]), 16_000, "expected floats"),
        (np.ones(16_000) * 1e38, 16_000, r"sample 0 is 1e\+38, expected numbers in \[-1, 1\]"),
        (np.ones(16_000) * 1e300, 16_000, "divide"),
        (np.ones(16_000, dtype=complex), 16_000, "complex128, expected floats"),
        (np.ones(0), 16_000, "the array: 0 samples"),
        (np.ones((16_000, 0)), 16_000, "shape"),
        ("my.wav", 16_000, "my.wav: its header has the sample rate"),
    ],
)
def test_a_bad_array_is_one_sentence(samples: np.ndarray, rate: int | None, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        asr.load().transcribe(samples, rate)


def test_an_unknown_phone_and_too_many_phones_are_refused(recording: Path) -> None:
    with pytest.raises(DataError, match="'q9'"):
        asr.align(recording, ["q9"])
    for phones in ([1, 2], {"aa": 1}, None, np.array(["aa"])):
        with pytest.raises(DataError, match="expected a list of strings"):
            asr.align(recording, phones)
    with pytest.raises(DataError, match="silent"):
        asr.align(np.zeros(16_000), ["aa"], 16_000)
    with pytest.raises(DataError, match="500 phones"):
        asr.align(recording, ["aa"] * 500)


def test_a_string_of_phones_is_refused() -> None:
    for sides in (({"a": "sit"}, {"a": ["s"]}), ({"a": ["s"]}, {"a": "set"})):
        with pytest.raises(DataError, match=r"'a': phones are 's[ie]t'"):
            asr.score(*sides, protocol="none")


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, asr; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
