"""Alignments: no cheaper one exists, and the compiled ones equal the readable ones step by step."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.scoring
from asr.scoring import ErrorCounts, Transcript, Transcripts, protocol, score, score_transcripts
from asr.scoring.alignment import COSTS, align

np = pytest.importorskip("numpy")
numba = pytest.importorskip("numba")

from asr.scoring import kernels  # noqa: E402

Pair = tuple[list[int], list[int]]
COST_OF = {
    "sclite": {"C": 0, "S": 4, "D": 3, "I": 3},
    "levenshtein": {"C": 0, "S": 1, "D": 1, "I": 1},
}


def random_pairs(number: int, longest: int, seed: int) -> list[Pair]:
    """Unrelated pairs, and hypotheses made from their reference by random errors."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(number):
        phones = rng.choice([1, 2, 3, 5, 39])
        reference = [rng.randrange(phones) for _ in range(rng.randrange(longest + 1))]
        if rng.random() < 0.5:
            hypothesis = [rng.randrange(phones) for _ in range(rng.randrange(longest + 1))]
        else:
            heard = (
                [[], [rng.randrange(phones)], [phone, rng.randrange(phones)], *[[phone]] * 7][
                    rng.randrange(10)
                ]
                for phone in reference
            )
            hypothesis = [phone for phones_ in heard for phone in phones_][:longest]
        pairs.append((reference, hypothesis))
    return pairs


@cache
def every_alignment() -> Any:
    """Walk every alignment of two short sequences, remember nothing, return the least cost."""

    @numba.njit("int64(int64[:], int64[:], int64, int64, int64, int64)")  # type: ignore[untyped-decorator]
    def least(ref: Any, hyp: Any, i: int, j: int, substitution: int, gap: int) -> int:
        if i == len(ref):
            return gap * (len(hyp) - j)
        if j == len(hyp):
            return gap * (len(ref) - i)
        pair = 0 if ref[i] == hyp[j] else substitution
        return min(
            pair + least(ref, hyp, i + 1, j + 1, substitution, gap),
            gap + least(ref, hyp, i + 1, j, substitution, gap),
            gap + least(ref, hyp, i, j + 1, substitution, gap),
        )

    return least


@pytest.mark.parametrize("scorer", ["levenshtein", "sclite"])
def test_no_alignment_is_cheaper(scorer: str) -> None:
    substitution, gap, _ = COSTS[scorer]
    cost = COST_OF[scorer]
    least = every_alignment()
    for reference, hypothesis in random_pairs(100_000, longest=5, seed=1):
        ops = align(reference, hypothesis, scorer)
        found = sum(cost[op] for op in ops)
        arrays = np.array(reference, dtype=np.int64), np.array(hypothesis, dtype=np.int64)
        assert found == least(*arrays, 0, 0, substitution, gap), (reference, hypothesis)


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.integers(0, 3), max_size=12),
    st.sampled_from(["levenshtein", "sclite"]),
    st.frozensets(st.integers(0, 3), max_size=2),
)
@settings(deadline=None)
def test_steps_spell_both_sides(
    reference: list[int], hypothesis: list[int], scorer: str, optional: frozenset[int]
) -> None:
    ops = align(reference, hypothesis, scorer, optional)
    said, heard = iter(reference), iter(hypothesis)
    for op in ops:
        if op == "C":
            assert next(said) == next(heard)
        elif op == "S":
            assert next(said) != next(heard)
        elif op == "I":
            next(heard)
        else:
            assert (next(said) in optional) == (op == "O")
    assert list(said) == list(heard) == []


def packed(sequences: list[list[int]]) -> tuple[Any, Any]:
    ends = np.cumsum([0, *(len(sequence) for sequence in sequences)])
    return np.array([x for s in sequences for x in s], dtype=np.int32), ends


@pytest.mark.parametrize("limited", [False, True])
def test_compiled_equals_readable(limited: bool) -> None:
    pairs = random_pairs(1500, longest=90, seed=2)
    sides = (*packed([r for r, _ in pairs]), *packed([h for _, h in pairs]))
    fewest = np.zeros((len(pairs), 4), dtype=np.int32)
    matrix = np.zeros((40, 40), dtype=np.int64)
    ops = np.zeros(len(sides[0]) + len(sides[2]), dtype=np.uint8)
    ends = np.zeros(len(pairs) + 1, dtype=np.int64)
    kernels.fewest(*sides, 39, fewest, matrix, ops, ends)
    steps = ["".join(map(chr, ops[ends[k] : ends[k + 1]])) for k in range(len(pairs))]
    assert steps == [align(r, h, "levenshtein") for r, h in pairs]
    readable = [ErrorCounts.of(s) for s in steps]
    assert fewest.tolist() == [[c.corr, c.sub, c.dele, c.ins] for c in readable]
    assert matrix.sum() == fewest.sum()

    limits = np.full(len(pairs), -1, dtype=np.int32)
    if limited:
        limits = 4 * fewest[:, 1] + 3 * (fewest[:, 2] + fewest[:, 3])
    counts = np.zeros((len(pairs), 4), dtype=np.int32)
    never = np.zeros(40, dtype=np.uint8)
    nowhere = np.zeros((1, 1), dtype=np.int64)
    kernels.cheapest(*sides, 4, 3, 2, never, limits, counts, nowhere, ops, ends)
    steps = ["".join(map(chr, ops[ends[k] : ends[k + 1]])) for k in range(len(pairs))]
    assert steps == [align(r, h, "sclite") for r, h in pairs]
    counted = [ErrorCounts.of(s) for s in steps]
    assert counts.tolist() == [[c.corr, c.sub, c.dele, c.ins] for c in counted]


@pytest.mark.parametrize("scorer", ["levenshtein", "sclite"])
def test_many_at_once_equal_one_by_one(scorer: str) -> None:
    optional = frozenset([0])
    pairs = random_pairs(500, longest=40, seed=3)
    found = kernels.align_many(pairs, COSTS[scorer], optional)
    for ops, (reference, hypothesis) in zip(found, pairs, strict=True):
        assert ops == align(reference, hypothesis, scorer, optional)


def transcripts(pairs: list[Pair], side: int) -> Transcripts:
    phones = ["sil", "aa", "b", "iy", *(f"p{n}" for n in range(40))]
    return Transcripts(
        "memory",
        {
            f"s{n % 5}-{n}": Transcript(f"s{n % 5}-{n}", tuple(phones[x] for x in pair[side]))
            for n, pair in enumerate(pairs)
        },
    )


def test_large_sets_take_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = random_pairs(200, longest=40, seed=4)
    sides = transcripts(pairs, 0), transcripts(pairs, 1)
    small = score_transcripts(*sides, protocol("none"), "sclite")
    monkeypatch.setattr(asr.scoring, "LARGE_CELLS", 0)
    assert score_transcripts(*sides, protocol("none"), "sclite") == small


def test_totals_equal_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    pairs = [pair for pair in random_pairs(400, longest=40, seed=5) if pair[0]]
    names = [f"s-{n}" for n in range(len(pairs))]
    sides = [
        {name: [f"p{x}" for x in pair[side]] for name, pair in zip(names, pairs, strict=True)}
        for side in (0, 1)
    ]
    expected = jiwer.process_words(*([" ".join(p) for p in side.values()] for side in sides))
    total = score(*sides, "none").total
    found = (total.corr, total.sub, total.dele, total.ins)
    assert found == (
        expected.hits,
        expected.substitutions,
        expected.deletions,
        expected.insertions,
    )
    assert total.per == pytest.approx(100.0 * expected.wer)


def write_trn(path: Path, side: Transcripts, as_text: bool = False) -> Path:
    with open(path, "w") as file:
        for transcript in side.items.values():
            phones = " ".join(transcript.phones)
            if as_text:
                file.write(f"{transcript.id} {phones}\n")
            else:
                file.write(f"{phones} ({transcript.id})\n")
    return path


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("name", ["strict", "sil-optional", "sil-merged", "collapsed", "no-sil"])
@pytest.mark.parametrize("scorer", ["levenshtein", "sclite"])
def test_large_files_count_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, scorer: str, as_text: bool
) -> None:
    rng = random.Random(6)
    phones = ["sil", "sil", "aa", "b", "iy", "q", "tcl", "zh"]
    sides = []
    for n in (0, 1):
        said = {f"s{k % 5}-{k}": rng.choices(phones, k=rng.randrange(50)) for k in range(120)}
        items = {id_: Transcript(id_, tuple(side)) for id_, side in said.items()}
        sides.append(Transcripts(str(n), items))
    monkeypatch.setattr(asr.scoring, "LARGE_BYTES", 0)
    monkeypatch.setattr(kernels, "BLOCK", 1000)
    paths = [write_trn(tmp_path / f"{n}.{as_text}", side, as_text) for n, side in enumerate(sides)]
    format_name = "text" if as_text else "trn"
    found = asr.scoring.count_large_files(
        *paths, protocol(name), scorer, (format_name, format_name), keep_ops=True
    )
    expected = score_transcripts(*sides, protocol(name), scorer, both_scorers=True)
    assert found is not None
    for part in ("total", "speakers", "lengths", "sizes", "confusions", "other_err", "ops"):
        assert getattr(found, part) == getattr(expected, part), part


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("aa (s-1)\nb (s-2)\n", "b (s-2)\naa (s-1)\n"),
        ("aa (s-1)\nb (s-2)\n", "aa (s-1)\n"),
        ("aa (s-1)\naa (s-1)\n", "aa (s-1)\naa (s-1)\n"),
        ("aa (s-1)\n", "unknown (s-1)\n"),
        ("aa (s-1)\n", "aa s-1\n"),
        ("aa (s-1)\n", "{ aa / b } (s-1)\n"),
        ("aa (s-1)\n", "aa\u00a0b (s-1)\n"),
    ],
)
def test_odd_files_are_left_to_the_careful_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, hypothesis: str
) -> None:
    monkeypatch.setattr(asr.scoring, "LARGE_BYTES", 0)
    (tmp_path / "r.trn").write_text(reference)
    (tmp_path / "h.trn").write_text(hypothesis)
    paths = tmp_path / "r.trn", tmp_path / "h.trn"
    assert asr.scoring.count_large_files(*paths, protocol("strict"), "sclite") is None


def test_large_files_with_bom_crlf_and_no_last_newline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr.scoring, "LARGE_BYTES", 0)
    (tmp_path / "r.trn").write_bytes("\ufeffaa b (s-1)\r\n;; note\r\n\r\nʃ (s-2)\r\n".encode())
    (tmp_path / "h.trn").write_bytes("aa b (s-1)\nʃ (s-2)".encode())
    paths = tmp_path / "r.trn", tmp_path / "h.trn"
    found = asr.scoring.count_large_files(*paths, protocol("none"), "levenshtein")
    assert found is not None
    assert found.total == ErrorCounts(2, 3, 3, 0, 0, 0)
