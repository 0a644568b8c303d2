"""Where nobody speaks there are no phones, and the detector of speech takes none from speech."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import recipe, tones_of

from asr import checkpoint
from asr.audio import load as audio_of
from asr.commands import transcribe
from asr.detector import EVIDENCE, WINDOWS_S, SpeechDetector, evidence
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.moments import DB_PER_NAT, PRIOR_VARIANCE, of_loud, of_speech
from asr.labels import textgrid
from asr.network import Model
from asr.transcriber import MODEL, Transcriber, load, load_model

RATE = 16_000


@pytest.fixture(scope="module")
def model() -> Model:
    packaged = load_model(MODEL)
    if packaged.detector is None:
        pytest.skip("the packaged model has no detector of speech")
    return packaged


@pytest.fixture(scope="module")
def noises() -> Any:
    return recipe("librispeech/noises")


def in_frames(seconds: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (T', 5) and log-mel values (T, 40), three of them for each of T'."""
    draw = np.random.default_rng(seed)
    frames = round(seconds / 0.03)
    logits = 3 * draw.standard_normal((frames, 5))
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32), draw.standard_normal((3 * frames, 40)).astype(np.float32)


# ── sounds without speech, and speech ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "kind", ["silence", "hum", "fan", "white", "pink", "brown", "room", "music", "engine"]
)
def test_a_sound_without_speech_has_no_phones(model: Model, noises: Any, kind: str) -> None:
    sound = noises.excerpt(np.random.default_rng(7), kind, 12 * RATE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("warnings.warn", lambda *_, **__: None)
        assert Transcriber(model).transcribe(sound, RATE).phones == ()


def test_speech_keeps_its_phones_and_gets_none_from_the_silence_beside_it(
    model: Model, shared: Path
) -> None:
    path = min((shared / "corpora/LibriSpeech/dev-part").rglob("*0003.*"))
    speech = audio_of(str(path), RATE)[: 4 * RATE]
    quiet = np.zeros(10 * RATE, np.float32)
    undetected = Transcriber(model._replace(detector=None)).transcribe(speech, RATE)
    detected = Transcriber(model).transcribe(speech, RATE)
    assert [one.phone for one in detected.phones] == [one.phone for one in undetected.phones]
    assert len(detected.phones) > 10
    with pytest.warns(UserWarning, match="exactly 0"):
        longer = Transcriber(model).transcribe(np.concatenate([speech, quiet]), RATE)
    assert abs(len(longer.phones) - len(detected.phones)) <= 2
    assert longer.phones[-1].end_s < len(speech) / RATE


# ── the detector ─────────────────────────────────────────────────────────────────────────────


def test_the_bias_alone_passes_all_or_nothing() -> None:
    emissions, static = in_frames(3.0)
    nothing = [0.0] * EVIDENCE
    passed = SpeechDetector(nothing, 1.0).gate(emissions, static, 0.03)
    np.testing.assert_array_equal(passed, emissions)
    gated = np.exp(SpeechDetector(nothing, -1.0).gate(emissions, static, 0.03))
    np.testing.assert_array_equal(gated[:, 0], np.ones(100))
    assert (gated[:, 1:] == 0).all()


def test_hidden_units_are_tanh_of_what_is_known() -> None:
    known = np.random.default_rng(0).standard_normal((7, EVIDENCE))
    first = [1.0] + [0.0] * (EVIDENCE - 1)
    hidden = [[*first, 0.5], [*(-2 * one for one in first), 0.0]]
    odds = SpeechDetector([3.0, 1.0], -0.25, hidden).odds(known)
    expected = 3 * np.tanh(known[:, 0] + 0.5) + np.tanh(-2 * known[:, 0]) - 0.25
    assert np.allclose(odds, expected)
    with pytest.raises(ValueError, match="needs 27 numbers"):
        SpeechDetector([3.0, 1.0], -0.25, [first, first])


def test_evidence_depends_on_what_is_near_alone() -> None:
    log_probs, static = in_frames(10.0)
    others = in_frames(10.0, seed=1)
    near = slice(0, round((5 + max(WINDOWS_S) / 2) / 0.03) + 2)
    for part, other in zip((log_probs, static), others, strict=True):
        scale = len(part) // len(log_probs)
        part[near.stop * scale :] = other[near.stop * scale :]
    first = evidence(*in_frames(10.0), 0.03)
    assert first.shape == (len(log_probs), EVIDENCE)
    changed = evidence(log_probs, static, 0.03)
    half = round(5 / 0.03)
    assert np.allclose(changed[:half], first[:half])
    assert not np.allclose(changed[-half:], first[-half:])


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_evidence_of_any_input_is_finite(frames: int) -> None:
    certain = np.full((frames, 5), -1e4, np.float32)
    certain[:, 0] = 0.0
    for log_probs in (certain, certain[:, ::-1]):
        assert np.isfinite(evidence(log_probs, np.zeros((3 * frames, 40), np.float32), 0.03)).all()


def test_the_detector_is_part_of_the_file(tone_model: Path, tmp_path: Path) -> None:
    tones = checkpoint.load(tone_model)
    deaf = SpeechDetector([0.5] + [0.0] * (EVIDENCE - 1), -100.0)
    checkpoint.save(tmp_path / "deaf.safetensors", replace(tones, detector=deaf))
    assert checkpoint.load(tmp_path / "deaf.safetensors").detector == deaf
    sound = tones_of(("aa", "s", "m"))
    assert load(tone_model).transcribe(sound, RATE).phones
    assert load(tmp_path / "deaf.safetensors").transcribe(sound, RATE).phones == ()
    short = replace(deaf)
    object.__setattr__(short, "weights", [0.5])
    checkpoint.save(tmp_path / "short.safetensors", replace(tones, detector=short))
    with pytest.raises(DataError, match=r"short\.safetensors.*1 weights.*expected 26"):
        checkpoint.load(tmp_path / "short.safetensors")


# ── the prior of the moments ─────────────────────────────────────────────────────────────────


def test_a_prior_counts_as_some_frames_of_the_variance() -> None:
    config = FeaturesConfig(bins=8, deltas=0, energy=False, normalization="active", active_db=1e3)
    prior = np.linspace(-4, -3, 8), np.full(8, 2.0)
    draw = np.random.default_rng(0)
    for frames in (30, 6000):
        speech = draw.standard_normal((frames, 8)).astype(np.float32)
        every = np.ones(frames, bool)
        mean, std = of_loud(speech, every, config)
        same_mean, wider = of_loud(speech, every, config, prior)
        np.testing.assert_array_equal(same_mean, mean)
        share = PRIOR_VARIANCE / (PRIOR_VARIANCE + frames)
        expected = (1 - share) * np.square(std) + share * np.square(prior[1])
        np.testing.assert_allclose(np.square(wider), expected)
        _, same = of_loud(speech + 5, every, config, prior)
        np.testing.assert_allclose(same, wider, atol=1e-4)


def test_moments_are_those_of_speech_where_noise_is_as_loud() -> None:
    config = FeaturesConfig(bins=8, deltas=0, energy=False, normalization="active", active_db=30)
    frames = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    speech = np.zeros(1000, bool)
    speech[300:400] = True
    alone = of_loud(frames[300:400], speech[300:400], config)
    for noise_db in (-20, 0, 40):
        noisy = frames + ~speech[:, None] * noise_db / DB_PER_NAT
        moments = of_speech(noisy, speech, config)
        assert moments is not None
        assert all(np.allclose(*pair) for pair in zip(moments, alone, strict=True))
    assert of_speech(frames[280:400], speech[280:400], config) is None
    assert of_speech(frames, np.zeros_like(speech), config) is None
    quiet = frames - ~speech[:, None] * 60 / DB_PER_NAT
    assert of_speech(quiet, speech, config) is None


def test_frames_beside_labels_are_those_of_each_static_frame() -> None:
    log_probs = np.full((100, 5), -1e4, np.float32)
    log_probs[:, 0] = 0.0
    log_probs[40, :2] = -1e4, 0.0
    always = SpeechDetector([0.0] * EVIDENCE, 1.0)
    for frames in (298, 299, 300):
        beside = always.beside_labels(log_probs, np.zeros((frames, 40)), 0.03)
        assert len(beside) == frames
        assert np.flatnonzero(beside)[[0, -1]].tolist() == [3 * (40 - 15), 3 * (40 + 15) + 2]
    never = SpeechDetector([0.0] * EVIDENCE, -1.0)
    assert not never.beside_labels(log_probs, np.zeros((300, 40)), 0.03).any()


# ── what is said of a file without speech ────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_silent_file_is_a_result(
    tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.full(3 * RATE, value), RATE)
    options = [str(path), "--checkpoint", str(tone_model)]
    assert transcribe.main(options) == 0
    printed = capsys.readouterr()
    assert printed.out == f"# {path}, 3.00 s: no speech found\n"
    assert f"{path}: no speech found" in printed.err
    assert transcribe.main([*options, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["phones"] == []
    assert record["duration_s"] == 3.0
    assert transcribe.main([*options, "--output", str(tmp_path / "silent.TextGrid")]) == 0
    tiers = textgrid.read_tiers(tmp_path / "silent.TextGrid")
    assert [tier.name for tier in tiers] == ["phones", "confidences"]
    assert [[tuple(row)[-3:] for row in tier.intervals or ()] for tier in tiers]
    with pytest.warns(UserWarning, match="^the array: ") as given:
        transcript = load(tone_model).transcribe(np.full(3 * RATE, value), RATE)
    assert (transcript.phones, transcript.duration_s) == ((), 3.0)
    of_file = [line.removeprefix("warning: ") for line in printed.err.splitlines()]
    of_array = [f"{one.message}".replace("the array", str(path)) for one in given]
    assert of_file[:1] == of_array
    assert [one.split(",")[0] for one in of_file] == [
        f"{path}: silent",
        f"{path}: no speech found",
    ]
    with pytest.warns(UserWarning, match=r"silent\.wav: ") as given:
        load(tone_model).transcribe(path)
    assert [f"{one.message}" for one in given] == of_file[:1]


@pytest.mark.parametrize("level", [1e-8, 1e-5, 1.5e-5, 1e-4, 1e-3])
def test_the_quieter_a_sound_the_surer_its_warning(
    tone_model: Path, tmp_path: Path, level: float
) -> None:
    sound = level * tones_of(("aa", "s", "m"))
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    said: list[str] = []
    load(tone_model).transcribe_file(path, said.append)
    assert "quiet" in said[0] or "nearly silent" in said[0]
    assert not any("exactly 0" in one for one in said)
    with pytest.warns(UserWarning, match="^the array: ") as given:
        load(tone_model).transcribe(sound.astype(np.float32), RATE)
    assert [f"{one.message}".replace("the array", str(path)) for one in given] == said


def test_integers_of_a_smaller_type_are_told_from_quiet_sound(tone_model: Path) -> None:
    sound = tones_of(("aa", "s", "m"))
    for bits in (16, 24):
        integers = np.round(sound * 2 ** (bits - 1)).astype(np.int32)
        with pytest.warns(UserWarning, match="^the array: ") as given:
            load(tone_model).transcribe(integers, RATE)
        advice = f"{bits} bits, multiply them by {2 ** (32 - bits)}"
        assert f"{given[0].message}".endswith(advice)
        assert "quiet" in f"{given[1].message}" or bits == 24
        scaled = load(tone_model).transcribe(integers * 2 ** (32 - bits), RATE)
        assert scaled.phones


@pytest.mark.parametrize("name", ["new\nline", "cr\rlf", "esc\x1b[31m", "sep\u2028", "tab\t"])
def test_a_name_with_control_characters_is_one_line(
    tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, np.stack([tones_of(("aa", "s", "m"))] * 2, 1), RATE)
    soundfile.write(tmp_path / f"0{name}.wav", np.zeros(RATE), RATE)
    (tmp_path / f"9{name}.wav").write_bytes(b"")
    options = ["--checkpoint", str(tone_model)]
    assert transcribe.main([str(tmp_path), *options]) == 1
    printed = capsys.readouterr()
    called = f"{tmp_path}/{ascii(name)[1:-1]}.wav"
    assert f"# {called}, " in printed.out
    assert f"warning: {called}: 2 channels" in printed.err
    assert "9" + called.rpartition("/")[2] in printed.err.replace(f"{tmp_path}/", "")
    for text in (printed.out, printed.err):
        assert all(line.isprintable() for line in text.split("\n"))
        assert all(
            line.startswith(("#", " ", "warning: ", "error: ", "1 of 3")) or not line
            for line in text.split("\n")
        )
    assert transcribe.main([str(path), *options, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(path)
    assert transcribe.main([f"{path}.absent", *options]) == 1
    assert capsys.readouterr().err == f"error: {called}.absent: no such file\n"


def test_a_silent_file_of_another_rate_has_its_own_duration(
    tone_model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(44_100), 44_100)
    result = load(tone_model).transcribe_file(tmp_path / "a.flac", lambda _: None)
    assert (result.duration_s, result.phones) == (1.0, ())
