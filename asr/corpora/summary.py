"""Statistics of manifests: a table of the splits and a figure. Manifests are read line by line."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr.files.outputs import atomic_open
from asr.records import Utterance, stream_jsonl

RAREST = 8  # phones that are listed


@dataclass
class SplitSummary:
    """Counts of one split; durations are in seconds."""

    split: str
    corpus: str = ""
    speakers: set[str] = field(default_factory=set)
    durations: "array[float]" = field(default_factory=lambda: array("f"))
    phones: Counter[str] = field(default_factory=Counter)


def summarise(path: Path) -> SplitSummary:
    """Statistics of one manifest; memory is four bytes for each utterance."""
    summary = SplitSummary(path.stem)
    for utterance in stream_jsonl(path, Utterance):
        summary.corpus = utterance.corpus
        summary.speakers.add(utterance.speaker)
        summary.durations.append(utterance.duration_s)
        summary.phones.update(utterance.phones)
    return summary


def in_words(summaries: Sequence[SplitSummary], phones: Sequence[str]) -> str:
    """A table of the splits, then the rarest of `phones`; lines that end in a newline."""
    width = max(len(name) for name in ["split", *(summary.split for summary in summaries)])
    columns = "utterances  speakers    hours    phones  shortest  median  longest (s)"
    lines = [_corpora(summaries), f"{'split':<{width}}  {columns}"]
    for summary in summaries:
        ordered = sorted(summary.durations)
        lines.append(
            f"{summary.split:<{width}}  {len(ordered):10d}  {len(summary.speakers):8d}  "
            f"{sum(ordered) / 3600:7.2f}  {summary.phones.total():8d}  {ordered[0]:8.2f}  "
            f"{ordered[len(ordered) // 2]:6.2f}  {ordered[-1]:7.2f}"
        )
    for summary in summaries:
        counts = sorted((summary.phones[phone], phone) for phone in phones)
        absent = [phone for count, phone in counts if not count]
        rare = [f"{phone} {count}" for count, phone in counts if count][:RAREST]
        lines.append(f"rarest phones in {summary.split}: {', '.join(rare)}")
        if absent:
            lines.append(f"never in {summary.split}: {' '.join(absent)}")
    return "\n".join(lines) + "\n"


def _corpora(summaries: Sequence[SplitSummary]) -> str:
    return ", ".join(sorted({summary.corpus for summary in summaries}))


def draw(path: Path, summaries: Sequence[SplitSummary], phones: Sequence[str]) -> None:
    """Draw, for each split, a histogram of durations and the frequencies of the phones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    longest = max(max(summary.durations) for summary in summaries)
    order = sorted(phones, key=lambda phone: (-summaries[0].phones[phone], phone))
    bins = np.linspace(0, longest, 31)
    for summary in summaries:
        left.hist(summary.durations, bins, density=True, histtype="step", label=summary.split)
        total = max(1, summary.phones.total())
        share = [100 * summary.phones[phone] / total or float("nan") for phone in order]
        right.plot(range(len(order)), share, ".-", lw=0.8, ms=4, label=summary.split)
    left.set(xlabel="duration of utterances (s)", yticks=[], ylabel="density")
    right.set(yscale="log", ylabel="% of phones", xlim=(-1, len(order)))
    right.set_xticks(range(len(order)), order, rotation=90, fontsize=6)
    right.set_title(_corpora(summaries), loc="left", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
