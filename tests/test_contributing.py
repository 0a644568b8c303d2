"""CONTRIBUTING's recipes: their code, applied to a copy of the repository, trains."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, tones_of

BLOCK = re.compile(r"^( *)```(?:python|yaml)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
TRAIN = """
from asr.commands import prepare
from asr.commands.configured import compose
from asr import train

common = ["experiment=listed", "corpus.root=data", "encoder.hidden=6", "encoder.layers=1"]
common += ["training.epochs=1", "threads=1", "jobs=1", "device=cpu"]
for run, overrides in (
    ("cell", ["encoder.cell=mgu"]), ("rest", ["features=root40", "criterion=penalized"])
):
    config = compose([*common, *overrides, f"run_dir=exp/{run}"])
    prepare.run(config)
    train.run(config)
"""


def blocks() -> Iterator[tuple[str, str]]:
    """The first line of each block of code, without its comment sign, and the other lines."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for _, block in BLOCK.findall(text):
        first, _, code = dedent(block).partition("\n")
        yield first.removeprefix("# "), code


def apply(first: str, code: str, root: Path) -> None:
    """Put a block into the file that its first line names."""
    path, where, line = re.fullmatch(r"(\S+)(?: (after|before) (.*))?", first).groups()  # type: ignore[union-attr]
    file = root / path
    if not where:
        assert not file.exists()
        file.write_text(code, encoding="utf-8")
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    (place,) = (n for n, each in enumerate(lines) if each.startswith(line))
    lines.insert(place + (where == "after"), code)
    file.write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("asr", "conf"):  # with compiled code, which is kept by the time of its source
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, symlinks=True)
    return tmp_path


def test_each_recipe_is_enough_to_train(copy: Path) -> None:
    data = copy / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        lines = []
        for phones in (("aa", "iy", "s"), ("m", "aa"), ("s", "iy", "m", "aa")):
            name = f"{split}{len(lines)}.wav"
            noise = np.random.default_rng(len(lines)).normal(size=len(phones) * 2400)
            wave = tones_of(phones) + 0.01 * (len(split) + noise)
            soundfile.write(data / name, wave, 16_000)
            lines.append(f"{name} {split}speaker {' '.join(phones)}\n")
        (data / f"{split}.txt").write_text("".join(lines))
    for first, code in blocks():
        apply(first, code, copy)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for folder, key in (("cell", "cell: mgu"), ("rest", "compression: root")):
        assert key in (copy / "exp" / folder / "config.yaml").read_text()
        assert (copy / "exp" / folder / "checkpoint-best.safetensors").exists()
