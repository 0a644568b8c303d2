"""The architecture: imports go down the floors, and nowhere in a circle (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from asr.__main__ import COMMANDS

PACKAGE = Path(__file__).parents[1] / "asr"

FLOORS = {
    "ground": {
        *("batch", "errors", "files", "knobs", "phones", "processor", "records", "symbols"),
        "templates",
    },
    "signal": {
        "architecture",
        *("audio", "augment", "features", "labels", "lstm", "pictures", "scoring", "search"),
    },
    "data": {"corpora", "dataset"},
    "model": {
        *("by_torch", "checkpoint", "criteria", "detector", "encoder", "model_file", "network"),
        "recognizer",
    },
    "use": {
        *("aligner", "alignment", "assessment", "checker", "config", "edges", "explanation"),
        "streaming",
        *("export", "serving", "train", "training", "transcriber"),
    },
    "commands": {"commands"},
}
KNOW_HYDRA = {"config", "commands"}
PRIVATE_OF_LIBRARIES = {"lstm.fast.products"}  # the one guard around them


@cache
def modules() -> list[str]:
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return sorted(set(names) - {"__init__", "__main__"})


def path_of(module: str) -> Path:
    path = PACKAGE / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports_of(module: str) -> set[str]:
    """All that a module imports, anywhere in it, modules of this package by their full name."""
    names = set()
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            origin = node.module or ""
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                names.add(full if full.removeprefix("asr.") in modules() else origin)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return names


def internal(module: str) -> set[str]:
    return {name.removeprefix("asr.") for name in imports_of(module) if name.startswith("asr.")}


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS.values()):
        if room(module) in rooms:
            return number
    pytest.fail(f"asr/{room(module)} is on no floor: name it in FLOORS and docs/architecture.md")


@pytest.mark.parametrize("module", modules())
def test_no_import_goes_up(module: str) -> None:
    above = [other for other in internal(module) if floor(other) > floor(module)]
    assert not above, f"{module} imports {above}"


def test_rooms_form_no_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module in modules():
        others = {room(other) for other in internal(module)} - {room(module)}
        rooms.setdefault(room(module), set()).update(others)
    TopologicalSorter(rooms).prepare()


def test_files_form_no_circle() -> None:
    TopologicalSorter({module: internal(module) - {module} for module in modules()}).prepare()


@pytest.mark.parametrize("module", modules())
def test_hydra_is_known_to_few(module: str) -> None:
    uses = {name.split(".")[0] for name in imports_of(module)} & {"hydra", "omegaconf"}
    assert not uses or room(module) in KNOW_HYDRA


def test_no_module_is_a_drawer() -> None:
    nouns = {part for module in modules() for part in module.split(".")}
    assert not nouns & {"utils", "util", "helpers", "common", "misc"}


HEAVY = ("torch", "torchaudio", "librosa", "hydra", "omegaconf", "matplotlib")
WITHOUT_THEM = ("score", "transcribe", "align", "assess", "ngram", "words", "serve")


def test_using_a_model_never_imports_what_training_needs() -> None:
    names = ", ".join(["asr.serving.app", *(f"asr.commands.{one}" for one in WITHOUT_THEM)])
    code = f"import sys, asr.records, {names}; print(*(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_every_command_has_a_file_and_a_line_of_help() -> None:
    files = {path.stem for path in (PACKAGE / "commands").glob("[a-z]*.py")}
    parts = {
        "checks",
        "comparison",
        "configured",
        "jobs",
        "overrides",
        "recordings",
        "texts",
    }
    assert set(COMMANDS) == files - parts
    help_text = subprocess.run(
        [sys.executable, "-m", "asr", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in help_text for command in COMMANDS)


@pytest.mark.parametrize("module", modules())
def test_private_names_of_libraries_are_behind_one_guard(module: str) -> None:
    imported = {name.split(".")[0] for name in imports_of(module)} - {"asr", "os"}  # os._exit
    private = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
    }
    used = {name for name in private if name.split(".")[0] in imported}
    assert not used or module in PRIVATE_OF_LIBRARIES, f"{module} uses {sorted(used)}"


def test_what_reaches_a_page_names_no_flag() -> None:
    """Messages below `commands` are read on pages and in Python too: they name what to choose."""
    flag = re.compile(r"(?<![\w-])--[a-z]\w")
    # Nothing that a page asks for is scored, learnt from, written to a file, or in a shard.
    elsewhere = {"scoring", "augment", "processor"}
    reached = {"files.outputs", "files.shards"} | {m for m in modules() if room(m) in elsewhere}
    new = {module for module in modules() if room(module) == "serving"}
    named = []
    while new:
        module = new.pop()
        reached.add(module)
        new |= internal(module) - reached
        tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
        docs = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
        strings = (one for one in ast.walk(tree) if isinstance(one, ast.Constant))
        texts = (str(one.value) for one in strings if id(one) not in docs)
        named += [f"{module}: {text}" for text in texts if flag.search(text)]
    sources = [*PACKAGE.glob("serving/page/*.js"), PACKAGE / "serving" / "openapi.json"]
    sources += (PACKAGE.parent / "recipes" / "browser").glob("[ep]*/*.js")
    for path in sources:
        code = re.sub(r"(?m)^\s*(//|/?\*).*", "", path.read_text(encoding="utf-8"))
        strings = re.findall(r"[\"'`][^\"'`\n]*", code)
        named += [f"{path.name}: {text}" for text in strings if re.search(r"\s--[a-z]\w", text)]
    assert len(reached) > 50
    assert len(sources) > 20
    assert not named, named
