"""The JSON output: one object per protocol and hypothesis file, documented in docs/scoring.md.

A rate that is undefined is null. Names in the JSON are never renamed; more may be added.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
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
        **({"runs": asdict(report.runs)} if report.runs else {}),
        **{
            name: getattr(score, name) for name in ("protocol", "says", "scorer", "corpus", "split")
        },
        "synthetic": score.is_synthetic,
        **{name: getattr(score, name) for name in ("reference", "hypothesis", "missing")},
        "line": score.line(),
        "total": {
            "utterances": score.total.utterances,
            **_counts(score.total),
            "per_interval": {unit: score.intervals.get(unit) for unit in ("speaker", "utterance")},
        },
        "bootstrap": {"replicates": report.replicates, "seed": report.seed},
        "other_scorer": None
        if score.other_err is None
        else {"scorer": score.other_scorer, "err": score.other_err},
        "runs": report.runs and asdict(report.runs),  # of several, the first key
        "notes": report.notes,
    }
    for title, sums in report.groups.items():
        fields[f"{title}s" if title != "sex" else "sexes"] = {
            name: {"utterances": counts.utterances, **_counts(counts)}
            for name, counts in sums.items()
        }
    fields.setdefault("speakers", {})
    fields["confusions"] = [asdict(confusion) for confusion in report.frequent]
    fields["matrices"] = {
        m.title: {"labels": m.labels, "counts": m.counts} for m in report.matrices
    }
    if boundaries := report.boundaries:
        fields["boundaries"] = {
            "starts": boundaries.starts,
            "within_ms": {f"{1000 * s:.0f}": number for s, number in boundaries.within.items()},
            "durations_ms": {low: _numbers(counts) for low, counts in boundaries.durations.items()},
        }
    if report.comparison:
        fields["compare"] = _comparison(report.comparison)
    return fields


def _comparison(comparison: Comparison) -> dict[str, Any]:
    fields = asdict(comparison)
    derived = ("difference", "told_apart", "utterances_needed", "smallest_difference")
    return {
        **{name: fields[name] for name in ("a", "b", "mapsswe", "bootstrap")},
        **{name: getattr(comparison, name) for name in derived},
        "per_a": comparison.total_a.per,
        "per_b": comparison.total_b.per,
        "verdict": comparison.verdict(),
    }


def _counts(counts: ErrorCounts) -> dict[str, Any]:
    return {**_numbers(counts), "per": counts.per if counts.ref else None}


def _numbers(counts: ErrorCounts) -> dict[str, int]:
    names = ("ref", "corr", "sub", "dele", "ins", "err")
    return {"del" if name == "dele" else name: getattr(counts, name) for name in names}
