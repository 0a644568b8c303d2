"""Reports as one HTML page without scripts, from `asr/templates/score.html`."""

from collections.abc import Sequence

from asr.scoring.alignment import Alignment
from asr.scoring.analysis import Report
from asr.templates import render

SHOWN_UTTERANCES = 300  # aligned in full, the worst first; the page says if there are more


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
        utterances=worst[:SHOWN_UTTERANCES],
        left_out=max(len(worst) - SHOWN_UTTERANCES, 0),
    )


def _share_of_errors(alignment: Alignment) -> tuple[float, str]:
    counts = alignment.counts
    return -counts.err / max(counts.ref, 1), alignment.reference.id
