"""Jobs of a cluster: what submitit and sbatch start, when they are requeued, and what they say."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra.types import RunMode

from asr.commands import configured, jobs
from asr.commands.overrides import CONF, options, read_arguments
from asr.errors import DataError
from asr.phones import Vocabulary
from asr.records import Utterance, write_jsonl

SBATCH = Path(__file__).parents[1] / "recipes" / "cluster" / "train.sbatch"
SMALL = (
    "experiment=demo encoder.hidden=8 encoder.layers=1 training.epochs=40 training.patience=40 "
    "training.batch_size=1 device=cpu threads=1 run_dir=run/${seed} corpus=timit corpus.root=unused"
)
SUBMITTED = {"SUBMITIT_EXECUTOR": "local", jobs.SIGNAL: "USR2"}


def prepared(run: Path, tones: Sequence[Utterance]) -> Path:
    for split, members in (("train", tones[:6]), ("dev", tones[6:8])):
        write_jsonl(run / "manifests" / f"{split}.jsonl", members)
    Vocabulary(["aa", "iy", "m", "s"]).save(run / "vocabulary.txt")
    return run


def test_a_job_of_submitit_is_requeued_and_another_fails_in_one_sentence(
    tones: list[Utterance], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    run = prepared(tmp_path / "run" / "1", tones)
    command = [sys.executable, "-m", "asr", "train", "-m", *SMALL.split(), "seed=1,2"]
    parent = subprocess.Popen(
        [*command, "hydra/launcher=submitit_local"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120
    while not (run / "train.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.05)
    of_seed = {log.read_text().split(":")[0]: log for log in logs(tmp_path)}
    os.kill(int(of_seed["demo 1"].parent.name), signal.SIGTERM)  # to submitit, which forwards it
    said = parent.communicate(timeout=200)[1].splitlines()
    assert parent.returncode == 1
    assert len(said) == 2
    assert said[0].startswith("Waiting for the jobs")
    assert said[1].startswith("error: run/2/manifests/train.jsonl: no manifest; run `asr prepare`")
    assert "continued" in of_seed["demo 1"].read_text()  # without resume=auto
    assert (run / "training.json").exists()
    assert len((run / "train.jsonl").read_text().splitlines()) == 40


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("exp/.jobs/*/.submitit/*/*_log.err"))


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A process that submitit has started, and the signals that came to its handler."""
    came: list[int] = []

    def requeue(number: int, _: object) -> None:
        came.append(number)
        sys.exit(144)

    for name, value in SUBMITTED.items():
        monkeypatch.setenv(name, value)
    before = signal.signal(signal.SIGUSR2, requeue)
    mode = SimpleNamespace(mode=RunMode.MULTIRUN)
    monkeypatch.setattr(configured, "HydraConfig", SimpleNamespace(get=lambda: mode))
    yield came
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(("code", "ends", "signals"), [(75, SystemExit, 1), (1, jobs.JobError, 0)])
def test_only_an_interrupted_run_is_requeued(
    code: int, ends: type[BaseException], signals: int, submitted: list[int]
) -> None:
    task = configured.Task(lambda config: sys.exit(code))
    with pytest.raises(ends) as end:
        task._run(None)  # type: ignore[arg-type]
    assert submitted == [signal.SIGUSR2] * signals
    assert task.is_requeued == bool(signals)
    assert ends is SystemExit or end.value.args == (1, "")


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING"])
def test_a_job_that_was_cancelled_is_not_requeued(
    state: str, submitted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, "squeue", f'echo "$@" > {tmp_path}/asked; echo {state}')
    slurm = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7"}
    for name, value in (slurm | {"SLURM_ARRAY_TASK_ID": "2", "PATH": f"{tmp_path}:/bin"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit if state == "RUNNING" else DataError):
        jobs.requeue()
    assert len(submitted) == (state == "RUNNING")
    assert "--jobs=7_2" in (tmp_path / "asked").read_text()  # 7 is all jobs of the array


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [(75, "RUNNING", True), (75, "COMPLETING", False), (1, "RUNNING", False)],
)
def test_the_batch_script_requeues_what_was_interrupted(
    code: int, state: str, requeued: bool, tmp_path: Path
) -> None:
    tool(tmp_path, "srun", f'printf "%s\\n" "$@" > {tmp_path}/srun.txt; exit {code}')
    tool(tmp_path, "squeue", f"echo {state}")
    tool(tmp_path, "sleep", ":")
    tool(
        tmp_path,
        "scontrol",
        f'[ "$1" = show ] && printf "%s\\n" n1 n2 || echo "$@" > {tmp_path}/requeue.txt',
    )
    slurm = {"SLURM_JOB_ID": "20009", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
    slurm |= {"SLURM_ARRAY_JOB_ID": "20007", "SLURM_ARRAY_TASK_ID": "3", "SLURM_GPUS_ON_NODE": "4"}
    done = subprocess.run(
        ["bash", SBATCH, "experiment=timit", "corpus.root=/a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **slurm},
    )
    assert done.returncode == code
    words = (tmp_path / "srun.txt").read_text().splitlines()
    assert words[words.index("asr") + 1 :] == [
        *("train", "seed=3", "experiment=timit", "corpus.root=/a b", "resume=auto")
    ]
    expected = {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=n1:20009", "--rdzv-id=20009"}
    assert expected <= set(words)
    asked = tmp_path / "requeue.txt"
    assert asked.exists() == requeued
    assert not requeued or asked.read_text() == "requeue 20007_3\n"


def test_a_failure_is_said_where_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    here = pickle.loads(pickle.dumps(jobs.JobError(2, "seed is 'x' (seed=x)")))
    assert here.args == (2, "")
    assert capsys.readouterr().err == "error: seed is 'x' (seed=x)\n"
    pickle.loads(pickle.dumps(here))
    assert not capsys.readouterr().err


def test_a_log_is_said_by_its_last_line() -> None:
    text = "Job 3 (task: 0) has not produced any output\n-----\nerror: out of memory\n---\n"
    assert jobs.said_by_submitit(RuntimeError(text)) == "out of memory"


@pytest.mark.parametrize("name", options("cluster"))
def test_an_example_of_a_cluster_asks_for_what_it_uses(name: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    configured.register()
    with hydra.initialize_config_dir(str(CONF.absolute()), version_base="1.3"):
        config = hydra.compose("config", [f"cluster={name}"], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert config.resume == "auto"
    assert config.threads in (0, launcher.cpus_per_task)
    assert (launcher.gpus_per_node or launcher.tasks_per_node) == launcher.tasks_per_node
    assert launcher.max_num_timeout > 0
    assert config.hydra.job.name == "asr"


@pytest.mark.parametrize("override", ["cluster=seeds", "hydra/launcher=submitit_slurm"])
def test_a_cluster_without_jobs_is_refused(override: str) -> None:
    with pytest.raises(DataError, match="add -m"):
        read_arguments([override])
    assert read_arguments(["-m", override])[1] == [override]
