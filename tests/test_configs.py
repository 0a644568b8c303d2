"""Every experiment composes and builds; every mistake gets one sentence and leaves nothing."""

import dataclasses
import errno
import re
from pathlib import Path

import pytest
import torch
from hydra.errors import MissingConfigException

from asr.batch import Batch
from asr.commands import prepare
from asr.commands.configured import command, compose, help_text
from asr.commands.overrides import CONF, explain
from asr.config import SCHEMAS, RunConfig
from asr.phones import Vocabulary, phone_set
from asr.recognizer import Recognizer

EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
)
GROUPS = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in CONF.iterdir()
    if group.is_dir() and group.name != "experiment"
}


def composed(*overrides: str) -> RunConfig:
    return compose(overrides)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment: str) -> None:
    config = composed(f"experiment={experiment}", "corpus.root=anywhere", "seed=7")
    assert config.run_dir == f"exp/{experiment}/7"
    known = config.corpus.phone_set != "auto"
    phones = phone_set(config.corpus.phone_set if known else "timit61")
    recognizer = Recognizer(config.recognizer, Vocabulary(phones))
    batch = Batch.of([torch.zeros(16_000)], ["ann"])
    frames, lengths = recognizer.encode_batch(batch, moments=recognizer.moments_of([batch]))
    assert frames.shape[1] == int(lengths) > 0


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_says_how_to_run_it(experiment: str) -> None:
    header = (CONF / "experiment" / f"{experiment}.yaml").read_text().partition("defaults")[0]
    assert "# @package _global_" in header
    assert "#   make " in header


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, names in GROUPS.items() for option in names]
)
def test_every_option_composes(group: str, option: str) -> None:
    composed(f"{group}={option}", "corpus.root=anywhere")


@pytest.mark.parametrize("name", GROUPS["features"])
def test_features_have_the_width_in_their_name(name: str) -> None:
    assert composed(f"features={name}").features.width == int(re.sub(r"\D", "", name))


@pytest.mark.parametrize(
    ("override", "code", "says"),
    [
        ("encoder.hiden=3", 2, "encoder.hiden: no key 'hiden' in encoder; did you mean 'hidden'?"),
        ("+encoder.hiden=3", 2, "encoder.hiden: no key 'hiden' in encoder; did you mean 'hidden'?"),
        ("encodr.hidden=3", 2, "encodr.hidden: no key 'encodr'; did you mean 'encoder.hidden'"),
        (
            "encoder.hidden=three",
            2,
            "encoder.hidden is 'three', expected a whole number",
        ),
        ("encoder.hidden=null", 2, "encoder.hidden is 'null', expected a whole number"),
        ("experiment=timitt", 2, "experiment/timitt: no such option; did you mean 'timit'?"),
        ("encoder=transformer", 2, "encoder/transformer: no such option (known: blstm, lstm)"),
        ("hidden", 2, "hidden: no key 'hidden'; did you mean 'encoder.hidden'"),
        ("experiment=timit", 2, "corpus.root is missing; set corpus.root=…"),
        ("corpus.root=", 2, "corpus.root is '', expected a value"),
        ("encoder.dropout=1.5", 2, "encoder.dropout is 1.5, expected at least 0 and less than 1"),
        ("encoder.layers=-1", 2, "encoder.layers is -1, expected at least 0"),
        ("training.batch_size=0", 2, "training.batch_size is 0, expected at least 1"),
        ("training.schedule=cosine", 2, "schedule is 'cosine', expected constant, plateau or one_"),
        ("training.weight_noise=-1", 2, "training.weight_noise is -1.0, expected at least 0"),
        ("training.learning_rate=1", 2, "training.learning_rate: no key 'learning_rate' in train"),
        ("optimizer=adagrad", 2, "optimizer/adagrad: no such option (known: adam, sgd)"),
        ("optimizer.learning_rate=0", 2, "optimizer.learning_rate is 0.0, expected more than 0"),
        ("optimizer.momentum=0.9", 2, "no key 'momentum' in optimizer; optimizer=sgd has it"),
        ("features.hop_ms=50", 2, "features.hop_ms is 50.0, expected at most 25"),
        ("corpus.sample_rate=8000", 2, "corpus.sample_rate is 8000, expected 16000"),
        ("split=eval", 2, "split is 'eval', expected train, dev, test or test-full"),
    ],
)
def test_a_mistake_in_the_configuration_gets_one_sentence(
    override: str,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = refused([override], code, tmp_path, monkeypatch, capsys)
    assert sentence.startswith(f"error: {says}") or says in sentence


def test_help_explains_every_knob_and_offers_every_option() -> None:
    lines = help_text("asr train", "Trains.").splitlines()
    assert not [line for line in lines if "_schema" in line or len(line) > 100]
    explained = {key for line in lines if (key := line.strip().partition("=")[0]) in line[:40]}
    parts = [field.type for field in dataclasses.fields(RunConfig) if hasattr(field.type, "group")]
    for part in [RunConfig, *parts, *(one for group in SCHEMAS.values() for one in group.values())]:
        keys = {f"{part.group}.{field.name}".lstrip(".") for field in dataclasses.fields(part)}
        assert keys - explained <= {"criterion.name", "optimizer.name", *GROUPS, "training", "tune"}
    for group, options in GROUPS.items():
        if group != "recipe":
            assert f"{group}: {', '.join(options)}" in lines


@pytest.mark.parametrize(("launcher", "extra"), [("joblib", "sweep"), ("submitit_slurm", "slurm")])
def test_a_launcher_that_is_not_installed_gets_its_extra(launcher: str, extra: str) -> None:
    error = MissingConfigException("…", f"hydra/launcher/{launcher}", ["basic"])
    says = f"hydra/launcher/{launcher} is not installed; run: pip install 'asr-phones[{extra}]'"
    assert explain(error) == says


@pytest.mark.parametrize(
    ("make_root", "says"),
    [
        (lambda root: None, "no such folder; give the folder of the corpus"),
        (lambda root: root.mkdir(), "the folder is empty; give the folder of the corpus"),
        (lambda root: (root / "docs").mkdir(parents=True), "no utterances found; expected audio"),
    ],
    ids=["absent", "empty", "no utterances"],
)
def test_a_root_without_speech_gets_one_sentence(  # type: ignore[no-untyped-def]
    make_root,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "TIMIT"
    make_root(root)
    here = tmp_path / "here"
    here.mkdir()
    overrides = ["experiment=timit", f"corpus.root={root}"]
    assert says in refused(overrides, 1, here, monkeypatch, capsys)


def test_a_disk_that_fills_up_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(config: RunConfig) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{config.run_dir}/checkpoint")

    monkeypatch.setattr("sys.argv", ["asr train", "experiment=demo", "run_dir=exp"])
    with pytest.raises(SystemExit, match=r"^1$"):
        command(full, "")()
    assert capsys.readouterr() == (
        "",
        "error: exp/checkpoint: the disk is full (No space left on device); make room, and repeat "
        "the command\n",
    )


def refused(
    overrides: list[str],
    code: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run asr.prepare, which must exit with `code`, print one line, and leave `folder` empty."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["asr prepare", *overrides])
    with pytest.raises(SystemExit) as exit:
        prepare.main()
    assert exit.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert not list(folder.iterdir())
    return printed.err
