"""Boundaries of an alignment whose phones are not those of the hand-made labels."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from asr import scoring
from asr.records import Segment
from asr.scoring import boundaries
from asr.scoring.boundaries import Boundary, TimedPair


def tiled(phones: str, step_s: float = 0.1, start_s: float = 0.0) -> list[Segment]:
    """Phones that adjoin, each `step_s` long; `_` is a gap."""
    return [
        Segment(phone, start_s + n * step_s, start_s + (n + 1) * step_s)
        for n, phone in enumerate(phones.split())
        if phone != "_"
    ]


def compared(reference: list[Segment], aligned: list[Segment]) -> tuple[list[str], int]:
    found, missed = boundaries.boundaries(TimedPair("id", "one", reference, aligned))
    return [f"{b.left or '_'}|{b.right or '_'} {1000 * b.error_s:+.0f}" for b in found], missed


@pytest.mark.parametrize(
    ("said", "heard", "expected", "missed"),
    [
        ("a b c d", "a b c d", ["a|b +0", "b|c +0", "c|d +0"], 0),
        ("a b c d", "a x c d", ["a|b +0", "b|c +0", "c|d +0"], 0),  # a substitution is a match
        ("a b c d", "a b d", ["a|b +0"], 2),  # c is nothing: neither of its boundaries
        ("a b d", "a b c d", ["a|b +0"], 1),  # b and d are matched, but c is between them
        ("sil a b sil", "a b", ["_|a -100", "a|b -100", "b|_ -100"], 0),  # labelled edges
        ("a _ b", "a b", ["a|_ +0", "_|b -100"], 0),  # a pause that was not found: two errors
        ("a b", "a _ b", ["a|b +0", "a|b +100"], 0),  # one that is not there: too
        ("a sil b", "a _ b", ["a|_ +0", "_|b +0"], 0),  # label or gap
        ("a _ b", "x", [], 2),
        ("sil", "a", [], 0),
    ],
)
def test_a_boundary_is_compared_where_both_phones_are_adjacent_on_both_sides(
    said: str, heard: str, expected: list[str], missed: int
) -> None:
    assert compared(tiled(said), tiled(heard)) == (expected, missed)


def random_side(draw: random.Random) -> list[Segment]:
    times = sorted(draw.sample(range(100), 2 * draw.randint(1, 5)))
    return [
        Segment(draw.choice("ab"), start / 100, end / 100)
        for start, end in zip(times[::2], times[1::2], strict=True)
    ]


Match = Sequence[tuple[int, int]]


def cost(match: Match, said: list[Segment], heard: list[Segment]) -> tuple[int, int]:
    """Errors, then µs between the middles of the pairs."""
    pairs = [(said[n], heard[place]) for n, place in match]
    wrong = sum(a.phone != b.phone for a, b in pairs)
    distance = sum(abs(a.start_s + a.end_s - b.start_s - b.end_s) / 2 for a, b in pairs)
    return len(said) + len(heard) - 2 * len(pairs) + wrong, round(1e6 * distance, -2)


def matches(said: int, heard: int) -> Iterator[Match]:
    """Every monotonic match of transcripts of these lengths."""
    for size in range(min(said, heard) + 1):
        for pair in itertools.product(
            itertools.combinations(range(said), size), itertools.combinations(range(heard), size)
        ):
            yield list(zip(*pair, strict=True))


def test_the_match_has_the_fewest_errors_then_the_least_distance() -> None:
    draw = random.Random(0)
    for _ in range(200):
        said, heard = random_side(draw), random_side(draw)
        if [s.phone for s in said] != [s.phone for s in heard]:
            places = boundaries._matched(said, heard)
            match = [(n, place) for n, place in enumerate(places) if place is not None]
            assert match == sorted(match)
            every = matches(len(said), len(heard))
            assert cost(match, said, heard) == min(cost(one, said, heard) for one in every)


def test_long_transcripts_are_matched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = tiled("a b c d e f g h")
    heard = [*said[:3], Segment("x", 0.3, 0.35), said[3]._replace(start_s=0.35), *said[4:]]
    whole = boundaries._matched(said, heard)
    assert whole == [0, 1, 2, 4, 5, 6, 7, 8]
    monkeypatch.setattr(boundaries, "CELLS", 40)
    assert boundaries._matched(said, heard) == whole


def test_timit_s_labels_become_cmudict_s_phones() -> None:
    labels = tiled("h# q ae tcl t dcl jh kcl s q pau en")
    folded = boundaries.in_arpabet(labels)
    assert [(s.phone, round(10 * s.start_s, 2), round(10 * s.end_s, 2)) for s in folded] == [
        ("sil", 0, 1.5),
        ("ae", 1.5, 3),
        ("t", 3, 5),
        ("jh", 5, 7),
        ("k", 7, 8),
        ("s", 8, 9.5),
        ("sil", 9.5, 11),
        ("n", 11, 12),
    ]


def test_hand_made_labels_are_compared_with_a_dictionary_s_phones() -> None:
    reference = tiled("h# dcl d ix q iy h#")
    aligned = [Segment("D", 0.1, 0.31), Segment("IH0", 0.31, 0.45), Segment("IY1", 0.45, 0.62)]
    timing = scoring.compare_times([TimedPair("id", "one", reference, aligned)])
    assert timing.errors_s == pytest.approx([0, 0.01, 0, 0.02])
    assert timing.comparable == 100
    assert "no counterpart" not in timing.text()
    aligned = [*aligned[:2], Segment("N", 0.45, 0.5), *aligned[2:]]
    timing = scoring.compare_times([TimedPair("id", "one", reference, aligned)])
    assert (timing.missed, timing.comparable) == (1, 75)
    assert "1 more have no counterpart: 75.0 % are compared" in timing.text()
    assert (
        Boundary("", "d", 0.1, 0.0)
        in boundaries.boundaries(
            TimedPair("id", "one", boundaries.in_arpabet(reference), boundaries.in_arpabet(aligned))
        )[0]
    )
