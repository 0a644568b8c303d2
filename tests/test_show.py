"""`asr show` and `asr report`: pages and pictures, or one sentence for bad input and no file."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr import checkpoint, pictures
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.checkpoint import Checkpoint
from asr.commands import report, show
from asr.commands.configured import compose
from asr.criteria import CTCConfig
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.pictures.speech import augmented, panels
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Segment, Utterance, write_jsonl

PNG = b"\x89PNG\r\n\x1a\n"


def voice(seconds: float, rate: int = 16_000, seed: int = 1) -> np.ndarray:
    """A buzz with noise, loud and soft in turn."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = np.sign(np.sin(2 * np.pi * 120 * time)) * (1 + np.sin(2 * np.pi * 3 * time))
    return 0.1 * buzz + 0.01 * np.random.default_rng(seed).standard_normal(len(time))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A second of sound with labels beside it."""
    path = tmp_path / "SA1.WAV"
    soundfile.write(path, voice(1.0), 16_000, format="WAV")
    (tmp_path / "SA1.PHN").write_text("0 4000 h#\n4000 5000 ix\n5000 5600 dcl\n5600 16000 aa\n")
    return path


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# ---------------------------------------------------------------- pages and pictures


def test_a_page_has_a_player_and_a_picture_and_needs_nothing_else(
    sound: Path, tmp_path: Path
) -> None:
    assert show.main([str(sound), "--output", str(tmp_path / "show.html")]) == 0
    page = (tmp_path / "show.html").read_text()
    assert page.count("<audio") == page.count("<img") == 1
    assert f"{sound}: 1.00 s at 16000 Hz." in page
    assert f"Phones: {tmp_path / 'SA1.PHN'}." in page
    assert not re.search(r"(src|href)=.(?!data:)", page)


def test_a_page_shows_each_kind_of_augmentation(sound: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    soundfile.write(other, voice(0.8, seed=2), 16_000)
    show.run([sound, other], tmp_path / "show.html", augment=True)
    page = (tmp_path / "show.html").read_text()
    for kind in (
        "as recorded",
        *("speed 0.9", "speed 1.1", "VTLP", "coloured noise", "babble", "reverberation", "masks"),
    ):
        assert len(re.findall(f"<h3>{kind}", page)) == 2
    assert page.count("<img") == 2 * (1 + 8)
    assert page.count("<audio") == 2 * (1 + 5)  # VTLP and masks cannot be heard


@pytest.mark.parametrize("features", ["fbank123", "mfcc39", "librosa80", "librosa-mfcc39"])
def test_a_picture_is_one_png_for_all_files(features: str, sound: Path, tmp_path: Path) -> None:
    one = show.run([sound], tmp_path / "one.png", features).read_bytes()
    two = show.run([sound, sound], tmp_path / "two.png", features).read_bytes()
    assert one.startswith(PNG)
    width, height = (int.from_bytes(one[at : at + 4], "big") for at in (16, 20))
    assert two[16:24] == width.to_bytes(4, "big") + (2 * height).to_bytes(4, "big")


def test_four_seconds_are_less_than_two_megabytes(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal(64_000)  # nothing is larger
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    page = show.run([tmp_path / "noise.wav"], tmp_path / "show.html", augment=True)
    assert page.stat().st_size < 2e6


@pytest.mark.parametrize("seconds", [0.025, 0.1, 12.0])
def test_any_length_of_an_utterance_will_do(seconds: float, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(seconds), 16_000)
    picture = show.run([tmp_path / "a.wav"], tmp_path / "a.png", augment=seconds < 1)
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.lab", "0.0 0.5 pau\n0.5 1.0 schwa\n"),
        (
            "a.TextGrid",
            'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0 1 <exists> 1 '
            '"IntervalTier" "phones" 0 1 2 0 0.5 "pau" 0.5 1 "schwa"\n',
        ),
    ],
)
def test_labels_beside_the_audio_are_found(name: str, text: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0), 16_000)
    (tmp_path / name).write_text(text)
    page = show.run([tmp_path / "a.wav"], tmp_path / "show.html").read_text()
    assert f"Phones: {tmp_path / name}." in page


def test_audio_without_labels_is_shown_without(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0), 16_000)
    page = show.run([tmp_path / "a.wav"], tmp_path / "show.html").read_text()
    assert "No labels beside it." in page


def test_a_name_is_no_html_and_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "<b>$x^$.wav"
    soundfile.write(path, voice(1.0), 16_000)
    page = show.run([path], tmp_path / "show.html").read_text()
    assert "&lt;b&gt;$x^$.wav" in page
    assert "<b>" not in page
    show.run([path], tmp_path / "show.png")


# ---------------------------------------------------------------- manifests


@pytest.fixture
def manifest(sound: Path, tmp_path: Path) -> Path:
    segments = (Segment("aa", 0.0, 0.5), Segment("iy", 0.5, 1.0))
    timed = Utterance("faab0_sx1", str(sound), 1.0, "faab0", ("aa", "iy"), segments)
    write_jsonl(tmp_path / "test.jsonl", [timed, replace(timed, id="faab0_sx2", segments=None)])
    return tmp_path / "test.jsonl"


def test_utterances_of_a_manifest_come_with_its_phones(manifest: Path, tmp_path: Path) -> None:
    arguments = ["--manifest", str(manifest), "--output", str(tmp_path / "show.html")]
    for id_ in ("faab0_sx2", "faab0_sx1"):
        arguments += ["--utterance", id_]
    assert show.main(arguments) == 0
    page = (tmp_path / "show.html").read_text()
    assert page.index("<h2>faab0_sx2") < page.index("<h2>faab0_sx1")
    assert page.count("Phones, without times: aa iy.") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--utterance", "faab0_sx11"], "no utterance 'faab0_sx11'; did you mean 'faab0_sx1'?"),
        ([], "2 utterances; choose one or more, for example --utterance faab0_sx1"),
    ],
)
def test_an_utterance_that_is_not_there_is_named_with_the_nearest(
    arguments: list[str],
    sentence: str,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = ["--output", str(tmp_path / "show.html")]
    assert show.main(["--manifest", str(manifest), *arguments, *output]) == 1
    assert capsys.readouterr().err == f"error: {manifest}: {sentence}\n"


# ---------------------------------------------------------------- the page of a run


@pytest.fixture
def finished(sound: Path, tmp_path: Path) -> Path:
    """The folder of a finished run whose names would be HTML."""
    run = tmp_path / "run"
    (run / "manifests").mkdir(parents=True)
    segments = (Segment("a<&", 0.0, 0.5), Segment("iy", 0.5, 1.0))
    odd = Utterance("<b>&1", str(sound), 1.0, "s", ("a<&", "iy"), segments, "synthetic", "test")
    others = [replace(odd, id=f"other{n}", duration_s=duration) for n, duration in ((1, 2), (2, 3))]
    write_jsonl(run / "manifests" / "test.jsonl", [*others, odd])
    hypotheses = [Hypothesis(one.id, ("iy", "<i>")) for one in (odd, *others)]
    write_jsonl(run / "test.hyp.jsonl", hypotheses)
    encoder = EncoderConfig(hidden=4, layers=1)
    config = RecognizerConfig(FeaturesConfig(bins=20, deltas=0), encoder, CTCConfig())
    recognizer = Recognizer(config, Vocabulary(["a<&", "iy"])).eval()
    checkpoint.save(run / "checkpoint-best.safetensors", Checkpoint(recognizer, {}))
    (run / "test.per.txt").write_text("%PER 12.34 <x> & y\nall of it\n")
    training = {"experiment": "a&b", "seed": 1, "corpus": "<c>", "dev_per": 1.234, "epochs": 9}
    training |= {"best_epoch": 3, "parameters": 12345, "seconds": 61.2, "device": "cpu"}
    training |= {"machine": "m<1>", "version": "1", "torch": "2"}
    (run / "training.json").write_text(json.dumps(training))
    (run / "learning-curve.png").write_bytes(PNG)
    return run


def test_a_report_has_its_numbers_and_its_names_are_no_html(finished: Path) -> None:
    assert report.main([str(finished), "--utterance", "<b>&1"]) == 0
    page = (finished / "report.html").read_text()
    for text in (
        *("a&amp;b, seed 1", "&lt;b&gt;&amp;1", "&lt;c&gt;", "m&lt;1&gt;", "Synthetic speech"),
        *("%PER 12.34 &lt;x&gt; &amp; y", "1.23 %", "3 of 9", "12,345", "61 s on cpu"),
    ):
        assert text in page
    assert not re.search(r"<[bcx1]>|(src|href)=.(?!data:)", page)
    assert page.count("<audio") == 1
    assert page.count("<img") == 2
    assert (finished / "utterance.png").read_bytes().startswith(PNG)


def test_a_report_shows_the_median_utterance(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = report.run(finished).read_text()
    assert "One utterance of the test set: other1" in page
    assert report.main([str(finished), "--utterance", "none"]) == 1
    assert "test.jsonl: no utterance 'none'" in capsys.readouterr().err
    (finished / "test.per.txt").unlink()
    assert report.main([str(finished)]) == 1
    assert "test.per.txt" in capsys.readouterr().err


# ---------------------------------------------------------------- bad input


def write(samples: np.ndarray, rate: int = 16_000, subtype: str = "PCM_16") -> Callable[..., None]:
    return lambda path: soundfile.write(path, samples, rate, subtype=subtype)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "is a folder, expected an audio file"),
    "empty": (lambda path: path.touch(), "not a readable audio file, it holds 0 bytes"),
    "text": (lambda path: path.write_text("speech " * 99), "not a readable audio file"),
    "no samples": (write(np.zeros(0)), "no audio, the file holds zero samples"),
    "silence": (write(np.zeros(16_000)), "silent, all 16000 samples are 0"),
    "short": (write(voice(0.024)), "384 samples, expected at least one window of 400 (25 ms)"),
    "long": (write(voice(61.0)), "61 s, expected at most 60 s"),
    "NaN": (write(np.append(voice(1.0), np.nan), subtype="FLOAT"), "sample 16000 is nan"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_gets_one_sentence_and_nothing_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, sentence = BAD[kind]
    make(tmp_path / "bad.wav")
    before = files(tmp_path)
    for ending in (".html", ".png"):
        output = tmp_path / f"show{ending}"
        assert show.main([str(tmp_path / "bad.wav"), "--output", str(output)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {tmp_path / 'bad.wav'}: {sentence}")
        assert said.count("\n") == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1)])
def test_what_transcribe_takes_is_shown_with_what_was_changed(
    rate: int, channels: int, tmp_path: Path
) -> None:
    samples = np.stack([voice(1.0, rate), 0.5 * voice(1.0, rate)][:channels], 1)
    soundfile.write(tmp_path / "any.flac", samples, rate)
    output = show.run([tmp_path / "any.flac"], tmp_path / "show.html")
    assert f"resampled from {rate} Hz" in output.read_text()
    with pytest.raises(DataError, match="already exists"):
        show.run([tmp_path / "any.flac"], output)
    show.run([tmp_path / "any.flac"], output, overwrite=True, channel=1)


def test_all_that_is_wrong_is_said_at_once(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SA1.PHN").write_text("0 4000 h#\n4000 aa\n")
    arguments = [str(sound), str(tmp_path / "gone.wav"), "--output", str(tmp_path / "show.html")]
    assert show.main(arguments) == 1
    said = capsys.readouterr().err
    assert "SA1.PHN:2: found '4000 aa'" in said
    assert "gone.wav: no such file" in said
    assert not (tmp_path / "show.html").exists()


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sound.png"
    soundfile.write(path, voice(1.0), 16_000, format="WAV")
    before = path.read_bytes()
    (tmp_path / "link.png").hardlink_to(path)
    for output in (path, tmp_path / "link.png"):
        with pytest.raises(DataError, match="is one of the inputs"):
            show.run([path], output)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "sentence"),
    [("show.pdf", "ends in .html or .png"), ("folder.png", "is a folder")],
)
def test_output_that_cannot_be_is_refused_first(
    output: str, sentence: str, sound: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=sentence):
        show.run([sound], tmp_path / output)


def test_output_that_cannot_be_written_is_one_sentence(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main([str(sound), "--output", "/proc/show.html"]) == 1
    assert re.fullmatch(r"error: /proc/\S+: .+\n", capsys.readouterr().err)


def test_unknown_features_are_named_with_the_nearest(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show.main([str(sound), "--features", "fbank132"]) == 1
    assert "no such option; did you mean 'fbank123'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a.wav", "--utterance", "x"]])
def test_wrong_use_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        show.main(arguments)
    assert error.value.code == 2


# ---------------------------------------------------------------- what is drawn


def test_versions_are_what_they_are_called() -> None:
    config = compose(["features=fbank123"])
    waveform, other = (torch.from_numpy(voice(1.0, seed=s)).float() for s in (1, 2))
    versions = augmented(waveform, [other], config.features, config.mel_bins)
    made = {version.kind.split(",")[0]: version for version in versions}
    assert len(made["speed 0.9"].waveform) == -(-16_000 * 10 // 9)
    assert len(made["speed 1.1"].waveform) == -(-16_000 * 10 // 11)
    for kind in ("coloured noise", "babble of the other files"):
        added = made[kind].waveform - waveform
        assert 10 * torch.log10(waveform.var() / added.var()) == pytest.approx(10, abs=0.1)
    recorded = made["as recorded"].frames
    warped, masked = made["VTLP 1.1 (frames only)"].frames, made["masks (frames only)"].frames
    assert not torch.equal(warped, recorded)
    changed = (masked - recorded).abs() > 1e-4
    mean = recorded.mean(dim=0).expand_as(recorded)
    assert 0 < changed.double().mean() < 0.7
    torch.testing.assert_close(masked[changed], mean[changed])
    config = compose(["features=mfcc39"])
    *_, masked_cepstra = augmented(waveform, [], config.features, config.mel_bins)
    assert not masked_cepstra.frames.isnan().any()


def test_labels_that_would_touch_are_in_different_rows() -> None:
    rng = np.random.default_rng(1)
    edges = np.sort(rng.uniform(0, 3, 60))
    names = ["h#", "ax-h", "dcl", "iy", "s"]
    segments = [Segment(names[n % 5], start, end) for n, (start, end) in enumerate(pairwise(edges))]
    figure, (axes,) = panels(3.0, 2.2, (1.0,), 2.0)
    labels = pictures.Labels.of(segments, 2.2)
    labels.write(axes)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    for n, box in enumerate(boxes):
        assert not any(box.overlaps(after) for after in boxes[n + 1 :])
    highest = max(box.y1 for box in boxes) - axes.get_window_extent().y1
    assert highest / figure.dpi <= labels.inches + 1 / 72
    assert pictures.Labels([], 2.2).inches < pictures.Labels.of(segments[:1], 2.2).inches
