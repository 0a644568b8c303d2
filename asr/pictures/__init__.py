"""Figures and sound as data that a page can hold, and phones written above axes."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from asr.features import Features, FeaturesConfig
from asr.records import Segment

DPI = 115
LABEL_POINTS, ROW_POINTS, LABEL_GAP = 8, 9, 3  # of phone labels: size, line, first one's height


@dataclass(frozen=True)
class Picture:
    """A figure as a data URL, its size in CSS pixels, and its content in words."""

    source: str
    width: int
    height: int
    alt: str

    @classmethod
    def of(cls, figure: Figure, source: str, alt: str) -> "Picture":
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        return cls(source, width, height, alt)

    @classmethod
    def png(cls, figure: Figure, alt: str) -> "Picture":
        return cls.of(figure, data_url(png(figure), "image/png"), alt)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
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


def flac(waveform: npt.NDArray[np.float32], sample_rate: int) -> str:
    """A data URL of a waveform (S,); samples beyond ±1 are clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    return data_url(buffer.getvalue(), "audio/flac")


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def panels(
    seconds: float, width: float, heights: Sequence[float], margins: Sequence[float], gap: float
) -> tuple[Figure, list[Axes]]:
    """Axes one above the other on one axis of time, `width` and `heights` in inches.

    `margins` are those at the left, right, top and bottom.
    """
    left, right, top, bottom = margins
    size = width + left + right, top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=size)
    axes, edge = [], size[1] - top
    for tall in heights:
        edge -= tall
        across = 1 - (left + right) / size[0]
        box = (left / size[0], edge / size[1], across, tall / size[1])
        axes.append(figure.add_axes(box, xlim=(0, seconds)))
        axes[-1].tick_params(labelbottom=False)
        edge -= gap
    axes[-1].tick_params(labelbottom=True)
    return figure, axes


def khz_axis(axes: Axes, config: FeaturesConfig, first: float = 0.0) -> None:
    """Name rows of mel filters by their frequency; the middle of the lowest is at y = `first`."""
    frontend = Features(config).frontend
    bank = frontend.mel_filters(1.0)
    hz = bank.argmax(dim=0).numpy() * config.sample_rate / frontend.fft_size
    ticks = [khz for khz in (0.25, 0.5, 1, 2, 4, 8) if hz[0] <= 1000 * khz <= config.highest_hz]
    rows = np.interp([1000 * khz for khz in ticks], hz, first + np.arange(len(hz)))
    axes.set_yticks(rows, [f"{khz:g}" for khz in ticks])
    axes.set_ylabel("frequency (kHz)")


def label_phones(axes: Axes, segments: Sequence[Segment], inches_per_s: float) -> None:
    """Write phones above axes whose x is in seconds."""
    for segment, row in zip(segments, _rows(segments, inches_per_s), strict=True):
        middle = (segment.start_s + segment.end_s) / 2
        write_above(axes, segment.phone, middle, rise=LABEL_GAP + row * ROW_POINTS)


def write_above(
    axes: Axes,
    text: str,
    x: float,
    y: float = 1,
    rise: float = 0,
    size: float = LABEL_POINTS,
    colour: str = "black",
) -> None:
    """Text centred at x in data and y in parts of the axes' height, `rise` points above that."""
    axes.annotate(
        text,
        (x, y),
        xycoords=("data", "axes fraction"),
        xytext=(0, rise),
        textcoords="offset points",
        ha="center",
        fontsize=size,
        color=colour,
        parse_math=False,
        annotation_clip=False,
    )


def label_points(segments: Sequence[Segment], inches_per_s: float) -> float:
    """The height of the labels of `label_phones`."""
    return LABEL_GAP + ROW_POINTS * (1 + max(_rows(segments, inches_per_s), default=-1))


def _rows(segments: Sequence[Segment], inches_per_s: float) -> list[int]:
    middles = (72 * inches_per_s * (segment.start_s + segment.end_s) / 2 for segment in segments)
    halves = (LABEL_POINTS * (0.32 * len(segment.phone) + 0.15) for segment in segments)
    return label_rows(zip(middles, halves, strict=True))


def label_rows(spans: Iterable[tuple[float, float]]) -> list[int]:
    """The row of each label, given its middle and half its width: the lowest that is free there."""
    rows = []
    ends: list[float] = []  # of each row
    for middle, half in spans:
        row = next((row for row, end in enumerate(ends) if end <= middle - half), len(ends))
        ends[row : row + 1] = [middle + half]
        rows.append(row)
    return rows
