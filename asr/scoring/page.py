"""Reports as one HTML page that needs nothing from elsewhere.

The page shows what `Report` holds; nothing is computed here but places and shades. It has no
script: details open and close by themselves, cells of the heat map say their counts on hovering.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from asr.phones import TABLES
from asr.scoring.base import (
    CORRECT,
    Alignment,
    Boundaries,
    Comparison,
    ErrorCounts,
    Interval,
    Matrix,
    Report,
    Score,
)

SHOWN_UTTERANCES = 300  # aligned in full, the worst first; the page says if there are more
CELL, MARGIN = 17, 46  # of the heat map, in pixels
STEP_CLASS = {"S": "s", "D": "d", "I": "i", "O": "o"}


def page(reports: Sequence[Report]) -> str:
    """One page for all reports: the first in full, the others in the table above it."""
    main = next((r for r in reports if r.score.protocol == "strict"), reports[0])
    score = main.score
    name = score.name
    style = (TABLES / "score-page.css").read_text(encoding="utf-8")
    parts = [
        *_headline(main),
        *_runs(reports),
        *(_protocols(reports, main) if len(reports) > 1 else ()),
        *_compared(main.comparison),
        *_grouped(main.groups),
        *_confusions(main),
        *_in_time(main.boundaries),
        *_utterances(score),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_rate(score.total)} PER · {escape(name)}</title>\n<style>\n{style}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _headline(report: Report) -> list[str]:
    score = report.score
    total = score.total
    title = escape(f"{score.name} · {score.protocol} · scorer {score.scorer}")
    lines = [f"<h1>{title}</h1>"]
    lines.append(f'<div class="per">{_rate(total)} <small>% PER</small></div>')
    if score.is_synthetic:
        lines.append(
            '<p class="synthetic">Synthetic speech: '
            "this rate says nothing about people’s speech.</p>"
        )
    if score.intervals and total.ref:
        lines.append(_interval_picture(total.per, score.intervals))
    lines += [
        f"<p>{escape(score.says[:1].upper() + score.says[1:])}. {total.err} errors in {total.ref} "
        f'phones: <b class="s">{total.sub} substituted</b>, <b class="d">{total.dele} deleted</b>, '
        f'<b class="i">{total.ins} inserted</b>. {total.utterances} utterances'
        + (f" of {len(score.speakers)} speakers" if score.speakers else "")
        + ".</p>",
        f"<p><code>{escape(score.line())}</code></p>",
    ]
    if score.other_err is not None and score.other_err != total.err and total.ref:
        lines.append(
            f"<p>Scorer {score.other_scorer} counts {score.other_err} errors, "
            f"{100.0 * score.other_err / total.ref:.2f} %.</p>"
        )
    if score.intervals:
        lines.append(
            f'<p class="faint">Intervals of 95 %: {report.replicates} bootstrap samples, '
            f"seed {report.seed}.</p>"
        )
    lines += [f'<p class="faint">{escape(note)}</p>' for note in report.notes]
    return lines


def _interval_picture(rate: float, intervals: Mapping[str, Interval]) -> str:
    """The rate as a dot and its intervals as bars, on a scale somewhat wider than they are."""
    low = min(i.low for i in intervals.values())
    high = max(i.high for i in intervals.values())
    room = max(0.15 * (high - low), 0.05)
    low, high = max(low - room, 0.0), high + room

    def x(value: float) -> float:
        return 110 + 420 * (value - low) / (high - low)

    rows = []
    for n, (unit, interval) in enumerate(intervals.items()):
        y = 16 + 22 * n
        kind = "range" if unit == "speaker" else "range other"
        rows.append(
            f'<text class="axis" x="0" y="{y + 4}">by {unit}</text>'
            f'<line class="{kind}" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" '
            f'y1="{y}" y2="{y}"/><circle class="rate" cx="{x(rate):.1f}" cy="{y}" r="4"/>'
            f'<text x="540" y="{y + 4}">{interval}</text>'
        )
    height = 12 + 22 * len(rows)
    return (
        f'<svg role="img" aria-label="95 % intervals" width="660" height="{height}" '
        f'style="max-width:100%" viewBox="0 0 660 {height}">{"".join(rows)}</svg>'
    )


def _runs(reports: Sequence[Report]) -> list[str]:
    lines = []
    for protocol in dict.fromkeys(r.score.protocol for r in reports):
        found = next(r for r in reports if r.score.protocol == protocol).runs
        if found is not None:
            lines.append(
                f"<p>Mean of {found.n} runs under {escape(protocol)}: "
                f"<b>{found.mean:.2f} ± {found.sd:.2f}</b> (standard deviation).</p>"
            )
    return lines


def _protocols(reports: Sequence[Report], main: Report) -> list[str]:
    rows = []
    several_files = len({report.score.hypothesis for report in reports}) > 1
    for report in reports:
        score = report.score
        speaker = score.intervals.get("speaker")
        chosen = ' class="chosen"' if report is main else ""
        rows.append(
            f"<tr{chosen}><td>{escape(score.protocol)}</td><td>{score.total.ref}</td>"
            f"<td>{score.total.sub}</td><td>{score.total.dele}</td><td>{score.total.ins}</td>"
            f"<td>{_rate(score.total)}</td><td>{speaker or ''}</td>"
            f'<td class="words">{escape(score.says)}</td>'
            f'<td class="words">{escape(score.hypothesis) if several_files else ""}</td></tr>'
        )
    head = ("protocol", "phones", "sub", "del", "ins", "PER", "95 % by speaker", "", "")
    return ["<h2>The same transcripts under every protocol</h2>", *_table(head, rows)]


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    test, drawn = comparison.mapsswe, comparison.bootstrap
    rows = [
        f"<tr><td>MAPSSWE, {test.segments} segments</td><td>{test.mean:+.3f} errors a segment</td>"
        f"<td>z {test.z:.3f}</td><td>p {test.p:.3g}</td></tr>"
    ]
    if drawn is not None:
        rows.append(
            f"<tr><td>paired bootstrap by {drawn.by}, {drawn.units}</td>"
            f"<td>{drawn.difference:+.2f} PER</td><td>{drawn.interval}</td>"
            f"<td>p {drawn.p:.3g}</td></tr>"
        )
    return [
        "<h2>Compared with another system</h2>",
        f"<p>A <code>{escape(comparison.a)}</code> {comparison.total_a.per:.2f} · "
        f"B <code>{escape(comparison.b)}</code> {comparison.total_b.per:.2f}</p>",
        f"<p><b>{escape(comparison.verdict())}</b></p>",
        *_table(("test", "A − B", "", ""), rows),
    ]


def _grouped(groups: Mapping[str, Mapping[str, ErrorCounts]]) -> list[str]:
    lines = [
        "<h2>Who and what is hard</h2>",
        '<p class="key"><b class="s">substituted</b> · <b class="d">deleted</b> · '
        '<b class="i">inserted</b></p>',
    ]
    for title, sums in groups.items():
        worst = max((c.per for c in sums.values() if c.ref), default=0.0)
        rows = [
            f"<tr><td>{escape(name)}</td><td>{c.utterances}</td><td>{c.ref}</td>"
            f"<td>{_bar(c, worst)}</td><td>{_rate(c)}</td></tr>"
            for name, c in sums.items()
        ]
        table = "\n".join(_table((title, "utterances", "phones", "", "PER"), rows))
        opening = "<details open>" if len(sums) <= 60 else "<details>"
        summary = f"<summary>by {escape(title)} ({len(sums)})</summary>"
        lines.append(f"{opening}{summary}{table}</details>")
    return lines


def _bar(counts: ErrorCounts, worst: float) -> str:
    if not counts.ref or not worst:
        return ""
    share = [
        (kind, 100.0 * 100.0 * number / counts.ref / worst)
        for kind, number in (("s", counts.sub), ("d", counts.dele), ("i", counts.ins))
    ]
    inner = "".join(f'<i class="{kind}" style="width:{width:.1f}%"></i>' for kind, width in share)
    return f'<span class="bar">{inner}</span>'


def _confusions(report: Report) -> list[str]:
    lines = ["<h2>What is taken for what</h2>"]
    if report.frequent:
        rows = [
            f'<tr><td>{escape(str(e))}</td><td>{e.count}</td><td class="words phones">'
            f"{'<br>'.join(escape(example) for example in e.examples)}</td></tr>"
            for e in report.frequent
        ]
        lines += _table(("confusion", "count", "where"), rows)
    lines.append(
        '<p class="faint">Rows are what was said, columns what was heard, – is nothing. '
        "Shade: share of what was said; green is correct.</p>"
    )
    for matrix in report.matrices:
        lines += [f"<h3>by {escape(matrix.title)}</h3>", _heat_map(matrix)]
    return lines


def _heat_map(matrix: Matrix) -> str:
    """Rows are said, columns heard; shades are shares of the row, errors on a scale of roots.

    The diagonal has its own colour, or it would outshine what the map is for.
    """
    names = matrix.rows
    margin = max(MARGIN, 7 * max(len(name) for name in names))
    size = margin + CELL * len(names)
    cells = [f'<rect class="frame" x="{margin}" y="{margin}" width="{size - margin}" '
             f'height="{size - margin}"/>']  # fmt: skip
    for i, (said, counts) in enumerate(zip(names, matrix.counts, strict=True)):
        total = sum(counts)
        y = margin + CELL * i
        cells.append(f'<text x="{margin - 4}" y="{y + 12}" text-anchor="end">{escape(said)}</text>')
        cells.append(
            f'<text transform="translate({y + 12} {margin - 4}) rotate(-90)">{escape(said)}</text>'
        )
        for j, count in enumerate(counts):
            if not count:
                continue
            share = count / total
            shade = share if i == j else min(1.0, 2.0 * math.sqrt(share))
            kind = "right" if i == j else "wrong"
            cells.append(
                f'<rect class="{kind}" x="{margin + CELL * j}" y="{y}" width="{CELL - 1}" '
                f'height="{CELL - 1}" fill-opacity="{max(shade, 0.04):.2f}">'
                f"<title>{escape(said)} → {escape(names[j])}: {count} of {total} "
                f"({100.0 * share:.1f} %)</title></rect>"
            )
    return (
        f'<div class="scroll"><svg role="img" aria-label="confusions by {escape(matrix.title)}" '
        f'width="{size}" height="{size}">{"".join(cells)}</svg></div>'
    )


def _in_time(found: Boundaries | None) -> list[str]:
    if found is None:
        return []
    lines = ["<h2>Errors in time</h2>"]
    if found.starts:
        shares = found.shares(" · ")
        lines.append(f"<p>{found.starts} correct phones start {shares} of the reference.</p>")
    rows = [
        f"<tr><td>{name}</td><td>{c.ref}</td><td>{100.0 * c.sub / c.ref:.1f}</td>"
        f"<td>{100.0 * c.dele / c.ref:.1f}</td></tr>"
        for name, c in found.by_duration()
    ]
    return [*lines, *_table(("duration", "phones", "% sub", "% del"), rows)]


def _utterances(score: Score) -> list[str]:
    worst = sorted(
        score.alignments,
        key=lambda a: (-a.counts.err / max(a.counts.ref, 1), a.reference.id),
    )
    shown = worst[:SHOWN_UTTERANCES]
    left_out = len(worst) - len(shown)
    lines = [
        "<h2>Every utterance, the worst first</h2>",
        '<p class="faint">Above what was said, below what was heard; equal phones stand once.'
        + (f" The {left_out} best utterances are left out." if left_out else "")
        + "</p>",
    ]
    return [*lines, *(_aligned(alignment) for alignment in shown)]


def _aligned(alignment: Alignment) -> str:
    counts = alignment.counts
    steps = []
    for op, i, j in alignment.steps():
        said = "·" if i is None else escape(alignment.reference.phones[i])
        heard = "·" if j is None else escape(alignment.hypothesis.phones[j])
        if op == CORRECT:
            steps.append(f"<span>{said}</span>")
        else:
            kind = STEP_CLASS[op]
            steps.append(f'<span class="e {kind}"><b class="ref">{said}</b>{heard}</span>')
    about = f"{escape(alignment.reference.id)} · {counts.err} errors in {counts.ref} phones"
    return f'<div class="faint">{about}</div><div class="aligned phones">{"".join(steps)}</div>'


def _table(head: Iterable[str], rows: Iterable[str]) -> list[str]:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return ['<div class="scroll"><table>', f"<tr>{cells}</tr>", *rows, "</table></div>"]


def _rate(counts: ErrorCounts) -> str:
    return f"{counts.per:.2f}" if counts.ref else "undefined"
