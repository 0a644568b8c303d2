"""Scoring: counts against oracles, protocols against their definition, one line that says all."""

import json
import os
from pathlib import Path

import pytest

from asr.commands import score as command
from asr.errors import DataError
from asr.records import Hypothesis, Utterance, write_jsonl
from asr.scoring import (
    ErrorCounts,
    protocol,
    protocol_names,
    read_transcripts,
    score,
    score_transcripts,
    with_intervals,
)

SHARED = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[1] / ".." / "shared"))
SCLITE = SHARED / "conformance" / "sclite"
needs_conformance = pytest.mark.skipif(
    not SCLITE.is_dir(), reason=f"no conformance files in {SCLITE} (set ASR_SHARED)"
)


def read_trn(path: Path) -> dict[str, list[str]]:
    lines = path.read_text().splitlines()
    return {
        line[line.rindex("(") + 1 : -1]: line[: line.rindex("(")].split() for line in lines if line
    }


def known_arithmetic() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """192 utterances, 7215 phones, 794 sub, 346 del, 195 ins: Kaldi's 11.0 + 4.8 + 2.7 = 18.5."""
    phones = ["aa", "b", "iy", "s"] * 1804
    references: dict[str, list[str]] = {}
    hypotheses: dict[str, list[str]] = {}
    left = {"sub": 794, "del": 346, "ins": 195}
    start = 0
    for n in range(192):
        length = 7215 // 192 + (n < 7215 % 192)
        reference = phones[start % 4 :][:length]
        start += length
        hypothesis = list(reference)
        for kind, share in (("sub", 5), ("del", 2), ("ins", 2)):
            for position in range(min(share, left[kind])):
                left[kind] -= 1
                if kind == "sub":
                    hypothesis[3 * position] = "zh"
                elif kind == "del":
                    hypothesis[18 + 3 * position] = ""
                else:
                    hypothesis[27 + 3 * position] += " ng"
        references[f"spk{n % 24}-{n}"] = reference
        hypotheses[f"spk{n % 24}-{n}"] = " ".join(hypothesis).split()
    assert left["sub"] == 0 or left["del"] == 0
    return references, hypotheses


@needs_conformance
@pytest.mark.parametrize("name", ["e05", "e20", "e45", "edge"])
def test_sclite_is_reproduced_step_by_step(name: str) -> None:
    expected = json.loads((SCLITE / "expected.json").read_text())[name]
    references, hypotheses = (read_trn(SCLITE / expected[side]) for side in ("ref", "hyp"))
    result = score(references, hypotheses, "none", "sclite")
    assert {a.reference.id: a.ops for a in result.alignments} == {
        id_: utterance["ops"] for id_, utterance in expected["utts"].items()
    }
    total = expected["total"]
    assert result.total == ErrorCounts(
        total["utts"], total["ref_len"], total["corr"], total["sub"], total["del"], total["ins"]
    )
    assert score(references, hypotheses, "none").total.err == expected["levenshtein_err"]


@needs_conformance
@pytest.mark.parametrize("name", ["e05", "e20", "e45", "edge"])
def test_files_of_sclite_are_scored_by_both_scorers(name: str) -> None:
    expected = json.loads((SCLITE / "expected.json").read_text())[name]
    sides = (read_transcripts(SCLITE / expected[side]) for side in ("ref", "hyp"))
    result = score_transcripts(*sides, protocol("none"), "sclite", both_scorers=True)
    assert result.ops == {id_: utterance["ops"] for id_, utterance in expected["utts"].items()}
    assert result.other_err == expected["levenshtein_err"]


def test_every_protocol_names_its_source() -> None:
    assert protocol_names() == (
        *("strict", "sil-optional", "sil-merged", "q-as-sil"),
        *("collapsed", "no-sil", "arpabet", "none"),
    )
    assert all(protocol(name).source and protocol(name).says for name in protocol_names())


@pytest.mark.parametrize(
    ("name", "reference", "hypothesis"),
    [
        ("strict", "sil sil b aa n sil sil", "sil sil b aa n sil sil"),
        ("sil-optional", "sil sil b aa n sil sil", "sil sil b aa n sil sil"),
        ("sil-merged", "sil b aa n sil", "sil sil b aa n sil sil"),
        ("q-as-sil", "sil sil b aa sil n sil sil", "sil sil b aa sil n sil sil"),
        ("collapsed", "sil b aa n sil", "sil b aa n sil"),
        ("no-sil", "b aa n", "b aa n"),
        ("arpabet", "b ao n t", "b ao n t"),
        ("none", "h# bcl b ao q n tcl h#", "h# bcl b ao q n tcl h#"),
    ],
)
def test_protocols_by_hand(name: str, reference: str, hypothesis: str) -> None:
    said = ["h#", "bcl", "b", "ao", "q", "n", "tcl", "h#"]
    assert protocol(name).apply(said, "reference")[0] == tuple(reference.split())
    assert protocol(name).apply(said, "hypothesis")[0] == tuple(hypothesis.split())


def test_sil_optional_forgives_missing_silence_only() -> None:
    references = {"a": ["sil", "b", "sil", "d", "sil"]}
    hypotheses = {"a": ["b", "t", "d", "sil", "sil"]}
    for scorer in ("levenshtein", "sclite"):
        forgiven = score(references, hypotheses, "sil-optional", scorer)
        assert forgiven.total == ErrorCounts(1, 5, 4, 1, 0, 1)
        assert score(references, hypotheses, "strict", scorer).total.err == 3
        assert ("sil", None) not in forgiven.confusions


def test_rate_of_nothing_is_refused() -> None:
    nothing = score({"a": []}, {"a": ["aa"]})
    assert nothing.total.kaldi_line() == "%PER undefined [ 1 / 0, 1 ins, 0 del, 0 sub ]"
    with pytest.raises(DataError, match="undefined: the reference holds no phones"):
        _ = nothing.total.per


def test_ids_have_to_agree() -> None:
    with pytest.raises(DataError, match="1 of 2 utterances of reference: 'b'"):
        score({"a": ["aa"], "b": ["aa"]}, {"a": ["aa"]})
    with pytest.raises(DataError, match=r"'A' .* reference.*'a'"):
        score({"a": ["aa"]}, {"A": ["aa"]})


def test_labels_outside_the_set_are_listed() -> None:
    with pytest.raises(DataError, match=r"the hypothesis holds 2 labels outside timit39.*'zz' \(2"):
        score({"a": ["aa"]}, {"a": ["zz", "zz", "yy", "aa"]})


def test_line_of_known_kaldi_arithmetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    references, hypotheses = known_arithmetic()
    manifest, hypothesis_file = tmp_path / "test.jsonl", tmp_path / "test.hyp.jsonl"
    write_jsonl(
        manifest,
        [
            Utterance(id_, "a.wav", 3.0, id_.split("-")[0], tuple(p), None, "timit", "test")
            for id_, p in references.items()
        ],
    )
    write_jsonl(hypothesis_file, [Hypothesis(id_, tuple(p)) for id_, p in hypotheses.items()])
    output = tmp_path / "deep" / "test.per.txt"
    assert command.main([str(manifest), str(hypothesis_file), "--output", str(output)]) == 0
    line = output.read_text().splitlines()[0]
    assert line.startswith(
        "%PER 18.50 [ 1335 / 7215, 195 ins, 346 del, 794 sub ] timit test, "
        "strict (39 phones, q deleted, silence scored), scorer levenshtein, "
        "192 utterances of 24 speakers, 95 % by speaker "
    )
    assert line in capsys.readouterr().out


def test_intervals_contain_the_rate_and_ignore_the_order() -> None:
    references, hypotheses = known_arithmetic()
    result = with_intervals(score(references, hypotheses), 200, seed=3)
    for interval in result.intervals.values():
        assert interval.low <= result.total.per <= interval.high
    backwards = with_intervals(score(dict(reversed(references.items())), hypotheses), 200, seed=3)
    assert backwards.intervals == result.intervals
    assert backwards.total == result.total


def test_bad_arguments_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["only-one"])
    assert exit_.value.code == 2
    assert command.main(["no-such-file", "neither"]) == 1
    assert "no such file" in capsys.readouterr().err
