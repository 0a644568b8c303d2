"""The schema of a run: YAML in `conf/` carries values, these dataclasses say what they may be."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import OmegaConf

from asr import corpora
from asr.architecture import CRITERIA, EncoderConfig, RecognizerConfig
from asr.augment import AugmentConfig
from asr.corpora.recording import CorpusConfig
from asr.criteria import CriterionConfig, CTCConfig
from asr.features.cache import PRECISIONS
from asr.features.config import NOT_NEGATIVE, FeaturesConfig
from asr.knobs import Knobs, knob
from asr.processor.device import devices
from asr.search import SearchConfig

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")  # which are here, is seen when one is used
TRIED = "values that asr tune tries"


@dataclass(frozen=True)
class OptimizerConfig(Knobs, group="optimizer"):
    """Base of every optimiser's configuration; `name` says which it is."""

    name: str
    learning_rate: float = knob(1e-3, "the highest; training.schedule lowers it", more_than=0)


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """Kingma & Ba (2015), with their moments."""

    name: str = "adam"


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent."""

    name: str = "sgd"
    momentum: float = knob(0.0, "share of the last step that is kept", at_least=0, less_than=1)


@dataclass(frozen=True)
class TrainingConfig(Knobs, group="training"):
    """How weights are found: steps, gradient clipping, early stop; with weight noise in two phases.

    Phase 1 is without noise, to the least dev loss. Phase 2 continues with noise, to the lowest dev
    PER (Graves, Mohamed & Hinton 2013). Without noise there is one phase, to the lowest dev PER.
    """

    epochs: int = knob(40, "the most of a phase", at_least=1)
    patience: int = knob(10, "epochs without improvement that end a phase", at_least=1)
    batch_size: int = knob(16, "utterances of a step, over all processes", at_least=1)
    batch_frames: int = knob(
        0,
        "most padded frames that a process reads at once; a step takes several turns; 0: no limit",
        at_least=0,
    )
    keep_every_minutes: float = knob(
        10.0, "how often the state is written within an epoch; 0: at its end only", at_least=0
    )
    schedule: str = knob(
        "plateau",
        "of the learning rate; plateau: halve when dev PER stalls; one_cycle: warm up, then cosine",
        one_of=("constant", "plateau", "one_cycle"),
    )
    plateau: int = knob(3, "epochs without a better dev PER before the rate is halved", at_least=1)
    warmup: float = knob(0.1, "share of one_cycle's steps that rise", at_least=0, less_than=1)
    max_gradient_norm: float = knob(
        5.0, "gradients are clipped to it; inf (in YAML .inf): never", more_than=0, at_most=math.inf
    )
    initial_range: float = knob(
        0.0, "all weights start uniform within ± this; 0: each module's own default", **NOT_NEGATIVE
    )
    weight_noise: float = knob(
        0.0, "σ of Gaussian noise on all weights, drawn anew for every batch", **NOT_NEGATIVE
    )
    average: float = knob(
        0.0,
        "decay of a running average of the weights, which is evaluated and saved; 0: none",
        at_least=0,
        less_than=1,
    )
    start_from: str = knob(
        "",
        "checkpoint to start from, or packaged: its encoder, and its criterion if it is the same",
    )
    frozen_epochs: int = knob(0, "first epochs that leave start_from's encoder fixed", at_least=0)
    workers: int = knob(0, "processes that read audio; 0: the main process", at_least=0)
    tensorboard: bool = knob(False, "curves also as events of TensorBoard, an extra")
    precision: str = knob(
        "float32",
        "of the encoder's matrix products; bfloat16 is faster, on CPUs and GPUs that have it",
        one_of=("float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen_epochs and not self.start_from:
            reason = "names no checkpoint: an encoder without training would be frozen"
            self.refuse("frozen_epochs", f"but training.start_from {reason}")
        if self.average and self.weight_noise:
            noise = f"training.weight_noise is {self.weight_noise}"
            self.refuse("average", f"and {noise}; expected 0 for one of them")


@dataclass(frozen=True)
class TuneConfig(Knobs, group="tune"):
    """The values that `asr tune` tries on dev, for the keys that the criterion's search takes."""

    trials: int = knob(0, "combinations to try, drawn at random; 0: all of them", at_least=0)
    lm_weight: list[float] = knob([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2], TRIED, filled=True)
    bonus: list[float] = knob([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0], TRIED, filled=True)
    word_bonus: list[float] = knob([0.0, 1.0, 2.0], TRIED, filled=True)
    variant: list[float] = knob([0.0, 2.0, 4.0], TRIED, filled=True)
    unknown: list[float] = knob([4.0, 8.0], TRIED, filled=True)
    blank_penalty: list[float] = knob([0.0, 1.0, 2.0, 3.0, 4.0], TRIED, filled=True)
    prior_scale: list[float] = knob([0.0, 0.25, 0.5, 0.75, 1.0], TRIED, filled=True)


SCHEMAS: dict[str, Mapping[str, type[Knobs]]] = {
    "corpus": corpora.CONFIGS,
    "criterion": CRITERIA,
    "optimizer": {"adam": AdamConfig, "sgd": SGDConfig},
}


@dataclass(frozen=True)
class RunConfig(Knobs):
    """Everything that a command which configures a run can be told."""

    corpus: CorpusConfig
    criterion: CriterionConfig
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    name: str = knob("default", "of the experiment", filled=True)
    seed: int = knob(1, "of all that is random", at_least=-(2**63), less_than=2**63)
    run_dir: str = knob("exp/default/1", "folder for all that the run writes", filled=True)
    resume: str = knob(
        "never",
        "auto: continue from the last state; previous: from the state before it",
        one_of=("never", "auto", "previous"),
    )
    split: str = knob(
        "test",
        "that asr decode decodes; test-full is there with corpus.full_test",
        one_of=("train", "dev", "test", "test-full"),
    )
    tuned: bool = knob(False, "asr decode takes the search that asr tune chose")
    jobs: int = knob(0, "processes of asr prepare; 0: one for each core", at_least=0)
    skip_bad: bool = knob(False, "asr prepare skips bad files, and lists them")
    overwrite: bool = knob(False, "asr prepare replaces manifests that were edited")
    cache: str = knob("", "folder of computed features, for any number of runs; empty: none")
    cache_precision: str = knob(
        "float32", "float16: half the space, values to one part in 2048", one_of=tuple(PRECISIONS)
    )
    device: str = knob("auto", "cpu, cuda or cuda:NUMBER; auto: cuda where there is one")
    threads: int = knob(0, "of the CPU; 0: one for each core", at_least=0, at_most=1024)
    timeout_s: float = knob(
        1800.0, "that a process of several waits for another", more_than=0, at_most=10**6
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not DEVICE.fullmatch(self.device):
            self.refuse("device", f"expected auto or {', '.join(devices())}")
        if self.corpus.sample_rate != self.features.sample_rate:
            rate = self.features.sample_rate
            self.corpus.refuse("sample_rate", f"but features.sample_rate is {rate}; set both equal")
        if self.search.words and self.criterion.name != "ctc":
            self.search.refuse("words", f"but criterion.name is {self.criterion.name}, not ctc")
        if self.criterion.name == "gmm":
            reason = "but criterion.name is gmm, which is trained without gradients; expected 0"
            for key in ("layers", "dropout"):
                if getattr(self.encoder, key):
                    self.encoder.refuse(key, reason)
            for key in ("weight_noise", "initial_range", "average"):
                if getattr(self.training, key):
                    self.training.refuse(key, reason)
        if self.training.initial_range and self.encoder.forget_bias:
            lost = f"so encoder.forget_bias={self.encoder.forget_bias} would be lost"
            reason = f"which all weights are drawn from, {lost}; expected 0 for one of them"
            self.training.refuse("initial_range", reason)
        if self.augment.frequency_masks and max(self.mel_bins) < 0:
            reason = f"but features.kind={self.features.kind} has no mel filters to mask"
            self.augment.refuse("frequency_masks", f"{reason}; expected 0")

    @property
    def mel_bins(self) -> tuple[int, ...]:
        """The mel filter behind each value of a frame, -1 for none, F."""
        features = self.features
        filters = range(features.bins) if features.kind == "fbank" else ()
        others = features.static_width - len(filters)
        return (*(-1,) * others, *filters) * (features.width // features.static_width)

    @property
    def copies(self) -> int:
        """How often a training batch has each utterance."""
        return 2 if isinstance(self.criterion, CTCConfig) and self.criterion.consistency else 1

    @property
    def recognizer(self) -> RecognizerConfig:
        return RecognizerConfig(self.features, self.encoder, self.criterion)

    def to_yaml(self) -> str:
        return OmegaConf.to_yaml(OmegaConf.create(asdict(self)))


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by their dotted keys."""
    if not isinstance(tree, Mapping):
        return {prefix.removesuffix("."): tree}
    return {k: v for key, node in tree.items() for k, v in leaves(node, f"{prefix}{key}.").items()}
