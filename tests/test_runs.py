"""What was run: what a run says of itself, its events, and several runs side by side."""

import hashlib
import json
import math
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import stdev

import pytest
from conftest import SUMMARY

from asr import scoring, train
from asr.architecture import EncoderConfig
from asr.commands import report, score
from asr.commands.comparison import Comparison
from asr.commands.configured import command, compose
from asr.config import RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CTCConfig
from asr.errors import DataError, pip_install
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.records import Hypothesis, Utterance, write_jsonl
from asr.training import events, provenance
from asr.training.learner import GradientDescent
from asr.training.run_directory import RunDirectory

# ── what a run says of itself ────────────────────────────────────────────────────────────────


@pytest.fixture
def config(tones: list[Utterance], tmp_path: Path) -> RunConfig:
    """A run of three epochs of two steps, as asr.prepare would leave it."""
    run_dir = tmp_path / "run"
    for split, members in (("train", tones[:4]), ("dev", tones[6:8])):
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", members)
    Vocabulary(["aa", "iy", "m", "s"]).save(run_dir / "vocabulary.txt")
    return RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        features=FeaturesConfig(bins=20, deltas=0),
        encoder=EncoderConfig(hidden=8, layers=1),
        training=TrainingConfig(epochs=3, batch_size=2),
        run_dir=str(run_dir),
        device="cpu",
    )


def interrupt(config: RunConfig, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Train until the step with this number."""
    original, run, steps = GradientDescent.step, RunDirectory(config.run_dir), 0

    def interrupted(*args):  # type: ignore[no-untyped-def]
        nonlocal steps
        steps += 1
        assert run.starts()  # before the first step
        if steps == step:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(GradientDescent, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(config)


def test_a_run_says_what_it_was_made_from_at_each_start(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(config.run_dir)
    interrupt(config, monkeypatch, step=1)
    assert [start["epochs"] for start in run.starts()] == [0]
    interrupt(config, monkeypatch, step=4)  # nothing was to be continued: the run begins here
    (first,) = run.starts()
    train.run(replace(config, resume="auto"))
    assert run.starts()[0] == first
    assert [start["epochs"] for start in run.starts()] == [0, 1]
    assert first["time"] <= run.starts()[1]["time"]
    for name, path in (("train.jsonl", run.manifest("train")), ("vocabulary.txt", run.vocabulary)):
        assert first["data"][name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first["packages"]["torch"].startswith("2.")
    assert first["cores"] >= 1
    assert first["memory_gb"] > 0.1
    run.provenance.write_text('[{"time": 1}]')
    with pytest.raises(DataError, match=r"provenance\.json"):
        run.starts()
    train.run(replace(config, resume="auto"))  # a damaged note does not stop a training
    assert [start["epochs"] for start in run.starts()] == [3]


def git(folder: Path, *arguments: str) -> str:
    named = "-c", "user.name=a", "-c", "user.email=a@b"
    done = subprocess.run(
        ["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_diff_makes_the_commit_what_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, copy, run = (tmp_path / name for name in ("code", "copy", "run"))
    (code / "asr").mkdir(parents=True)
    run.mkdir()
    for name in ("__init__.py", "removed.py", "binary"):
        (code / "asr" / name).write_bytes(b"one\n\0\xff"[: 7 if name == "binary" else 4])
    (code / ".gitignore").write_text("ignored\n")
    monkeypatch.setattr(provenance, "REPOSITORY", code)

    def start() -> provenance.Start:
        one = provenance.start(run, [], 0, 0, provenance.torch.device("cpu"))
        provenance.write(run / "provenance.json", [one])
        return one

    assert start()["commit"] is None
    git(code, "init", "-q")
    git(code, "add", ".")
    git(code, "commit", "-qm", "one")
    assert (start()["commit"], start()["dirty"]) == (git(code, "rev-parse", "HEAD"), False)
    assert not list(run.glob("*.diff"))
    (code / "asr" / "removed.py").unlink()
    (code / "asr" / "binary").write_bytes(b"\0\xfe")
    (code / "asr" / "__init__.py").write_text("two, without a last line end")
    (code / "asr" / "new.py").write_text("new é\n")
    (code / "notes.txt").write_text("of no run")
    before = git(code, "status", "--porcelain")
    first = start()
    assert first["dirty"]
    assert git(code, "status", "--porcelain") == before
    (code / "notes.txt").unlink()
    git(tmp_path, "clone", "-q", str(code), str(copy))
    git(copy, "apply", str(run / str(first["diff"])))
    assert contents(copy) == contents(code)
    (code / "asr" / "ignored").touch()
    assert start()["diff"] == first["diff"]
    (code / "asr" / "new.py").write_text("newer")
    assert start()["diff"] != first["diff"]
    assert len(list(run.glob("*.diff"))) == 1  # of the start that is listed
    monkeypatch.setattr(provenance, "MOST_BYTES", 10)
    assert (start()["dirty"], start()["diff"]) == (True, None)


def test_the_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "it's (here), Zoë"
    root.mkdir()
    ran: list[tuple[RunConfig, str]] = []

    def note(config: RunConfig) -> None:
        ran.append((config, provenance.command({})))

    run = command(note, "")
    for typed in (
        ["experiment=timit", f"corpus.root={root}", "encoder.hidden=8", "run_dir=x/${name}"],
        ["experiment=timit", f"corpus.root={root}", "-m", "seed=1,2", "search=beam-lm"],
    ):
        monkeypatch.setattr("sys.argv", ["asr train", *typed])
        assert run() == 0
    assert len(ran) == 3
    assert ran[0][1] == f"asr train {shlex.join(['experiment=timit', f'corpus.root={root}'])} " + (
        "encoder.hidden=8 'run_dir=x/${name}'"
    )
    for config, typed_again in ran:
        program, name, *overrides = shlex.split(typed_again)
        assert (program, name) == ("asr", "train")
        assert compose(overrides) == config


def test_the_command_of_several_processes_is_that_of_torchrun() -> None:
    token = provenance.COMMAND.set("asr train seed=1")
    environment = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    try:
        one = provenance.command(environment)
        two = provenance.command(environment | {"LOCAL_WORLD_SIZE": "2"})
    finally:
        provenance.COMMAND.reset(token)
    assert one == "torchrun --nproc-per-node=4 -m asr train seed=1"
    assert shlex.split(two)[1] == "--nnodes=2"
    assert "--nproc-per-node=2" in two


# ── events ───────────────────────────────────────────────────────────────────────────────────


def test_events_are_the_history_however_often_a_run_is_continued(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(config, training=replace(config.training, tensorboard=True))
    run = RunDirectory(config.run_dir)
    interrupt(config, monkeypatch, step=4)
    for step in (2, 3):
        interrupt(replace(config, resume="auto"), monkeypatch, step)
        (folder,) = {path.parent for path in run.path.rglob("events.out.*")}
        read = EventAccumulator(str(folder))
        read.Reload()
        kept = [record["epoch"] for record in run.epochs()]
        assert [event.step for event in read.Scalars("per/dev")] == kept
    train.run(replace(config, resume="auto"))
    (file,) = folder.iterdir()
    read = EventAccumulator(str(file), purge_orphaned_data=False)
    read.Reload()
    history = run.epochs()
    for key in history[0].keys() - {"epoch"}:
        curve = read.Scalars(events.TAGS.get(key, key))
        assert [event.step for event in curve] == [1, 2, 3]
        assert [event.value for event in curve] == pytest.approx([one[key] for one in history])
        assert [one.wall_time for one in curve] == sorted(one.wall_time for one in curve)
    train.run(replace(config, training=replace(config.training, tensorboard=False), resume="auto"))


def test_without_tensorboard_the_error_comes_first_and_says_how_to_get_it(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(DataError) as error:
        train.run(replace(config, training=replace(config.training, tensorboard=True)))
    assert pip_install("tensorboard") in str(error.value)
    assert not RunDirectory(config.run_dir).config.exists()


# ── several runs ─────────────────────────────────────────────────────────────────────────────

SAID = {"a_1": "s ih t", "a_2": "b ae d k", "b_1": "m aa m iy", "b_2": "iy s"}
START: provenance.Start = {
    **{"time": "2026-01-01T00:00:00+00:00", "epochs": 0, "steps": 0, "command": "asr train"},
    **{"folder": "/", "version": "1", "commit": 40 * "a", "dirty": False, "diff": None},
    **{"packages": {"torch": "2"}, "data": {"train.jsonl": 64 * "1"}, "cpu": "C", "gpus": []},
    **{"instructions": "AVX2", "cores": 2, "memory_gb": 1.0, "device": "cpu"},
    **{"processes": 1, "threads": 1},
}  # type: ignore[typeddict-item]


@cache
def composed(*overrides: str) -> RunConfig:
    other = any(text.startswith("corpus") for text in overrides)
    return compose([*([] if other else ["experiment=demo"]), *overrides])


def run_of(
    folder: Path,
    *overrides: str,
    pers: Sequence[float] = (50.0,),
    heard: dict[str, str] | None = None,
    said: dict[str, str] = SAID,
    **start: object,
) -> Path:
    """A folder with what a run leaves that was trained, and with `heard` decoded and scored."""
    run = RunDirectory(folder)
    folder.mkdir(parents=True)
    run.config.write_text(replace(composed(*overrides), run_dir=str(folder)).to_yaml())
    run.training.write_text(json.dumps(SUMMARY | {"dev_per": min(pers)}))
    run.provenance.write_text(json.dumps([START | start]))
    records = [
        {"epoch": n, "phase": 1, "train_loss": math.nan, "dev_loss": 1.0, "dev_per": per}
        | {"learning_rate": 0.1, "seconds": 1.0}
        for n, per in enumerate(pers, start=1)
    ]
    run.history.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    if heard is not None:
        utterances = [
            Utterance(id, f"{id}.wav", 1.0, id[0], tuple(phones.split()), None, "synthetic", "test")
            for id, phones in said.items()
        ]
        write_jsonl(run.manifest("test"), utterances)
        write_jsonl(
            run.hypotheses("test"),
            [Hypothesis(id, tuple(heard.get(id, p).split())) for id, p in said.items()],
        )
        files = [str(run.manifest("test")), str(run.hypotheses("test"))]
        assert score.main([*files, "--output", str(run.score)]) == 0
    return folder


def rows(comparison: Comparison, title: str) -> list[dict[str, str]]:
    """The rows of the only table with such a title, by the head of their columns."""
    (table,) = (one for one in comparison.tables if one.title.startswith(title))
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def test_runs_are_sorted_and_their_differing_keys_are_columns(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", pers=[60.0, 40.0], heard={"a_1": "s"})
    two = run_of(tmp_path / "two", "encoder.hidden=8", "seed=2", "device=cpu", pers=[50.0])
    three = run_of(tmp_path / "three", "seed=3", pers=[70.0, 45.0, 46.0])
    (three / "training.json").unlink()
    compared = Comparison([two, one, three, tmp_path / "one" / ".." / "one"])
    table = compared.tables[0]
    assert table.head[2:] == [
        *("dev PER", "test PER", "95 % by speaker", "epochs", "encoder.hidden", "seed")
    ]
    interval = scoring.with_intervals(
        score.run(one / "manifests" / "test.jsonl", [one / "test.hyp.jsonl"])[0].score
    ).intervals["speaker"]
    assert [list(row)[1:] for row in table.rows] == [
        [str(one), "40.00", "15.38", f"{interval}", "2", "128", "1"],
        [str(three), "45.00", "", "", "3 of 8, unfinished", "128", "3"],
        [str(two), "50.00", "", "", "1", "8", "2"],
    ]
    assert "synthetic test, strict" in table.note
    assert compared.notes == ["a run that was given several times is shown once"]


def test_many_differing_keys_are_listed_with_their_runs(tmp_path: Path) -> None:
    """Of experiments that have little in common, here those of two corpora."""
    folders = [
        run_of(tmp_path / f"{n}", "seed=7", f"encoder.hidden={8 + n // 3}") for n in range(4)
    ]
    other = run_of(tmp_path / "timit", "corpus=timit", "corpus.root=/t", pers=[1.0])
    compared = Comparison([*folders, other])
    assert compared.tables[0].rows[4][1] == str(other)  # though its dev PER is the lowest
    differing = {row["key"]: row for row in rows(compared, "What differs in the configuration")}
    values = "values, with the numbers of the runs"
    assert differing["seed"][values] == "7 (1–4); 1 (5)"
    assert differing["corpus.name"][values] == "synthetic (1–4); timit (5)"
    assert "training.workers" not in differing
    assert str(tmp_path) not in str([row[values] for row in differing.values()])


def test_means_are_over_runs_that_differ_in_their_seed_alone(tmp_path: Path) -> None:
    pers = [40.0, 42.0, 47.0]
    folders = [
        run_of(
            tmp_path / f"{n}",
            f"seed={n}",
            "training.workers=1",
            pers=[per],
            heard={"a_1": n * "s "},
        )
        for n, per in enumerate(pers, start=1)
    ]
    alone = run_of(tmp_path / "alone", "encoder.hidden=8", pers=[41.0])
    (row,) = rows(Comparison([*folders, alone]), "Mean")
    tests = [
        score.run(one / "manifests" / "test.jsonl", [one / "test.hyp.jsonl"])[0] for one in folders
    ]
    runs = scoring.runs([one.score for one in tests])
    assert row == {
        **{"#": "1, 3–4", "seeds": "1, 2, 3", "encoder.hidden": "128"},
        **{"dev PER": f"43.00 ± {stdev(pers):.2f}", "test PER": f"{runs}"},
    }


def test_runs_are_tested_in_pairs_on_the_same_test_set_only(tmp_path: Path) -> None:
    good = run_of(tmp_path / "good", pers=[10.0], heard={"a_1": "s"})
    bad = run_of(tmp_path / "bad", pers=[20.0], heard={"a_2": "b ae", "b_1": "m"})
    others = run_of(tmp_path / "others", pers=[30.0], heard={}, said=SAID | {"a_1": "s ih p"})
    changed = run_of(tmp_path / "changed", pers=[40.0], heard={})
    (changed / "test.hyp.jsonl").write_text("")
    compared = Comparison([others, bad, changed, good])
    (row,) = rows(compared, f"Test PER minus that of #1 {good}")
    (oracle,) = score.run(
        good / "manifests" / "test.jsonl", [bad / "test.hyp.jsonl"], compare=good / "test.hyp.jsonl"
    )
    assert oracle.comparison is not None
    assert oracle.comparison.bootstrap is not None
    assert row["run"] == str(bad)
    assert row["difference"] == f"{oracle.comparison.difference:+.2f}"
    assert row["95 %"] == f"{oracle.comparison.bootstrap.interval}"
    assert row["p MAPSSWE"] == f"{oracle.comparison.mapsswe.p:.3f}"
    assert row["told apart"] == ("yes" if oracle.comparison.told_apart else "no")
    assert [note.split(": ")[0] for note in compared.notes] == [
        str(others),
        str(changed / "test.per.txt"),
    ]


def test_code_data_and_machine_are_compared(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "1"), run_of(tmp_path / "2", dirty=True, diff="code-1.diff")
    moved = RunDirectory(run_of(tmp_path / "3"))
    later = START | {"cores": 64, "packages": {"torch": "3"}}
    moved.provenance.write_text(json.dumps([START, later]))
    old = run_of(tmp_path / "4")
    (old / "provenance.json").unlink()
    compared = Comparison([one, two, moved.path, old])
    (table,) = (one for one in compared.tables if one.title.startswith("What differs in code"))
    assert [list(row) for row in table.rows] == [
        ["commit", "aaaaaaaaaa (1, 3); aaaaaaaaaa with changes (code-1.diff) (2)"],
        ["machine", "C, AVX2, 2 cores (1–2); C, AVX2, 2 cores → C, AVX2, 64 cores (3)"],
        ["torch", "2 (1–2); 2 → 3 (3)"],
    ]
    assert "train.jsonl 1111111111" in table.note
    assert len(compared.notes) == 1
    assert str(old) in compared.notes[0]


def test_damaged_runs_are_named_and_the_others_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = run_of(tmp_path / "sound", pers=[10.0])
    damages = {
        "config.yaml": b"x: [",
        "train.jsonl": b'{"epoch": 1}\n',
        "training.json": b"{",
        "test.per.txt": b"\xff",
        "provenance.json": b"[1]",
    }
    for name, damage in damages.items():
        (run_of(tmp_path / name) / name).write_bytes(damage)
    (tmp_path / "empty" / "1").mkdir(parents=True)
    folders = [str(tmp_path / name) for name in (*damages, "empty")]
    page = tmp_path / "page.html"
    assert report.main([str(sound), *folders, "--output", str(page)]) == 0
    printed = capsys.readouterr().out
    for name in damages:
        assert f"note: {tmp_path / name / name}" in printed
        assert f"{tmp_path / name}</td>" in page.read_text()
    assert f"note: {tmp_path / 'empty'}: no training" in printed
    before = page.read_bytes()
    assert report.main([str(sound), *folders, "--output", str(page)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert page.read_bytes() == before
    (tmp_path / "file").touch()
    assert report.main([str(sound), str(tmp_path / "file"), str(tmp_path / "nowhere")]) == 1
    message = capsys.readouterr().err
    assert "2 problems" in message
    assert "nowhere: no such folder" in message
    nested = tmp_path / "nested"
    run_of(nested / "1")
    assert report.main([str(nested), str(tmp_path / "empty")]) == 1
    assert f"runs in it: {nested / '1'}" in capsys.readouterr().err


def test_fifty_runs_are_one_page(tmp_path: Path) -> None:
    folders = [run_of(tmp_path / "1", pers=[9.0, 8.0])]
    for n in range(2, 51):
        folders.append(tmp_path / f"{n}")
        folders[-1].mkdir()
        for file in folders[0].iterdir():
            text = file.read_text().replace("seed: 1", f"seed: {n}")
            (folders[-1] / file.name).write_text(text)
    compared = Comparison(folders)
    (row,) = rows(compared, "Mean")
    assert row["#"] == "1–50"
    assert len(compared.tables[0].rows) == 50
    assert all(len(line) < 400 for line in str(compared.tables[0]).splitlines())
    page = compared.html()
    assert page.count("<img") == 1
    assert page.count("<tr>") > 50
