"""The labels of the synthetic corpus: their counts, durations, and exactness of boundaries.

    python recipes/synthetic/measure.py [data/synthetic] [--timit FOLDER]

Prints the tables of docs/synthetic.md; with a TIMIT tree, its figures too. A boundary is compared
with the largest change of the short-time spectrum within 25 ms, computed from other frames and
bands than those of the rules that set the labels.
"""

import argparse
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from asr.corpora.synthetic.boundaries import classes
from asr.corpora.timit import survey
from asr.errors import exit_code
from asr.phones import phone_set

RATE = 16_000
HOP = 16  # samples: frames of 1 ms
SEARCH = 25  # ms
STRIDE = 5  # boundaries are measured in every fifth utterance

Rows = list[tuple[int, int, str]]


def rows_of(path: str) -> Rows:
    lines = (line.split() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [(int(start), int(end), phone.lower()) for start, end, phone in lines]


def durations(files: list[str]) -> dict[str, list[float]]:
    """Label → its durations in ms."""
    by_label = defaultdict(list)
    for path in files:
        for start, end, phone in rows_of(path):
            by_label[phone].append((end - start) / RATE * 1000)
    return by_label


def kinds_of_boundary() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    kinds = classes()
    fricative = frozenset({"f", "s", "sh", "th", "v", "z", "zh"})
    silence = frozenset({"epi"})
    voiceless = frozenset({"pcl", "tcl", "kcl"})
    burst = kinds["release"] | {"ch", "jh"}
    return {
        "vowel → fricative": (kinds["vowel"], fricative),
        "fricative → vowel": (fricative, kinds["vowel"]),
        "vowel → nasal": (kinds["vowel"], kinds["nasal"]),
        "nasal → vowel": (kinds["nasal"], kinds["vowel"]),
        "vowel → flapped nasal": (kinds["vowel"], frozenset({"nx"})),
        "vowel → liquid": (kinds["vowel"], kinds["liquid"]),
        "liquid → vowel": (kinds["liquid"], kinds["vowel"]),
        "vowel → voiceless closure": (kinds["vowel"], voiceless),
        "closure → its release": (kinds["closure"], burst),
        "unreleased closure → consonant": (kinds["closure"], kinds["closing"]),
        "fricative → gap": (fricative, silence),
        "gap → sonorant": (silence, kinds["gapped"]),
        "glottal stop → vowel": (frozenset({"q"}), kinds["vowel"]),
        "syllabic nasal, its start": (
            burst | fricative | {"dh", "dx"},
            frozenset({"en", "em", "eng"}),
        ),
    }


def changes(samples: np.ndarray) -> np.ndarray:
    """The change of the spectrum at each frame: 8 ms after it against 8 ms before it."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 48), 96)[::HOP]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(96), 256, axis=1)) ** 2
    bands = np.log(np.add.reduceat(spectra, [2, 5, 8, 12, 16, 22, 30, 42, 58, 80, 104], axis=1))
    sums = np.concatenate([np.zeros((1, bands.shape[1])), np.cumsum(bands, axis=0)])
    at = np.arange(len(bands))
    low, high = np.maximum(at - 8, 0), np.minimum(at + 8, len(bands))
    before = (sums[at] - sums[low]) / np.maximum(at - low, 1)[:, None]
    behind = (sums[high] - sums[at]) / np.maximum(high - at, 1)[:, None]
    return np.linalg.norm(behind - before, axis=1)


def boundary_errors(audio: list[str], labels: list[str]) -> dict[str, list[float]]:
    """Kind of boundary → ms from each label to the largest change near it."""
    kinds = kinds_of_boundary()
    errors = defaultdict(list)
    for wav, phn in zip(audio, labels, strict=True):
        change = changes(soundfile.read(wav, dtype="float64")[0])
        for (start, edge, last), (_, end, this) in pairwise(rows_of(phn)):
            for kind, (lasts, theses) in kinds.items():
                if last in lasts and this in theses:
                    # At most half of a short neighbour: its other end may change more.
                    back = min(SEARCH, (edge - start) // 2 // HOP)
                    ahead = min(SEARCH, (end - edge) // 2 // HOP)
                    at = edge // HOP
                    near = change[max(at - back, 0) : at + ahead + 1]
                    errors[kind].append(float(np.argmax(near)) - min(back, at))
    return errors


def print_labels(synthetic: dict[str, list[float]], timit: dict[str, list[float]] | None) -> None:
    total = sum(map(len, synthetic.values()))
    others = sum(map(len, timit.values())) if timit else 0
    print("| label | count | ‰ | median ms |" + (" TIMIT ‰ | TIMIT ms |" if timit else ""))
    print("|---|---:|---:|---:|" + ("---:|---:|" if timit else ""))
    for phone in sorted(phone_set("timit61")):
        lengths = synthetic.get(phone, [])
        row = f"| {phone} | {len(lengths)} | {1000 * len(lengths) / total:.1f} | "
        row += f"{np.median(lengths):.0f} |" if lengths else "– |"
        if timit:
            real = timit.get(phone, [])
            row += f" {1000 * len(real) / others:.1f} | {np.median(real):.0f} |" if real else "||"
        print(row)


def print_boundaries(tables: list[dict[str, list[float]]]) -> None:
    names = ("n", "median ms", "≤ 10 ms", "≤ 20 ms")
    columns = [f" {where} {name} |" for where in ("", "TIMIT")[: len(tables)] for name in names]
    print("| boundary |" + "".join(columns))
    print("|---|" + "---:|" * len(names) * len(tables))
    for kind in kinds_of_boundary():
        row = f"| {kind} |"
        for table in tables:
            errors = np.abs(table.get(kind, []))
            if not len(errors):
                row += " 0 | – | – | – |"
                continue
            within = [f"{100 * np.mean(errors <= limit):.0f} %" for limit in (10, 20)]
            row += f" {len(errors)} | {np.median(errors):.0f} | {within[0]} | {within[1]} |"
        print(row)


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("data/synthetic"))
    parser.add_argument("--timit", type=Path, help="a TIMIT tree to compare with")
    arguments = parser.parse_args()
    synthetic, _ = survey(arguments.root)
    timit = survey(arguments.timit)[0] if arguments.timit else []
    files = [[r.labels for r in group if r.labels] for group in (synthetic, timit)]
    print_labels(durations(files[0]), durations(files[1]) if timit else None)
    print()
    part = synthetic[::STRIDE]
    tables = [
        boundary_errors([r.audio for r in group], [r.labels for r in group if r.labels])
        for group in (part, timit)
        if group
    ]
    print_boundaries(tables)


if __name__ == "__main__":
    sys.exit(main())
