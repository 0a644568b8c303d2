"""The configuration of a run: one dataclass, registered with Hydra, refused early when wrong.

YAML in `conf/` carries values, dataclasses are the schema. Only this floor and the doors above it
know Hydra and OmegaConf: below, a configuration is a plain frozen dataclass.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from asr import corpora, criteria
from asr.augment import AugmentConfig
from asr.corpora import CorpusConfig
from asr.criteria import CriterionConfig, SearchConfig
from asr.encoder import EncoderConfig
from asr.features import FeaturesConfig
from asr.recognizer import RecognizerConfig
from asr.records import DataError

# Installed, conf/ lies inside the package; in a checkout beside it.
CONF = next(
    folder
    for folder in (Path(__file__).parent / "conf", Path(__file__).parents[1] / "conf")
    if folder.is_dir()
)

SCHEMAS: dict[str, Mapping[str, type]] = {
    "corpus": corpora.CONFIGS,
    "criterion": criteria.CONFIGS,
}


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are found: Adam, gradient clipping, early stop on dev PER."""

    epochs: int = 40
    patience: int = 10  # stop after this many epochs without a better dev PER
    batch_size: int = 16  # utterances
    learning_rate: float = 1e-3  # the highest
    schedule: str = "plateau"  # halve on a dev PER that stalls; "one_cycle": warm up, then cosine
    plateau: int = 3  # epochs without a better dev PER before the rate is halved
    warmup: float = 0.1  # part of all steps during which one_cycle rises
    max_gradient_norm: float = 5.0
    workers: int = 0  # processes that read audio; 0: this one

    def __post_init__(self) -> None:
        for key in ("epochs", "patience", "batch_size", "plateau"):
            if getattr(self, key) < 1:
                raise ValueError(f"training.{key} is {getattr(self, key)}, expected at least 1")
        for key in ("learning_rate", "max_gradient_norm"):
            if getattr(self, key) <= 0:
                raise ValueError(f"training.{key} is {getattr(self, key)}, expected more than 0")
        if self.schedule not in ("plateau", "one_cycle"):
            raise ValueError(
                f"training.schedule is {self.schedule!r}, expected plateau or one_cycle"
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"training.warmup is {self.warmup}, expected 0 ≤ warmup < 1")
        if self.workers < 0:
            raise ValueError(f"training.workers is {self.workers}, expected at least 0")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a door which configures a run can be told."""

    corpus: CorpusConfig
    criterion: CriterionConfig
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    name: str = "default"  # of the experiment
    seed: int = 1
    run_dir: str = "exp/default/1"  # all that the run writes
    resume: str = "never"  # "auto": continue from the last finished epoch, if there is one
    split: str = "test"  # what asr.decode decodes
    jobs: int = 0  # processes of asr.prepare; 0: one for each core
    skip_bad: bool = False  # asr.prepare goes on without the files that are bad, and lists them
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
        for key in ("threads", "jobs"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 0")
        if self.corpus.sample_rate != self.features.sample_rate:
            raise ValueError(
                f"corpus.sample_rate is {self.corpus.sample_rate}, but features.sample_rate is "
                f"{self.features.sample_rate}; give both the same"
            )

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


def door(run: Callable[[RunConfig], object]) -> Callable[[], None]:
    """Make a command of `run`: Hydra's overrides in, one clear sentence and an exit code out.

    Exit codes: 0 done, 1 bad data, 2 bad configuration, 130 interrupted.
    """
    register()

    def task(composed: DictConfig) -> None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        try:
            config = from_omegaconf(composed)
        except (OmegaConfBaseException, ValueError) as error:
            _leave(explain(error), 2)
        try:
            run(config)
        except DataError as error:
            _leave(str(error), 1)
        except KeyboardInterrupt:
            _leave("interrupted", 130)

    def main() -> None:
        wanted = os.environ.get("HYDRA_FULL_ERROR", "")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # hand errors to us instead of printing them
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
        except (HydraException, OmegaConfBaseException) as error:
            if wanted == "1":
                raise
            _leave(explain(error), 2)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = wanted

    return main


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
        option = wanted.rsplit("/", maxsplit=1)[-1]
        return f"{wanted}: no such option{_nearest(option, error.options)}"
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
