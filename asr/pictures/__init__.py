"""Figures, players and the page that shows them: one look, complete in itself.

This file knows neither features nor networks; a page it makes needs nothing from elsewhere.
"""

import base64
import html
import io
from collections.abc import Sequence
from string import Template

import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from asr.records import Segment

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width">
<style>
body {font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
      color: #222; overflow-wrap: anywhere}
pre {background: #f4f4f4; padding: .8rem; overflow-x: auto; overflow-wrap: normal}
table {border-collapse: collapse} td {padding: .15rem 1.2rem .15rem 0; vertical-align: top}
img {max-width: 100%} .per {font-size: 1.15rem}
.scroll {overflow-x: auto} .scroll img {max-width: none}
audio {max-width: 100%}
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")
DPI = 115
LABEL_POINTS, ROW_POINTS, LABEL_GAP = 8, 9, 3  # of phone labels: size, line, first one's height


def page(title: str, body: str) -> str:
    """A page in the common style; `body` is HTML, `title` is text."""
    return PAGE.substitute(title=html.escape(title), body=body)


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def stacked(figures: Sequence[Figure]) -> bytes:
    """A PNG of figures one below the other, with white at the right of the narrower ones."""
    drawn = [imread(io.BytesIO(png(figure)))[..., :3] for figure in figures]
    width = max(picture.shape[1] for picture in drawn)
    as_wide = [
        np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=1) for p in drawn
    ]
    buffer = io.BytesIO()
    imsave(buffer, np.concatenate(as_wide), format="png")
    return buffer.getvalue()


def image(figure: Figure, alt: str) -> str:
    """An `<img>` that is never shrunk, so that it stays legible: narrow windows scroll over it."""
    return (
        f'<div class="scroll"><img alt="{html.escape(alt)}" '
        f'style="width: {96 * figure.get_figwidth():.0f}px" '
        f'src="data:image/png;base64,{base64_of(png(figure))}"></div>'
    )


def player(waveform: npt.NDArray[np.float32], sample_rate: int) -> str:
    """An `<audio>` of a waveform (S,); samples beyond ±1 are clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    return f'<audio controls src="data:audio/flac;base64,{base64_of(buffer.getvalue())}"></audio>'


def label_phones(axes: Axes, segments: Sequence[Segment], inches_per_s: float) -> None:
    """Write phones above axes whose x is in seconds."""
    for segment, row in zip(segments, _rows(segments, inches_per_s), strict=True):
        axes.annotate(
            segment.phone,
            ((segment.start_s + segment.end_s) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, LABEL_GAP + row * ROW_POINTS),
            textcoords="offset points",
            ha="center",
            fontsize=LABEL_POINTS,
            parse_math=False,
            annotation_clip=False,
        )


def label_points(segments: Sequence[Segment], inches_per_s: float) -> float:
    """The height of what `label_phones` writes."""
    return LABEL_GAP + ROW_POINTS * (1 + max(_rows(segments, inches_per_s), default=-1))


def _rows(segments: Sequence[Segment], inches_per_s: float) -> list[int]:
    """The row of each label: the lowest in which it does not touch the one before it."""
    rows = []
    ends: list[float] = []  # of each row, in points
    for segment in segments:
        middle = 72 * inches_per_s * (segment.start_s + segment.end_s) / 2
        half = LABEL_POINTS * (0.32 * len(segment.phone) + 0.15)
        row = next((row for row, end in enumerate(ends) if end <= middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        rows.append(row)
    return rows


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
