"""What is measured of a model file: the same each time, as its user gets it, once."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import recipe

from asr import audio, transcriber
from asr.records import Segment, Utterance, write_jsonl

conditions = recipe("librispeech/conditions")
RATE = 16_000


def timed(one: Utterance) -> Utterance:
    """With phones of equal length, which the tones of the fixture nearly have."""
    edges = np.linspace(0, one.duration_s, len(one.phones) + 1).tolist()
    return replace(one, segments=tuple(map(Segment, one.phones, edges, edges[1:])))


def test_conditions_are_what_their_names_say(tones: list[Utterance]) -> None:
    one, samples = tones[0], audio.load(tones[0].audio)
    changed = {
        name: change(samples, one, RATE) for name, change in conditions.changes(tones).items()
    }
    again = conditions.changes(tones)
    for name, sound in changed.items():
        assert np.array_equal(sound, again[name](samples, one, RATE)), name
        assert sound.dtype == np.float32
    size = len(samples)
    assert len(changed["10 s of zeros behind"]) == size + 10 * RATE
    around = changed["30 s of room noise, 20 dB below, around"]
    assert len(around) == size + 30 * RATE
    assert np.array_equal(around[15 * RATE :][:size], samples)
    room = np.concatenate([around[: 15 * RATE], around[15 * RATE + size :]])
    assert 20 * np.log10(samples.std() / room.std()) == pytest.approx(20, abs=0.1)
    for name, snr_db in (("white noise, 20 dB", 20), ("babble, 10 dB", 10)):
        noise = changed[name] - samples
        assert 10 * np.log10(samples.var() / noise.var()) == pytest.approx(snr_db, abs=0.1)
    peaks = [np.abs(sound).max() for sound in (samples, changed["clipped by 18 dB"])]
    assert 20 * np.log10(peaks[0] / peaks[1]) == pytest.approx(18, abs=0.01)


def test_pieces_follow_each_other_and_lose_no_phone(tones: list[Utterance]) -> None:
    one = timed(replace(tones[0], phones=tones[0].phones * 9, duration_s=20.0))
    parts = conditions.anywhere(one)
    assert parts[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(parts))
    assert all(1 <= end - start <= 3 for start, end in parts)
    assert one.duration_s - parts[-1][1] < 1


def test_a_second_call_continues_the_first(
    tones: list[Utterance],
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest, output = tmp_path / "tones.jsonl", tmp_path / "rows.json"
    write_jsonl(manifest, map(timed, tones))
    command = ["conditions.py", str(tone_model), "--manifest", str(manifest), "--protocol", "none"]
    command += ["--sample", "4", "--output", str(output), "--only"]
    monkeypatch.setattr(sys, "argv", [*command, "as recorded"])
    assert not conditions.main()
    before = json.loads(output.read_text())
    assert before[0]["utterances"] == 9
    assert before[1]["condition"] == "as recorded, the 4 that are changed"
    model = transcriber.load(tone_model)
    heard = {one.id: model.transcribe(one.audio).phones for one in tones}
    wrong = sum(tuple(p.phone for p in heard[one.id]) != one.phones for one in tones)
    assert (before[0]["per"] == 0) == (wrong == 0)
    assert sum(map(len, heard.values())) == before[0]["corr"] + before[0]["sub"] + before[0]["ins"]
    monkeypatch.setattr(sys, "argv", [*command, "recorded", "--only", "white noise, 20"])
    assert not conditions.main()
    after = json.loads(output.read_text())
    assert after[: len(before)] == before
    assert [one["condition"] for one in after[len(before) :]] == ["white noise, 20 dB"]
    assert after[-1]["utterances"] == 4
    assert capsys.readouterr().out.count("| as recorded |") == 2
