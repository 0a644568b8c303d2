"""The architecture: each floor imports only from floors below it (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr.__main__ import DOORS

PACKAGE = Path(__file__).parents[1] / "asr"

FLOORS = [
    {"records", "phones", "labels", "textgrid", "batch", "compiled"},
    {
        *("audio", "augment", "espeak", "features", "language_model", "lexicon", "lstm", "memory"),
        *("pictures", "prefix_beam", "scoring", "viterbi"),
    },
    {"corpora", "dataset"},
    {"encoder", "criteria"},
    {"recognizer", "checkpoint", "aligner"},
    {"config", "lesson"},
    {
        "download",
        "prepare",
        "train",
        "ngram",
        "tune",
        "decode",
        "score",
        "report",
        "show",
        "explain",
        "exchange",
        "align",
        "transcribe",
        "ship",
    },
]
# Within a floor, these stand below their neighbours.
BELOW = {
    ("phones", "records"),
    ("labels", "records"),
    ("labels", "phones"),
    ("textgrid", "records"),
    ("checkpoint", "recognizer"),
    ("aligner", "recognizer"),
}
CONFIGURED = {"config", "prepare", "train", "tune", "decode"}


def modules() -> list[str]:
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return sorted(set(names) - {"__init__", "__main__"})


def imports_of(module: str) -> set[str]:
    """All that a module imports, anywhere in it, modules of this package by their full name."""
    path = PACKAGE / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            origin = node.module or ""
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                found.add(full if full.removeprefix("asr.") in modules() else origin)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def internal(module: str) -> set[str]:
    return {name.removeprefix("asr.") for name in imports_of(module) if name.startswith("asr.")}


def floor(module: str) -> int:
    noun = module.split(".")[0]
    for number, nouns in enumerate(FLOORS):
        if noun in nouns:
            return number
    pytest.fail(f"asr/{noun} stands on no floor: name it in FLOORS and in docs/architecture.md")


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_below(module: str) -> None:
    noun = module.split(".")[0]
    for other in internal(module):
        other_noun = other.split(".")[0]
        if other_noun != noun:
            assert floor(other) < floor(module) or (noun, other_noun) in BELOW, (
                f"{module} imports {other}"
            )


@pytest.mark.parametrize("module", [name for name in modules() if "." in name])
def test_in_a_package_siblings_import_only_base(module: str) -> None:
    package, name = module.split(".", maxsplit=1)
    siblings = {other for other in internal(module) if other.split(".")[0] == package}
    allowed = set() if name == "base" else {f"{package}.base"}
    assert siblings <= allowed, f"{module} imports {sorted(siblings - allowed)}"


@pytest.mark.parametrize("module", modules())
def test_hydra_stays_on_the_top_floors(module: str) -> None:
    uses = {name.split(".")[0] for name in imports_of(module)} & {"hydra", "omegaconf"}
    assert not uses or module in CONFIGURED


def test_no_module_is_a_grab_bag() -> None:
    nouns = {part for module in modules() for part in module.split(".")}
    assert not nouns & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("module", ["asr", "asr.records", "asr.phones", "asr.scoring", "asr.score"])
def test_scoring_and_help_never_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_door_is_a_command() -> None:
    assert set(DOORS) == FLOORS[-1]
    help_text = subprocess.run(
        [sys.executable, "-m", "asr", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(door in help_text for door in DOORS)


@pytest.mark.parametrize("module", modules())
def test_private_names_of_libraries_stand_behind_one_guard(module: str) -> None:
    imported = {name.split(".")[0] for name in imports_of(module)} - {"asr", "os"}  # os._exit
    path = PACKAGE / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    private = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
    }
    used = {name for name in private if name.split(".")[0] in imported}
    assert not used or module == "lstm.base", f"{module} uses {sorted(used)}"
