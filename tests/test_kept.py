"""Kept arrays are those that were made; what is damaged, foreign or stale is never used."""

import json
import logging
import mmap
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from asr.errors import DataError
from asr.files import kept as room
from asr.files.kept import kept
from asr.search import SearchConfig, graph
from asr.search.graph import kept_graph
from asr.search.ngram import LanguageModel, estimate
from asr.search.word_model import (
    kept_word_graph,
    load_words,
    save_words,
    word_graph,
    word_model,
)

PHONES = ("aa", "b", "iy", "s")
TEXT = [PHONES, ("b", "aa"), ("s", "iy", "b", "aa"), ("b", "iy", "s")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept arrays."""
    monkeypatch.setenv("ASR_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


class Maker:
    """Makes arrays, and counts how often."""

    def __init__(self, value: int = 7) -> None:
        self.times, self.value = 0, value

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return {"small": np.arange(3), "large": np.full(1 << 18, self.value)}


def is_right(arrays: dict[str, Any], value: int = 7) -> bool:
    return arrays["small"].tolist() == [0, 1, 2] and bool(np.all(arrays["large"] == value))


def model() -> LanguageModel:
    return estimate(TEXT, 3, PHONES)


def test_a_kept_graph_is_the_one_that_was_made(folder: Path) -> None:
    expected = graph.graph_of(model(), PHONES)
    times = []

    def unpacked() -> LanguageModel:
        times.append(1)
        return model()

    first, second = (kept_graph("sha", PHONES, unpacked, "a model") for _ in range(2))
    assert len(times) == 1
    for one in (first, second):
        assert one.start == expected.start
        assert numba.typeof(one) == numba.typeof(expected)  # one compiled form serves all
        assert np.array_equal(one.states, expected.states)
        assert np.array_equal(one.arcs, expected.arcs)
        one.give_back()
        assert np.array_equal(one.arcs, expected.arcs)
    mapped = second.arcs
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    assert isinstance(mapped, mmap.mmap)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_entry_is_of_one_content_with_one_set_of_phones_and_one_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries() -> int:
        return len(list(folder.glob("phones-*")))

    kept_graph("sha", PHONES, model, "a model")
    other = kept_graph("sha", PHONES[::-1], model, "a model")
    assert np.array_equal(other.arcs, graph.graph_of(model(), PHONES[::-1]).arcs)
    kept_graph("ahs", PHONES, model, "a model")
    assert entries() == 3
    monkeypatch.setattr(graph, "digest_of_code", lambda: "later")
    kept_graph("sha", PHONES, model, "a model")
    assert entries() == 4
    with pytest.raises(DataError, match=r"a model: .*missing m"):
        kept_graph("sha", (*PHONES, "m"), model, "a model")
    assert entries() == 4


def test_kept_words_are_those_of_the_file_until_it_changes(folder: Path, tmp_path: Path) -> None:
    lexicon = {"bass": [("b", "aa", "s"), ("b", "iy", "s")], "see": [("s", "iy")]}
    ngram = estimate([("bass", "see"), ("see",)], 2)
    path, tuned = tmp_path / "words.safetensors", SearchConfig(beam=50, variant=2.0)
    save_words(path, word_model(lexicon, ngram, tuned))
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 9)).astype(np.float32)
    expected = word_graph(load_words(path), PHONES)
    for _ in range(2):
        one = kept_word_graph(path, PHONES)
        assert numba.typeof((*one, *one.tree)) == numba.typeof((*expected, *expected.tree))
        pairs = zip(
            (*one, *one.tree, one.pronunciations, one.vocabulary, *one.unknown),
            (
                *(*expected, *expected.tree, expected.pronunciations, expected.vocabulary),
                *expected.unknown,
            ),
            strict=True,
        )
        assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
        assert one.tuned == tuned
        assert one.search(log_probs, tuned) == expected.search(log_probs, tuned)
    unknown = graph.graph_of(model(), PHONES)
    assert kept_word_graph(path, PHONES, unknown).unknown is unknown
    assert len(list(folder.glob("words-*"))) == 1
    save_words(path, word_model({"see": [("s", "iy")]}, ngram, tuned))
    assert len(kept_word_graph(path, PHONES).tree.word) == 1
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="damaged"):
        kept_word_graph(path, PHONES)
    with pytest.raises(DataError, match="no such file"):
        kept_word_graph(tmp_path / "absent", PHONES)


def cut(entry: Path) -> None:
    os.truncate(entry / "large.npy", 1 << 12)


def grow(entry: Path) -> None:
    with open(entry / "large.npy", "ab") as file:
        file.write(b"more")


def overwrite(entry: Path) -> None:
    with open(entry / "small.npy", "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\xff" * 4)


def change(entry: Path) -> None:
    with open(entry / "large.npy", "r+b") as file:
        file.seek(entry.joinpath("large.npy").stat().st_size // 2)
        file.write(b"other")


def lose(entry: Path) -> None:
    (entry / "large.npy").unlink()


def scribble(entry: Path) -> None:
    (entry / "about.json").write_text("[1, 2")


def forget(entry: Path) -> None:
    (entry / "about.json").write_text(json.dumps({"small": [1]}))


@pytest.mark.parametrize("damage", [cut, grow, overwrite, change, lose, scribble, forget])
def test_what_is_damaged_is_made_again(damage: Callable[[Path], None], folder: Path) -> None:
    make = Maker()
    kept("x", ["key"], make, "x")
    (entry,) = folder.iterdir()
    damage(entry)
    assert is_right(kept("x", ["key"], make, "x"))
    assert is_right(kept("x", ["key"], make, "x"))
    assert make.times == 2
    assert list(folder.iterdir()) == [entry]


def test_without_a_folder_everything_works_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ASR_CACHE", "/proc/asr")
    make = Maker()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            arrays = kept("x", ["key"], make, "the arrays of x")
            assert is_right(arrays)
            assert not arrays["large"].flags.writeable
    assert make.times == 2
    (said, _) = caplog.messages
    assert "the arrays of x" in said
    assert "ASR_CACHE" in said


def test_the_folder_is_the_users_cache_or_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("ASR_CACHE")
    for name, value in (("XDG_CACHE_HOME", tmp_path / "xdg"), ("HOME", tmp_path / "home")):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv(name, str(value))
        kept("x", ["key"], Maker(), "x")
    monkeypatch.setenv("HOME", "/proc")
    kept("x", ["key"], Maker(), "x")
    entries = sorted(tmp_path.rglob("x-*"))
    places = ["asr-phones-" + str(os.geteuid()), "home/.cache/asr-phones", "xdg/asr-phones"]
    assert [str(entry.parent.relative_to(tmp_path)) for entry in entries] == places


def test_a_folder_that_cannot_be_written_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept("x", ["key"], Maker(), "x")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert is_right(kept("x", ["key"], Maker(8), "x"))
    assert is_right(kept("x", ["other"], Maker(8), "x"), 8)
    assert len(list(folder.iterdir())) == 1


def test_what_cannot_be_written_is_used_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with caplog.at_level(logging.INFO):
        assert is_right(kept("x", ["key"], Maker(), "x"))
    assert "No space left" in caplog.messages[-1]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("odd", ["open to all", "of another user"])
def test_a_folder_that_others_can_write_is_not_used(
    odd: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    kept("x", ["key"], make, "x")
    if odd == "open to all":
        folder.chmod(0o777)
    else:
        os.chown(folder, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(
            os, "geteuid", lambda: 12345
        )
    assert is_right(kept("x", ["key"], make, "x"))
    assert make.times == 2


def test_makers_at_the_same_time_all_get_the_arrays(folder: Path) -> None:
    barrier, results = threading.Barrier(4), []

    def make() -> dict[str, Any]:
        barrier.wait()
        return Maker()()

    def use() -> None:
        results.append(kept("x", ["key"], make, "x"))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(map(is_right, results))
    assert len(list(folder.iterdir())) == 1
    assert is_right(kept("x", ["key"], dict, "x"))


def test_the_oldest_of_a_kind_are_removed(folder: Path) -> None:
    kept("other", ["key"], Maker(), "x")
    makers = [Maker(n) for n in range(room.NEWEST + 2)]
    for n, make in enumerate(makers):
        kept("x", [f"{n}"], make, "x")
        for entry in folder.iterdir():
            about = entry.stat()
            os.utime(entry, ns=(about.st_atime_ns, about.st_mtime_ns - 10**9))
        kept("x", ["0"], makers[0], "x")  # is used, so it is not the oldest
    assert len(list(folder.glob("x-*"))) == room.NEWEST
    assert len(list(folder.glob("other-*"))) == 1
    assert makers[0].times == 1


def test_a_program_says_what_its_first_use_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept("x", ["key"], Maker(), "x")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(room, "say", print)
    for _ in range(2):
        kept("x", ["other"], Maker(), "the arrays of x")
    assert capsys.readouterr().out == f"first use: unpacking the arrays of x, kept in {folder}\n"
