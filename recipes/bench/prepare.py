"""Speed of `asr prepare`, and its memory for a corpus of 960 hours.

    ASR_SHARED=/path/to/shared python recipes/bench/prepare.py

Real recordings are those of TIMIT and LibriSpeech in ASR_SHARED, if there are any, by format: CPU
time of one process, with the files in the page cache. The hour of audio is 16-bit WAV with `.phn`
in a temporary folder. The 960 hours are simulated, without audio: 281,241 recordings with the
average words and phones of LibriSpeech. Memory is the peak growth of the process after the imports.
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import AudioInfo
from asr.commands import prepare
from asr.corpora import TimitConfig, manifests, timit
from asr.corpora.checks import Checked, check
from asr.corpora.recording import Corpus, PhoneSetLabeller, Recording
from asr.corpora.summary import summarise
from asr.dataset import Batches
from asr.errors import exit_code
from asr.phones import Vocabulary, phone_set
from asr.records import Manifest, Utterance

RATE = 16_000
FILES, SECONDS = 1200, 3.0
SPLITS = {"train": 281_241 - 5_000, "dev": 2_500, "test": 2_500}
WORDS, PHONES, DURATION_S = 33, 120, 12.3  # LibriSpeech on average


def write_hour(root: Path) -> None:
    """FILES utterances of SECONDS in TIMIT's layout: a tone in noise, 40 labels."""
    rng = np.random.default_rng(0)
    samples = round(SECONDS * RATE)
    tone = 3000 * np.sin(np.arange(samples) / 20)
    phones = phone_set("timit61")
    edges = np.linspace(0, samples, 41).astype(int)
    for number in range(FILES):
        speaker, sentence = divmod(number, 10)
        part = "TRAIN" if speaker < FILES // 10 - 74 else "TEST"
        folder = root / part / "DR1" / f"M{speaker:03d}0"
        folder.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(-3000, 3000, samples)
        soundfile.write(
            folder / f"SX{sentence}.WAV", (tone + noise).astype(np.int16), RATE, format="WAV"
        )
        lines = [
            f"{a} {b} {phones[(number + n) % 61]}\n" for n, (a, b) in enumerate(pairwise(edges))
        ]
        (folder / f"SX{sentence}.PHN").write_text("".join(lines))


def speed() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "corpus")
        write_hour(root)
        speakers = Path(name, "speakers.txt")
        speakers.write_text(
            "".join(
                f"m{n:03d}0 {'train' if n % 10 else 'dev' if n % 20 else 'test'}\n"
                for n in range(FILES // 10)
            )
        )
        config = TimitConfig(root=str(root), speakers=str(speakers))
        print(f"Audio and labels of {FILES * SECONDS / 3600:.2f} h, 16-bit WAV, files in the cache")
        for jobs in (1, 2):
            best = min(_prepare(config, Path(name), jobs) for _ in range(3))
            print(
                f"  {jobs} process{'es' if jobs > 1 else '  '}  {best:6.2f} s  "
                f"{FILES * SECONDS / best:7,.0f} × real time  "
                f"{1e3 * best / FILES:.2f} ms for a file of {SECONDS:g} s"
            )


FORMATS = {  # of real recordings: folders below corpora/, and the endings of their files
    "WAV (TIMIT)": (("timit-sample",), ".wav"),
    "FLAC (LibriSpeech)": (("LibriSpeech/dev-part", "LibriSpeech/test-part"), ".flac"),
    "Opus (LibriSpeech)": (("LibriSpeech/dev-clean",), ".opus"),
}


def no_labels(recording: Recording, header: AudioInfo) -> tuple[tuple[str, ...], None]:
    return ("sil",), None


def formats() -> None:
    """× real time of the check of real recordings, by format."""
    corpora = Path(os.environ.get("ASR_SHARED", "../shared"), "corpora")
    corpus = Corpus("real", {}, no_labels, RATE)
    for name, (folders, ending) in FORMATS.items():
        paths = sorted(p for f in folders for p in (corpora / f).rglob("*") if p.suffix == ending)
        chosen = paths[:: max(1, len(paths) // 240)]
        if not chosen:
            print(f"  {name:<20} no files below {corpora}; set ASR_SHARED")
            continue
        recordings = [Recording(id=path.stem, audio=str(path), speaker="s") for path in chosen]
        spent = []
        for _ in range(4):
            started = time.process_time()
            checked = [check(recording, "train", corpus) for recording in recordings]
            spent.append(time.process_time() - started)
        seconds = sum(each.utterance.duration_s for each in checked if each.utterance)
        print(
            f"  {name:<20} {len(chosen)} files, {seconds / 60:.0f} min: "
            f"{seconds / min(spent):7,.0f} × real time"
        )


def _prepare(config: TimitConfig, folder: Path, jobs: int) -> float:
    started = time.perf_counter()
    corpus = timit.find(config)
    outcome = manifests.write(corpus, folder, folder / "warnings.txt", jobs)
    assert not outcome.bad, outcome.bad[:3]
    for split in corpus.splits:
        summarise(folder / f"{split}.jsonl")
    return time.perf_counter() - started


def simulated() -> Corpus:
    """A corpus of LibriSpeech's size, without audio."""
    splits = {}
    for split, count in SPLITS.items():
        splits[split] = [
            Recording(
                id=f"{1000 + n // 100}-{split}{n // 20 % 5}-{n:07d}",
                audio=f"/data/LibriSpeech/{split}/{1000 + n // 100}/{n // 20 % 5}/{n:07d}.flac",
                speaker=f"{split}{n // 100}",
                words=" ".join(f"W{(n * k) % 9999:04d}" for k in range(WORDS)),
            )
            for n in range(count)
        ]
    return Corpus(
        "simulated", splits, PhoneSetLabeller(phone_set("timit61"), "the TIMIT labels"), RATE
    )


def check_nothing(recording: Recording, split: str, corpus: Corpus) -> Checked:
    """A valid utterance, without opening a file."""
    number = int(recording.id[-7:])
    phones = phone_set("timit61")
    return Checked(
        Utterance(
            id=recording.id,
            audio=recording.audio,
            duration_s=DURATION_S + number % 7 / 7,
            speaker=recording.speaker,
            phones=tuple(phones[(number + n * n) % 61] for n in range(PHONES)),
            corpus=corpus.name,
            split=split,
            words=recording.words,
        ),
        content=hash((split, number)) & (1 << 63) - 1,
        sentence=hash((number, split)) & (1 << 63) - 1,
    )


def write_simulated(folder: Path) -> None:
    corpus = simulated()
    assert not list(manifests.speakers_in_two_splits(corpus))
    outcome = manifests.write(corpus, folder, folder / "warnings", 2, check=check_nothing)
    assert not outcome.bad
    for split in SPLITS:
        assert len(summarise(folder / f"{split}.jsonl").durations) == SPLITS[split]


def load_simulated(folder: Path) -> None:
    """Read as asr train does: manifest, batches, order of an epoch, utterances of some batches."""
    train = Manifest(folder / "train.jsonl")
    batches = Batches(train, Vocabulary(phone_set("timit61")), RATE, 16, seed=1)
    for number, batch in enumerate(batches.bucket_sampler):
        if number < 100:
            assert all(train[index].duration_s for index in batch)


def _measure(step: Callable[[Path], None], folder: Path, answers: "multiprocessing.Queue") -> None:
    base = _now_mb()
    started = time.perf_counter()
    step(folder)
    seconds = time.perf_counter() - started
    children = _peak_mb(resource.RUSAGE_CHILDREN)
    answers.put((base, _peak_mb(resource.RUSAGE_SELF) - base, max(0, children - base), seconds))


def _peak_mb(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024  # Linux: kB


def _now_mb() -> float:
    """Resident memory now; the peak of the imports would hide later growth."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


def memory() -> None:
    total = sum(SPLITS.values())
    print(f"A corpus of {total * DURATION_S / 3600:.0f} h, {total:,} utterances, simulated")
    with tempfile.TemporaryDirectory() as name:
        context = multiprocessing.get_context("spawn")
        for title, step in (("prepare", write_simulated), ("load to train", load_simulated)):
            answers = context.Queue()
            process = context.Process(target=_measure, args=(step, Path(name), answers))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(f"{title}: failed, see above")
            base, grown, worker, seconds = answers.get()
            print(
                f"  {title:<14} {grown:5.0f} MB more than the {base:.0f} MB of Python with torch"
                + (f", a worker at most {worker:.0f} MB more" if worker else "")
                + f"; {seconds:.0f} s"
            )
        print(
            f"  manifests      {sum(f.stat().st_size for f in Path(name).iterdir()) / 1e6:.0f} MB"
        )


@exit_code
def main() -> None:
    print(f"asr prepare on {os.cpu_count()} cores ({prepare.__name__})")
    speed()
    print("Real recordings, one process, CPU time")
    formats()
    memory()


if __name__ == "__main__":
    sys.exit(main())
