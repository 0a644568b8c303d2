"""Fixtures that several tests share: small corpora, and the real speech where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.records import Utterance

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real speech and scorer files, which are no part of this repository."""
    folder = Path(os.environ.get("ASR_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real speech in {folder}; set ASR_SHARED")
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Nine utterances in which every phone is a tone of its own: learnable within seconds."""
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
