"""The sentence and the networks that the page is about, and limits on the sentence's length."""

import tomllib
from dataclasses import dataclass, field
from typing import Any

import torch

from asr.architecture import EncoderConfig
from asr.audio import Waveform
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.explanation.wording import duration, plural
from asr.features.normalization import SpeakerMoments
from asr.lstm.cells import CELLS
from asr.phones import TABLES
from asr.recognizer import Recognizer
from asr.records import Segment

LONGEST_S = 60.0
FEWEST_STEPS = 12  # below, there is nothing to remember

CELLS_TABLE = tomllib.loads((TABLES / "cells.toml").read_text(encoding="utf-8"))


def cell_name(cell: str) -> str:
    """The name of a cell in print; of one that the table does not have, that of its class."""
    return str(CELLS_TABLE["names"].get(cell, CELLS[cell].__name__))


@dataclass(frozen=True)
class Sentence:
    """A recording, and what is known of it.

    `labels_from` names the source of phones and segments; `warnings` are about the sound.
    """

    name: str
    waveform: Waveform
    sample_rate: int
    phones: tuple[str, ...] | None = None
    segments: tuple[Segment, ...] | None = None
    labels_from: str = ""
    speaker: str = ""
    corpus: str = ""
    words: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / self.sample_rate


@dataclass(frozen=True)
class Network:
    """A trained recogniser, under its name in pictures and tables."""

    name: str
    recognizer: Recognizer
    about: dict[str, Any] = field(default_factory=dict)
    moments: SpeakerMoments | None = None  # of the speakers of the sentences, where it needs them

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str = "") -> "Network":
        """The network of a checkpoint, named after its kind of cell unless a name is given."""
        encoder = checkpoint.recognizer.config.encoder
        if not encoder.layers:
            raise DataError(
                f"{name or 'the checkpoint'}: a {checkpoint.recognizer.config.criterion.name} "
                f"without recurrent layers (encoder.layers is 0), expected a recurrent network"
            )
        return cls(name or cell_name(encoder.cell), checkpoint.recognizer, checkpoint.about)

    @property
    def config(self) -> EncoderConfig:
        return self.recognizer.config.encoder

    @property
    def kind(self) -> str:
        return cell_name(self.config.cell)

    @property
    def step_s(self) -> float:
        features = self.recognizer.features.config
        return self.config.subsampling * features.hop_samples / features.sample_rate

    @property
    def view_s(self) -> float:
        """How far the input of a step reaches on either side of its centre."""
        features = self.recognizer.features.config
        frames = features.deltas * features.delta_window + features.context
        hops = frames + (self.config.subsampling - 1) / 2
        samples = hops * features.hop_samples + features.window_samples / 2
        return samples / features.sample_rate

    def steps_of(self, samples: int) -> int:
        """T' of a waveform of S samples."""
        frames = self.recognizer.features.config.frame_count(samples)
        return -(-frames // self.config.subsampling)

    def untrained(self) -> "Network":
        """The same network with new weights; the scale of its input stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            fresh = Recognizer(self.recognizer.config, self.recognizer.vocabulary).eval()
        fresh.features = self.recognizer.features
        return Network(f"untrained {self.name}", fresh, moments=self.moments)


def require_length(sentence: Sentence, network: Network) -> None:
    """Raise `DataError` where a sentence is too short for the page."""
    steps = network.steps_of(len(sentence.waveform))
    if steps < FEWEST_STEPS:
        raise DataError(
            f"{sentence.name}: {duration(sentence.duration_s)} are {plural(steps, 'step')} of "
            f"{network.name}, expected at least {FEWEST_STEPS}; give a longer recording"
        )
