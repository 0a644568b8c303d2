"""What grows with the data: seconds and peak memory of the commands, at two sizes each.

    python recipes/cluster/grows.py            everything, some minutes and 1.1 GB of disk
    python recipes/cluster/grows.py score      or only: score, speakers, copies, manifest

Times that double with the size are linear. Each row is a process of its own. The 960 hours are
simulated: 281,241 utterances with the average phones of LibriSpeech, without audio.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from asr.phones import fold_to_arpabet

UTTERANCES = 281_241
SENTENCES = 3_000  # different ones, repeated and shifted


def write_score(folder: Path, utterances: int, phones: int, speakers: int) -> list[Path]:
    """A manifest, its hypotheses in JSONL, and both as trn: about 15 % errors."""
    draw = random.Random(24)
    known = [p for p in fold_to_arpabet().target if p.isalpha()]
    sentences = []
    for _ in range(SENTENCES):
        said = draw.choices(known, k=max(1, round(draw.triangular(0, 2 * phones, phones))))
        heard = []
        for phone in said:
            chance = draw.random()
            if chance > 0.05:
                heard.append(draw.choice(known) if chance < 0.12 else phone)
            if chance > 0.97:
                heard.append(draw.choice(known))
        sentences.append((said, heard))
    names = "manifest.jsonl", "hyp.jsonl", "ref.trn", "hyp.trn"
    paths = [folder / f"{utterances}-{phones}-{speakers}-{name}" for name in names]
    files = [open(path, "w") for path in paths]  # noqa: SIM115
    for n in range(utterances):
        said, heard = sentences[n * 7 % SENTENCES]
        turn = n // SENTENCES % 40
        said, heard = said[turn:] + said[:turn], heard[turn:] + heard[:turn]
        speaker = f"s{n % speakers:05d}"
        id_ = f"{speaker}-{n:07d}"
        about = {"id": id_, "audio": f"/data/LibriSpeech/train/{speaker}/{id_}.flac"}
        about |= {"duration_s": len(said) / 10, "speaker": speaker, "phones": said}
        about |= {"corpus": "simulated", "split": "train", "words": " ".join(said[::4])}
        files[0].write(json.dumps(about) + "\n")
        score, times = -0.1 * len(heard), [i / 10 for i in range(len(heard))]
        confidences = [0.9] * len(heard)
        hypothesis = {"id": id_, "phones": heard, "score": score, "times_s": times}
        files[1].write(json.dumps({**hypothesis, "confidences": confidences}) + "\n")
        files[2].write(f"{' '.join(said)} ({id_})\n")
        files[3].write(f"{' '.join(heard)} ({id_})\n")
    for file in files:
        file.close()
    return paths


def measure(title: str, size: int, command: list[str]) -> None:
    started = time.perf_counter()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, *command],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(pid, 0)
    seconds = time.perf_counter() - started
    cpu = used.ru_utime + used.ru_stime
    failed = "" if status == 0 else f"  exit status {status}"
    print(
        f"{title:<44}{size:>9,}{seconds:8.1f} s{cpu:8.1f} s CPU"
        f"{used.ru_maxrss / 1024:8,.0f} MB{failed}",
        flush=True,
    )


def score(folder: Path) -> None:
    manifest, hyp, ref, trn = map(str, write_score(folder, UTTERANCES, 120, 2_338))
    report = ["--protocol", "arpabet", "--output", str(folder / "report"), "--overwrite"]
    for title, pair in (("manifest, JSONL", (manifest, hyp)), ("trn", (ref, trn))):
        measure(f"asr score, {title}", UTTERANCES, ["-m", "asr", "score", *pair, *report])


def speakers(folder: Path) -> None:
    for size in (10_000, 20_000):
        *_, ref, trn = map(str, write_score(folder, size, 38, size))
        page = ["--protocol", "arpabet", "--html", str(folder / "page"), "--overwrite"]
        measure("asr score --html, a speaker each", size, ["-m", "asr", "score", ref, trn, *page])


COPIES = """
import sys, numpy
from asr.corpora import manifests
from asr.corpora.recording import Recording
size = int(sys.argv[1])
members = [("train", Recording(str(n), f"{n}.wav", "s")) for n in range(size)]
assert len(manifests._duplicate_audio(members, numpy.ones(size, numpy.uint64))[1]) == size - 1
"""
MANIFEST = """
import sys
from asr.dataset import BucketSampler
from asr.records import Manifest
durations = Manifest(sys.argv[1]).durations
assert sum(map(len, BucketSampler(durations, 16, seed=1))) == len(durations)
"""


def copies(folder: Path) -> None:
    for size in (10_000, 20_000):
        measure("copies of one recording", size, ["-c", COPIES, str(size)])


def manifest(folder: Path) -> None:
    measure("Python with torch", 0, ["-c", "import asr.dataset"])
    for size in (UTTERANCES // 2, UTTERANCES):
        path, *_ = write_score(folder, size, 120, 2_338)
        measure("a manifest opened, and an epoch's order", size, ["-c", MANIFEST, str(path)])


PARTS = {part.__name__: part for part in (score, speakers, copies, manifest)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    for part in parser.parse_args().parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder))


if __name__ == "__main__":
    main()
