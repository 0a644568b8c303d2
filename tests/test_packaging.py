"""The distribution: its name, what it needs and brings, and the commands that name it."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import asr
from asr import errors

REPOSITORY = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

MODULES = {
    "hydra-core": "hydra",
    "kaldi-native-fbank": "kaldi_native_fbank",
    "espeakng-loader": "espeakng_loader",
    "moonshine-voice": "moonshine_voice",
    "praat-parselmouth": "parselmouth",
    "mkdocs-material": "material",
}
TOOLS = {"mypy", "pre-commit", "pytest", "ruff"}
# Hydra finds these by itself; asr.config.LAUNCHERS names their extras. starlette reads forms with
# python-multipart.
PLUGINS = {"hydra-joblib-launcher", "hydra-submitit-launcher", "python-multipart"}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=REPOSITORY, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    return [path for line in listed.stdout.splitlines() if (path := REPOSITORY / line).exists()]


@cache
def imported(*folders: str) -> set[str]:
    """The first names of all modules that the code in these folders imports."""
    result = set()
    for path in tracked(*(f"{folder}/*.py" for folder in folders)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and "importorskip" in ast.dump(node.func):
                names = [
                    argument.value for argument in node.args if isinstance(argument, ast.Constant)
                ]
            result.update(str(name).split(".")[0] for name in names)
    return result


def packages(requirements: list[str]) -> set[str]:
    names = {re.split(r"[\[<>=;! ]", requirement)[0] for requirement in requirements}
    return names - {errors.DISTRIBUTION}


def test_the_name_and_the_version_are_said_once() -> None:
    assert PROJECT["name"] == errors.DISTRIBUTION
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (asr.__version__, PROJECT["license"])
    assert citation["message"]
    assert citation["title"]
    assert citation["authors"]


def test_every_dependency_is_used_by_the_package() -> None:
    unused = {
        p for p in packages(PROJECT["dependencies"]) if MODULES.get(p, p) not in imported("asr")
    }
    assert not unused


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_used(extra: str) -> None:
    used = imported("asr", "recipes", "tests")
    wanted = packages(EXTRAS[extra]) - TOOLS - PLUGINS
    assert {p for p in wanted if MODULES.get(p, p) not in used} == set()


def test_commands_name_this_distribution_and_extras_that_there_are() -> None:
    said = []
    for path in tracked("*.py", "*.md", "*Makefile", "*.mk", "*.toml", "*.yaml"):
        if path.name == "CHANGELOG.md" or path.parent == Path(__file__).parent:
            continue
        text = path.read_text(encoding="utf-8")
        said += re.findall(r"install[^\n]*?['\"](\S*?)\[(\w+)\]['\"]", text)
        said += [
            (errors.DISTRIBUTION, e) for e in re.findall(r"pip_install\(['\"](\w+)['\"]\)", text)
        ]
    assert len(said) > 5
    assert {name for name, _ in said} <= {".", errors.DISTRIBUTION}
    assert {extra for _, extra in said} <= set(EXTRAS)
    assert errors.pip_install("g2p") == "pip install 'asr-phones[g2p]'"


def test_types_are_shipped() -> None:
    assert (REPOSITORY / "asr" / "py.typed").is_file()
