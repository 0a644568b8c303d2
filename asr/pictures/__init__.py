"""Figures and sound as data that a page can hold, panels in time, and labels above them."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.records import Segment

DPI = 115
INK = "#23211d"
LABEL_POINTS, ROW_POINTS, LABEL_GAP = 8.5, 9.7, 3  # of labels: size, line, the first one's height


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


def draw_frames(axes: Axes, frames: Tensor, scale: Tensor, config: FeaturesConfig) -> None:
    """Static frames (T, static width) without the energy, coloured by what is usual in `scale`."""
    first = int(config.energy)
    shown, scale = frames[:, first:], scale[:, first:]
    if config.kind == "mfcc":  # coefficients differ in size
        mean, std = scale.mean(dim=0), scale.std(dim=0, correction=0).clamp(min=1e-6)
        shown, scale = (shown - mean) / std, (scale - mean) / std
    low, high = np.quantile(scale.numpy(), (0.01, 0.999))
    # A frame stands for one hop around the middle of its window.
    hop_s = config.hop_samples / config.sample_rate
    start_s = 0.0 if config.family == "kaldi" else -hop_s / 2
    if config.family == "kaldi" and config.snip_edges:
        start_s = (config.window_samples / config.sample_rate - hop_s) / 2
    axes.imshow(
        shown.T.numpy(),
        origin="lower",
        aspect="auto",
        extent=(start_s, start_s + len(shown) * hop_s, first - 0.5, first + shown.shape[1] - 0.5),
        interpolation="nearest",
        cmap="magma",
        vmin=low,
        vmax=high,
    )
    if config.kind == "fbank":
        khz_axis(axes, config, first)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(ylabel="coefficient")


class Labels:
    """Texts above axes whose x is in seconds, in as many rows as let none touch another."""

    def __init__(self, texts: Iterable[tuple[str, float]], inches_per_s: float) -> None:
        self.places: list[tuple[str, float, int]] = []  # text, middle in seconds, row
        ends: list[float] = []  # of each row, in points
        for text, middle in texts:
            half = LABEL_POINTS * (0.32 * len(text) + 0.15)
            at = 72 * inches_per_s * middle
            row = next((row for row, end in enumerate(ends) if end <= at - half), len(ends))
            ends[row : row + 1] = [at + half]
            self.places.append((text, middle, row))
        self.inches = (LABEL_GAP + ROW_POINTS * len(ends)) / 72

    @classmethod
    def of(cls, segments: Iterable[Segment], inches_per_s: float) -> "Labels":
        """The phones of segments, each in its middle."""
        return cls(((s.phone, (s.start_s + s.end_s) / 2) for s in segments), inches_per_s)

    def write(self, axes: Axes, y: float = 1, colours: Mapping[str, str] | None = None) -> None:
        """Write them above y, in parts of the axes' height; `colours` by text."""
        for text, middle, row in self.places:
            axes.annotate(
                text,
                (middle, y),
                xycoords=("data", "axes fraction"),
                xytext=(0, LABEL_GAP + row * ROW_POINTS),
                textcoords="offset points",
                ha="center",
                fontsize=LABEL_POINTS,
                color=(colours or {}).get(text, INK),
                parse_math=False,
                annotation_clip=False,
            )
