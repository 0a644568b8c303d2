"""The configuration of a run: one dataclass, registered with Hydra, refused early when wrong.

YAML in `conf/` carries values, dataclasses are the schema. Only this floor and the doors above it
know Hydra and OmegaConf: below, a configuration is a plain frozen dataclass.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from asr import corpora, criteria
from asr.augment import AugmentConfig
from asr.corpora import CorpusConfig
from asr.criteria import CriterionConfig, CTCConfig
from asr.dataset import Batches
from asr.encoder import EncoderConfig
from asr.errors import DataError, exit_code, pip_install, said_by_system
from asr.features import FeaturesConfig
from asr.features.cache import PRECISIONS, FrameCache
from asr.recognizer import Recognizer, RecognizerConfig
from asr.records import Utterance
from asr.search import SearchConfig

# Hydra's plugins that run the jobs of -m otherwise than one by one, and the extras that bring them.
LAUNCHERS = {
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
}
PRODUCTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCHEDULES = ("constant", "plateau", "one_cycle")

# Installed, conf/ lies inside the package; in a checkout beside it.
CONF = next(
    folder
    for folder in (Path(__file__).parent / "conf", Path(__file__).parents[1] / "conf")
    if folder.is_dir()
)


@dataclass(frozen=True)
class OptimizerConfig:
    """Base of every optimiser's configuration; `name` says which it is."""

    name: str
    learning_rate: float = 1e-3  # the highest; training.schedule lowers it

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(
                f"optimizer.learning_rate is {self.learning_rate}, expected more than 0"
            )


@dataclass(frozen=True)
class AdamConfig(OptimizerConfig):
    """Kingma & Ba (2015), with their moments."""

    name: str = "adam"


@dataclass(frozen=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent."""

    name: str = "sgd"
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum is {self.momentum}, expected 0 ≤ momentum < 1")


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are found: steps, gradient clipping, early stop; with weight noise in two phases.

    Phase 1 is without noise, to the least dev loss. Phase 2 goes on from there with noise, to the
    lowest dev PER (Graves, Mohamed & Hinton 2013). Without noise there is one phase, to the lowest
    dev PER.
    """

    epochs: int = 40  # at most, in a phase
    patience: int = 10  # a phase ends after this many epochs that brought nothing better
    batch_size: int = 16  # utterances
    schedule: str = "plateau"  # halve on a dev PER that stalls; "one_cycle": warm up, then cosine
    plateau: int = 3  # epochs without a better dev PER before the rate is halved
    warmup: float = 0.1  # part of all steps during which one_cycle rises
    max_gradient_norm: float = 5.0  # .inf: gradients are taken as they are
    initial_range: float = 0.0  # all weights begin uniform within ±this; 0: each module has its own
    weight_noise: float = 0.0  # σ of what is added to all weights, drawn anew for every batch
    average: float = 0.0  # decay of a running average of the weights, which is evaluated and kept
    start_from: str = ""  # checkpoint whose encoder, and criterion if it is the same, come first
    frozen_epochs: int = 0  # the encoder of start_from stays as it is for the first so many epochs
    workers: int = 0  # processes that read audio; 0: this one
    precision: str = "float32"  # of the encoder's products; "bfloat16": faster, on CPUs with it

    def __post_init__(self) -> None:
        for key in ("epochs", "patience", "batch_size", "plateau"):
            if getattr(self, key) < 1:
                raise ValueError(f"training.{key} is {getattr(self, key)}, expected at least 1")
        for key in ("initial_range", "weight_noise", "frozen_epochs", "workers"):
            if getattr(self, key) < 0:
                raise ValueError(f"training.{key} is {getattr(self, key)}, expected at least 0")
        if self.frozen_epochs and not self.start_from:
            raise ValueError(
                f"training.frozen_epochs is {self.frozen_epochs}, but training.start_from names no "
                f"checkpoint: an encoder without training would be frozen"
            )
        if self.max_gradient_norm <= 0:
            raise ValueError(
                f"training.max_gradient_norm is {self.max_gradient_norm}, expected more than 0"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"training.schedule is {self.schedule!r}, expected {', '.join(SCHEDULES)}"
            )
        if self.precision not in PRODUCTS:
            raise ValueError(
                f"training.precision is {self.precision!r}, expected {' or '.join(PRODUCTS)}"
            )
        for key in ("warmup", "average"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"training.{key} is {getattr(self, key)}, expected 0 ≤ {key} < 1")
        if self.average and self.weight_noise:
            raise ValueError(
                f"training.average is {self.average} and training.weight_noise is "
                f"{self.weight_noise}, expected 0 for one of them"
            )


@dataclass(frozen=True)
class TuneConfig:
    """What `asr.tune` tries on dev: of the keys that the criterion's search takes, all values."""

    trials: int = 0  # so many combinations, drawn at random; 0: all of them
    lm_weight: list[float] = field(default_factory=lambda: [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    bonus: list[float] = field(default_factory=lambda: [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0])
    blank_penalty: list[float] = field(default_factory=lambda: [0.0, 1.0, 2.0, 3.0, 4.0])
    prior_scale: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0])

    def __post_init__(self) -> None:
        if self.trials < 0:
            raise ValueError(f"tune.trials is {self.trials}, expected at least 0")
        for key, values in vars(self).items():
            if values == []:
                raise ValueError(f"tune.{key} is empty, expected at least one value")


SCHEMAS: dict[str, Mapping[str, type]] = {
    "corpus": corpora.CONFIGS,
    "criterion": criteria.CONFIGS,
    "optimizer": {"adam": AdamConfig, "sgd": SGDConfig},
}


@dataclass(frozen=True)
class RunConfig:
    """Everything that a door which configures a run can be told."""

    corpus: CorpusConfig
    criterion: CriterionConfig
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    optimizer: OptimizerConfig = field(default_factory=AdamConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    name: str = "default"  # of the experiment
    seed: int = 1
    run_dir: str = "exp/default/1"  # all that the run writes
    resume: str = "never"  # "auto": continue from the last finished epoch, if there is one
    split: str = "test"  # what asr.decode decodes
    tuned: bool = False  # asr.decode searches as asr.tune chose on dev, whatever `search` says
    jobs: int = 0  # processes of asr.prepare; 0: one for each core
    skip_bad: bool = False  # asr.prepare goes on without the files that are bad, and lists them
    cache: str = ""  # folder that keeps computed features, for any number of runs; "": none
    cache_precision: str = "float32"  # or "float16": half the space, values to one part in 2048
    device: str = "auto"  # "cpu", "cuda"; auto: cuda where there is one
    threads: int = 0  # of the CPU; 0: as many as there are cores

    def __post_init__(self) -> None:
        if self.split not in ("train", "dev", "test", "test-full"):
            raise ValueError(
                f"split is {self.split!r}, expected train, dev or test, or test-full where "
                f"corpus.full_test made it"
            )
        if self.resume not in ("never", "auto"):
            raise ValueError(f"resume is {self.resume!r}, expected never or auto")
        if self.cache_precision not in PRECISIONS:
            raise ValueError(
                f"cache_precision is {self.cache_precision!r}, expected {' or '.join(PRECISIONS)}"
            )
        for key in ("threads", "jobs"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 0")
        if self.corpus.sample_rate != self.features.sample_rate:
            raise ValueError(
                f"corpus.sample_rate is {self.corpus.sample_rate}, but features.sample_rate is "
                f"{self.features.sample_rate}; give both the same"
            )
        if self.criterion.name == "gmm":
            for key, value in (
                ("encoder.layers", self.encoder.layers),
                ("encoder.dropout", self.encoder.dropout),
                ("training.weight_noise", self.training.weight_noise),
                ("training.initial_range", self.training.initial_range),
                ("training.average", self.training.average),
            ):
                if value:
                    raise ValueError(
                        f"{key} is {value}, but criterion.name is gmm, which is trained without "
                        f"gradients; expected 0"
                    )
        if self.training.initial_range and self.encoder.forget_bias:
            raise ValueError(
                f"training.initial_range is {self.training.initial_range}, which all weights are "
                f"drawn from, so encoder.forget_bias={self.encoder.forget_bias} would be lost; "
                f"expected 0 for one of them"
            )
        if self.augment.frequency_masks and max(self.mel_bins) < 0:
            raise ValueError(
                f"augment.frequency_masks is {self.augment.frequency_masks}, but "
                f"features.kind={self.features.kind} has no mel filters to mask; expected 0"
            )

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_yaml(self) -> str:
        return OmegaConf.to_yaml(OmegaConf.create(self.to_dict()))


def register() -> None:
    """Tell Hydra the schemas under which `conf/` is read."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=_schema(RunConfig))
    for group, options in SCHEMAS.items():
        for name, config_type in options.items():
            store.store(group=group, name=f"{name}_schema", node=_schema(config_type))


def _schema(config_type: type) -> DictConfig:
    """A structured node that YAML can still fill: OmegaConf locks those of frozen dataclasses."""
    node: DictConfig = OmegaConf.structured(config_type)
    OmegaConf.set_readonly(node, None)
    for part in fields(config_type):
        if isinstance(part.type, type) and is_dataclass(part.type):
            node[part.name] = _schema(part.type)
    return node


def compose(overrides: Sequence[str]) -> RunConfig:
    """The run that overrides describe, as they stand on a command line; ValueError if none."""
    register()
    try:
        with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
            return from_omegaconf(hydra.compose("config", list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error


def saved(path: str | Path) -> dict[str, Any]:
    """The configuration that a run has left in `config.yaml`; `DataError` where there is none."""
    try:
        found = OmegaConf.to_object(OmegaConf.load(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except YAMLError as error:
        raise DataError(f"{path}: expected YAML, as a run writes it") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected the configuration of a run, found {found!r}")
    return {str(key): value for key, value in found.items()}


def overrides(saved: Mapping[str, Any]) -> list[str]:
    """The command line behind a saved configuration: its experiment, and what was said besides.

    Left out is where files lie on a machine and how, not what, is computed.
    """
    left_out = {
        *("corpus.root", "corpus.lexicon", "run_dir", "resume", "split", "tuned", "jobs", "cache"),
        *("skip_bad", "device", "threads", "training.workers"),
    }
    experiment = [f"experiment={saved['name']}"]
    default = _leaves(compose([*experiment, "corpus.root=unused"]).to_dict())
    return experiment + [
        f"{key}={value}"
        for key, value in _leaves(saved).items()
        if value != default.get(key)
        and key not in left_out
        and not key.startswith(("search.", "tune."))
    ]


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by their dotted keys."""
    if not isinstance(tree, Mapping):
        return {prefix.removesuffix("."): tree}
    return {k: v for key, node in tree.items() for k, v in _leaves(node, f"{prefix}{key}.").items()}


def with_features(name: str) -> RunConfig:
    """A run whose features are those of `conf/features/<name>.yaml`; `DataError` if none are."""
    try:
        return compose([f"features={name}"])
    except ValueError as error:
        raise DataError(str(error)) from error


def from_omegaconf(composed: DictConfig) -> RunConfig:
    """The run that a composed configuration describes; ValueError where values contradict."""
    _require_known(composed, "")
    run = OmegaConf.to_object(composed)
    assert isinstance(run, RunConfig)
    return run


def _require_known(node: DictConfig, prefix: str) -> None:
    """Refuse keys that `+key=value` has put beside those of the schema."""
    known = [part.name for part in fields(OmegaConf.get_type(node) or RunConfig)]
    for name in map(str, node):
        if name not in known:
            raise ValueError(_unknown_key(f"{prefix}{name}", known))
        part = None if OmegaConf.is_missing(node, name) else node[name]
        if isinstance(part, DictConfig):
            _require_known(part, f"{prefix}{name}.")


def choose_device(config: RunConfig) -> torch.device:
    """The device of a run, with its CPU threads set; `DataError` for CUDA where there is none."""
    if config.threads:
        torch.set_num_threads(config.threads)
    available = torch.cuda.is_available()
    if config.device == "auto":
        return torch.device("cuda" if available else "cpu")
    if config.device.startswith("cuda") and not available:
        raise DataError(
            f"device is {config.device}, but torch finds no CUDA device; say device=cpu"
        )
    return torch.device(config.device)


def frame_cache(config: RunConfig, features: FeaturesConfig) -> FrameCache | None:
    """The cache of a run for frames of `features`, if it is to have one."""
    return FrameCache(config.cache, features, config.cache_precision) if config.cache else None


def whole_split(
    config: RunConfig, utterances: Sequence[Utterance], recognizer: Recognizer
) -> Batches:
    """All of a split as a trained recogniser hears it, from the cache where the run has one."""
    features = recognizer.config.features
    return Batches(
        utterances,
        recognizer.vocabulary,
        features.sample_rate,
        config.training.batch_size,
        cache=frame_cache(config, features),
    )


class JobError(Exception):
    """A job of a multirun has failed and said why; the argument is its exit code.

    An ordinary exception is what Hydra lets the other jobs survive.
    """


def door(run: Callable[[RunConfig], object]) -> Callable[[], int]:
    """Make a command of `run`: Hydra's overrides in, one clear sentence and an exit code out.

    Exit codes: 0 done, 1 bad data or disk, 2 bad configuration, 130 interrupted. With `-m` a job
    that fails does not hinder the others; the exit code is that of the first that did.
    """
    register()

    def task(composed: DictConfig) -> None:
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        job = f"{composed.name} {composed.seed}: " if several else ""
        logging.basicConfig(
            level=logging.INFO, format=f"{job}%(message)s", stream=sys.stderr, force=several
        )
        try:
            config = from_omegaconf(composed)
        except (OmegaConfBaseException, ValueError) as error:
            _fail(explain(error), 2)
        try:
            run(config)
        except DataError as error:
            _fail(str(error), 1)
        except OSError as error:
            _fail(said_by_system(error), 1)
        except KeyboardInterrupt:
            _leave("interrupted", 130)

    @exit_code
    def main() -> None:
        wanted = os.environ.get("HYDRA_FULL_ERROR", "")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing them
        try:
            with _place_for_multirun():
                hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
        except JobError as failure:
            sys.exit(failure.args[0])
        except (HydraException, OmegaConfBaseException) as error:
            if wanted == "1":
                raise
            _leave(explain(error), 2)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = wanted

    return main


@contextmanager
def _place_for_multirun() -> Iterator[None]:
    """Let Hydra write its multirun.yaml, which it insists on, where it is gone afterwards."""
    if not {"-m", "--multirun"} & set(sys.argv):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        # Before all overrides, so that one of the user's wins; beside them, as argparse wants it.
        place = next((n for n, text in enumerate(sys.argv) if "=" in text), len(sys.argv))
        sys.argv.insert(place, f"hydra.sweep.dir={folder}")
        yield


def _fail(sentence: str, code: int) -> NoReturn:
    job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        _leave(sentence, code)
    print(f"error: {sentence} ({' '.join(job.overrides.task)})", file=sys.stderr)
    raise JobError(code)


def explain(error: BaseException) -> str:
    """One sentence for a person who mistyped: the key or value at fault, and what is near it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key} is missing; say {cause.full_key}=…"
        if isinstance(cause, OmegaConfBaseException) and cause.full_key:
            return _explain_key(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, MissingConfigException) and error.options:
        wanted = str(error.missing_cfg_file)
        if extra := LAUNCHERS.get(wanted):
            return f"{wanted} is not installed; run: {pip_install(extra)}"
        option = wanted.rsplit("/", maxsplit=1)[-1]
        options = [name for name in error.options if not name.endswith("_schema")]
        return f"{wanted}: no such option{_nearest(option, options)}"
    return " ".join(str(error).split()).partition(" See https")[0]


def _explain_key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key)
    first_line = str(error.msg or error).splitlines()[0]
    if not first_line.startswith("Key "):
        return f"{key}: {first_line}"
    known = error.object_type if is_dataclass(error.object_type) else RunConfig
    return _unknown_key(key, [part.name for part in fields(known)])


def _unknown_key(key: str, known: Sequence[str]) -> str:
    parent, _, name = key.rpartition(".")
    inside = f" in {parent}" if parent else ""
    return f"{key}: no key {name!r}{inside}{_nearest(name, known)}"


def _nearest(wrong: str, known: Sequence[str]) -> str:
    near = get_close_matches(wrong, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(sorted(known))})" if known else hint


def _leave(sentence: str, code: int) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
