"""Reports as one HTML page without scripts, from `asr/templates/score.html`."""

from collections.abc import Sequence
from typing import Any

from asr.scoring.alignment import Alignment
from asr.scoring.analysis import Report
from asr.templates import render

SHOWN_UTTERANCES = 300  # aligned in full, the worst first; the page says if there are more


def page(reports: Sequence[Report]) -> str:
    """One page for all reports: the one of strict, or else the first, in full; a table of all."""
    return render("score.html", heading="h1", **_values(reports))


def section(reports: Sequence[Report]) -> str:
    """The body of `page`, for another page with the stylesheet of all pages."""
    return render("score-body.html", heading="h2", **_values(reports))


def _values(reports: Sequence[Report]) -> dict[str, Any]:
    main = next((r for r in reports if r.score.protocol == "strict"), reports[0])

    def share_of_errors(alignment: Alignment) -> tuple[float, str]:
        counts = alignment.counts
        return -counts.err / max(counts.ref, 1), alignment.reference.id

    worst = sorted(main.score.alignments, key=share_of_errors)
    return {
        "headline": str(main.runs) if main.runs else main.score.total.rate(),
        "report": main,
        "score": main.score,
        "reports": reports,
        "several_files": len({r.score.hypothesis for r in reports}) > 1,
        "several_protocols": len({r.score.protocol for r in reports}) > 1,
        "means": {r.score.protocol: r.runs for r in reports if r.runs},
        "utterances": worst[:SHOWN_UTTERANCES],
        "left_out": max(len(worst) - SHOWN_UTTERANCES, 0),
    }
