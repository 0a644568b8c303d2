"""Reports as text for people: the %PER line first, then the details."""

from collections.abc import Iterable, Sequence

from asr.scoring.analysis import Report
from asr.scoring.counts import ErrorCounts
from asr.scoring.significance import Comparison

GROUP_COLUMNS = ("utterances", "phones", "sub", "del", "ins", "PER")
SMALL_MATRICES = ("manner", "place")


def report(reports: Sequence[Report]) -> str:
    """The mean of several runs, the %PER lines and details.

    Of several protocols it has the line of strict, and a table of all.
    """
    shown = [r for r in reports if r.score.protocol == "strict"] or list(reports[:1])
    if len({r.score.protocol for r in reports}) == 1:
        shown = list(reports)
    lines = [*means(reports), *(r.score.line() for r in shown)]
    if len(shown) < len(reports):
        lines += ["", *_protocol_table(reports), "", f"In detail under {shown[0].score.protocol}:"]
        del shown[1:]
    for one in shown:
        lines += _details(one, named=len(shown) > 1)
    return "\n".join(lines) + "\n"


def _protocol_table(reports: Sequence[Report]) -> list[str]:
    """One row for each protocol and hypothesis file, in percent of the reference phones."""
    files = len({r.score.hypothesis for r in reports}) > 1
    rows = [
        [
            score.protocol,
            score.total.ref,
            *_percentages(score.total),
            score.total.rate(),
            score.intervals.get("speaker", ""),
            f"{score.says}{' · ' + score.hypothesis if files else ''}",
        ]
        for score in (r.score for r in reports)
    ]
    head = ["protocol", "phones", "corr", "sub", "del", "ins", "PER", "95 % by speaker", ""]
    return _table(head, rows)


def means(reports: Sequence[Report]) -> list[str]:
    """A line for each protocol under which several runs are scored."""
    of_protocol = {r.score.protocol: r for r in reports}
    return [
        f"mean of {r.runs.n} runs: PER {r.runs} (standard deviation), "
        + ", ".join(filter(None, (r.score.name, protocol)))
        for protocol, r in of_protocol.items()
        if r.runs is not None
    ]


def _details(report: Report, named: bool) -> list[str]:
    score = report.score
    total = score.total
    lines = [""]
    if named:
        lines += [score.hypothesis, ""]
    corr, sub, dele, ins = _percentages(total)
    if total.ref:
        lines.append(
            f"| {total.utterances} {total.ref} | Corr {corr}  Sub {sub}  Del {dele}  Ins {ins}  "
            f"Err {total.per:.1f} |"
        )
    if score.other_rate is not None:
        lines.append(
            f"Scorer {score.other_scorer} counts {score.other_err} errors, "
            f"PER {score.other_rate:.2f}; {score.scorer} {total.err}."
        )
    if score.intervals:
        listed = ", ".join(f"by {unit} {i}" for unit, i in score.intervals.items())
        lines.append(
            f"95 % intervals: {listed} ({report.replicates} bootstrap samples, seed {report.seed})."
        )
    lines += [f"Note: {note}" for note in report.notes]
    if report.comparison is not None:
        lines += ["", *_comparison_lines(report.comparison)]
    for title, sums in report.groups.items():
        rows = [
            [name, c.utterances, c.ref, c.sub, c.dele, c.ins, c.rate()] for name, c in sums.items()
        ]
        lines += ["", *_table([title, *GROUP_COLUMNS], rows)]
    if report.frequent:
        rows = [[error.count, error, "   ".join(error.examples)] for error in report.frequent]
        lines += ["", *_table(["count", "confusion", "where"], rows, left=(1, 2))]
    for matrix in (one for one in report.matrices if one.title in SMALL_MATRICES):
        rows = [
            [name, *(count or "·" for count in counts)]
            for name, counts in zip(matrix.labels, matrix.counts, strict=True)
        ]
        lines += ["", *_table([f"{matrix.title}, said ↓ heard →", *matrix.labels], rows)]
    if boundaries := report.boundaries:
        if boundaries.starts:
            shares = boundaries.shares(", ")
            lines += ["", f"Of {boundaries.starts} correct phones {shares} of the reference start."]
        rows = [[name, c.ref, *_percentages(c)[:3]] for name, c in boundaries.by_duration()]
        lines += ["", *_table(["duration", "phones", "corr", "sub", "del"], rows)]
    return lines


def _comparison_lines(comparison: Comparison) -> list[str]:
    test, drawn = comparison.mapsswe, comparison.bootstrap
    a, b = comparison.total_a.per, comparison.total_b.per
    lines = [
        f"A {comparison.a}: PER {a:.2f}   B {comparison.b}: PER {b:.2f}   "
        f"difference {comparison.difference:+.2f}",
        f"MAPSSWE (NIST sc_stats): {test.segments} segments, mean {test.mean:.3f}, "
        f"sd {test.sd:.3f}, z {test.z:.3f}, p {test.p:.3g}",
    ]
    if drawn is not None:
        lines.append(
            f"Paired bootstrap by {drawn.by} ({drawn.units}): difference {drawn.difference:+.2f}, "
            f"95 % {drawn.interval}, p {drawn.p:.3g}"
        )
    return [*lines, comparison.verdict()]


def _percentages(counts: ErrorCounts) -> list[str]:
    numbers = (counts.corr, counts.sub, counts.dele, counts.ins)
    return [f"{100.0 * number / counts.ref:.1f}" if counts.ref else "–" for number in numbers]


def _table(
    head: Sequence[str], rows: Iterable[Sequence[object]], left: Sequence[int] = (0,)
) -> list[str]:
    """Aligned columns: the `left` ones, and a last one of words, to the left; the rest right."""
    columns = [list(map(str, column)) for column in zip(head, *rows, strict=True)]
    if any(cell[:1].isalpha() for cell in columns[-1][1:]):
        left = (*left, len(columns) - 1)
    for number, column in enumerate(columns):
        width = max(map(len, column))
        column[:] = [c.ljust(width) if number in left else c.rjust(width) for c in column]
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
