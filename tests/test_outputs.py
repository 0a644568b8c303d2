"""Files of users survive: none is overwritten unasked; a killed writer leaves one version."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make

from asr.errors import DataError
from asr.files.outputs import atomic_open, require_new, temporary_folder

REPOSITORY = Path(__file__).parents[1]


def killed(code: str, folder: Path) -> None:
    """Run code in a process that is killed when it says so."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys\nfrom pathlib import Path\nfrom asr.files.outputs import *\n{code}",
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL


WAIT = "print('now', flush=True); __import__('time').sleep(60)"


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    killed(f"with atomic_open('a.txt') as file:\n file.write('x' * 99999)\n {WAIT}", tmp_path)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_open(tmp_path / "a.txt") as file:
        file.write("new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_a_killed_folder_is_removed_by_the_next_and_a_living_one_is_not(tmp_path: Path) -> None:
    killed(f"with temporary_folder(Path(), '.w.') as f:\n (f / 'a').touch()\n {WAIT}", tmp_path)
    (left,) = tmp_path.iterdir()
    with temporary_folder(tmp_path, ".w.") as first, temporary_folder(tmp_path, ".w.") as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_open(path) as one, atomic_open(path) as other:
        one.write("one" * 9999)
        other.write("other")
    assert path.read_text() == "one" * 9999
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    wrong = [tmp_path / "file", tmp_path / "link", tmp_path, tmp_path / "file" / "x" / "y"]
    with pytest.raises(DataError) as raised:
        require_new([*wrong, tmp_path / "new" / "file"], overwrite=False, inputs=[])
    assert sorted(one.partition(": ")[0] for one in raised.value.problems) == sorted(
        map(str, [tmp_path / "file", tmp_path / "file", tmp_path / "link", tmp_path])
    )
    require_new([tmp_path / "file", tmp_path / "link"], overwrite=True, inputs=[])
    with pytest.raises(DataError):
        require_new([tmp_path], overwrite=True, inputs=[])


def test_make_clean_spares_what_it_did_not_make(tmp_path: Path) -> None:
    for name in (
        "exp/a",
        "data/mine.wav",
        "data/synthetic/a",
        "data/cache/a",
        "data/LibriSpeech/b",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data/LibriSpeech/test-clean/1").mkdir(parents=True)
    (tmp_path / "data/.downloaded").write_text("LibriSpeech/test-clean\ntest-clean.tar.gz.part\n")
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    makefile = str(REPOSITORY / "Makefile")
    made = make("-f", makefile, "clean", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    kept = {"recipes", "data", "data/mine.wav", "data/LibriSpeech", "data/LibriSpeech/b"}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == kept
    assert "data/mine.wav" in made.stdout
    for name in ("mine.wav", "LibriSpeech/b"):
        (tmp_path / "data" / name).unlink()
    assert make("-f", str(REPOSITORY / "Makefile"), "clean", folder=tmp_path).returncode == 0
    assert not (tmp_path / "data").exists()


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name of 2 outputs"):
        require_new([tmp_path / "a", tmp_path / "b", f"{tmp_path}/a"], overwrite=True, inputs=[])
