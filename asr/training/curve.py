"""The learning curve: losses and dev PER over epochs."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from asr.files.outputs import atomic_open
from asr.training.schedule import History, best, last_phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLOURS = 10  # of runs in one picture, those with the lowest dev PER; the others are grey


def draw(path: Path, history: History, dev: str) -> None:
    """Write the PNG. Scales are logarithmic; a dotted line marks where a phase begins."""
    from matplotlib.figure import Figure

    epochs = [record["epoch"] for record in history]
    chosen = best(last_phase(history))
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    curves = {
        "train_loss": f"loss (nats per phone): training, and dashed {dev}",
        "dev_per": f"{dev} PER (%), {chosen['dev_per']:.2f} in epoch {chosen['epoch']}",
    }
    marker = "." if len(history) < 100 else ""
    for column, (key, title) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, 2, column, xlabel="epoch")
        axes.set_title(title, loc="left", fontsize=10)
        axes.plot(epochs, [record[key] for record in history], marker=marker)
        _scale(axes, (record[key] for record in history))
        for before, record in pairwise(history):
            if record["phase"] != before["phase"]:
                axes.axvline(record["epoch"] - 0.5, color="0.5", lw=0.8, ls=":")
        if key == "train_loss":
            axes.plot(epochs, [record["dev_loss"] for record in history], "--", color="0.4")
        else:
            place = [chosen["epoch"]], [chosen["dev_per"]]
            axes.plot(*place, "o", mfc="none", ms=9, color="tab:red")
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def together(histories: Mapping[str, History]) -> "Figure":
    """Losses and dev PER of several runs by name, each with the colour that the legend gives."""
    from matplotlib.figure import Figure

    lowest = sorted(histories, key=lambda name: best(histories[name])["dev_per"])[:MOST_COLOURS]
    figure = Figure(figsize=(10, 3.5 + 0.12 * len(lowest)), layout="constrained")
    titles = {"train_loss": "training loss (nats per phone)", "dev_loss": "dev loss"}
    for column, (key, title) in enumerate({**titles, "dev_per": "dev PER (%)"}.items(), start=1):
        axes = figure.add_subplot(1, 3, column, xlabel="epoch")
        axes.set_title(title, loc="left", fontsize=10)
        for name in sorted(histories, key=lowest.__contains__):  # grey ones below
            epochs = [record["epoch"] for record in histories[name]]
            (line,) = axes.plot(epochs, [record[key] for record in histories[name]])
            line.set(color="0.75", linewidth=0.8, label="the others")
            if name in lowest:
                line.set(color=f"C{lowest.index(name)}", linewidth=1.5, label=name)
            line.set_marker("." if len(epochs) < 30 else "")
        _scale(axes, (record[key] for history in histories.values() for record in history))
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [*lowest, *(named.keys() - lowest)]
    legend = figure.legend([named[n] for n in labels], labels, loc="outside lower left", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _scale(axes: "Axes", values: Iterable[float]) -> None:
    """Whole epochs; a logarithmic scale, unless values are log densities, which may be negative."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.2)
