"""The pictures of docs/synthetic.md: spectrograms with labels, and one of human speech.

    python recipes/synthetic/pictures.py data/synthetic LIBRISPEECH/dev-part [docs/images]

Human speech is LibriSpeech (CC BY 4.0), which has no phone labels: its picture shows words only.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from matplotlib.axes import Axes
from PIL import Image

from asr.errors import DataError, exit_code

RATE = 16_000
LONG_S = 3.4  # length of each spectrogram in the first picture
CLOSE_S = 0.36

Rows = list[tuple[int, int, str]]


@dataclass(frozen=True)
class Case:
    """One panel: a row of labels that shows a rule."""

    title: str
    shows: Callable[[str, str, str], bool]  # label, the one after it, and the one after that


STOP_OF = {"pcl": "p", "tcl": "t", "kcl": "k", "bcl": "b", "dcl": "d", "gcl": "g"}
CASES = (
    Case(
        "unreleased stop: closure without burst", lambda a, b, c: a in STOP_OF and b in ("s", "dh")
    ),
    Case(
        "two stops, one release",
        lambda a, b, c: a in STOP_OF and b in STOP_OF.values() and b != STOP_OF[a],
    ),
    Case("flapped nasal nx", lambda a, b, c: b == "nx"),
    Case("silent gap epi", lambda a, b, c: b == "epi"),
    Case("glottal stop q", lambda a, b, c: b == "q" and c != "en"),
    Case("syllabic nasal en", lambda a, b, c: b == "en" and a != "q"),
    Case("syllabic nasal em", lambda a, b, c: b == "em"),
    Case("devoiced schwa ax-h", lambda a, b, c: b == "ax-h"),
)


def rows_of(path: Path) -> Rows:
    lines = (line.split(maxsplit=2) for line in path.read_text(encoding="utf-8").splitlines())
    return [(int(start), int(end), text) for start, end, text in lines]


def spectrogram(axes: Axes, samples: np.ndarray, start_s: float, window: int = 128) -> None:
    """Draw 0-8 kHz over a range of 48 dB, with pre-emphasis."""
    lifted = samples - 0.9 * np.concatenate([[0.0], samples[:-1]])
    padded = np.pad(lifted, window // 2)
    hop = 16 if len(samples) < RATE else 64
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), 512, axis=1)) ** 2
    level = 10 * np.log10(power.T + 1e-9)
    top = level.max()
    extent = (start_s, start_s + len(samples) / RATE, 0, RATE / 2000)
    axes.imshow(
        level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - 48, vmax=top
    )
    axes.set_ylabel("kHz")
    axes.set_yticks([0, 2, 4, 6, 8])


def mark(axes: Axes, rows: Rows, low_s: float, high_s: float, size: int) -> None:
    """Draw labels above the axes and lines at their boundaries."""
    height = 0
    for start, end, text in rows:
        if end / RATE <= low_s or start / RATE >= high_s:
            continue
        middle = (max(start / RATE, low_s) + min(end / RATE, high_s)) / 2
        axes.annotate(
            text,
            (middle, 1.02 + 0.09 * (height % 2)),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize=size,
        )
        height += 1
        if low_s < start / RATE < high_s:
            axes.axvline(start / RATE, color="white", linewidth=0.7, alpha=0.8)


def save(figure: plt.Figure, path: Path) -> None:
    """Save with 40 colours, which takes a quarter of the space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=84)
    plt.close(figure)
    with Image.open(path) as image:
        image.convert("RGB").quantize(40).save(path, optimize=True)


def beside_real(root: Path, librispeech: Path, path: Path) -> None:
    """Two synthetic utterances, male and female, above one of human speech."""
    figure, panels = plt.subplots(3, 1, figsize=(11, 8.4), layout="constrained")
    for axes, sex in zip(panels, "MF", strict=False):
        names = sorted((root / "TEST").glob(f"DR2/{sex}*/*.PHN"))
        phn = next(name for name in names if rows_of(name)[-1][1] > LONG_S * 0.9 * RATE)
        samples, _ = soundfile.read(phn.with_suffix(".WAV"))
        spectrogram(axes, samples[: round(LONG_S * RATE)], 0)
        mark(axes, rows_of(phn), 0, min(LONG_S, len(samples) / RATE), 8)
        ((_, _, sentence),) = rows_of(phn.with_suffix(".TXT"))
        axes.set_title(f"synthetic, {phn.parent.name}: {sentence}", fontsize=10, pad=28, loc="left")
    flac, words = _utterance_of(librispeech)
    samples, _ = soundfile.read(flac)
    spectrogram(panels[2], samples[: round(LONG_S * RATE)], 0)
    panels[2].set_title(
        textwrap.fill(
            f"a person, LibriSpeech {flac.stem} (CC BY 4.0), its beginning: {words}", 120
        ),
        fontsize=10,
        loc="left",
    )
    panels[2].set_xlabel("seconds")
    save(figure, path)


def _utterance_of(librispeech: Path) -> tuple[Path, str]:
    """The first utterance of 3 to 6 seconds, and what is said in it."""
    for transcripts in sorted(librispeech.rglob("*.trans.txt")):
        for line in transcripts.read_text(encoding="utf-8").splitlines():
            name, words = line.split(maxsplit=1)
            flac = transcripts.with_name(f"{name}.flac")
            if flac.is_file() and LONG_S <= soundfile.info(flac).duration < 6:
                return flac, words.lower()
    raise SystemExit(f"error: {librispeech}: no utterance of 3 to 6 s, expected one as FLAC")


def rules(root: Path, path: Path) -> None:
    """Details that `asr.corpora.synthetic.habits` or espeak-ng's input adds."""
    figure, panels = plt.subplots(2, 4, figsize=(13, 6), layout="constrained")
    files = sorted(root.glob("TRAIN/DR[1-5]/*/*.PHN"))
    for axes, case in zip(panels.flat, CASES, strict=True):
        phn, index = next(
            (phn, index + 1)
            for phn in files
            for rows in [rows_of(phn)]
            for index, (a, b, c) in enumerate(zip(rows, rows[1:], rows[2:], strict=False))
            if case.shows(a[2], b[2], c[2]) and index > 1
        )
        rows = rows_of(phn)
        samples, _ = soundfile.read(phn.with_suffix(".WAV"))
        middle_s = (rows[index][0] + rows[index][1]) / 2 / RATE
        low, high = round((middle_s - CLOSE_S / 2) * RATE), round((middle_s + CLOSE_S / 2) * RATE)
        spectrogram(axes, samples[low:high], low / RATE, window=96)
        mark(axes, rows, low / RATE, high / RATE, 10)
        spoken = [
            text
            for start, end, text in rows_of(phn.with_suffix(".WRD"))
            if start < high and end > low
        ]
        axes.set_title(f"{case.title}\n“{' '.join(spoken)}”", fontsize=9, pad=28)
        axes.set_xlim(low / RATE, high / RATE)
    for axes in panels[1]:
        axes.set_xlabel("seconds")
    save(figure, path)


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("librispeech", type=Path)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    if not any(arguments.root.glob("TRAIN/DR*/*/*.PHN")):
        raise DataError(f"{arguments.root}: no synthetic corpus; `make demo` speaks one")
    beside_real(
        arguments.root, arguments.librispeech, arguments.folder / "synthetic-beside-real.png"
    )
    rules(arguments.root, arguments.folder / "synthetic-rules.png")


if __name__ == "__main__":
    sys.exit(main())
