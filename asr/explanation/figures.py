"""The pictures of the page, as SVG with heat maps inside; one colour for each gate throughout.

Pictures of a course in time share one time axis and are as wide as the speech is long. The others
are drawn twice, for a laptop's column and for a telephone's.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import matplotlib
import numpy as np
import torch
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullFormatter

from asr.explanation.activations import Activations, Floats, Layer
from asr.explanation.memory import AtBoundaries, Reach
from asr.explanation.wording import duration
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.phones import TABLES
from asr.pictures import INK, Labels, Picture, draw_frames, panels
from asr.records import Segment

FAINT, LINE = "#77726a", "#c9c3b8"
BLUE, GREEN, ORANGE = "#0067a5", "#00835c", "#c8500a"
PURPLE, OCHRE, RED = "#8a4a9e", "#b87a00", "#b3234b"
GATES = {"forget": BLUE, "update": BLUE, "input": GREEN, "reset": GREEN, "output": ORANGE}
NETWORKS = (INK, PURPLE, OCHRE, BLUE, GREEN, RED)
PHONES = (BLUE, GREEN, ORANGE, PURPLE, OCHRE, RED)
WIDE, NARROW = 9.6, 3.72  # inches of 96 CSS pixels: a laptop's column, and a telephone's
MARGIN_LEFT, MARGIN_RIGHT = 0.62, 0.12  # inches, the same in all pictures of a course in time
INCHES_PER_S = 2.2  # at least
MOST_S = 6.0  # of speech in a picture
ROWS = 128  # a heat map has no more: neighbours are averaged
SHADES = 32  # of a colour, which the eye takes for a continuum, and a PNG is small
ANONYMOUS = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no metadata in the SVG
PLAIN = " =:/'();,+-._!*@$?[]{}|^"  # what needs no escape in a data URL within double quotes
FAINTEST = 1e-4  # influence that is still shown
STYLE: Any = rc_params_from_file(TABLES / "explanation.mplstyle", use_default_template=False)


def image(draw: Callable[[], Figure], alt: str) -> Picture:
    """A figure drawn in the style of the page, as SVG."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": alt}):
        figure = draw()
        figure.savefig(buffer, format="svg", transparent=True, metadata=ANONYMOUS)
    svg = buffer.getvalue()
    source = quote(svg[svg.index("<svg") :].replace("\n", " "), safe=PLAIN)
    return Picture.of(figure, f"data:image/svg+xml,{source}", alt)


def sized(draw: Callable[[float], Figure], alt: str) -> dict[str, Picture]:
    """A figure drawn twice, for two widths in inches."""
    widths = {"wide": WIDE, "narrow": NARROW}
    return {name: image(partial(draw, width), alt) for name, width in widths.items()}


# ── a course in time ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Course:
    """The time axis that pictures share: the sentence or its beginning, and the phones in it.

    Phones are labelled segments, or else the moments of the spikes of CTC.
    """

    end_s: float
    segments: tuple[Segment, ...]
    spikes: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, activations: Activations) -> "Course":
        end_s = min(activations.sentence.duration_s, MOST_S)
        times = activations.times_s
        spikes = tuple((spike.phone, float(times[spike.peak])) for spike in activations.spikes)
        segments = tuple(s for s in activations.sentence.segments or () if s.start_s < end_s)
        return cls(end_s, segments, tuple(one for one in spikes if one[1] < end_s))

    @property
    def width(self) -> float:
        """Inches between the margins."""
        return max(WIDE - MARGIN_LEFT - MARGIN_RIGHT, INCHES_PER_S * self.end_s)

    def figure(self, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
        """Panels one above the other, heights in inches, with the phones above the first."""
        shown = [s._replace(end_s=min(s.end_s, self.end_s)) for s in self.segments]
        labels = Labels.of(shown, self.width / self.end_s) if shown else self.spike_labels
        margins = (MARGIN_LEFT, MARGIN_RIGHT, labels.inches + 0.06, 0.37)
        figure, stack = panels(self.end_s, self.width, heights, margins, gap=0.24)
        for axes in stack:
            axes.xaxis.set_major_locator(MultipleLocator(0.5 if self.end_s > 2 else 0.2))
        stack[-1].set_xlabel("seconds", labelpad=1)
        labels.write(stack[0])
        return figure, stack

    @property
    def spike_labels(self) -> Labels:
        return Labels(self.spikes, self.width / self.end_s)

    def lines(self, axes: Axes, colour: str = INK, alpha: float = 0.28) -> None:
        """Where phones begin."""
        for segment in self.segments[1:]:
            axes.axvline(segment.start_s, color=colour, lw=0.6, alpha=alpha)


def sound(course: Course, activations: Activations) -> Figure:
    """The waveform above its mel spectrogram, less what is usual in each band of the sentence."""
    figure, (upper, lower) = course.figure((0.8, 1.9))
    sentence, config = activations.sentence, activations.network.recognizer.features.config
    rate = sentence.sample_rate
    waveform = sentence.waveform[: int(course.end_s * rate)]
    block = max(1, len(waveform) // 1600)
    blocks = waveform[: len(waveform) // block * block].reshape(-1, block)
    time = (np.arange(len(blocks)) + 0.5) * block / rate
    upper.fill_between(time, blocks.min(axis=1), blocks.max(axis=1), color=INK, lw=0.3)
    peak = 1.05 * float(np.abs(waveform).max())
    upper.set(ylim=(-peak, peak), yticks=[], ylabel="pressure")
    course.lines(upper)
    if config.kind != "fbank":  # the mel filters that the cepstra are made of
        shared = ("family", "bins", "sample_rate", "window_ms", "hop_ms", "low_hz", "high_hz")
        config = FeaturesConfig(**{key: getattr(config, key) for key in shared}, energy=False)
    whole = torch.from_numpy(sentence.waveform).unsqueeze(0)
    static = Features(config).static(whole, torch.tensor([whole.shape[1]]))[0][0]
    usual = static.mean(dim=0)
    draw_frames(lower, static - usual, static - usual, config)
    lower.set(xlim=(0, course.end_s), ylabel="kHz")
    course.lines(lower, "white", 0.45)
    return figure


def posteriors(course: Course, activations: Activations) -> Figure:
    """Probabilities over time of the blank and of the phones that exceed it."""
    assert activations.log_probs is not None
    figure, (axes,) = course.figure((2.0,))
    time, probabilities = activations.times_s, np.exp(activations.log_probs)
    axes.fill_between(time, probabilities[:, 0], color=LINE, alpha=0.45, lw=0)
    label_of = {spike.phone: spike.label for spike in activations.spikes}
    colour_of = dict(zip(label_of, PHONES * len(label_of), strict=False))
    for phone, label in label_of.items():
        visible = probabilities[:, label] > 0.01
        nearby = np.convolve(visible, [1, 1, 1], mode="same") > 0
        axes.plot(time, np.where(nearby, probabilities[:, label], np.nan), colour_of[phone], lw=1.3)
    course.spike_labels.write(axes, 1 / 1.24, colour_of)
    axes.set(ylim=(0, 1.24), yticks=[0, 0.5, 1], ylabel="probability")
    course.lines(axes)
    return figure


def gates(course: Course, activations: Activations, layer: Layer) -> Figure:
    """Mean gates, then heat maps of each gate and of the state, the most persistent cell on top."""
    shown = layer.shown_gates
    rows = min(ROWS, layer.state.shape[1])
    figure, panels = course.figure([0.8] * bool(shown) + [max(0.7, rows / 96)] * (len(shown) + 1))
    if shown:
        mean = panels.pop(0)
        for name, gate in shown.items():
            mean.plot(activations.times_s, gate.mean(axis=1), color=GATES[name], lw=1.4)
        mean.set(ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="mean")
        course.lines(mean)
    limit = float(np.quantile(np.abs(layer.state), 0.98)) or 1.0
    for axes, (name, gate) in zip(panels, shown.items(), strict=False):
        _heat_map(axes, activations, gate[:, layer.ranking], rows, GATE_MAPS[name], (0, 1))
        axes.set_title(f"{name} gate, 0 to 1")
    state = layer.state[:, layer.ranking]
    _heat_map(panels[-1], activations, state, rows, STATE_MAP, (-limit, limit))
    name = "output" if layer.cell is None else "cell state"
    if shown:
        panels[-1].set_title(f"{name}, −{limit:.1f} to {limit:.1f}")
    for axes in panels:
        _name_rows(axes, activations, layer, rows)
        course.lines(axes, alpha=0.35)
    return figure


def _heat_map(
    axes: Axes,
    activations: Activations,
    values: Floats,
    rows: int,
    colours: LinearSegmentedColormap,
    limits: tuple[float, float],
) -> None:
    half, time = activations.network.step_s / 2, activations.times_s
    merged = [part.mean(axis=1) for part in np.array_split(values, rows, axis=1)]
    right = axes.get_xlim()[1]
    axes.imshow(
        np.stack(merged),
        aspect="auto",
        extent=(time[0] - half, time[-1] + half, rows, 0),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="none",
    )
    axes.set(xlim=(0, right), ylim=(rows, 0))
    axes.spines[["left", "bottom"]].set_visible(False)


def _name_rows(axes: Axes, activations: Activations, layer: Layer, rows: int) -> None:
    """Half-lives, where there are any, at five heights."""
    if layer.half_lives is None:
        axes.set_yticks([])
        return
    lives = np.sort(layer.half_lives)[::-1] * activations.network.step_s
    parts = np.linspace(0, 1, 5)
    names = [duration(float(lives[round(part * (len(lives) - 1))])) for part in parts]
    axes.set_yticks(0.5 + parts * (rows - 1), names)


def _ramp(*colours: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("", colours, N=SHADES)


GATE_MAPS = {name: _ramp("#ffffff", colour) for name, colour in GATES.items()}
STATE_MAP = _ramp("#7a3d00", "#d9963c", "#fbfaf7", "#8f7cc0", "#3b1a78")


# ── boundaries and cells ─────────────────────────────────────────────────────────────────────


def around_boundaries(
    width: float, layers: Sequence[tuple[str, dict[str, AtBoundaries]]], step_s: float
) -> Figure:
    """Gates relative to chance, by the distance from a boundary; bands hold 95 % of chance."""
    columns = min(len(layers), 2)
    rows = -(-len(layers) // columns)
    size = (min(width, 5.2 * columns), 2.3 * rows + 0.2)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(layers) :]:
        axes.set_visible(False)
    for axes, (title, by_gate) in zip(panels.flat, layers, strict=False):
        axes.axvline(0, color=INK, lw=0.6, alpha=0.4)
        axes.axhline(0, color=LINE, lw=0.8)
        for name, one in by_gate.items():
            window = len(one.profile) // 2
            distance = np.arange(-window, window + 1) * step_s * 1000
            usual = (one.low + one.high) / 2
            axes.fill_between(
                distance, one.low - usual, one.high - usual, color=GATES[name], alpha=0.14, lw=0
            )
            axes.plot(distance, one.profile - usual, color=GATES[name], lw=1.6, marker=".", ms=4)
        axes.set_title(title, color=INK)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.2f}"))
    for axes in panels[-1]:
        axes.set_xlabel("ms from the boundary")
    for axes in panels[:, 0]:
        axes.set_ylabel("more open than usual")
    return figure


def by_class(
    width: float, states: Floats, previous: Sequence[str], order: Sequence[str], label: str
) -> Figure:
    """A cell's state by the class of the phone before: dots, and the mean of each class."""
    figure = Figure(figsize=(min(width, 7.2), 0.32 * len(order) + 0.6), layout="constrained")
    axes = figure.add_subplot()
    classes = np.asarray(previous)
    rng = np.random.default_rng(0)
    axes.axvline(0, color=LINE, lw=0.8)
    for row, name in enumerate(order):
        values = states[classes == name]
        dots = values if len(values) <= 150 else rng.choice(values, 150, replace=False)
        heights = row + rng.uniform(-0.26, 0.26, len(dots))
        axes.plot(dots, heights, ".", color=FAINT, alpha=0.4, ms=4, mew=0)
        axes.plot([values.mean()] * 2, [row - 0.38, row + 0.38], color=INK, lw=2.2)
    axes.set_yticks(range(len(order)), [f"{name}, {(classes == name).sum()}" for name in order])
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    left, right = np.quantile(states, [0.005, 0.995])
    room = 0.03 * (right - left)
    axes.set(xlim=(left - room, right + room), ylim=(len(order) - 0.4, -0.6))
    axes.set_xlabel(label)
    axes.spines[["left"]].set_visible(False)
    return figure


def one_cell(
    width: float,
    activations: Activations,
    layer: Layer,
    cell: int,
    phones: Sequence[Segment],
    moment_s: float,
) -> Figure:
    """State, gates and output of a cell through phones; a line where the first left the input."""
    curves = {} if layer.cell is None else {"state": (layer.cell[:, cell], INK)}
    if layer.hidden.shape == layer.state.shape:  # not where a projection mixes the cells
        curves["output"] = (layer.hidden[:, cell], PURPLE)
    gates = [(name, gate[:, cell]) for name, gate in layer.shown_gates.items()]
    heights = [1.4] + [1.3] * bool(gates) + [0.8] * (len(curves) - 1)
    size = (min(width, 7.2), 0.65 + sum(heights) + 0.12 * (len(heights) - 1))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    rows = list(panels[:, 0])
    time = activations.times_s
    start, end = phones[0].start_s, phones[-1].end_s
    if gates:
        axes = rows.pop(1)
        for name, values in gates:
            axes.plot(time, values, color=GATES[name], lw=1.6, marker=".", ms=4)
        axes.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1], ylabel="gates")
    inside = (time >= start - 0.03) & (time <= end + 0.03)
    for axes, (name, (values, colour)) in zip(rows, curves.items(), strict=True):
        axes.plot(time, values, color=colour, lw=2, marker=".", ms=4)
        room = 0.15 * max(float(np.ptp(values[inside])), 0.5)
        axes.set_ylim(values[inside].min() - room, values[inside].max() + room)
        axes.set_ylabel(name)
        if name == "output":
            axes.set(ylim=(-1.08, 1.08), yticks=[-1, 0, 1])
    for axes in panels[:, 0]:
        for edge in (*(phone.start_s for phone in phones), end):
            axes.axvline(edge, color=INK, lw=0.7, alpha=0.4)
        axes.axvline(moment_s, color=RED, lw=0.9, ls=(0, (2, 2)))
        axes.set_xlim(start - 0.02, end + 0.02)
    Labels.of(phones, size[0] / (end - start)).write(panels[0, 0])
    panels[-1, 0].set_xlabel("seconds")
    figure.align_ylabels()
    return figure


# ── reach ────────────────────────────────────────────────────────────────────────────────────


def reaches(width: float, networks: Sequence[tuple[str, Reach, bool]]) -> Figure:
    """|∂y_t/∂x_{t−k}| against k for several networks; the flag marks the untrained control."""
    figure = Figure(figsize=(width, 3.3 if width < 6 else 3.9), layout="constrained")
    axes = figure.add_subplot()
    colours = iter(NETWORKS * len(networks))
    edges = [0.0, 0.0]
    for name, one, untrained in networks:
        time = one.lags * one.step_s * 1000
        colour = FAINT if untrained else next(colours)
        low, middle, high = (np.maximum(one.curve(q), 1e-12) for q in (0.25, 0.5, 0.75))
        axes.fill_between(time, low, high, color=colour, alpha=0.13, lw=0)
        style = (0, (3, 2)) if untrained else "-"
        axes.plot(time, middle, color=colour, lw=1.8, ls=style, label=name)
        visible = time[high >= FAINTEST]
        edges = [min(edges[0], visible.min()), max(edges[1], visible.max())]
    for share, text in ((0.1, "1/10"), (0.01, "1/100")):
        axes.axhline(share, color=INK, lw=0.6, ls=(0, (1, 2)))
        axes.annotate(
            text,
            (1, share),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            color=FAINT,
        )
    axes.set_yscale("log")
    axes.set(xlim=edges, ylim=(FAINTEST, None), ylabel="influence, as a share of that at k = 0")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("k: how long ago the input came (ms)")
    figure.legend(loc="outside upper right", ncols=2 if width < 6 else 4)
    return figure
