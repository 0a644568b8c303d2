"""Commands that configure a run: Hydra's overrides in, a `RunConfig` or one clear sentence out."""

import logging
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, TypedDict

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from asr import knobs
from asr.commands import jobs
from asr.commands.overrides import (
    CONF,
    NOT_OF_WEIGHTS,
    explain,
    options,
    read,
    read_arguments,
    run_name,
    schema,
)
from asr.config import SCHEMAS, RunConfig, leaves
from asr.errors import DataError, exit_code, said_by_system
from asr.files.decoding import convert
from asr.processor import ranks
from asr.processor.device import choose_device
from asr.processor.torchrun import TEMPORARY_FAILURE
from asr.training.provenance import COMMAND

HYDRA_FLAGS = """\
  --cfg job      print the configuration that the arguments give, and do nothing
  -m             run all combinations of values that are separated by commas: seed=1,2,3
  --hydra-help   the other flags of Hydra

Defaults are those of the schema; an option of a group, or an experiment, sets several keys."""


def register() -> None:
    """Tell Hydra the schemas under which `conf/` is read."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=schema(RunConfig))
    for group, known in SCHEMAS.items():
        for name, config_type in known.items():
            store.store(group=group, name=f"{name}_schema", node=schema(config_type))


def compose(overrides: Sequence[str]) -> RunConfig:
    """The run that overrides describe, written as on a command line; `DataError` if none."""
    register()
    meant = read(overrides)
    try:
        with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
            return from_omegaconf(hydra.compose("config", meant))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise DataError(explain(error, overrides)) from error


def saved(path: str | Path) -> dict[str, Any]:
    """The configuration that a run wrote to `config.yaml`; `DataError` where there is none."""
    try:
        config = OmegaConf.to_object(OmegaConf.load(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, expected YAML as `asr train` writes it") from error
    convert(config, _Saved, f"{path}")
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


class _SavedCorpus(TypedDict):
    name: str
    protocol: str


class _Saved(TypedDict):
    """What every saved configuration has, and commands read."""

    name: str
    run_dir: str
    corpus: _SavedCorpus


def overrides(saved: Mapping[str, Any]) -> list[str]:
    """The command line of a saved configuration: its experiment, or else the options of its groups,
    and what differs from these.

    Paths, and what does not change the weights, are left out.
    """
    begin = [f"experiment={saved['name']}"]
    if saved["name"] not in options("experiment"):
        begin = [f"{group}={saved[group]['name']}" for group in SCHEMAS if group in saved]
    default = leaves(asdict(compose([*begin, "corpus.root=unused"])))
    return begin + [
        f"{key}={value}"
        for key, value in leaves(saved).items()
        if value != default.get(key)
        and key not in NOT_OF_WEIGHTS
        and not key.startswith(("search.", "tune."))
    ]


def from_omegaconf(composed: DictConfig) -> RunConfig:
    """The run that a composed configuration describes; ValueError where values contradict."""
    run = OmegaConf.to_object(composed)
    assert isinstance(run, RunConfig)
    return run


def help_text(program: str, about: str) -> str:
    """What a command does, and every knob of a run: its default, what it is, and its limits."""
    lines = [f"usage: {program} [GROUP=OPTION …] [KEY=VALUE …]", "", about.strip(), "", HYDRA_FLAGS]
    for title, described in _sections():
        lines += ["", textwrap.fill(title, 100, subsequent_indent=" " * 4)]
        for assignment, text in described:
            line = f"{assignment:<32} {text}"
            lines.append(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent=" " * 35))
    return "\n".join(lines)


def _sections() -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    yield f"experiment: {', '.join(options('experiment'))}", ()
    yield f"cluster: {', '.join(options('cluster'))}", ()
    yield "run:", knobs.described(RunConfig)
    for part in fields(RunConfig):
        if isinstance(part.type, type) and issubclass(part.type, knobs.Knobs):
            group = part.name
            yield f"{group}: {', '.join(options(group))}", knobs.described(part.type)
            for name, option in SCHEMAS.get(group, {}).items():
                yield f"{group}={name}:", knobs.described(option, beside=part.type)


class _WithoutLists:
    """Standard error without the line that Hydra adds to the sentence about a job that failed."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return 0 if text.startswith("Error executing job") else int(self.stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@dataclass
class Task:
    """What Hydra calls with the configuration of each job, also in other processes."""

    run: Callable[[RunConfig], object]
    swept: frozenset[str] = frozenset()  # keys that have several values
    opens_corpus: bool = False
    shared: bool = False  # by the processes that torchrun starts
    program: str = "asr"
    typed: tuple[str, ...] = ()  # its arguments
    is_requeued: bool = field(default=False, init=False)  # written again for the next attempt

    def __call__(self, composed: DictConfig) -> None:
        overrides = HydraConfig.get().overrides.task
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        job = f"{composed.name} {composed.seed}: " if several else ""
        logging.basicConfig(
            level=logging.INFO, format=f"{job}%(message)s", stream=sys.stderr, force=several
        )
        logging.getLogger("hydra").setLevel(logging.WARNING)
        try:
            if ranks.are_launched() and (several or not self.shared):
                raise DataError("torchrun is for asr train only, without -m; start one process")
            if several and not any(text.startswith("run_dir=") for text in overrides):
                place = Path(composed.run_dir)
                name = place.parent.name + run_name(overrides, self.swept)
                composed.run_dir = str(place.parent.with_name(name) / place.name)
                overrides = [*overrides, f"run_dir={composed.run_dir}"]
            if self.is_requeued or jobs.is_restarted():
                composed.resume = "auto"
            if several and jobs.are_submitted():
                jobs.join()
            if not self.opens_corpus and OmegaConf.is_missing(composed.corpus, "root"):
                composed.corpus.root = composed.run_dir  # its manifests name the audio
            config = from_omegaconf(composed)
            choose_device(config.device)
        except (OmegaConfBaseException, ValueError) as error:
            if ranks.local_rank():
                ranks.end_in_silence()
            _fail(explain(error, overrides), 2)
        arguments = overrides if several else self.typed  # each of several jobs by itself
        COMMAND.set(f"{self.program} {shlex.join(arguments)}")
        try:
            self._run(config)
        except (DataError, OSError) as error:
            _fail(said_by_system(error) if isinstance(error, OSError) else str(error), 1)
        except (MemoryError, RuntimeError) as error:
            if not re.search("memory|size calculation", f"{type(error)} {error}", re.IGNORECASE):
                raise
            less = "encoder.hidden, encoder.layers or training.batch_size"
            _fail(f"memory is not enough; lower {less}, or set device=cpu", 1)

    def _run(self, config: RunConfig) -> None:
        try:
            self.run(config)
        except SystemExit as end:
            if HydraConfig.get().mode != RunMode.MULTIRUN or not jobs.are_submitted():
                raise
            if end.code == TEMPORARY_FAILURE:
                self.is_requeued = True
                jobs.requeue()
            raise jobs.JobError(end.code, "") from end


def command(
    run: Callable[[RunConfig], object],
    about: str,
    opens_corpus: bool = False,
    shared: bool = False,
) -> Callable[[], int]:
    """Make a command of `run`, with `about` first in its help.

    Only one that opens the corpus needs `corpus.root`; the others read manifests. A `shared` one is
    run by all processes that torchrun starts.

    Exit codes: as in `errors.exit_code`, and 2 for a bad configuration. With `-m` the other jobs
    run after one has failed; the exit code is that of the first that did. Each job of `-m` has a
    run directory of its own, unless `run_dir` is set.
    """
    register()

    @exit_code
    def main() -> None:
        if {"-h", "--help"} & set(sys.argv):
            print(help_text(sys.argv[0], about))
            return
        wanted = os.environ.get("HYDRA_FULL_ERROR", "")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors instead of printing them
        program, *arguments = sys.argv
        try:
            flags, overrides, swept = read_arguments(arguments)
            # Hydra always writes a multirun.yaml; the user's overrides come later, and win.
            with jobs.folder(overrides) as folder:
                sys.argv[1:] = [*flags, f"hydra.sweep.dir={folder}", *overrides]
                with redirect_stderr(_WithoutLists(sys.stderr)):
                    task = Task(
                        run, swept, opens_corpus, shared, program=program, typed=tuple(arguments)
                    )
                    hydra.main(str(CONF), "config", version_base="1.3")(task)()
        except jobs.JobError as failure:
            sys.exit(failure.args[0])
        except (HydraException, OmegaConfBaseException, DataError) as error:
            if wanted == "1":
                raise
            if ranks.local_rank():
                ranks.end_in_silence()
            print(f"error: {explain(error, arguments)}", file=sys.stderr)
            sys.exit(2)
        except Exception as error:
            if not jobs.is_of_submitit(error):
                raise
            print(f"error: {jobs.said_by_submitit(error)}", file=sys.stderr)
            sys.exit(1)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = wanted

    return main


def _fail(sentence: str, code: int) -> NoReturn:
    job = HydraConfig.get()
    several = job.mode == RunMode.MULTIRUN
    which = f" ({' '.join(job.overrides.task)})" if several else ""
    print(f"error: {sentence}{which}", file=sys.stderr)
    if several:
        raise jobs.JobError(code, f"{sentence}{which}" if jobs.are_submitted() else "")
    raise SystemExit(code)
