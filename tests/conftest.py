"""Fixtures for several tests: small corpora, a small model, and human speech if it is available."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings

from asr import checkpoint, corpora
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.audio import Waveform
from asr.batch import Batch, pad
from asr.corpora import Corpus, CorpusConfig
from asr.corpora.checks import check
from asr.criteria import CTCConfig
from asr.dataset import Batches
from asr.errors import raise_problems
from asr.features.config import FeaturesConfig
from asr.files import kept
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Utterance

REPOSITORY = Path(__file__).parents[1]
SUMMARY: dict[str, Any] = {  # training.json
    **{"experiment": "demo", "corpus": "synthetic", "seed": 1, "epochs": 9, "best_epoch": 7},
    **{"dev_per": 17.5, "parameters": 1234, "seconds": 7200.0, "device": "cpu"},
    **{"machine": "x86_64, 2 cores", "torch": "2.11.0", "version": "0.1.0"},
}

# A shell's background jobs ignore one and `nohup` the other, and so would all programs that the
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("asr", deadline=None)  # first calls compile, and machines are busy
settings.load_profile("asr")


def recipe(path: str) -> Any:
    """The module of a script in recipes/, which is no package; `path` is as in "timit/left_out"."""
    file = REPOSITORY / "recipes" / f"{path}.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look up annotations there
    spec.loader.exec_module(module)
    return module


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@contextmanager
def chromium_hearing(samples: Waveform, folder: Path) -> Iterator[Any]:
    """Chromium, whose microphone plays these samples at 48 kHz again and again; or skips."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of extra dev")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium: apt-get install chromium")
    soundfile.write(folder / "microphone.wav", samples, 48_000, "PCM_16")
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def make(*arguments: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Make in a folder, without the settings of a make that runs the tests; skips without make."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True
    )


def commands_of(folder: Path, makefile: str, *options: str) -> str:
    """What `make -n` prints for a Makefile of recipes/, in a folder without any results."""
    if not (folder / "recipes").exists():
        (folder / "recipes").symlink_to(REPOSITORY / "recipes")
    made = make("-n", "--no-print-directory", "-f", f"recipes/{makefile}", *options, folder=folder)
    assert made.returncode == 0, made.stderr
    return made.stdout


def batch_of(utterances: list[Utterance], vocabulary: Vocabulary) -> Batch:
    """All utterances as one batch."""
    (batch,) = Batches(utterances, vocabulary, 16_000, batch_size=len(utterances))
    return batch


def labels_only(
    labels: Sequence[Sequence[int]], times: Sequence[list[tuple[int, int]] | None] | None = None
) -> Batch:
    """A batch of targets without speech, with times of their labels in samples where given."""
    targets, lengths = pad([torch.tensor(each, dtype=torch.long) for each in labels])
    starts = ends = None
    if times is not None:
        known = [
            each if each is not None else [(-1, -1)] * len(of_labels)
            for of_labels, each in zip(labels, times, strict=True)
        ]
        starts, ends = (
            pad([torch.tensor([one[edge] for one in each], dtype=torch.long) for each in known])[0]
            for edge in (0, 1)
        )
    ids = tuple(f"u{n}" for n in range(len(labels)))
    waveforms, counts = torch.zeros(len(labels), 1), torch.ones(len(labels))
    return Batch(waveforms, counts, targets, lengths, ends, ids, target_starts=starts)


def complete(config: CorpusConfig) -> Corpus:
    """The corpus; `DataError` if it has problems."""
    corpus = corpora.find(config)
    raise_problems([*corpus.wrong, *corpus.bad])
    return corpus


def utterances_of(config: CorpusConfig) -> dict[str, list[Utterance]]:
    """The utterances of a corpus by split; `DataError` with all problems of its files."""
    corpus = complete(config)
    checked = {
        split: [check(recording, split, corpus) for recording in recordings]
        for split, recordings in corpus.splits.items()
    }
    everything = (one for of_split in checked.values() for one in of_split)
    raise_problems(problem for one in everything for problem in one.problems)
    return {
        split: [one.utterance for one in of_split if one.utterance]
        for split, of_split in checked.items()
    }


@pytest.fixture(autouse=True)
def first_use_is_said_by_programs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command of one test sets is not there in the next one."""
    monkeypatch.setattr(kept, "say", kept.say)


@pytest.fixture(scope="session", autouse=True)
def kept_in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What models unpack at their first use, here and in processes that tests start."""
    os.environ["ASR_CACHE"] = str(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of human speech and scorer files, which are not part of this repository."""
    folder = Path(os.environ.get("ASR_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no speech in {folder}; set ASR_SHARED")
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Nine utterances in which each phone is a tone: learnable within seconds."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(1)
    frequency = {"aa": 300.0, "iy": 900.0, "s": 2700.0, "m": 600.0}
    utterances = []
    for number in range(9):
        phones = tuple(rng.choice(list(frequency), size=rng.integers(3, 7)))
        pieces = []
        for phone in phones:
            time = np.arange(rng.integers(1600, 3200)) / 16_000
            pieces.append(0.3 * np.sin(2 * np.pi * frequency[phone] * time) * np.hanning(len(time)))
        waveform = np.concatenate(pieces) + 0.001 * rng.standard_normal(sum(map(len, pieces)))
        path = folder / f"{number}.wav"
        soundfile.write(path, waveform, 16_000)
        utterances.append(
            Utterance(
                id=f"tone{number}",
                audio=str(path),
                duration_s=len(waveform) / 16_000,
                speaker=f"speaker{number % 3}",
                phones=tuple(str(phone) for phone in phones),
                corpus="tones",
                split="train",
            )
        )
    return utterances


TONES_HZ = {"aa": 300.0, "iy": 900.0, "m": 600.0, "s": 2700.0}


def tones_of(phones: Sequence[str], rate: int = 16_000, tone_s: float = 0.15) -> Waveform:
    """A waveform with one tone for each phone, and a little noise."""
    time = np.arange(round(tone_s * rate)) / rate
    tones = [np.sin(2 * np.pi * TONES_HZ[p] * time) * np.hanning(len(time)) for p in phones]
    noise = np.random.default_rng(0).standard_normal(len(time) * len(phones))
    return (0.3 * np.concatenate(tones) + 0.001 * noise).astype(np.float32)


def spoken(rng: np.random.Generator) -> Batch:
    """A batch of random tones for training."""
    targets = torch.from_numpy(rng.integers(1, 5, size=(8, 5)))
    waveforms, lengths = pad(
        [
            torch.from_numpy(tones_of([sorted(TONES_HZ)[n - 1] for n in row], 16_000, tone_s))
            for row, tone_s in zip(targets.tolist(), rng.uniform(0.1, 0.2, size=8), strict=True)
        ]
    )
    return Batch(waveforms, lengths, targets, torch.full((8,), 5), None, tuple("abcdefgh"))


@pytest.fixture(scope="session")
def tone_model(tones: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network that recognises the phones of `tones_of`."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = RecognizerConfig(
        # a floor above the noise, which codecs and resampling change
        FeaturesConfig(family="librosa", bins=20, deltas=0, energy=False, log_floor=0.1),
        EncoderConfig(hidden=24, layers=1, subsampling=2),
        CTCConfig(),
    )
    recognizer = Recognizer(config, Vocabulary(["aa", "iy", "m", "s"]))
    batches = list(Batches(tones, recognizer.vocabulary, 16_000, batch_size=9))
    recognizer.features.fit_normalization(batches)
    optimizer = torch.optim.Adam(recognizer.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        recognizer.loss(spoken(rng)).mean().backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("model") / "tones.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(recognizer.eval(), {"corpus": "tones"}))
    return path


def normalized(model: Path, normalization: str) -> Recognizer:
    """The recogniser of a checkpoint, with another features.normalization and the same weights."""
    loaded = checkpoint.load(model).recognizer
    features = replace(loaded.config.features, normalization=normalization)
    recognizer = Recognizer(replace(loaded.config, features=features), loaded.vocabulary).eval()
    recognizer.load_state_dict(loaded.state_dict())
    return recognizer
