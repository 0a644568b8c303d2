"""The phones of any recording: formats, rates, lengths, bad files, and where a recording is cut."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import normalized, tones_of
from hypothesis import given
from hypothesis import strategies as st

from asr import audio, checkpoint, labels
from asr import transcriber as transcriber_module
from asr.audio import Waveform
from asr.batch import Batch
from asr.by_torch import in_use
from asr.checkpoint import Checkpoint
from asr.commands import transcribe
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.labels import textgrid
from asr.records import Hypothesis, Segment
from asr.transcriber import MODEL, REACH_S, Piece, Transcriber, load, pieces, placed

PHONES = ("aa", "s", "m", "iy", "aa", "m")
TONE_S = 0.15


def said(printed: str) -> list[list[str]]:
    """The phones of each transcript in text format."""
    return [
        line.rpartition(": ")[2].split() for line in printed.splitlines() if line.startswith("#")
    ]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "my speech.wav"
    soundfile.write(path, tones_of(PHONES), 16_000)
    return path


# ── transcripts ──────────────────────────────────────────────────────────────────────────────


def test_phones_come_with_their_times_and_confidence(speech: Path, tone_model: Path) -> None:
    result = load(tone_model).transcribe_file(speech, pytest.fail)
    assert tuple(one.phone for one in result.phones) == PHONES
    assert result.duration_s == pytest.approx(TONE_S * len(PHONES), abs=1e-3)
    for number, one in enumerate(result.phones):
        assert number * TONE_S < (one.start_s + one.end_s) / 2 < (number + 1) * TONE_S
        assert 0 < one.end_s - one.start_s <= 2 * REACH_S + 1e-3
        assert 0 < one.confidence <= 1


@pytest.mark.parametrize(
    ("name", "rate", "channels", "says"),
    [
        ("eight.wav", 8_000, 1, "resampled from 8000 Hz to 16000 Hz, nothing above 4000 Hz"),
        ("cd.wav", 44_100, 2, "2 channels mixed into one, resampled from 44100 Hz to 16000 Hz"),
        ("song.mp3", 44_100, 2, "2 channels mixed into one, resampled from 44100 Hz"),
        ("high.flac", 48_000, 1, "resampled from 48000 Hz"),
        ("call.ogg", 16_000, 1, None),
        ("twice.flac", 16_000, 2, "2 channels mixed into one"),
    ],
)
def test_any_format_and_rate_is_heard_and_what_was_changed_is_said_once(
    tmp_path: Path,
    tone_model: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    rate: int,
    channels: int,
    says: str | None,
) -> None:
    path = tmp_path / name
    one = tones_of(PHONES, rate)
    soundfile.write(path, one if channels == 1 else np.stack([one, one], axis=1), rate)
    assert transcribe.main([str(path), "--checkpoint", str(tone_model)]) == 0
    printed = capsys.readouterr()
    assert said(printed.out) == [list(PHONES)]
    warnings = printed.err.splitlines()
    assert len(warnings) == (says is not None)
    assert not says or f"warning: {path}: {says}" in warnings[0]


def test_one_channel_of_two_is_not_lost(tmp_path: Path, tone_model: Path) -> None:
    one = tones_of(PHONES)
    soundfile.write(tmp_path / "left.wav", np.stack([one, 0 * one], axis=1), 16_000)
    blocks = audio.stream(tmp_path / "left.wav", 16_000, 400, str)
    np.testing.assert_allclose(np.concatenate(list(blocks)), one / 2, atol=2e-5)


def test_a_stream_is_what_load_reads_and_resampling_knows_no_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "BLOCK", 1000)
    speech = tones_of(PHONES)
    soundfile.write(tmp_path / "a.wav", speech, 16_000)
    streamed = np.concatenate(list(audio.stream(tmp_path / "a.wav", 16_000, 400, pytest.fail)))
    np.testing.assert_array_equal(streamed, audio.load(tmp_path / "a.wav"))
    soundfile.write(tmp_path / "b.wav", tones_of(PHONES, 44_100), 44_100, subtype="FLOAT")
    streamed = np.concatenate(list(audio.stream(tmp_path / "b.wav", 16_000, 400, str)))
    oracle = soxr.resample(tones_of(PHONES, 44_100), 44_100, 16_000)
    assert abs(len(streamed) - len(oracle)) <= 1
    size = min(len(streamed), len(oracle))
    np.testing.assert_allclose(streamed[:size], oracle[:size], atol=1e-5)


@pytest.mark.parametrize("normalization", ["speaker", "utterance", "sliding"])
def test_every_normalisation_is_at_hand(speech: Path, tone_model: Path, normalization: str) -> None:
    recognizer = normalized(tone_model, normalization)
    transcriber = Transcriber(in_use(Checkpoint(recognizer)))
    assert transcriber.transcribe_file(speech, pytest.fail).phones
    with pytest.warns(UserWarning, match="the array: silent"):
        assert transcriber.transcribe(np.zeros(16_000), 16_000).phones == ()


@pytest.mark.parametrize("normalization", ["speaker", "utterance", "sliding"])
def test_files_of_one_speaker_are_normalised_together(
    tmp_path: Path, tone_model: Path, normalization: str
) -> None:
    sounds = [loudness * tones_of(PHONES[:last]) for last, loudness in ((2, 0.2), (6, 1), (4, 3))]
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path, sound in zip(paths, sounds, strict=True):
        soundfile.write(path, sound, 16_000, subtype="FLOAT")
    absent = tmp_path / "absent.wav"
    transcriber = Transcriber(in_use(Checkpoint(normalized(tone_model, normalization))))
    alone = [transcriber.transcribe_file(path, pytest.fail).phones for path in paths]
    moments = transcriber.one_speaker(
        transcriber.blocks(path, pytest.fail) for path in [paths[0], absent, *paths[1:]]
    )

    plain = Features(replace(transcriber.config.features, normalization="none"))
    batches = [Batch.of([torch.from_numpy(sound)]) for sound in sounds]
    frames = torch.cat([plain(batch)[0][0] for batch in batches]).double()
    assert moments is not None
    mean, std = map(torch.from_numpy, moments)
    torch.testing.assert_close(mean, frames.mean(0).float())
    torch.testing.assert_close(std, frames.std(0, correction=0).float())
    together = [transcriber.transcribe_file(path, pytest.fail, moments).phones for path in paths]
    assert together != alone
    assert alone == [transcriber.transcribe_file(path, pytest.fail).phones for path in paths]
    with pytest.raises(DataError, match=r"absent\.wav"):
        transcriber.transcribe_file(absent, pytest.fail, moments)


@pytest.mark.parametrize("normalization", ["global", "active"])
def test_one_speaker_is_nothing_to_a_model_that_must_not_be_normalised_otherwise(
    normalization: str,
    speech: Path,
    tone_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model.safetensors"
    checkpoint.save(model, Checkpoint(normalized(tone_model, normalization)))
    assert transcribe.main([str(speech), "--one-speaker", "--checkpoint", str(model)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"features.normalization={normalization}" in printed.err


# ── formats ──────────────────────────────────────────────────────────────────────────────────


def test_json_and_textgrid_hold_what_text_says(
    speech: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("text", "json", "textgrid"):
        arguments = [str(speech), "--checkpoint", str(tone_model), "--format", name]
        assert transcribe.main([*arguments, "--output", str(tmp_path / "out")]) == 0
        assert transcribe.main(arguments) == 0
    printed = capsys.readouterr().out
    stem = tmp_path / "out" / "my speech"
    text, parsed, grid = (stem.with_suffix(s) for s in (".txt", ".json", ".TextGrid"))
    assert printed == "".join(path.read_text() for path in (text, parsed, grid))
    result = json.loads(parsed.read_text())
    assert result["file"] == str(speech)
    rows = [line.split() for line in text.read_text().splitlines()[1:]]
    assert [row[2] for row in rows] == [one["phone"] for one in result["phones"]] == list(PHONES)
    times = [(one["start_s"], one["end_s"], one["phone"]) for one in result["phones"]]
    read = [(one.start_s, one.end_s, one.phone) for one in labels.read(grid)]
    assert read == times
    (_, phones), (name, confidences) = textgrid.read_tiers(grid)
    assert name == "confidences"
    assert phones is not None
    assert confidences is not None
    assert phones[-1].end == result["duration_s"]
    assert [one[1:3] for one in phones] == [one[1:3] for one in confidences]
    assert all(a.end == b.start for a, b in pairwise(phones))


def test_praat_reads_the_textgrid(tmp_path: Path) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    path = tmp_path / "a.TextGrid"
    segments = [Segment('q"uote', 0.1, 0.25), Segment("aa", 0.25, 0.5), Segment("ʃ", 0.75, 1.0)]
    path.write_text(textgrid.text_of({"phones": segments}, 1.0), encoding="utf-8")
    read = praatio.openTextgrid(str(path), includeEmptyIntervals=False)
    entries = read.getTier("phones").entries
    assert [Segment(one.label, one.start, one.end) for one in entries] == segments
    assert list(labels.read(path)) == segments


# ── bad files ────────────────────────────────────────────────────────────────────────────────


def truncate(path: Path) -> None:
    soundfile.write(path, tones_of(PHONES), 16_000)
    path.write_bytes(path.read_bytes()[:9000])


def not_a_number(path: Path) -> None:
    samples = tones_of(PHONES)
    samples[1234] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")


def short(path: Path) -> None:
    soundfile.write(path, tones_of(PHONES, 44_100)[:1000], 44_100)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda path: None, "no such file"),
    "nothing": (lambda path: path.write_bytes(b""), "it holds 0 bytes"),
    "text": (lambda path: path.write_text("no audio " * 200), "not a readable audio file"),
    "folder": (lambda path: path.mkdir(), "is a folder, expected an audio file"),
    "empty": (lambda path: soundfile.write(path, np.zeros(0), 16_000), "zero samples"),
    "cut": (truncate, "truncated, the header says 14400 samples, the file holds 4478"),
    "nan": (not_a_number, "sample 1234 is nan, expected a finite number"),
    "slow": (lambda path: soundfile.write(path, tones_of(PHONES), 1), "sampled at 1 Hz, expected"),
    "short": (short, "1000 samples, expected at least one window of 1102.5 (25 ms)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_gets_one_line_and_the_others_are_done(
    speech: Path,
    tone_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    make, says = BAD[kind]
    bad = tmp_path / f"{kind}.wav"
    make(bad)
    last = tmp_path / "last.wav"
    shutil.copy(speech, last)
    files = [str(speech), str(bad), str(last)]
    assert transcribe.main([*files, "--checkpoint", str(tone_model)]) == 1
    printed = capsys.readouterr()
    assert said(printed.out) == [list(PHONES), list(PHONES)]
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {bad}: ")
    assert says in line


def test_a_name_that_is_not_utf8_is_shown_with_escapes_everywhere(
    speech: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.wav")
    shutil.copy(speech, odd)
    absent = os.fsdecode(os.fsencode(tmp_path) + b"/\xfe.wav")
    options = ["--checkpoint", str(tone_model), "--format", "json"]
    assert transcribe.main([odd, absent, str(speech), *options]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["file"] for line in printed.out.splitlines()] == [
        f"{tmp_path}/\\xff\\xe9.wav",
        str(speech),
    ]
    assert f"error: {tmp_path}/\\xfe.wav: no such file" in printed.err
    assert transcribe.main([odd, *options, "--output", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").iterdir()
    assert json.loads(written.read_text())["file"].endswith("\\xff\\xe9.wav")


def test_distorted_speech_is_heard_with_a_warning(
    tmp_path: Path, tone_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.clip(8 * tones_of(PHONES) + 0.2, -1, 1), 16_000)
    assert transcribe.main([str(path), "--checkpoint", str(tone_model)]) == 0
    printed = capsys.readouterr()
    assert len(said(printed.out)) == 1
    assert "clipped, " in printed.err
    assert "(DC offset)" in printed.err


def test_results_never_share_a_name_nor_take_an_input_s(
    speech: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "MY speech.flac"
    other.parent.mkdir()
    soundfile.write(other, tones_of(PHONES), 16_000)
    out = tmp_path / "out"
    arguments = [str(speech), str(other), "--checkpoint", str(tone_model), "--output", str(out)]
    assert transcribe.main(arguments) == 1
    assert f"{other}: would be written to" in capsys.readouterr().err
    assert not out.exists()
    text = tmp_path / "audio.txt"
    shutil.copy(speech, text)
    assert (
        transcribe.main([str(text), "--checkpoint", str(tone_model), "--output", str(tmp_path)])
        == 1
    )
    assert "which is one of the inputs" in capsys.readouterr().err
    assert text.read_bytes() == speech.read_bytes()
    several = [str(speech), str(text), "--checkpoint", str(tone_model), "--format", "textgrid"]
    assert transcribe.main(several) == 1
    assert "--output FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", [(), ("--jobs", "2")], ids=["one", "two"])
def test_a_folder_keeps_its_tree_and_hand_corrected_results_survive(
    jobs: tuple[str, ...],
    speech: Path,
    tone_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "b" / "c").mkdir(parents=True)
    for name in ("a.wav", "b/a.wav", "b/c/d.WAV", "b/.hidden.wav"):
        shutil.copy(speech, folder / name)
    (folder / "b" / "bad.wav").touch()
    (folder / "notes.md").touch()
    arguments = [str(folder), "--checkpoint", str(tone_model), "--output", str(out), *jobs]
    assert transcribe.main([*arguments, "--format", "json"]) == 1
    written = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    assert sorted(map(str, written)) == ["a.json", "b/a.json", "b/c/d.json"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{out}: 3 files, 2.7 s of audio" in shown.err
    assert "1 of 4 files" in shown.err
    (out / "b" / "a.json").write_text("corrected by hand")
    assert transcribe.main([*arguments, "--format", "json", "--device", "nowhere"]) == 1
    assert f"{out / 'b' / 'a.json'}: already exists" in capsys.readouterr().err
    assert (out / "b" / "a.json").read_text() == "corrected by hand"
    assert transcribe.main([*arguments, "--format", "json", "--overwrite"]) == 1
    assert json.loads((out / "b" / "a.json").read_text())["phones"]


def test_the_ending_of_the_output_is_its_format(
    speech: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.json").mkdir()
    arguments = [str(speech), "--checkpoint", str(tone_model), "--output"]
    for name in ("a.TextGrid", "a.json", "new/a.txt", "d.json"):
        assert transcribe.main([*arguments, str(tmp_path / name)]) == 0
    assert [one.phone for one in labels.read(tmp_path / "a.TextGrid")] == list(PHONES)
    assert json.loads((tmp_path / "a.json").read_text())["file"] == str(speech)
    assert (tmp_path / "new" / "a.txt").read_text().startswith("# ")
    assert (tmp_path / "d.json" / "my speech.txt").is_file()
    for wrong in (
        [*arguments, str(tmp_path / "b.json"), "--format", "text"],
        [str(speech), *arguments, str(tmp_path / "b.json")],
        [*arguments, str(speech / "below")],
        [*arguments, str(tmp_path / "b.lab")],
    ):
        assert transcribe.main(wrong) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "b.json").exists()


# ── the model ────────────────────────────────────────────────────────────────────────────────


def test_without_a_model_it_says_what_to_do(
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(transcriber_module, "MODEL", tmp_path / "none.safetensors")
    assert transcribe.main([str(speech)]) == 1
    message = capsys.readouterr().err
    assert "none.safetensors" in message
    assert "name the file of a model" in message


def test_the_model_in_the_package_is_the_default_and_answers_for_itself(
    speech: Path,
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packaged = tmp_path / "librispeech.safetensors"
    shutil.copy(tone_model, packaged)
    monkeypatch.setattr(transcriber_module, "MODEL", packaged)
    assert transcribe.main([str(speech)]) == 0
    assert said(capsys.readouterr().out) == [list(PHONES)]
    content = bytearray(packaged.read_bytes())
    content[-100] ^= 1
    packaged.write_bytes(content)
    assert transcribe.main([str(speech)]) == 1
    message = capsys.readouterr().err
    assert "does not match its checksum" in message
    assert "install the package again" in message


@pytest.mark.skipif(not MODEL.exists(), reason="no model is in the package")
def test_the_packaged_model_is_small_and_has_its_card() -> None:
    assert os.path.getsize(MODEL) <= 28e6  # network 16, n-gram 12
    assert MODEL.with_suffix(".md").is_file()
    load()


# ── times ────────────────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.integers(0, 99), max_size=30).map(sorted),
    st.sampled_from([0.01, 0.03, 0.04]),
    st.floats(-0.02, 0.02),
)
def test_phones_are_in_order_within_the_piece_and_apart(
    frames: list[int], frame_s: float, offset_s: float
) -> None:
    duration_s = 100 * frame_s + offset_s * (offset_s < 0)
    times = tuple(max(0.0, (frame + 0.5) * frame_s + offset_s) for frame in frames)
    hypothesis = Hypothesis("a", ("aa",) * len(times), 0.0, times, (0.5,) * len(times))
    result = placed(hypothesis, frame_s, 7.0, duration_s)
    assert len(result) == len(times)
    edges = [edge for one in result for edge in (one.start_s, one.end_s)]
    assert edges == sorted(edges)
    assert all(7.0 <= edge <= 7.0 + duration_s + 1e-4 for edge in edges)


def test_a_phone_between_far_ones_reaches_its_reach() -> None:
    hypothesis = Hypothesis("a", ("aa", "s"), 0.0, (0.5, 0.6), (0.5, 0.5))
    first, second = placed(hypothesis, 0.01, 0.0, 2.0)
    assert (first.start_s, first.end_s) == (0.4, 0.55)
    assert (second.start_s, second.end_s) == (0.55, 0.7)


def test_a_search_without_moments_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a: .*times"):
        placed(Hypothesis("a", ("aa",)), 0.01, 0.0, 1.0)


# ── long recordings ──────────────────────────────────────────────────────────────────────────


def in_blocks(recording: Waveform, size: int) -> Iterator[Waveform]:
    return (recording[begin : begin + size] for begin in range(0, len(recording), size))


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SHORTEST_S", 1.0), ("LONGEST_S", 2.0), ("CONTEXT_S", 0.5)):
        monkeypatch.setattr(transcriber_module, name, seconds)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("size", [1, 39_999, 40_001, 100_000, 123_457])
@pytest.mark.parametrize("step", [160, 480])
def test_pieces_are_the_recording_and_overlap_only_in_context(size: int, step: int) -> None:
    recording = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    reached = 0
    result = list(pieces(in_blocks(recording, 7_777), step, 16_000))
    for piece in result:
        assert piece.start == reached
        assert piece.start % step == piece.before % step == 0
        begin = piece.start - piece.before
        whole = recording[begin : begin + len(piece.waveform)]
        np.testing.assert_array_equal(piece.waveform, whole)
        reached += piece.samples
    assert reached == size
    for piece in result[:-1]:
        assert 16_000 - step <= piece.samples <= 32_000
        assert len(piece.waveform) >= piece.before + piece.samples + 8_000 - step
    for piece in result[1:]:
        assert piece.before == 8_000 // step * step
        assert piece.samples >= piece.before


@pytest.mark.usefixtures("short_pieces")
def test_a_recording_is_cut_where_it_is_quiet() -> None:
    recording = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    recording[24_000:28_000] *= 0.01
    first = next(pieces(in_blocks(recording, 5_000), 160, 16_000))
    assert 24_000 < first.samples < 28_000


@pytest.mark.usefixtures("short_pieces")
def test_no_more_is_read_than_a_piece_needs() -> None:
    consumed = 0

    def endless() -> Iterator[Waveform]:
        nonlocal consumed
        while True:
            consumed += 1_000
            yield np.ones(1_000, np.float32)

    result = pieces(endless(), 160, 16_000)
    for _ in range(50):
        piece = next(result)
        assert len(piece.waveform) <= 32_000 + 3 * 8_000
        assert consumed - piece.start <= 32_000 + 8_000 + 1_000


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("family", ["kaldi", "librosa"])
@pytest.mark.parametrize("deltas", [0, 2])
def test_the_frames_of_a_piece_are_those_of_the_recording(family: str, deltas: int) -> None:
    recording = 0.1 * np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    features = Features(FeaturesConfig(family=family, bins=20, deltas=deltas, energy=False))

    def frames_of(waveform: Waveform) -> torch.Tensor:
        return features(Batch.of([torch.from_numpy(waveform)]))[0][0]

    whole = frames_of(recording)
    for piece in pieces(in_blocks(recording, 30_000), 320, 16_000):
        first, count = piece.start // 160, piece.samples // 160
        own = frames_of(piece.waveform)[piece.before // 160 :][:count]
        torch.testing.assert_close(own, whole[first : first + len(own)], rtol=1e-5, atol=1e-4)
        assert len(own) >= count - 2


@pytest.mark.usefixtures("short_pieces")
def test_a_recording_in_pieces_is_heard_as_if_whole(
    tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    spoken: list[str] = []
    parts: list[Waveform] = []
    for _ in range(12):
        phones = tuple(rng.choice(PHONES[:4], size=5))
        spoken += phones
        quiet = 0.001 * rng.standard_normal(4_800)
        parts += [tones_of(phones), quiet.astype(np.float32)]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate(parts), 16_000)
    transcriber = load(tone_model)
    in_pieces = transcriber.transcribe_file(path, pytest.fail)
    monkeypatch.setattr(transcriber_module, "LONGEST_S", 60.0)
    whole = transcriber.transcribe_file(path, pytest.fail)
    assert [one.phone for one in in_pieces.phones] == [one.phone for one in whole.phones]
    assert len(whole.phones) >= len(spoken) / 2
    for one, other in zip(in_pieces.phones, whole.phones, strict=True):
        assert one.start_s == pytest.approx(other.start_s, abs=0.02)
    starts = [one.start_s for one in in_pieces.phones]
    assert starts == sorted(starts)


def test_a_piece_is_heard_without_its_context(tone_model: Path) -> None:
    transcriber = load(tone_model)
    waveform = tones_of(PHONES)
    step = transcriber.step
    before, samples = 4_800 // step * step, 4_800 // step * step
    piece = Piece(waveform, before, before, samples)
    assert transcriber.hypothesis(piece, "x").phones == PHONES[2:4]
