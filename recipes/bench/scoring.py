"""Speed of `asr score` compared with jiwer and NIST sclite, on the same files, with equal counts.

    python recipes/bench/scoring.py
    python recipes/bench/scoring.py --check

sclite is in Debian's package sctk; without it only jiwer is compared. jiwer gets its sentences in
memory; sclite and `asr score` are commands that read two .trn files, and ours also prints
confusions, speakers and intervals. "in memory" is the part of ours that aligns and counts. Seconds
are CPU time; each uses one core.
"""

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from asr.commands.score import without_garbage_collection
from asr.errors import exit_code
from asr.phones import phone_set
from asr.scoring import (
    ErrorCounts,
    Transcripts,
    protocol,
    read_transcripts,
    score_transcripts,
)

PHONES = 38  # for each utterance; TIMIT's core test has 37.6
MOST_OF_JIWER = 1.3  # whole command, scorer levenshtein
TIMES_SCLITE = 10  # in memory, scorer sclite
REPEATS = 2
SCTK = "/usr/lib/sctk/bin/sclite"  # Debian's path


@exit_code
def main() -> int:
    """Exit code 1 with --check if counts differ or a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--sclite", default=shutil.which("sclite") or shutil.which(SCTK))
    parser.add_argument("--check", action="store_true", help="fail if a limit is exceeded")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return bench(arguments.utterances, arguments.sclite, arguments.check, Path(folder))


def bench(utterances: int, sclite: str | None, check: bool, folder: Path) -> int:
    """Time all scorers, compare counts, print a table."""
    ref, hyp = write_files(folder, utterances)
    sides = read_transcripts(ref), read_transcripts(hyp)
    runs = {
        f"ours, {scorer}{how}": call
        for scorer in ("levenshtein", "sclite")
        for how, call in (
            ("", partial(command, ref, hyp, scorer)),
            (", in memory", partial(in_memory, *sides, scorer)),
        )
    }
    runs["jiwer"] = partial(jiwer_counts, *(sentences(path) for path in (ref, hyp)))
    if sclite is not None:
        runs["sclite"] = partial(sclite_counts, sclite, ref, hyp)
    seconds, totals = {}, {}
    for name, call in runs.items():
        seconds[name], totals[name] = best_of(REPEATS, call)
        if name == "ours, sclite":
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{utterances:,} utterances × {PHONES} phones\n")
    print(f"{'':30}{'seconds':>9}{'utterances/s':>14}{'× sclite':>10}{'× jiwer':>9}")
    for name, took in seconds.items():
        ratios = [
            f"{seconds[peer] / took:.1f}" if peer in seconds else "–"
            for peer in ("sclite", "jiwer")
        ]
        print(f"{name:30}{took:9.2f}{utterances / took:14,.0f}{ratios[0]:>10}{ratios[1]:>9}")
    print(f"\nmemory of the command: {peak / 1024:.0f} MB")
    kept = {
        "counts equal jiwer's": totals["jiwer"] == totals["ours, levenshtein, in memory"],
        f"levenshtein takes at most {MOST_OF_JIWER} of jiwer's time": seconds["ours, levenshtein"]
        <= MOST_OF_JIWER * seconds["jiwer"],
    }
    if sclite is not None:
        kept["counts equal sclite's"] = totals["sclite"] == totals["ours, sclite, in memory"]
        kept[f"sclite's alignment, in memory, at {TIMES_SCLITE} × sclite's rate"] = (
            seconds["sclite"] >= TIMES_SCLITE * seconds["ours, sclite, in memory"]
        )
    else:
        print("sclite is not installed (Debian package sctk), so it is not compared")
    for promise, is_kept in kept.items():
        print(f"{'yes' if is_kept else 'NO '}  {promise}")
    return int(check and not all(kept.values()))


def write_files(folder: Path, utterances: int) -> tuple[Path, Path]:
    """Random phones, and hypotheses with about 18 % errors; the same on every machine."""
    rng = random.Random(utterances)
    phones = phone_set("timit39")
    ref, hyp = folder / f"ref{utterances}.trn", folder / f"hyp{utterances}.trn"
    with open(ref, "w") as references, open(hyp, "w") as hypotheses:
        for number in range(utterances):
            said = rng.choices(phones, k=PHONES)
            output = []
            for phone in said:
                chance = rng.random()
                if chance > 0.05:
                    output.append(rng.choice(phones) if chance < 0.16 else phone)
                if chance > 0.97:
                    output.append(rng.choice(phones))
            ending = f"(s{number % 200:03d}-{number:07d})\n"
            references.write(" ".join([*said, ending]))
            hypotheses.write(" ".join([*output, ending]))
    return ref, hyp


def best_of(repeats: int, count: Callable[[], ErrorCounts]) -> tuple[float, ErrorCounts]:
    """Lowest CPU seconds of `repeats` calls, and their result."""
    took = []
    for _ in range(repeats):
        start = processor_s()
        counts = count()
        took.append(processor_s() - start)
    return min(took), counts


def processor_s() -> float:
    """CPU seconds of this process and of its children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def command(ref: Path, hyp: Path, scorer: str) -> ErrorCounts:
    """`asr score` as a command, to the printed report; its counts are those of `in_memory`."""
    arguments = [str(ref), str(hyp), "--scorer", scorer, "--protocol", "none"]
    subprocess.run(
        [sys.executable, "-m", "asr", "score", *arguments], check=True, capture_output=True
    )
    return ErrorCounts()


def in_memory(references: Transcripts, hypotheses: Transcripts, scorer: str) -> ErrorCounts:
    """Alignments, counts by speaker and confusions of transcripts in memory."""
    with without_garbage_collection():
        return score_transcripts(references, hypotheses, protocol("none"), scorer).total


def sentences(path: Path) -> list[str]:
    """The lines of a .trn file without their ids."""
    return [line[: line.rindex("(")].strip() for line in path.read_text().splitlines()]


def jiwer_counts(references: list[str], hypotheses: list[str]) -> ErrorCounts:
    """Counts of jiwer's process_words."""
    import jiwer

    result = jiwer.process_words(references, hypotheses)
    return ErrorCounts(
        len(references),
        result.hits + result.substitutions + result.deletions,
        result.hits,
        result.substitutions,
        result.deletions,
        result.insertions,
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


if __name__ == "__main__":
    sys.exit(main())
