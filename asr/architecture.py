"""What a recogniser is made of: the configuration of each part but the features.

Nothing here needs torch: a model file is read with it wherever a model is used.
"""

from dataclasses import dataclass
from typing import NamedTuple

from asr.features.config import FeaturesConfig
from asr.knobs import Knobs, knob

# The recurrent cells of `asr.lstm.cells`, each with the blocks of rows of its weights.
BLOCKS: dict[str, tuple[str, ...]] = {
    "tanh": ("hidden",),
    "gru": ("reset", "update", "candidate"),
    "lstm": ("input", "forget", "candidate", "output"),
    "peephole": ("input", "forget", "candidate", "output"),
    "lstm1997": ("input", "candidate", "output"),
    "projected": ("input", "forget", "candidate", "output"),
    "layernorm": ("input", "forget", "candidate", "output"),
    "ligru": ("update", "candidate"),
}


@dataclass(frozen=True)
class EncoderConfig(Knobs, group="encoder"):
    """Kind and size of the recurrent stack."""

    cell: str = knob("lstm", "recurrent cell, see docs/lstm.md", one_of=tuple(BLOCKS))
    hidden: int = knob(250, "cells in each direction", at_least=1)
    layers: int = knob(3, "recurrent layers; 0: stacked frames only", at_least=0)
    bidirectional: bool = knob(True, "read the frames in both directions")
    projection: int = knob(0, "output width of a direction; for cell=projected only", at_least=0)
    forget_bias: float = knob(0.0, "added to the initial bias of the forget gate")
    dropout: float = knob(0.0, "between layers and before the head", at_least=0, less_than=1)
    subsampling: int = knob(1, "consecutive frames stacked into one", at_least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell == "projected" and not 1 <= self.projection < self.hidden:
            self.refuse("projection", f"expected 1 to {self.hidden - 1}: fewer than encoder.hidden")
        if self.cell != "projected" and self.projection:
            reason = f"but encoder.cell is {self.cell!r}; only projected has a projection"
            self.refuse("projection", reason)
        if self.forget_bias and "forget" not in BLOCKS[self.cell]:
            reason = f"but encoder.cell is {self.cell!r}, which has no forget gate"
            self.refuse("forget_bias", reason)

    def stacked(self, frames: int) -> int:
        """T' for T."""
        return -(-frames // self.subsampling)


@dataclass(frozen=True)
class CriterionConfig(Knobs, group="criterion"):
    """Base of every criterion's configuration; in a checkpoint, `name` selects the class."""

    name: str


@dataclass(frozen=True)
class CTCConfig(CriterionConfig):
    name: str = "ctc"
    consistency: float = knob(
        0.0, "weight of the difference between two augmented copies of an utterance", at_least=0
    )


@dataclass(frozen=True)
class HMMConfig(CriterionConfig):
    """The model of a phone: states from left to right, and how long it stays in each."""

    states: int = knob(3, "of a phone", at_least=1)
    duration_floor: int = knob(1, "fewest frames that a phone stays in each state", at_least=1)
    acoustic_scale: float = knob(
        1.0, "factor of a frame's log-likelihood in a Viterbi search", more_than=0
    )


@dataclass(frozen=True)
class FramewiseConfig(HMMConfig):
    name: str = "framewise"
    acoustic_scale: float = 0.3  # posteriors of neighbouring frames are not independent


@dataclass(frozen=True)
class GMMConfig(HMMConfig):
    """Size and training of the mixtures."""

    name: str = "gmm"
    acoustic_scale: float = 0.1  # low, since neighbouring frames are not independent
    mixtures: int = knob(8, "most components of a state", at_least=1)
    passes: int = knob(4, "epochs of training before components are split", at_least=1)
    variance_floor: float = knob(
        0.01, "least variance of a component, relative to that of all frames", more_than=0
    )


@dataclass(frozen=True)
class TransducerConfig(CriterionConfig):
    """Sizes of the prediction and the joint network, and what bounds memory and search."""

    name: str = "transducer"
    cell: str = knob("lstm", "of the prediction network", one_of=("lstm", "peephole"))
    hidden: int = knob(250, "cells of the prediction network", at_least=1)
    joint: int = knob(250, "width of the joint network", at_least=1)
    lattice: int = knob(4_000_000, "most logits in memory, N × T' × (U + 1) × V", at_least=1)
    phones_per_frame: int = knob(2, "most phones that a search finds in a frame", at_least=1)
    pretraining: int = knob(0, "epochs of the prediction network alone, on transcripts", at_least=0)


CRITERIA: dict[str, type[CriterionConfig]] = {
    config.name: config
    for config in (
        CTCConfig,
        FramewiseConfig,
        GMMConfig,
        TransducerConfig,
    )
}


class FrameTimes(NamedTuple):
    """Times of encoded frames: the middle of frame t is at sample `first` + t · `step`."""

    first: float
    step: float


@dataclass(frozen=True)
class RecognizerConfig:
    """Everything that builds a recogniser, together with a vocabulary."""

    features: FeaturesConfig
    encoder: EncoderConfig
    criterion: CriterionConfig

    @property
    def frame_times(self) -> FrameTimes:
        """Samples to the middle of the first encoded frame, and from each frame to the next.

        A frame's samples are those of its own window; Δ and context are not counted.
        """
        features, stacked = self.features, self.encoder.subsampling
        hop = features.hop_samples
        return FrameTimes(features.first_middle + (stacked - 1) / 2 * hop, stacked * hop)

    @property
    def reads_ahead(self) -> str | None:
        """Which setting keeps such a recogniser from a stream, as a clause; None: it can stream.

        In a stream nothing of what follows a frame may be needed for it.
        """
        features, encoder = self.features, self.encoder
        needed = {
            "criterion.name": (self.criterion.name, ("ctc",)),
            "encoder.bidirectional": (encoder.bidirectional and encoder.layers > 0, (False,)),
            "features.family": (features.family, ("kaldi",)),
            "features.normalization": (features.normalization, ("running", "global", "none")),
            "features.deltas": (features.deltas, (0,)),
            "features.context": (features.context, (0,)),
            "features.snip_edges": (features.snip_edges, (True,)),
            "features.dither_db": (features.dither_db, (0,)),
        }
        for key, (value, expected) in needed.items():
            if value not in expected:
                known = " or ".join(str(one).lower() for one in expected)
                return f"{key} is {str(value).lower()}, and a stream needs {known}"
        return None

    def time_s(self, frame: float) -> float:
        """The time of the middle of an encoded frame."""
        times = self.frame_times
        return (times.first + frame * times.step) / self.features.sample_rate

    def encoded_length(self, samples: int) -> int:
        """T' for S."""
        return self.encoder.stacked(self.features.frame_count(samples))
