"""Overrides as people type them → Hydra's overrides, or one sentence about what is wrong.

Text (a path, a name) is taken as it stands, whatever characters are in it; `${key}` is replaced by
the value of that key, and a first `~/` by the home folder, which shells do not do after a key.
Left to Hydra are all other values, and text in quotes of its own or with Hydra's backslash before a
special character. With -m commas separate values, unless the text is an existing path.
"""

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from asr import knobs
from asr.config import SCHEMAS, RunConfig
from asr.errors import DataError, did_you_mean, pip_install

PACKAGE = Path(__file__).parents[1]
# Installed, conf/ is inside the package; in a checkout beside it.
CONF = next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir())
# Hydra's plugins that run the jobs of -m otherwise than one by one, and the extras that bring them.
LAUNCHERS = {
    "hydra/launcher/joblib": "sweep",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/launcher/submitit_local": "slurm",
}
# Keys that do not change the weights; the first are paths.
NOT_OF_WEIGHTS = {
    *("corpus.root", "corpus.lexicon", "run_dir", "resume", "split", "tuned", "jobs", "cache"),
    *("skip_bad", "overwrite", "device", "threads", "timeout_s", "training.workers"),
    "training.keep_every_minutes",
    "training.tensorboard",
}
MULTIRUN = {"-m", "--multirun"}
FLAGS = {*MULTIRUN, "-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run"}
FLAGS |= {"-sc", "--shell-completion", "-i", "--info"}
PLACES = {"-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir"}
FLAGS_WITH_VALUE = {*PLACES, "-c", "--cfg", "-p", "--package", "--experimental-rerun"}
EXPECTED: dict[Any, str] = {
    int: "a whole number",
    int | None: "a whole number or null",
    float: "a number",
    bool: "true or false",
    list[float]: "a list of numbers, as in [0,0.5,1]",
}
# null, Hydra's quotes, and its backslash before a special character
AS_HYDRA = re.compile(r"""null|(['"]).*\1|.*\\[\\()\[\]{}:=, \t].*""", re.DOTALL)
SWEEPS = re.compile(r"(choice|range|interval|glob|sort|shuffle|tag)\(.*\)", re.DOTALL)
LONGEST = 150  # bytes that overrides add to the name of a folder


# ── what there is ────────────────────────────────────────────────────────────────────────────


def options(group: str) -> list[str]:
    """The files of a group of `conf/`, without their ending."""
    folder = CONF / group
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


@cache
def groups() -> frozenset[str]:
    """The folders of `conf/`, whose files are options."""
    return frozenset(path.name for path in CONF.iterdir() if path.is_dir())


@cache
def owners() -> dict[str, dict[type[knobs.Knobs], Any]]:
    """Every key with a value of its own, dotted: the configurations that have it, and its types."""
    parts: list[Any] = [part.type for part in fields(RunConfig) if is_dataclass(part.type)]
    choices = [config_type for group in SCHEMAS.values() for config_type in group.values()]
    by_key: dict[str, dict[type[knobs.Knobs], Any]] = {}
    for owner in (RunConfig, *parts, *choices):
        for one in fields(owner):
            if not is_dataclass(one.type):
                by_key.setdefault(knobs.full_key(owner, one.name), {})[owner] = one.type
    return by_key


@cache
def _parts() -> frozenset[str]:
    return frozenset(part.name for part in fields(RunConfig) if is_dataclass(part.type))


def schema(config_type: type) -> DictConfig:
    """A structured node that YAML can still fill: OmegaConf locks those of frozen dataclasses."""
    node: DictConfig = OmegaConf.structured(config_type)
    OmegaConf.set_readonly(node, None)
    for part in fields(config_type):
        if isinstance(part.type, type) and is_dataclass(part.type):
            node[part.name] = schema(part.type)
    return node


# ── reading ──────────────────────────────────────────────────────────────────────────────────


def read_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str], frozenset[str]]:
    """The flags, the overrides as in `read`, and the keys with several values.

    Raises `DataError` also for a flag that Hydra does not have.
    """
    several = bool(MULTIRUN & set(arguments))
    flags: list[str] = []
    overrides: list[str] = []
    swept: set[str] = set()
    before = ""
    for text in arguments:
        if before in FLAGS_WITH_VALUE:
            flags.append(text)
        elif not text.startswith("-"):
            override, key = _read(text, several)
            overrides.append(override)
            swept.add(key)
        elif (flag := text.partition("=")[0]) in FLAGS | FLAGS_WITH_VALUE:
            flags.append(text)
        else:
            raise DataError(f"{flag}: no such flag; keys are set without dashes, as in seed=1")
        before = text
    for key in ("cluster", "hydra/launcher"):
        if not several and any(text.startswith(f"{key}=") for text in overrides):
            raise DataError(f"{key}: is for the jobs of several runs, or of one; add -m")
    names = {text.partition("=")[0] for text in flags}
    if several and (others := names - MULTIRUN - {"-h", "--help"} - PLACES):
        raise DataError(f"{min(others)}: is for one run; leave out -m")
    return flags, overrides, frozenset(swept - {""})


def read(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra reads them; `DataError` for the first that cannot be one."""
    return [_read(text, several=False)[0] for text in overrides]


def _read(text: str, several: bool) -> tuple[str, str]:
    """An override as Hydra reads it, and its key if it has several values."""
    typed, equals, value = text.partition("=")
    key = typed.lstrip("+~").strip()
    if key.startswith("hydra"):
        return text, ""
    is_key = key in owners()
    if not key:
        raise DataError(f"{text!r}: no key; expected KEY=VALUE, as in encoder.hidden=320")
    if not is_key and key not in groups() | _parts():
        raise DataError(unknown_key(key))
    expected = _expected(key)
    if typed.startswith("~"):
        raise DataError(f"{text}: a key cannot be removed; set {key}=…, expected {expected}")
    if not equals:
        raise DataError(f"{key}: no value; set {key}=…, expected {expected}")
    is_text = is_key and not {str, str | None}.isdisjoint(owners()[key].values())
    expected += "; ${KEY} is the value of another key" if is_text and "${" in value else ""
    meant = _quoted(value, several) if is_text else value
    try:
        override = OverridesParser.create().parse_override(f"{key}={meant}")
    except (HydraException, ValueError) as error:
        raise DataError(f"{key} is {value!r}, expected {expected}") from error
    if override.is_sweep_override() and not several:
        raise DataError(f"{key} is {value!r}, expected {expected}; for several values add -m")
    values = [override.value()]
    if override.is_sweep_override():
        values = list(override.sweep_iterator()) if override.is_discrete_sweep() else []
    for one in values:
        if not (_fits(key, one) if is_key else _is_option(key, one)):
            wrong = value if len(values) == 1 else str(one)
            raise DataError(f"{key} is {wrong!r}, expected {expected}")
    return f"{key}={meant}", key if override.is_sweep_override() else ""


def _quoted(value: str, several: bool) -> str:
    """Text in Hydra's quotes; with `several` each of the values that commas separate."""
    if AS_HYDRA.fullmatch(value) or (several and SWEEPS.fullmatch(value)):
        return value
    parts = [value]
    if several and not os.path.exists(value):
        parts = [part.strip() for part in re.split(r",(?![^{]*\})", value)]
    parts = [os.path.expanduser(part) if part.startswith("~/") else part for part in parts]
    return ",".join(QuotedString(part, Quote.single).with_quotes() for part in parts)


def _fits(key: str, value: Any) -> bool:
    """Whether a configuration has this value; of numbers only 0 and 1 are true or false."""
    if bool in owners()[key].values() and type(value) is int and value not in (0, 1):
        return False
    for owner in owners()[key]:
        with suppress(OmegaConfBaseException, ValueError):
            text = str(value) if isinstance(value, QuotedString) else value
            OmegaConf.update(schema(owner), key.rpartition(".")[2], text)
            return True
    return False


def _is_option(key: str, value: Any) -> bool:
    """Whether a value can be of a group: an option, several, or keys in braces."""
    is_part = key in _parts()
    if isinstance(value, dict):
        return is_part
    is_named = bool(value) or (value is None and not is_part)
    return key in groups() and is_named and type(value) is not int


def run_name(overrides: Sequence[str], swept: Collection[str]) -> str:
    """What a job of a multirun adds to its experiment's name: `+optimizer.learning_rate-0.001`.

    Without what does not change the weights, unless it has several values; different overrides
    have different names.
    """
    name, exact = "", True
    for key, _, value in (text.partition("=") for text in overrides):
        group = key.partition(".")[0]
        fixed = key in NOT_OF_WEIGHTS or group in ("search", "tune", "hydra", "cluster")
        if key not in ("experiment", "seed") and (key in swept or not fixed):
            name += f"+{key}-{value}"
            exact = exact and re.fullmatch(r"[\w.-]*", value, re.ASCII) is not None
    if exact and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return re.sub(r"[^\w.+-]", "-", name, flags=re.ASCII)[:LONGEST] + f"@{digest}"


# ── one sentence ─────────────────────────────────────────────────────────────────────────────


def _expected(key: str, of: Sequence[type | None] = ()) -> str:
    """What a key may be, in words; `of` has the configurations that are meant."""
    if key in groups():
        return f"one of {', '.join(options(key))}"
    if key in _parts():
        return f"a key in it, as in {next(one for one in owners() if one.startswith(key))}=…"
    words: dict[str, None] = {}
    for owner, kind in owners()[key].items():
        limits = dict(knobs.limits(owner, key.rpartition(".")[2]))
        if kind in EXPECTED:
            limits.pop("filled", None)
        described = filter(None, [EXPECTED.get(kind), knobs.in_words(limits)])
        if not of or owner in of:
            words[", ".join(described) or "text"] = None
    return " or ".join(words)


def explain(error: BaseException, typed: Sequence[str] = ()) -> str:
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
        group, _, option = wanted.partition("/")
        known = [name for name in error.options if not name.endswith("_schema")]
        if group in groups():
            known = sorted({*known, *options(group)})
        inside = [one for one in known if one.endswith(f"/{option}")]
        hint = did_you_mean(option, inside, cutoff=0) or did_you_mean(option, known)
        return f"{wanted}: no such option{hint} (known: {', '.join(sorted(known))})"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"{' '.join(typed)}: cannot be combined; expected KEY=VALUE or GROUP=OPTION"
    return str(error)


def _explain_key(error: OmegaConfBaseException) -> str:
    key = str(error.full_key)
    if isinstance(error, InterpolationKeyError):
        return f"{key}: {str(error.msg).splitlines()[0]}; expected ${{KEY}}, as in ${{seed}}"
    if isinstance(error, KeyError | AttributeError):
        known = [one.name for one in fields(error.object_type or RunConfig)]
        return unknown_key(key, known)
    expected = "expected KEY=VALUE"
    if error.object_type in owners().get(key, {}):
        expected = f"expected {_expected(key, [error.object_type])}"
    return f"{key}: the value does not fit, {expected}"


def unknown_key(key: str, siblings: Sequence[str] = ()) -> str:
    """That a key does not exist, and the nearest that does, also by the last part of its name."""
    parent, _, name = key.rpartition(".")
    names = {one: one.rpartition(".")[2] for one in owners() if one != key}
    siblings = siblings or [names[one] for one in names if one == f"{parent}.{names[one]}"]
    inside = bool(parent and siblings)
    top = {*groups(), *(one.partition(".")[0] for one in owners())}
    known = sorted(siblings if inside else top)
    wrong = name if inside or key.partition(".")[0] in top else key.partition(".")[0]
    hint = "".join(
        f"; {parent}={option} has it"
        for option, config_type in SCHEMAS.get(parent, {}).items()
        if config_type in owners().get(key, {})
    )
    if alike := [repr(one) for one in names if names[one] == name][:3]:
        hint = hint or f"; did you mean {' or '.join(alike)}?"
    hint = hint or did_you_mean(name.lower(), known) or did_you_mean(key.lower(), names)
    return f"{key}: no key {wrong!r}{f' in {parent}' * inside}{hint} (known: {', '.join(known)})"
