"""The learning curve: losses and dev PER over epochs."""

from itertools import pairwise
from pathlib import Path

from asr.files.outputs import atomic_open
from asr.training.schedule import History, best, last_phase


def draw(path: Path, history: History, dev: str) -> None:
    """Write the PNG. Scales are logarithmic; a dotted line marks where a phase begins."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

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
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if min(record[key] for record in history) > 0:  # log densities may not be
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.2)
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
