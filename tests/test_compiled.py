"""Compiled code is kept where that is possible, and works where it is not."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import pytest

from asr.processor import compiled

NOWHERE = "/proc/version"  # beside which even root can write nothing


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, where numba can keep nothing in the user's cache."""
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path))
        patched.setenv("NUMBA_CACHE_DIR", "")
        patched.setenv("XDG_CACHE_HOME", "/proc")
        numba.config.reload_config()
        yield tmp_path
    numba.config.reload_config()


def test_numba_can_keep_nothing_where_neither_source_nor_cache_can_be_written(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not compiled.can_keep(NOWHERE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / "cache"))
    assert compiled.can_keep(NOWHERE)


def test_without_a_place_code_is_kept_in_a_folder_that_is_ours_alone(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "__file__", NOWHERE)
    compiled.find_place()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.parent == homeless
    assert folder.stat().st_mode & 0o777 == 0o700
    assert numba.config.CACHE_DIR == str(folder)  # noqa: SIM300
    assert compiled.can_keep(NOWHERE)
    compiled.find_place()
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)


@pytest.mark.parametrize("odd", ["link", "open to all"])
def test_a_folder_that_others_can_write_is_not_used(
    odd: str, homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = homeless / f"asr-numba-{os.geteuid()}"
    if odd == "link":
        (homeless / "elsewhere").mkdir(mode=0o700)
        name.symlink_to("elsewhere")
    else:
        name.mkdir()
        name.chmod(0o777)
    monkeypatch.setattr(compiled, "__file__", NOWHERE)
    compiled.find_place()
    assert Path(os.environ["NUMBA_CACHE_DIR"]) != name
    assert compiled.can_keep(NOWHERE)


def test_where_there_is_a_place_nothing_changes(
    homeless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / "cache"))
    compiled.find_place()
    assert not os.environ["NUMBA_CACHE_DIR"]


def test_librosa_can_be_imported_without_a_home_and_without_a_place_beside_its_source(
    tmp_path: Path,
) -> None:
    code = "import asr.processor.compiled, librosa; print(len(librosa.mel_frequencies(4)))"
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment
        | {
            "HOME": "/proc",
            "XDG_CACHE_HOME": "/proc",
            "TMPDIR": str(tmp_path),
            "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator,UserWideCacheLocator",
        },
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "4\n", done.stderr


def test_cached_code_needs_no_compiler_and_the_compiler_still_works(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "import sys\n"
        "import numba\n"
        "import numpy as np\n"
        "from asr.processor.compiled import compiled\n"
        "@compiled()\n"
        "def total(x):\n"
        "    parts = [y for y in x]\n"
        "    return np.array(parts).sum(), {1: x}[1]\n"
        "def loaded():\n"
        "    return 'numba.cpython.setobj' in sys.modules\n"
        "assert not loaded()\n"
        "result, same = total(np.ones(3))\n"
        "print(result, same.sum(), loaded(), total.stats.cache_hits.total())\n"
        "print(numba.njit(lambda x: len({x, x + 1}) + total(np.ones(3))[0])(2), loaded())\n"
    )
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    texts = []
    for _ in range(2):
        told = [sys.executable, str(tmp_path / "code.py")]
        done = subprocess.run(told, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert texts[0] == "3.0 3.0 True 0\n5.0 True\n"
    if numba.__version__.startswith(compiled.QUICK):
        assert texts[1] == "3.0 3.0 False 1\n5.0 True\n"
