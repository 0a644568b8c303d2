"""What asr.prepare refuses, warns of and lets pass, numbered as bad inputs are in docs/data.md."""

import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import audio, corpora
from asr.commands import prepare
from asr.config import RunConfig
from asr.corpora import TimitConfig, manifests, summary
from asr.corpora.checks import Checked
from asr.corpora.recording import Corpus, Recording
from asr.criteria import CTCConfig
from asr.errors import DataError
from asr.files import shards
from asr.records import Manifest, Utterance, read_jsonl, write_jsonl
from asr.scoring.protocols import protocol

RATE = 16_000
SAMPLES = 4800  # 0.3 s, 28 frames
PHN = f"0 1000 h#\n1000 2400 hv\n2400 3200 q\n3200 {SAMPLES} h#\n"
PHONES = ("h#", "hv", "q", "h#")
SPEAKERS = {"TRAIN/DR1/FCJF0": "train", "TEST/DR1/FAKS0": "dev", "TEST/DR1/MDAB0": "test"}
HERE = "TRAIN/DR1/FCJF0"  # where faults are put, in SX1
WAV, LABELS = f"{HERE}/SX1.WAV", f"{HERE}/SX1.PHN"


def noise(seed: int, samples: int = SAMPLES) -> Any:
    return np.random.default_rng(seed).integers(-999, 999, samples).astype(np.int16)


def put(folder: Path, stem: str, seed: int, phn: str = PHN, **format: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{stem}.WAV", noise(seed), RATE, **{"format": "WAV"} | format)
    (folder / f"{stem}.PHN").write_text(phn)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sentences of one speaker in each split, all of them sound."""
    for number, folder in enumerate(SPEAKERS):
        for sentence in (1, 2):
            put(tmp_path / "corpus" / folder, f"SX{sentence}", 10 * number + sentence)
    return tmp_path / "corpus"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "draw", lambda *arguments: None)


def config(root: Path, **options: Any) -> RunConfig:
    corpus = {
        name: options.pop(name)
        for name in ("shared_speakers", "full_test", "resample", "channel")
        if name in options
    }
    return RunConfig(
        corpus=TimitConfig(root=str(root), complete=False, **corpus),
        criterion=CTCConfig(),
        run_dir=str(root.parent / "exp" / "run"),
        **options,
    )


def prepared(root: Path, **options: Any) -> dict[str, list[Utterance]]:
    run = config(root, **options)
    prepare.run(run)
    paths = sorted(Path(run.run_dir, "manifests").glob("*.jsonl"))
    return {path.stem: read_jsonl(path, Utterance) for path in paths}


def refused(root: Path, **options: Any) -> list[str]:
    """The problems for which the corpus is refused; nothing may have been written."""
    before = set(root.parent.rglob("*"))
    with pytest.raises(DataError) as error:
        prepare.run(config(root, **options))
    assert set(root.parent.rglob("*")) == before
    lines = str(error.value).split("\n")
    if len(lines) > 1:
        assert lines.pop(0) == f"{len(lines)} problems:"
    assert tuple(lines) == error.value.problems
    return lines


# ---------------------------------------------------------------- faults


def samples(values: Any, rate: int = RATE, **format: Any) -> Callable[[Path], None]:
    """Replace the audio of SX1."""

    def change(root: Path) -> None:
        soundfile.write(root / WAV, values, rate, **{"format": "WAV"} | format)

    return change


def raw(change: Callable[[bytes], bytes], gain: int = 1, **format: Any) -> Callable[[Path], None]:
    """Change the bytes of SX1, written in a format."""

    def changed(root: Path) -> None:
        values = (gain * noise(1)).astype(np.int16)
        soundfile.write(root / WAV, values, RATE, **{"format": "WAV"} | format)
        (root / WAV).write_bytes(change((root / WAV).read_bytes()))

    return changed


def as_text(file: bytes) -> bytes:
    """What a transfer in text mode leaves of a file."""
    return file.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def labels(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda root: (root / LABELS).write_bytes(text.encode(encoding))


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda root: [change(root) for change in changes] and None


def data_size(header: bytes, size: int) -> bytes:
    return header[:40] + struct.pack("<I", size) + header[44:]


def with_value(value: float) -> Any:
    values = noise(1) / 32768
    values[123] = value
    return values.astype(np.float32)


def short_labels(phones: list[str], step: int = 160) -> str:
    lines = [f"{n * step} {(n + 1) * step} {phone}\n" for n, phone in enumerate(phones[:-1])]
    return "".join(lines) + f"{(len(phones) - 1) * step} {SAMPLES} {phones[-1]}\n"


def broken_link(root: Path) -> None:
    (root / WAV).unlink()
    (root / WAV).symlink_to("nowhere.wav")


def same_audio(root: Path) -> None:
    shutil.copy(root / WAV, root / "TEST/DR1/MDAB0/SX2.WAV")


def same_words(root: Path) -> None:
    (root / HERE / "SX1.TXT").write_text(f"0 {SAMPLES} She had your dark suit.\n")
    (root / "TEST/DR1/MDAB0/SX2.TXT").write_text(f"0 {SAMPLES} she had your dark suit\n")


def speaker_twice(root: Path) -> None:
    put(root / "TRAIN/DR1/MDAB0", "SX3", 77)


SHORTEN = (
    (
        b"NIST_1A\n   1024\nsample_rate -i 16000\nsample_count -i 4800\nsample_n_bytes -i 2\n"
        b"channel_count -i 1\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    ).ljust(1024)
    + b"ajkg\x02"
    + bytes(500)
)

ERRORS: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "01-riff",
        raw(lambda b: b[:5000]),
        r"SX1\.WAV: truncated, the header says 4800 samples, the file holds 2478",
    ),
    (
        "01-odd",
        raw(lambda b: b[:-1]),
        r"truncated, the header says 4800 samples, the file holds 4799",
    ),
    (
        "01-sphere",
        raw(lambda b: b[:5000], format="NIST"),
        r"truncated, the header says 4800 samples, the file holds 1988",
    ),
    (
        "01-text-mode",
        raw(as_text, gain=31),
        r"SX1\.WAV: damaged by a transfer in text mode, the header says 4800 samples, "
        r"the file holds 47\d\d and no byte 0x0D; fetch it again as binary",
    ),
    (
        "01-text-mode-sphere",
        raw(as_text, gain=31, format="NIST"),
        r"SX1\.WAV: damaged by a transfer in text mode, the header says 4800 samples",
    ),
    (
        "01-truncated-silence",
        raw(lambda b: b[:5000], gain=0),
        r"SX1\.WAV: truncated, the header says 4800 samples, the file holds 2478",
    ),
    (
        "01-flac",
        raw(lambda b: b[:5000], format="FLAC"),
        r"truncated, the header says 4800 samples, the file holds 4096",
    ),
    (
        "01-vorbis",
        raw(lambda b: b[:-9], format="OGG"),
        r"SX1\.WAV: truncated, the Ogg stream has no last page",
    ),
    (
        "01-opus",
        raw(lambda b: b[:-9], format="OGG", subtype="OPUS"),
        r"SX1\.WAV: truncated, the Ogg stream",
    ),
    (
        "01-float",
        raw(lambda b: b[:5000], subtype="FLOAT"),
        r"truncated, the header says 4800 samples",
    ),
    (
        "02-header-only",
        raw(lambda b: b[:44]),
        r"truncated, the header says 4800 samples, the file holds 0",
    ),
    ("02-no-samples", samples(noise(1)[:0]), r"SX1\.WAV: no audio, the file holds zero samples"),
    (
        "02-one-sample",
        both(samples(noise(1)[:1]), labels("0 1 h#\n")),
        r"SX1\.WAV: 1 samples, expected at least one window of 400 \(25 ms\)",
    ),
    ("03-empty", raw(lambda b: b""), r"SX1\.WAV: not a readable audio file, it holds 0 bytes"),
    ("03-text", raw(lambda b: b"no audio at all"), r"SX1\.WAV: not a readable audio file"),
    ("03-cut-header", raw(lambda b: b[:30]), r"SX1\.WAV: not a readable audio file"),
    (
        "05-shorten",
        raw(lambda b: SHORTEN),
        r"SX1\.WAV: SPHERE compressed with shorten.*sph2pipe.*sox",
    ),
    (
        "06-8k",
        samples(noise(1), 8_000),
        r"SX1\.WAV: sampled at 8000 Hz, expected 16000 Hz; resample",
    ),
    (
        "06-44k",
        samples(noise(1), 44_100),
        r"SX1\.WAV: sampled at 44100 Hz, expected 16000 Hz; resample",
    ),
    (
        "07-slow",
        samples(noise(1, SAMPLES // 2)),
        r"SX1\.PHN:4: label ends at sample 4800, the audio at 2400: as if .* 8000 Hz",
    ),
    (
        "07-fast",
        samples(noise(1, 3 * SAMPLES)),
        r"SX1\.PHN:4: label ends at sample 4800, the audio at 14400: as if .* 48000 Hz",
    ),
    (
        "08-stereo",
        samples(np.stack([noise(1), noise(2)], 1)),
        r"SX1\.WAV: 2 channels, expected 1; choose or mix",
    ),
    (
        "10-nan",
        samples(with_value(np.nan), subtype="FLOAT"),
        r"SX1\.WAV: sample 123 is nan, expected a finite",
    ),
    (
        "10-inf",
        samples(with_value(-np.inf), subtype="FLOAT"),
        r"SX1\.WAV: sample 123 is -inf, expected a finite",
    ),
    ("11-constant", samples(0 * noise(1) + np.int16(7)), r"silent, all 4800 samples are 7"),
    ("11-zeros", samples(0 * noise(1)), r"SX1\.WAV: silent, all 4800 samples are 0"),
    (
        "13-short",
        both(samples(noise(1)[:399]), labels("0 399 h#\n")),
        r"SX1\.WAV: 399 samples, expected at least one window of 400 \(25 ms\)",
    ),
    (
        "14-block-size",
        raw(lambda b: b[:32] + bytes([4]) + b[33:]),
        r"SX1\.WAV: the header is wrong, it announces 1 channels of 16 bits in blocks of 4 bytes",
    ),
    (
        "15-ambiguous",
        lambda root: shutil.copy(root / WAV, root / HERE / "sx1.wav"),
        r"ambiguous, keep one of .*SX1\.WAV, .*sx1\.wav",
    ),
    (
        "15-converted",
        lambda root: shutil.copy(root / WAV, root / HERE / "SX1.WAV.wav"),
        r"ambiguous, keep one of .*SX1\.WAV, ",
    ),
    ("16-no-phn", lambda root: (root / LABELS).unlink(), r"SX1\.WAV: has no \.phn file beside it"),
    ("16-no-wav", lambda root: (root / WAV).unlink(), r"SX1\.PHN: has no audio file beside it"),
    ("16-broken-link", broken_link, r"SX1\.WAV: a link to nowhere\.wav, and there is no such file"),
    (
        "17-beyond",
        labels(f"0 1000 h#\n1000 {SAMPLES + 999} hv\n"),
        r"SX1\.PHN:2: label ends at 5799, the audio at 4800 samples; expected .*at most 160",
    ),
    (
        "18-overlap",
        labels(f"0 1000 h#\n900 {SAMPLES} hv\n"),
        r"SX1\.PHN:2: starts at 900, before the previous label's end 1000",
    ),
    (
        "18-backward",
        labels(f"0 1000 h#\n1000 900 hv\n1000 {SAMPLES} h#\n"),
        r"SX1\.PHN:2: label starts at 1000 and ends at 900",
    ),
    (
        "18-zero-length",
        labels(f"0 1000 h#\n1000 1000 hv\n1000 {SAMPLES} h#\n"),
        r"SX1\.PHN:2: label starts at 1000 and ends at 1000",
    ),
    (
        "18-negative",
        labels(f"-5 {SAMPLES} h#\n"),
        r"SX1\.PHN:1: found '-5 4800 h#'.*a time is a number from 0",
    ),
    (
        "18-unsorted",
        labels(f"1000 {SAMPLES} hv\n0 1000 h#\n"),
        r"SX1\.PHN:2: starts at 0, before the previous label's end 4800",
    ),
    (
        "20-unknown",
        labels(f"0 {SAMPLES} hh#\n"),
        r"SX1\.PHN:1: phone 'hh#' is not in the TIMIT labels; did you mean 'h",
    ),
    (
        "20-stress",
        labels(f"0 {SAMPLES} ah0\n"),
        r"SX1\.PHN:1: phone 'ah0' is not in .*did you mean 'ah'",
    ),
    (
        "20-space",
        labels(f"0 {SAMPLES} h #\n"),
        r"SX1\.PHN:1: found '0 4800 h #', expected .*no space inside",
    ),
    ("22-empty", labels(""), r"SX1\.PHN: no labels, expected"),
    ("22-only-q", labels(f"0 {SAMPLES} q\n"), r"SX1\.PHN: no label but q, which scoring deletes"),
    ("23-utf16", labels(PHN, "utf-16"), r"SX1\.PHN: is UTF-16, expected UTF-8; convert"),
    ("23-utf16-unmarked", labels(PHN, "utf-16-le"), r"SX1\.PHN:1: a NUL byte, expected UTF-8"),
    ("23-nul", labels(PHN.replace("hv", "h\0")), r"SX1\.PHN:2: a NUL byte, expected UTF-8"),
    (
        "23-latin1",
        labels(PHN.replace("hv", "ü"), "latin1"),
        r"SX1\.PHN:2: byte 0xfc is not UTF-8; if it is Latin-1",
    ),
    (
        "24-two-fields",
        labels(f"0 {SAMPLES}\n"),
        r"SX1\.PHN:1: found '0 4800', expected .*; a field is missing",
    ),
    (
        "24-four-fields",
        labels(f"0 {SAMPLES} h# 0.7\n"),
        r"SX1\.PHN:1: found '0 4800 h# 0\.7', expected",
    ),
    (
        "24-seconds",
        labels("0 0.3 h#\n"),
        r"SX1\.PHN:1: found '0 0\.3 h#', expected .*these look like seconds",
    ),
    (
        "24-htk",
        labels("0 1500000 h#\n1500000 3000000 hv\n"),
        r"SX1\.PHN:2: .*HTK's units of 100 ns, expected samples; divide by 625",
    ),
    (
        "26-too-many-phones",
        labels(short_labels(["aa", "iy"] * 15)),
        r"SX1\.WAV: too short for CTC, its 30 phones need 30 frames, expected at most 28",
    ),
    (
        "27-repeats",
        labels(short_labels(["aa"] * 15)),
        r"SX1\.WAV: too short for CTC, its 15 phones need 29 frames, expected at most 28",
    ),
    (
        "28-id-twice",
        lambda root: put(root / "TRAIN/DR2/FCJF0", "SX1", 99),
        r"DR2/FCJF0/SX1\.WAV: fcjf0_sx1 is also .*DR1/FCJF0/SX1\.WAV; keep one",
    ),
    (
        "29-speaker",
        speaker_twice,
        r"MDAB0/SX1\.WAV: speaker mdab0 is in test, and in train \(.*SX3\.WAV\).*shared_speakers=",
    ),
    (
        "30-same-audio",
        same_audio,
        r"FCJF0/SX1\.WAV: in train, the same samples as .*MDAB0/SX2\.WAV in test",
    ),
    (
        "31-empty-split",
        lambda root: shutil.rmtree(root / "TEST/DR1/FAKS0"),
        r"corpus: the split 'dev' is empty",
    ),
    (
        "32-line-break",
        lambda root: (root / HERE).rename(root / "TRAIN/DR1/FC\nJF0"),
        r"'.*FC\\nJF0/SX1\.PHN': a name with a line break",
    ),
    (
        "32-not-utf8",
        lambda root: os.rename(os.fsencode(root / HERE), os.fsencode(root) + b"/TRAIN/DR1/F\xff"),
        r"a name with a line break, or not UTF-8; rename",
    ),
]


@pytest.mark.parametrize(("change", "says"), [pytest.param(*e[1:], id=e[0]) for e in ERRORS])
def test_refused(root: Path, change: Callable[[Path], Any], says: str) -> None:
    change(root)
    # a folder whose name is bad gives a problem for each recording, and leaves train empty
    (problem, *more) = refused(root)
    assert len(more) == (2 if "a name with" in says else 0)
    assert re.search(says, problem), problem


HARMLESS: list[tuple[str, Callable[[Path], Any]]] = [
    ("04-sphere", samples(noise(1), format="NIST")),
    ("09-float", samples(noise(1) / np.float32(32768), subtype="FLOAT")),
    ("09-24-bit", samples(noise(1), subtype="PCM_24")),
    ("09-mu-law", samples(noise(1), subtype="ULAW")),
    ("09-flac", samples(noise(1), format="FLAC")),
    ("14-trailing", raw(lambda b: b + b"LIST" * 25)),
    ("14-trailing-sphere", raw(lambda b: b + bytes(100), format="NIST")),
    (
        "15-lower",
        lambda root: [p.rename(p.with_name(p.name.lower())) for p in (root / HERE).iterdir()],
    ),
    ("15-converted", lambda root: (root / WAV).rename(root / HERE / "SX1.WAV.wav")),
    ("21-crlf", labels(PHN.replace("\n", "\r\n"))),
    ("21-cr", labels(PHN.replace("\n", "\r"))),
    ("21-tabs", labels(PHN.replace(" ", "\t"))),
    ("21-blank-lines", labels(f"\n{PHN.replace(chr(10), chr(10) * 2)}")),
    ("21-no-final-newline", labels(PHN[:-1])),
    ("21-byte-order-mark", labels("\ufeff" + PHN)),
    ("25-upper-case", labels(PHN.upper())),
    ("32-space", lambda root: (root / "TRAIN/DR1").rename(root / "TRAIN/DR 1")),
    ("32-unicode", lambda root: (root / "TRAIN/DR1").rename(root / "TRAIN/Straße")),
    ("32-quotes", lambda root: (root / "TRAIN/DR1").rename(root / 'TRAIN/it\'s "so"')),
    ("32-dash", lambda root: (root / "TRAIN/DR1").rename(root / "TRAIN/-n")),
    (
        "33-hidden",
        lambda root: [(root / HERE / n).write_text("?") for n in ("._SX1.WAV", ".DS_Store")],
    ),
    ("33-loop", lambda root: (root / HERE / "loop").symlink_to(root)),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=id) for id, change in HARMLESS])
def test_harmless(root: Path, change: Callable[[Path], Any]) -> None:
    change(root)
    first, second = prepared(root)["train"]
    assert (first.id, second.id) == ("fcjf0_sx1", "fcjf0_sx2")
    assert first.phones == PHONES
    assert first.segments is not None
    assert first.segments[-1].end_s == first.duration_s == SAMPLES / RATE
    assert not (root.parent / "exp/run/warnings.txt").exists()
    quantised = 32 if "U-Law" in soundfile.info(first.audio).subtype_info else 0.5
    np.testing.assert_allclose(32768 * audio.load(first.audio), noise(1), atol=quantised)


@pytest.mark.parametrize("channel", [None, 2])
def test_other_rates_and_channels_are_converted_once(
    root: Path, channel: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    rate = 44_100
    time = np.arange(SAMPLES * rate // RATE) / rate
    tones = [0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (440, 900)]
    samples(np.stack(tones, 1), rate)(root)
    scaled = [
        [*(str(int(n) * rate // RATE) for n in (a, b)), c]
        for a, b, c in map(str.split, PHN.splitlines())
    ]
    (root / LABELS).write_text("".join(" ".join(row) + "\n" for row in scaled))
    assert refused(root)
    first, second = prepared(root, resample=True, channel=channel)["train"]
    assert "1 recordings converted to 16000 Hz" in caplog.text
    folder = root.parent / "exp/run/audio"
    assert [Path(first.audio)] == list(folder.iterdir()) == [folder / "fcjf0_sx1.flac"]
    assert Path(second.audio).parent == root / HERE
    assert first.phones == second.phones
    for one, other in zip(first.segments or (), second.segments or (), strict=True):
        assert (one.start_s, one.end_s) == pytest.approx((other.start_s, other.end_s), abs=1e-4)
    waveform = audio.load(first.audio)
    assert len(waveform) == pytest.approx(SAMPLES, abs=1)
    spectrum = np.abs(np.fft.rfft(waveform))
    peaks = {440: 0.15, 900: 0.15} if channel is None else {900: 0.3}
    for hertz, peak in peaks.items():
        assert 2 / SAMPLES * spectrum[round(hertz * 0.3)] == pytest.approx(peak, rel=0.05)
    samples(noise(1))(root)
    (root / LABELS).write_text(PHN)
    prepared(root, resample=True)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("channel", "says"), [(3, "no channel 3"), (None, "truncated")])
def test_what_cannot_be_converted_is_named_and_leaves_nothing(
    root: Path, channel: int | None, says: str
) -> None:
    samples(np.stack([noise(1), noise(2)], 1))(root)
    if channel is None:
        (root / WAV).write_bytes((root / WAV).read_bytes()[:9000])
    (problem,) = refused(root, resample=True, channel=channel)
    assert problem.startswith(f"{root / WAV}: ")
    assert says in problem


WARNINGS: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "12-clipped",
        samples(np.clip(60 * noise(1).astype(int), -32768, 32767).astype(np.int16)),
        r"SX1\.WAV: clipped, \d\d\.\d\d% of the samples are at the extremes, -32768 and 32767",
    ),
    (
        "12-clipped-then-scaled",
        samples(np.clip(30 * noise(1), -15_000, 15_000)),
        r"SX1\.WAV: clipped, \d\d\.\d\d% of the samples are at the extremes, -15000 and 15000",
    ),
    (
        "12-offset",
        samples(noise(1) + np.int16(3277)),
        r"SX1\.WAV: the mean is \+(9|10)\.\d\d% of full scale",
    ),
    (
        "digital-silence",
        samples(np.where(np.arange(SAMPLES) < SAMPLES // 2, 0, noise(1)).astype(np.int16)),
        r"SX1\.WAV: 50\.0% of it is exactly 0 \(digital silence\); .* features\.dither_db=45",
    ),
    (
        "14-stream",
        raw(lambda b: data_size(b, 0xFFFFFFFF)),
        r"SX1\.WAV: the header does not say how much audio follows",
    ),
    (
        "19-gap",
        labels(PHN.replace("1000 2400", "1200 2400")),
        r"SX1\.PHN: no label for samples 1000 to 1200",
    ),
    (
        "19-gap-at-end",
        labels(PHN.replace("4800", "4000")),
        r"SX1\.PHN: no label for samples 4000 to 4800",
    ),
    (
        "30-same-audio-in-a-split",
        lambda root: shutil.copy(root / WAV, root / HERE / "SX2.WAV"),
        r"SX2\.WAV: the same samples as .*SX1\.WAV",
    ),
    (
        "30-same-words",
        same_words,
        r"SX\d\.WAV: the same words as .*; 1 sentences are in both test and train",
    ),
]


@pytest.mark.parametrize(("change", "says"), [pytest.param(*w[1:], id=w[0]) for w in WARNINGS])
def test_warned(root: Path, change: Callable[[Path], Any], says: str) -> None:
    change(root)
    assert prepared(root)["train"][0].phones == PHONES
    (warning,) = (root.parent / "exp/run/warnings.txt").read_text().splitlines()
    assert re.search(says, warning), warning


# ---------------------------------------------------------------- the run directory


def test_a_speaker_may_be_in_two_splits_where_it_is_meant(root: Path) -> None:
    speaker_twice(root)
    assert len(prepared(root, shared_speakers=True)["train"]) == 3


def test_what_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 34. Permissions do not stop root, so that the refusal of the system is played."""

    def denied(path: Path, mode: str = "r", **options: Any) -> Any:
        if str(path).endswith(WAV):
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode, **options)

    monkeypatch.setattr(shards, "open", denied, raising=False)
    (problem,) = refused(root)
    assert problem.endswith("SX1.WAV: cannot be read (Permission denied)")
    scan = os.scandir

    def unlistable(path: Any) -> Any:
        if str(path).endswith("FAKS0"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", unlistable)
    assert any("FAKS0: cannot be listed (Permission denied)" in line for line in refused(root))


@pytest.mark.parametrize("run_dir", ["/proc/run/1", "{root}/TRAIN/DR1/FCJF0/SX1.WAV/run"])
def test_where_nothing_can_be_written_nothing_is_read(
    root: Path, run_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 34."""
    monkeypatch.setattr(corpora, "find", lambda config: pytest.fail("read"))
    run_dir = run_dir.format(root=root)
    with pytest.raises(DataError, match=rf"^{run_dir}: cannot be written \(.*\); give another"):
        prepare.run(replace(config(root), run_dir=run_dir))


def test_row_55_a_bad_label_map_is_refused_and_kaldis_line_for_q_is_not(tmp_path: Path) -> None:
    rows = (Path(corpora.__file__).parents[1] / "tables" / "timit-phones.txt").read_text()
    lines = [line.split() for line in rows.splitlines() if line and not line.startswith("#")]
    kaldi = ["q" if row[0] == "q" else "\t".join(row) for row in lines]
    path = tmp_path / "kaldi.map"
    path.write_text("\n".join(kaldi))
    assert protocol("no-sil", path)
    path = tmp_path / "phones.map"  # a protocol is read once for a file
    for wrong, says in (
        ([line for line in kaldi if line.split()[0] != "zh"], "no line for zh"),
        ([*kaldi, kaldi[0]], r"map:62: .*line 1\b"),
        (["q\tsil" if line == "q" else line for line in kaldi], "expected 3 columns"),
        ([line.replace("\tjh", "\tch") for line in kaldi], "expected 48 classes .* found 47"),
    ):
        path.write_text("\n".join(wrong))
        with pytest.raises(DataError, match=says):
            protocol("no-sil", path)


FAULTS = [
    "01-riff",
    "02-no-samples",
    "03-text",
    "05-shorten",
    "06-8k",
    "07-slow",
    "08-stereo",
    "10-nan",
    "11-zeros",
    "14-block-size",
    "16-no-phn",
    "16-no-wav",
    "17-beyond",
    "18-overlap",
    "20-stress",
    "22-empty",
    "23-utf16",
    "24-htk",
    "26-too-many-phones",
    "16-broken-link",
]


def with_faults(root: Path) -> None:
    """Beside the sound speaker of train, one for each of FAULTS."""
    changes = {name: change for name, change, _ in ERRORS}
    for number, name in enumerate(FAULTS):
        for sentence in (1, 2):
            put(root / HERE, f"SX{sentence}", 100 + 2 * number + sentence)
        changes[name](root)
        (root / HERE).rename(root / f"TRAIN/DR2-FAULT{number:02d}")
    for sentence in (1, 2):
        put(root / HERE, f"SX{sentence}", sentence)


def test_twenty_faults_are_twenty_lines_of_one_report(root: Path) -> None:
    with_faults(root)
    run_dir = root.parent / "exp/run"
    run_dir.mkdir(parents=True)
    (run_dir / "vocabulary.txt").write_text("of an earlier run")
    problems = refused(root)
    assert len(problems) == len(FAULTS) == 20
    says = {name: says for name, _, says in ERRORS}
    for number, name in enumerate(FAULTS):
        (problem,) = [line for line in problems if f"FAULT{number:02d}/" in line]
        assert re.search(says[name], problem), problem
    assert (run_dir / "vocabulary.txt").read_text() == "of an earlier run"


def test_skip_bad_goes_on_and_keeps_a_list(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_faults(root)
    same_audio(root)
    splits = prepared(root, skip_bad=True)
    assert [len(splits[split]) for split in ("train", "dev", "test")] == [21, 2, 2]
    skipped = (root.parent / "exp/run/skipped.txt").read_text().splitlines()
    assert len(skipped) == 21
    assert "the same samples as" in skipped[-1]
    assert "21 problems, 21 recordings left out" in caplog.text
    shutil.rmtree(root / "TEST/DR1/FAKS0")
    with pytest.raises(DataError, match="the split 'dev' is empty"):
        prepare.run(config(root, skip_bad=True))


def test_no_file_is_named_that_is_not_there(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    same_words(root)  # a warning
    with_faults(root)
    for of_dev in (root / "TEST/DR1/FAKS0").glob("*.PHN"):
        of_dev.unlink()
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=r"the split 'dev' is empty; repair .*|problems:"):
            prepare.run(config(root, skip_bad=skip_bad))
        assert "the same words as" in caplog.text
        assert not re.search(r"\w+\.txt|run directory", caplog.text.replace(".TXT", ""))
        caplog.clear()
    put(root / "TEST/DR1/FAKS0", "SX1", 3)
    prepared(root, skip_bad=True)
    named = re.findall(r"/[^ ]*/run/\w+\.txt", caplog.text)
    assert {Path(one).name for one in named} == {"warnings.txt", "skipped.txt"}
    assert all(Path(one).exists() for one in named)


def test_skip_bad_is_an_option_too(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / LABELS).unlink()
    run_dir = root.parent / "run"
    overrides = [
        "experiment=timit",
        f"corpus.root={root}",
        "corpus.complete=false",
        f"run_dir={run_dir}",
    ]
    monkeypatch.setattr("sys.argv", ["prepare", *overrides])
    with pytest.raises(SystemExit) as exit:
        prepare.main()
    assert exit.value.code == 1
    assert not run_dir.exists()
    assert "SX1.WAV: has no .phn file beside it" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["prepare", "--skip-bad", *overrides])
    prepare.main()
    assert len((run_dir / "skipped.txt").read_text().splitlines()) == 1


def manifests_of(root: Path, **options: Any) -> dict[str, bytes]:
    prepare.run(config(root, **options))
    folder = root.parent / "exp/run/manifests"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_manifests_are_the_same_bytes_however_they_come_about(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        put(root / f"TRAIN/DR{number % 3}/M{number:03d}0", "SI1", 500 + number)
    once = manifests_of(root)
    assert manifests_of(root) == once
    walk = os.walk

    def shuffled(*arguments: Any, **options: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, subfolders, names in walk(*arguments, **options):
            random.Random(folder).shuffle(subfolders)
            random.Random(folder).shuffle(names)
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", shuffled)
    monkeypatch.setattr(manifests, "FEW", 0)
    monkeypatch.setattr(manifests, "CHUNK", 7)
    assert manifests_of(root, jobs=2) == once


def test_faults_are_found_in_other_processes_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_faults(root)
    alone = refused(root)
    monkeypatch.setattr(manifests, "FEW", 0)
    monkeypatch.setattr(manifests, "CHUNK", 1)
    assert refused(root, jobs=2) == alone


def _dies(*arguments: Any) -> Any:
    os._exit(1)


def test_a_killed_process_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "FEW", 0)
    result = corpora.find(config(root).corpus)
    with pytest.raises(DataError, match=r"killed while it checked .*SX1\.WAV to .*jobs=1"):
        manifests.write(result, root.parent, root.parent / "warnings", jobs=2, check=_dies)


def _sleeps(recording: Recording, split: str, corpus: Corpus) -> Checked:
    Path(corpus.name, str(os.getpid())).touch()
    time.sleep(1)
    return Checked(None)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc to see processes in")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork in a process with threads
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_command(
    root: Path, stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "FEW", 0)
    monkeypatch.setattr(manifests, "CHUNK", 1)
    pids = root.parent / "pids"
    pids.mkdir()
    result = replace(corpora.find(config(root).corpus), name=str(pids))
    command = multiprocessing.get_context("fork").Process(
        target=manifests.write,
        args=(result, root.parent, root.parent / "warnings", 2),
        kwargs={"check": _sleeps},
    )
    command.start()
    assert command.pid
    _wait_until(lambda: len(list(pids.iterdir())) == 2)
    os.kill(command.pid, stop)
    workers = [int(path.name) for path in pids.iterdir()]
    try:
        _wait_until(lambda: not any(map(_runs, [command.pid or 0, *workers])))
    finally:
        for pid in filter(_runs, workers):
            os.kill(pid, signal.SIGKILL)
        command.join()


@pytest.mark.parametrize("few", [0, 999])
def test_what_is_interrupted_leaves_the_earlier_files(
    root: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifests_of(root)
    put(root / HERE, "SX3", 3)
    monkeypatch.setattr(manifests, "FEW", few)
    monkeypatch.setattr(summary, "summarise", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare.run(config(root, jobs=2))
    run_dir = root.parent / "exp/run"
    assert sorted(path.name for path in run_dir.iterdir()) == ["manifests", "vocabulary.txt"]
    assert {p.name: p.read_bytes() for p in (run_dir / "manifests").iterdir()} == before


def test_an_earlier_lists_of_what_was_skipped_does_not_stay(root: Path) -> None:
    put(root / HERE, "SX3", 3, phn="")
    prepared(root, skip_bad=True)
    (root / HERE / "SX3.PHN").write_text(PHN)
    prepared(root)
    assert not (root.parent / "exp/run/skipped.txt").exists()


def test_the_data_of_a_model_are_not_exchanged(root: Path) -> None:
    before = manifests_of(root)
    (root.parent / "exp/run/checkpoint-last.safetensors").touch()
    assert manifests_of(root) == before
    put(root / HERE, "SX3", 3)
    (problem,) = refused(root)
    assert "holds a model trained on other data than train now has" in problem


def test_edited_manifests_are_not_overwritten(root: Path) -> None:
    before = manifests_of(root)
    path = root.parent / "exp/run/manifests/dev.jsonl"
    utterances = read_jsonl(path, Utterance)
    write_jsonl(path, [replace(u, segments=u.segments[:1]) for u in utterances if u.segments])
    assert manifests_of(root) == before  # times are those of the corpus, or of asr align
    write_jsonl(path, [replace(one, speaker="x") for one in utterances])
    edited = path.read_bytes()
    (problem,) = refused(root)
    assert re.search(r"dev\.jsonl: was edited.*--overwrite", problem)
    assert path.read_bytes() == edited
    assert manifests_of(root, overwrite=True) == before


def test_the_full_test_set_is_a_split_of_its_own(root: Path) -> None:
    put(root / "TEST/DR2/FDRD1", "SI1", 91)
    put(root / "TEST/DR2/FDRD1", "SA1", 92)
    splits = prepared(root, full_test=True)
    assert {split: len(members) for split, members in splits.items()} == {
        "train": 2,
        "dev": 2,
        "test": 2,
        "test-full": 5,
    }
    assert {u.speaker for u in splits["test-full"]} == {"faks0", "mdab0", "fdrd1"}
    assert splits["test-full"][0].split == "test-full"
    assert config(root, split="test-full")
    put(root / "TRAIN/DR2/FDRD1", "SI2", 93)
    (problem,) = refused(root, full_test=True)
    assert "speaker fdrd1 is in test-full, and in train" in problem


def test_the_corpus_is_described_in_words_and_in_a_picture(root: Path) -> None:
    prepared(root)
    folder = root.parent / "exp/run/manifests"
    text = (folder / "corpus.txt").read_text()
    assert re.search(r"^train +2 +1 +0\.00 +8 +0\.30 +0\.30 +0\.30$", text, re.MULTILINE)
    assert "rarest phones in train: hv 2, q 2, h# 4" in text
    assert "never in dev: aa ae" in text


def test_the_picture_is_drawn(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(root)
    monkeypatch.undo()
    paths = [root.parent / f"exp/run/manifests/{split}.jsonl" for split in ("train", "dev")]
    summary.draw(tmp_path / "corpus.png", [summary.summarise(path) for path in paths], PHONES[:3])
    assert (tmp_path / "corpus.png").read_bytes().startswith(b"\x89PNG")


def test_a_manifest_is_the_list_of_its_utterances(tones: list[Utterance], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", tones)
    manifest = pickle.loads(pickle.dumps(Manifest(tmp_path / "train.jsonl")))
    assert list(manifest) == tones
    assert manifest[-1] == tones[-1]
    assert manifest[2:5] == tones[2:5]
    assert list(manifest.durations) == [tone.duration_s for tone in tones]
    with pytest.raises(IndexError):
        manifest[len(tones)]
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"train\.jsonl:1: no key id"):
        Manifest(tmp_path / "train.jsonl")
