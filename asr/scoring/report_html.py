"""Reports as one HTML page without scripts that needs nothing from elsewhere.

The template is `asr/templates/score.html`. Nothing is computed here but places and shades.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asr.scoring.alignment import Alignment
from asr.scoring.analysis import Matrix, Report
from asr.scoring.intervals import Interval
from asr.templates import render

SHOWN_UTTERANCES = 300  # aligned in full, the worst first; the page says if there are more
CELL, MARGIN = 17, 46  # of the heat map, in pixels


def page(reports: Sequence[Report]) -> str:
    """One page for all reports: the one of strict, or else the first, in full; a table of all."""
    main = next((r for r in reports if r.score.protocol == "strict"), reports[0])
    worst = sorted(main.score.alignments, key=_share_of_errors)
    return render(
        "score.html",
        report=main,
        score=main.score,
        reports=reports,
        several_files=len({r.score.hypothesis for r in reports}) > 1,
        runs={r.score.protocol: r.runs for r in reports},
        scale=_scale(main.score.intervals),
        maps=[HeatMap(matrix) for matrix in main.matrices],
        utterances=[(alignment, _steps(alignment)) for alignment in worst[:SHOWN_UTTERANCES]],
        left_out=max(len(worst) - SHOWN_UTTERANCES, 0),
    )


def _share_of_errors(alignment: Alignment) -> tuple[float, str]:
    counts = alignment.counts
    return -counts.err / max(counts.ref, 1), alignment.reference.id


def _steps(alignment: Alignment) -> Iterator[tuple[str, str, str]]:
    """Letter of CSDIO, phone said and phone recognised; "·" is none."""
    for op, i, j in alignment.steps():
        said = "·" if i is None else alignment.reference.phones[i]
        yield op, said, "·" if j is None else alignment.hypothesis.phones[j]


@dataclass(frozen=True)
class _Scale:
    """Rates from `low` to `high` on a line of 420 pixels."""

    low: float
    high: float

    def x(self, rate: float) -> float:
        return 110 + 420 * (rate - self.low) / (self.high - self.low)


def _scale(intervals: Mapping[str, Interval]) -> _Scale | None:
    """Somewhat wider than the intervals."""
    if not intervals:
        return None
    low = min(i.low for i in intervals.values())
    high = max(i.high for i in intervals.values())
    room = max(0.15 * (high - low), 0.05)
    return _Scale(max(low - room, 0.0), high + room)


class HeatMap:
    """A matrix of confusions as squares of pixels: rows are said, columns recognised."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.cell = CELL
        self.margin = max(MARGIN, 7 * max(len(name) for name in matrix.labels))
        self.size = self.margin + CELL * len(matrix.labels)

    def places(self) -> Iterator[tuple[str, int]]:
        """Each label and where its row and its column begin."""
        for index, name in enumerate(self.matrix.labels):
            yield name, self.margin + CELL * index

    def squares(self) -> Iterator[dict[str, object]]:
        """The cells that are not empty.

        Shades are shares of the row, those of errors on a scale of roots, so that they are visible
        beside the diagonal.
        """
        for i, (said, y) in enumerate(self.places()):
            counts = self.matrix.counts[i]
            total = sum(counts)
            for j, (heard, x) in enumerate(self.places()):
                if counts[j]:
                    share = counts[j] / total
                    shade = share if i == j else min(1.0, 2.0 * math.sqrt(share))
                    yield {
                        "x": x,
                        "y": y,
                        "kind": "right" if i == j else "wrong",
                        "shade": max(shade, 0.04),
                        "title": f"{said} → {heard}: {counts[j]} of {total} "
                        f"({100.0 * share:.1f} %)",
                    }
