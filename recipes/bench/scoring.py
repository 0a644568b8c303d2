"""How fast `asr score` is beside NIST sclite and jiwer, on the same files, with the same counts.

    python recipes/bench/scoring.py
    python recipes/bench/scoring.py --utterances 20000 --sclite /usr/lib/sctk/bin/sclite --check

Everybody reads two .trn files, encodes and counts. jiwer and ours are timed as libraries that are
loaded (compiling takes us seconds once per installation); sclite, and ours once more, as commands.
"""

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from asr.phones import phone_set
from asr.scoring import ErrorCounts, count_large_files, protocol

PHONES = 38  # of an utterance: TIMIT's core test has 37.6
TIMES_SCLITE, TIMES_JIWER = 30, 8  # what we promise
FLAT_BYTES = 100  # memory that one more utterance may cost
REPEATS = 3


def main() -> int:
    """Exit code 1 with --check if counts differ or a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--sclite", default=shutil.which("sclite"), help="default: from PATH")
    parser.add_argument("--check", action="store_true", help="fail if a promise is broken")
    parser.add_argument("--memory-of", nargs=2, metavar=("REF", "HYP"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        ref, hyp = arguments.memory_of
        ours(Path(ref), Path(hyp), "sclite")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return bench(arguments.utterances, arguments.sclite, arguments.check, Path(folder))


def bench(utterances: int, sclite: str | None, check: bool, folder: Path) -> int:
    """Time everybody, compare counts, print a table."""
    ref, hyp = write_files(folder, utterances)
    ours(*write_files(folder / "warm", 4000), "sclite")
    seconds: dict[str, float] = {}
    totals: dict[str, ErrorCounts] = {}
    for scorer in ("sclite", "levenshtein"):
        name = f"ours, {scorer}"
        seconds[name], totals[name] = best_of(REPEATS, partial(ours, ref, hyp, scorer))
    seconds["ours, sclite, whole command"] = best_of(REPEATS, lambda: command(ref, hyp))[0]
    seconds["jiwer"], totals["jiwer"] = best_of(1, lambda: jiwer_counts(ref, hyp))
    if sclite is not None:
        seconds["sclite"], totals["sclite"] = best_of(1, lambda: sclite_counts(sclite, ref, hyp))
    print(f"{utterances:,} utterances × {PHONES} phones, reading and encoding included\n")
    print(f"{'':30}{'seconds':>9}{'utterances/s':>14}{'× sclite':>10}{'× jiwer':>9}")
    for name, took in seconds.items():
        ratios = [
            f"{seconds[peer] / took:.1f}" if peer in seconds else "–"
            for peer in ("sclite", "jiwer")
        ]
        print(f"{name:30}{took:9.2f}{utterances / took:14,.0f}{ratios[0]:>10}{ratios[1]:>9}")
    growth = memory_growth(folder, utterances)
    print(f"\nmemory: {growth:.0f} bytes more for each more utterance")
    kept = {
        "counts equal jiwer's": totals["jiwer"] == totals["ours, levenshtein"],
        f"{TIMES_JIWER}× jiwer": seconds["jiwer"] > TIMES_JIWER * seconds["ours, levenshtein"],
        f"memory flat (≤ {FLAT_BYTES} bytes an utterance)": growth <= FLAT_BYTES,
    }
    if sclite is not None:
        kept["counts equal sclite's"] = totals["sclite"] == totals["ours, sclite"]
        kept[f"{TIMES_SCLITE}× sclite"] = seconds["sclite"] > TIMES_SCLITE * seconds["ours, sclite"]
    else:
        print("sclite: not found (Debian package sctk), so not compared")
    for promise, is_kept in kept.items():
        print(f"{'yes' if is_kept else 'NO '}  {promise}")
    return int(check and not all(kept.values()))


def write_files(folder: Path, utterances: int) -> tuple[Path, Path]:
    """Random phones, and hypotheses with about 18 % errors; the same on every machine."""
    folder.mkdir(exist_ok=True)
    rng = random.Random(utterances)
    phones = phone_set("timit39")
    ref, hyp = folder / f"ref{utterances}.trn", folder / f"hyp{utterances}.trn"
    with open(ref, "w") as references, open(hyp, "w") as hypotheses:
        for number in range(utterances):
            said = rng.choices(phones, k=PHONES)
            heard = []
            for phone in said:
                chance = rng.random()
                if chance > 0.05:
                    heard.append(rng.choice(phones) if chance < 0.16 else phone)
                if chance > 0.97:
                    heard.append(rng.choice(phones))
            ending = f"(s{number % 200:03d}-{number:07d})\n"
            references.write(" ".join([*said, ending]))
            hypotheses.write(" ".join([*heard, ending]))
    return ref, hyp


def best_of(repeats: int, count: Callable[[], ErrorCounts]) -> tuple[float, ErrorCounts]:
    """Least seconds of `repeats` calls, and what they returned."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        counts = count()
        took.append(time.perf_counter() - start)
    return min(took), counts


def ours(ref: Path, hyp: Path, scorer: str) -> ErrorCounts:
    """Both files in one pass; the files are large enough for that."""
    from asr import scoring

    scoring.LARGE_BYTES = 0
    found = count_large_files(ref, hyp, protocol("none"), scorer)
    assert found is not None
    return found.total


def command(ref: Path, hyp: Path) -> ErrorCounts:
    """`python -m asr.score`, with intervals and tables, from nothing to the printed report."""
    arguments = [str(ref), str(hyp), "--scorer", "sclite", "--protocol", "none"]
    subprocess.run([sys.executable, "-m", "asr.score", *arguments], check=True, capture_output=True)
    return ErrorCounts()


def jiwer_counts(ref: Path, hyp: Path) -> ErrorCounts:
    """jiwer's process_words on the same lines without their ids."""
    import jiwer

    sides = [
        [line[: line.rindex("(")].strip() for line in path.read_text().splitlines()]
        for path in (ref, hyp)
    ]
    found = jiwer.process_words(sides[0], sides[1])
    return ErrorCounts(
        len(sides[0]),
        found.hits + found.substitutions + found.deletions,
        found.hits,
        found.substitutions,
        found.deletions,
        found.insertions,
    )


def sclite_counts(sclite: str, ref: Path, hyp: Path) -> ErrorCounts:
    """sclite's sum of raw counts: sentences, words, corr, sub, del, ins, err."""
    arguments = ["-s", "-r", str(ref), "trn", "-h", str(hyp), "trn", "-i", "rm"]
    printed = subprocess.run(
        [sclite, *arguments, "-o", "rsum", "stdout"], check=True, capture_output=True, text=True
    ).stdout
    sums = next(line for line in printed.splitlines() if line.strip().startswith("| Sum"))
    numbers = [int(word) for word in sums.replace("|", " ").split()[1:]]
    utterances, words, corr, sub, dele, ins = numbers[:6]
    return ErrorCounts(utterances, words, corr, sub, dele, ins)


def memory_growth(folder: Path, utterances: int) -> float:
    """How much the peak of memory grows from a fifth to twice the utterances, for each of them."""
    few, many = utterances // 5, 2 * utterances
    peaks = []
    for number in (few, many):
        paths = [str(path) for path in write_files(folder / "memory", number)]
        child = [sys.executable, __file__, "--memory-of", *paths]
        peaks.append(int(subprocess.run(child, check=True, capture_output=True, text=True).stdout))
    return (peaks[1] - peaks[0]) / (many - few)


if __name__ == "__main__":
    sys.exit(main())
