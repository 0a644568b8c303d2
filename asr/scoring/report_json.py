"""The JSON output: one object per protocol and hypothesis file, documented in docs/scoring.md.

A rate that is undefined is null. This file only names things; every number is computed elsewhere.
Names in the JSON are never renamed; more may be added.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from asr.scoring.analysis import Report
from asr.scoring.counts import ErrorCounts
from asr.scoring.significance import Comparison


def pieces(reports: Sequence[Report]) -> Iterator[str]:
    """The JSON text of one report, or of a list of several, in pieces that are small."""
    if len(reports) > 1:
        yield "["
    for number, report in enumerate(reports):
        yield ",\n" if number else ""
        yield json.dumps(_all_but_utterances(report), ensure_ascii=False)[:-1]
        yield ', "utterances": {'
        for position, (id_, ops) in enumerate(report.score.ops.items()):
            counts = json.dumps({**_counts(ErrorCounts.of(ops)), "ops": ops})
            yield f"{',' if position else ''}\n{json.dumps(id_, ensure_ascii=False)}: {counts}"
        yield "}}"
    yield "]\n" if len(reports) > 1 else "\n"


def _all_but_utterances(report: Report) -> dict[str, Any]:
    score = report.score
    fields: dict[str, Any] = {
        "protocol": score.protocol,
        "says": score.says,
        "scorer": score.scorer,
        "corpus": score.corpus,
        "split": score.split,
        "synthetic": score.is_synthetic,
        "reference": score.reference,
        "hypothesis": score.hypothesis,
        "missing": score.missing,
        "line": score.line(),
        "total": {
            "utterances": score.total.utterances,
            **_counts(score.total),
            "per_interval": {
                unit: None
                if unit not in score.intervals
                else [score.intervals[unit].low, score.intervals[unit].high]
                for unit in ("speaker", "utterance")
            },
        },
        "bootstrap": {"replicates": report.replicates, "seed": report.seed},
        "other_scorer": None
        if score.other_err is None
        else {"scorer": score.other_scorer, "err": score.other_err},
        "runs": None
        if report.runs is None
        else {"n": report.runs.n, "mean": report.runs.mean, "sd": report.runs.sd},
        "notes": list(report.notes),
    }
    for title, sums in report.groups.items():
        fields[f"{title}s" if title != "sex" else "sexes"] = {
            name: {"utterances": counts.utterances, **_counts(counts)}
            for name, counts in sums.items()
        }
    fields.setdefault("speakers", {})
    fields["confusions"] = [
        {"said": e.said, "heard": e.heard, "count": e.count, "examples": list(e.examples)}
        for e in report.frequent
    ]
    fields["matrices"] = {
        m.title: {"labels": list(m.labels), "counts": [list(row) for row in m.counts]}
        for m in report.matrices
    }
    if report.boundaries is not None:
        fields["boundaries"] = {
            "starts": report.boundaries.starts,
            "within_ms": {
                f"{1000 * s:.0f}": number for s, number in report.boundaries.within.items()
            },
            "durations_ms": {
                str(low): _numbers(counts) for low, counts in report.boundaries.durations.items()
            },
        }
    if report.comparison is not None:
        fields["compare"] = _comparison(report.comparison)
    return fields


def _comparison(comparison: Comparison) -> dict[str, Any]:
    test, drawn = comparison.mapsswe, comparison.bootstrap
    return {
        "a": comparison.a,
        "b": comparison.b,
        "per_a": comparison.total_a.per,
        "per_b": comparison.total_b.per,
        "difference": comparison.difference,
        "mapsswe": {
            "segments": test.segments,
            "mean": test.mean,
            "sd": test.sd,
            "z": test.z,
            "p": test.p,
        },
        "bootstrap": None
        if drawn is None
        else {
            "by": drawn.by,
            "units": drawn.units,
            "difference": drawn.difference,
            "interval": [drawn.interval.low, drawn.interval.high],
            "p": drawn.p,
        },
        "told_apart": comparison.told_apart,
        "utterances_needed": comparison.utterances_needed,
        "smallest_difference": comparison.smallest_difference,
        "verdict": comparison.verdict(),
    }


def _counts(counts: ErrorCounts) -> dict[str, Any]:
    return {**_numbers(counts), "per": counts.per if counts.ref else None}


def _numbers(counts: ErrorCounts) -> dict[str, int]:
    return {
        "ref": counts.ref,
        "corr": counts.corr,
        "sub": counts.sub,
        "del": counts.dele,
        "ins": counts.ins,
        "err": counts.err,
    }
