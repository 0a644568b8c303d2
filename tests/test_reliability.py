"""Confidences are probabilities: calibration errors, the maps that lower them, and their files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tones_of
from hypothesis import given
from hypothesis import strategies as st

from asr import checkpoint, scoring
from asr.by_torch import in_use
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.records import Hypothesis
from asr.scoring.reliability import FOLDS, POINTS, Judged, calibrated, held_out
from asr.search.calibration import Calibration
from asr.transcriber import Transcriber

CALIBRATION = Calibration((0.2, 0.6, 0.9), (0.1, 0.5, 0.5))


def drawn(seed: int, count: int, power: float, speakers: int = 1) -> Judged:
    """Phones that are right with the probability confidence^power."""
    rng = np.random.default_rng(seed)
    confidences = rng.random(count)
    return Judged(
        confidences, rng.random(count) < confidences**power, rng.integers(speakers, size=count)
    )


def test_a_perfect_confidence_has_nearly_no_error_and_its_square_has_a_third_less() -> None:
    perfect = drawn(0, 200_000, 1.0).error
    squared = drawn(0, 200_000, 2.0).error
    assert perfect is not None
    assert squared is not None
    assert perfect < 0.005
    assert squared == pytest.approx(1 / 2 - 1 / 3, abs=0.005)  # ∫ c − c²


def test_the_error_is_that_of_each_bin_by_hand() -> None:
    some = Judged(
        np.array([0.1, 0.1, 1.0, 1.0]), np.array([True, False, True, False]), np.zeros(4, int)
    )
    assert some.error == pytest.approx((2 * 0.4 + 2 * 0.5) / 4)
    assert some.curve() == [(2, pytest.approx(0.1), 0.5), (2, 1.0, 0.5)]
    empty = Judged(np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    assert (empty.error, empty.area, empty.curve()) == (None, None, [])


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.7]), st.booleans()), max_size=12))
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    right, wrong = ([c for c, ok in rows if ok is side] for side in (True, False))
    pairs = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    confidences, oks = np.array(rows, dtype=float).reshape(-1, 2).T
    area = Judged(confidences, oks.astype(bool), np.zeros(len(rows), int)).area
    assert area == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_a_calibration_never_falls_and_gives_probabilities(rows: list[tuple[float, bool]]) -> None:
    confidences, right = np.array(rows, dtype=float).T
    fitted = calibrated([Judged(confidences, right.astype(bool), np.zeros(len(rows), int))])
    assert fitted is not None  # and its points passed the checks of the class
    assert len(fitted.raw) <= POINTS
    probabilities = fitted(np.linspace(0, 1, 101))
    assert (np.diff(probabilities) >= 0).all()
    assert 0 < probabilities[0] <= probabilities[-1] < 1


def test_a_calibration_finds_the_probabilities_of_other_phones() -> None:
    fitted = calibrated([drawn(0, 50_000, 2.0)])
    assert fitted is not None
    others = drawn(1, 50_000, 2.0)
    error = others.by(fitted).error
    assert error is not None
    assert error < 0.02
    assert others.by(fitted).area == pytest.approx(others.area, abs=0.01)
    assert calibrated([]) is None


def test_sets_weigh_the_same_whatever_their_size() -> None:
    rare, frequent = (
        Judged(np.full(n, 0.5), np.full(n, ok), np.zeros(n, int))
        for n, ok in ((100, True), (10_000, False))
    )
    fitted = calibrated([rare, frequent])
    assert fitted is not None
    assert fitted([0.5])[0] == pytest.approx(0.5, abs=0.01)


def test_no_speaker_is_calibrated_by_their_own_phones() -> None:
    sets = {"a": drawn(0, 3000, 2.0, FOLDS + 2), "b": drawn(1, 3000, 3.0, FOLDS + 2)}
    changed = {
        name: replace(one, right=one.right ^ (one.speakers == 3)) for name, one in sets.items()
    }
    for before, after in zip(held_out(sets), held_out(changed), strict=True):
        own = before.speakers == 3
        assert np.array_equal(before.confidences[own], after.confidences[own])
        assert not np.array_equal(before.confidences, after.confidences)


def test_phones_are_judged_as_they_are_scored() -> None:
    """`strict` deletes q and folds ix to ih; the confidence of what is deleted counts nowhere."""
    said = {"x-1": ["sil", "ih", "s"], "y-1": ["aa"]}
    heard = {
        "x-1": Hypothesis("x-1", ("sil", "q", "ix", "t"), confidences=(0.9, 0.1, 0.8, 0.3)),
        "y-1": Hypothesis("y-1", ("aa", "b"), confidences=(0.7, 0.2)),
    }
    score = scoring.score(said, {id: one.phones for id, one in heard.items()}, "strict")
    judged = Judged.of(score, heard)
    assert judged.confidences.tolist() == [0.9, 0.8, 0.3, 0.7, 0.2]
    assert judged.right.tolist() == [True, True, False, True, False]


@pytest.mark.parametrize(
    ("raw", "probability"),
    [
        ((), ()),
        ((0.1, 0.2), (0.5,)),
        ((0.2, 0.2), (0.5, 0.6)),
        ((0.1, 0.2), (0.6, 0.5)),
        ((0.1, 1.2), (0.5, 0.6)),
        ((float("nan"),), (0.5,)),
    ],
)
def test_points_that_are_no_calibration_are_refused(
    raw: tuple[float, ...], probability: tuple[float, ...]
) -> None:
    with pytest.raises(DataError, match="calibration"):
        Calibration(raw, probability)


def test_a_calibration_survives_its_file_and_changes_nothing_but_confidences(
    tone_model: Path, tmp_path: Path
) -> None:
    before = checkpoint.load(tone_model)
    assert before.calibration is None
    checkpoint.save(
        tmp_path / "a.safetensors", Checkpoint(before.recognizer, calibration=CALIBRATION)
    )
    after = checkpoint.load(tmp_path / "a.safetensors")
    assert after.calibration == CALIBRATION
    samples = tones_of(("s", "aa", "m", "iy"))
    raw, calibrated = (
        Transcriber(in_use(one)).transcribe(samples, 16_000) for one in (before, after)
    )
    assert len(raw.phones) >= 3
    assert [one[:3] for one in raw.phones] == [one[:3] for one in calibrated.phones]
    for one, other in zip(raw.phones, calibrated.phones, strict=True):
        assert one.confidence is not None
        assert other.confidence == pytest.approx(float(CALIBRATION([one.confidence])[0]), abs=1e-4)
    assert any(a != b for a, b in zip(raw.phones, calibrated.phones, strict=True))
