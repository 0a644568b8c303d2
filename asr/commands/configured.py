"""Commands that configure a run: Hydra's overrides in, a `RunConfig` or one clear sentence out."""

import logging
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from asr import knobs
from asr.config import SCHEMAS, RunConfig, leaves
from asr.errors import DataError, exit_code, pip_install, said_by_system

# Hydra's plugins that run the jobs of -m otherwise than one by one, and the extras that bring them.
LAUNCHERS = {
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
}
HYDRA_FLAGS = """\
  --cfg job      print the configuration that the arguments give, and do nothing
  -m             run all combinations of values that are separated by commas: seed=1,2,3
  --hydra-help   the other flags of Hydra

Defaults are those of the schema; an option of a group, or an experiment, sets several keys."""

PACKAGE = Path(__file__).parents[1]
# Installed, conf/ is inside the package; in a checkout beside it.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())


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
    """The run that overrides describe, written as on a command line; `DataError` if none."""
    register()
    try:
        with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
            return from_omegaconf(hydra.compose("config", list(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise DataError(explain(error)) from error


def saved(path: str | Path) -> dict[str, Any]:
    """The configuration that a run wrote to `config.yaml`; `DataError` where there is none."""
    try:
        config = OmegaConf.to_object(OmegaConf.load(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except YAMLError as error:
        raise DataError(f"{path}: expected YAML, as a run writes it") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: expected the configuration of a run, found {config!r}")
    return {str(key): value for key, value in config.items()}


def overrides(saved: Mapping[str, Any]) -> list[str]:
    """The command line of a saved configuration: its experiment, and what differs from it.

    Paths, and what does not change the weights, are left out.
    """
    left_out = {
        *("corpus.root", "corpus.lexicon", "run_dir", "resume", "split", "tuned", "jobs", "cache"),
        *("skip_bad", "device", "threads", "training.workers"),
    }
    experiment = [f"experiment={saved['name']}"]
    default = leaves(asdict(compose([*experiment, "corpus.root=unused"])))
    return experiment + [
        f"{key}={value}"
        for key, value in leaves(saved).items()
        if value != default.get(key)
        and key not in left_out
        and not key.startswith(("search.", "tune."))
    ]


def from_omegaconf(composed: DictConfig) -> RunConfig:
    """The run that a composed configuration describes; ValueError where values contradict."""
    _require_known(composed, "")
    run = OmegaConf.to_object(composed)
    assert isinstance(run, RunConfig)
    return run


def _require_known(node: DictConfig, prefix: str) -> None:
    """Refuse keys that `+key=value` has added to those of the schema."""
    known = [part.name for part in fields(OmegaConf.get_type(node) or RunConfig)]
    for name in map(str, node):
        if name not in known:
            raise ValueError(_unknown_key(f"{prefix}{name}", known))
        part = None if OmegaConf.is_missing(node, name) else node[name]
        if isinstance(part, DictConfig):
            _require_known(part, f"{prefix}{name}.")


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
    yield f"experiment: {', '.join(_options('experiment'))}", ()
    yield "run:", knobs.described(RunConfig)
    for part in fields(RunConfig):
        if isinstance(part.type, type) and issubclass(part.type, knobs.Knobs):
            group, options = part.name, _options(part.name)
            yield f"{group}: {', '.join(options)}", knobs.described(part.type)
            for name, option in SCHEMAS.get(group, {}).items():
                yield f"{group}={name}:", knobs.described(option, beside=part.type)


def _options(group: str) -> list[str]:
    """The files of a group of `conf/`, without their ending."""
    folder = CONF / group
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


class JobError(Exception):
    """A job of a multirun failed, with its message printed; the argument is its exit code.

    After an ordinary exception, unlike `SystemExit`, Hydra runs the other jobs.
    """


def command(run: Callable[[RunConfig], object], about: str) -> Callable[[], int]:
    """Make a command of `run`, with `about` first in its help.

    Exit codes: as in `errors.exit_code`, and 2 for a bad configuration. With `-m` the other jobs
    run after one has failed; the exit code is that of the first that did.
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

    @exit_code
    def main() -> None:
        if {"-h", "--help"} & set(sys.argv):
            print(help_text(sys.argv[0], about))
            return
        wanted = os.environ.get("HYDRA_FULL_ERROR", "")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors instead of printing them
        try:
            with _folder_of_multirun():
                hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
        except JobError as failure:
            sys.exit(failure.args[0])
        except (HydraException, OmegaConfBaseException) as error:
            if wanted == "1":
                raise
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(2)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = wanted

    return main


@contextmanager
def _folder_of_multirun() -> Iterator[None]:
    """A temporary folder for the multirun.yaml that Hydra always writes."""
    if not {"-m", "--multirun"} & set(sys.argv):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        # Before all overrides, so that the user's win; next to them, as argparse requires.
        place = next((n for n, text in enumerate(sys.argv) if "=" in text), len(sys.argv))
        sys.argv.insert(place, f"hydra.sweep.dir={folder}")
        yield


def _fail(sentence: str, code: int) -> NoReturn:
    job = HydraConfig.get()
    several = job.mode == RunMode.MULTIRUN
    which = f" ({' '.join(job.overrides.task)})" if several else ""
    print(f"error: {sentence}{which}", file=sys.stderr)
    raise JobError(code) if several else SystemExit(code)


def explain(error: BaseException) -> str:
    """One sentence about a mistake: the key or value at fault, and the nearest that exists."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MissingMandatoryValue):
            return f"{cause.full_key} is missing; set {cause.full_key}=…"
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
