"""The ladder of 2013: counts, costs, the table and its claims, and several runs by one command."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import SUMMARY, commands_of, recipe

from asr import checkpoint
from asr.commands import decode, train
from asr.commands.configured import compose
from asr.commands.overrides import CONF
from asr.config import SGDConfig
from asr.phones import Vocabulary, phone_set
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Utterance, write_jsonl

REPOSITORY = Path(__file__).parents[1]

ladder = recipe("graves2013/ladder")

ROWS = {row.network: row for row in ladder.published()}


@pytest.mark.parametrize("network", sorted(ROWS))
def test_a_network_has_the_weights_that_the_paper_gives_it(network: str) -> None:
    header = (CONF / "experiment" / "graves2013" / f"{network}.yaml").read_text()
    result = re.search(r"(\S+) in Table 1 .*: ([\d.]+) M weights, ([\d.]+) %", header)
    assert result is not None
    name, millions, per = result.groups()
    config = compose([f"experiment=graves2013/{network}", "corpus.root=anywhere"])
    count = Recognizer(config.recognizer, Vocabulary(phone_set("timit61"))).parameter_count
    assert (name, count, float(per)) == (
        ROWS[network].name,
        ROWS[network].weights,
        ROWS[network].per,
    )
    assert round(count / 1e6, 1) == float(millions)


def test_the_networks_are_trained_as_in_the_paper() -> None:
    for network in ROWS:
        config = compose([f"experiment=graves2013/{network}", "corpus.root=anywhere"])
        assert config.features.width == 123
        assert config.optimizer == SGDConfig(learning_rate=1e-4, momentum=0.9)
        assert config.training.batch_size == 1
        assert config.training.initial_range == 0.1
        assert config.training.weight_noise == (0 if network.endswith("tanh") else 0.075)
        assert config.encoder.cell == ("tanh" if network.endswith("tanh") else "peephole")
        assert config.search.beam == 100


# ── cost ──────────────────────────────────────────────────────────────────────────────────────────


def test_hours_are_epochs_of_all_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ladder.Cost(0.5, 0.1, train_utterances=700, dev_utterances=100, epochs=10)
    assert one.hours == pytest.approx(1.0)
    monkeypatch.setattr(ladder, "measure", lambda *args: one)
    text = ladder.cost(Path("runs"), ["ctc-1l-250h", "ctc-5l-250h"], [1, 2, 3], 2, [])
    assert [line.split()[0] for line in text.splitlines() if line.endswith("3.00")] == [
        "CTC-1l-250h",
        "CTC-5l-250h",
    ]
    assert text.splitlines()[-1].startswith("in all 6.00 hours, 3.00 with 2 jobs at once")


def prepared(folder: Path, tones: Sequence[Utterance]) -> Path:
    """A run directory as asr.prepare would leave it."""
    for split, members in (("train", tones[:6]), ("dev", tones[6:8]), ("test", tones[8:])):
        write_jsonl(folder / "manifests" / f"{split}.jsonl", members)
    Vocabulary(["aa", "iy", "m", "s"]).save(folder / "vocabulary.txt")
    return folder


def test_costs_are_measured_and_epochs_are_the_papers_or_fewer(
    tones: list[Utterance], tmp_path: Path
) -> None:
    run_dir = prepared(tmp_path, tones)
    small = ["corpus.root=unused", "encoder.hidden=4", "device=cpu"]
    row = ROWS["ctc-1l-250h"]
    result = ladder.measure(row, run_dir, small)
    assert (result.train_utterances, result.dev_utterances, result.epochs) == (6, 2, 82)
    assert 0 < result.train_s < 10
    assert 0 < result.dev_s < 10
    quick = [*small, "recipe=graves2013-quick"]
    assert ladder.measure(row, run_dir, [*quick, "training.epochs=3"]).epochs == 6
    tanh = ROWS["ctc-3l-500h-tanh"]
    assert ladder.measure(tanh, run_dir, [*quick, "training.epochs=3"]).epochs == 3
    assert {path.name for path in run_dir.iterdir()} == {"manifests", "vocabulary.txt"}


# ── table ─────────────────────────────────────────────────────────────────────────────────────────


def write_run(runs: Path, network: str, seed: int, share: float) -> float:
    """A finished run in which this share of phones, at random, is heard as another; its PER."""
    rng = np.random.default_rng(7)
    said = [
        Utterance(
            id=f"s{speaker}_{number}",
            audio="none",
            duration_s=1.0,
            speaker=f"s{speaker}",
            phones=tuple(str(phone) for phone in rng.choice(["aa", "iy", "m", "s"], 20)),
            corpus="fabricated",
            split="test",
        )
        for speaker in range(6)
        for number in range(5)
    ]
    rng = np.random.default_rng([seed, *network.encode()])
    wrong = rng.random((30, 20)) < share
    heard = [
        Hypothesis(u.id, tuple("zh" if bad else p for p, bad in zip(u.phones, row, strict=True)), 0)
        for u, row in zip(said, wrong, strict=True)
    ]
    folder = runs / network / str(seed)
    write_jsonl(folder / "manifests" / "test.jsonl", said)
    write_jsonl(folder / "test.hyp.jsonl", heard)
    (folder / "training.json").write_text(json.dumps(SUMMARY | {"dev_per": 30.0 + seed}))
    phases = [1] * (2 + seed) + [2] * 4
    (folder / "train.jsonl").write_text("".join(f'{{"phase": {phase}}}\n' for phase in phases))
    return 100.0 * float(wrong.mean())


def cells(text: str, begins: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_what_the_runs_have(tmp_path: Path) -> None:
    pers = [write_run(tmp_path, "ctc-3l-250h", seed, 0.2) for seed in (1, 2, 3)]
    text = ladder.table(tmp_path, ["ctc-3l-250h", "ctc-5l-250h"], [1, 2, 3])
    name, weights, epochs, dev, test, interval, paper_epochs, paper_per, *_ = cells(
        text, "CTC-3l-250h"
    )
    assert (name, weights, epochs, dev) == ("CTC-3l-250h", "1,234", "4 + 4", "32.00")
    assert test == f"{np.mean(pers):.2f} ± {np.std(pers, ddof=1):.2f}"
    low, high = map(float, interval.split(" … "))
    assert low < np.mean(pers) < high
    assert (paper_epochs, paper_per) == ("124", "18.6")
    text = ladder.table(tmp_path, ["ctc-3l-250h", "ctc-5l-250h"], [1, 2, 3, 4])
    assert cells(text, "CTC-3l-250h")[4] == f"{test} (3 of 4 seeds)"
    assert "not finished" in cells(text, "CTC-5l-250h")
    assert "not selected" in cells(text, "CTC-1l-250h")
    assert "fabricated test, strict (39 phones, q deleted, silence scored)" in text
    assert "30 utterances of 6 speakers; seeds 1 2 3 4." in text
    assert [line for line in text.splitlines() if "not finished" in line][1:] == [
        line for line in text.splitlines() if " − " in line
    ]


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(0.5, "**holds**"), (0.21, "undecided"), (0.05, "**the opposite**")],
)
def test_a_claim_is_tested_with_all_seeds(share: float, verdict: str, tmp_path: Path) -> None:
    ours = [write_run(tmp_path, "ctc-3l-250h", seed, 0.2) for seed in (1, 2)]
    theirs = [write_run(tmp_path, "ctc-1l-622h", seed, share) for seed in (1, 2)]
    by_seed = [a - b for a, b in zip(ours, theirs, strict=True)]
    text = ladder.table(tmp_path, ["ctc-3l-250h", "ctc-1l-622h"], [1, 2])
    claim, difference, interval, p, differences, ps, result = cells(text, "depth beats width")
    assert claim.endswith("CTC-3l-250h − CTC-1l-622h")
    assert float(difference) == pytest.approx(np.mean(by_seed), abs=0.006)
    assert [float(each) for each in differences.split()] == pytest.approx(by_seed, abs=0.006)
    low, high = map(float, interval.split(" … "))
    assert low <= float(difference) <= high
    assert result == verdict
    assert (max(float(p), *map(float, ps.split())) < 0.05) == (verdict != "undecided")


def test_seeds_that_disagree_do_not_make_a_claim_hold(tmp_path: Path) -> None:
    for seed, share in ((1, 0.6), (2, 0.05)):
        write_run(tmp_path, "ctc-3l-250h", seed, 0.2)
        write_run(tmp_path, "ctc-1l-622h", seed, share)
    text = ladder.table(tmp_path, ["ctc-3l-250h", "ctc-1l-622h"], [1, 2])
    assert cells(text, "depth beats width")[-1] == "undecided"


def test_without_any_run_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ladder.main(["table", str(tmp_path), "--networks", "ctc-1l-250h"]) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no network has been trained and decoded\n"
    )


# ── several runs by one command ───────────────────────────────────────────────────────────────────


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """A multirun sets up logging for every job anew."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def train_all(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> int:
    """`asr train -m` for two networks and two seeds in a folder of their own; its exit code."""
    monkeypatch.chdir(folder)
    argv = [
        "asr train",
        "-m",
        "experiment=graves2013/ctc-1l-250h,graves2013/ctc-3l-500h-tanh",
        "seed=1,2",
        "run_dir=runs/${name}/${seed}",
        "recipe=graves2013-quick",
        "corpus.root=unused",
        "encoder.hidden=4",
        "training.epochs=1",
        "device=cpu",
        *overrides,
    ]
    monkeypatch.setattr("sys.argv", argv)
    try:
        train.main()
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


NETWORKS = ("ctc-1l-250h", "ctc-3l-500h-tanh")


def test_a_tiny_ladder_from_end_to_end(
    tones: list[Utterance],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_logging: None,
) -> None:
    places = [tmp_path / "runs" / network / seed for network in NETWORKS for seed in "12"]
    for place in places:
        prepared(place, tones)
    (places[2] / "vocabulary.txt").write_text("")  # one job of four cannot begin
    assert train_all(monkeypatch, tmp_path) == 1
    printed = capsys.readouterr().err
    assert printed.count("error: ") == 1
    assert "experiment=graves2013/ctc-3l-500h-tanh seed=1" in printed
    assert "ctc-1l-250h 2: phase 2, epoch   1/1" in printed
    trained = [(place / "training.json").exists() for place in places]
    assert trained == [True, True, False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    # Said again, it does what is missing and nothing else.
    prepared(places[2], tones)
    weights = (places[0] / "checkpoint-last.safetensors").read_bytes()
    assert train_all(monkeypatch, tmp_path, "resume=auto") == 0
    assert (places[0] / "checkpoint-last.safetensors").read_bytes() == weights
    for network, place in zip(np.repeat(NETWORKS, 2), places, strict=True):
        assert checkpoint.load(place / "checkpoint-best.safetensors").about["seed"] == int(
            place.name
        )
        override = [f"experiment=graves2013/{network}", f"run_dir={place}", "corpus.root=unused"]
        decode.run(compose([*override, "device=cpu"]))
    command = ["table", "runs", "--networks", *NETWORKS, "--seeds", "1", "2"]
    assert ladder.main(command) == 0
    text = (tmp_path / "runs" / "ladder.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert cells(text, "CTC-1l-250h")[2] == "1 + 1"
    assert cells(text, "CTC-3l-500h-tanh")[2] == "1"


# ── Make ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "conf").symlink_to(REPOSITORY / "conf")
    return tmp_path


def make(folder: Path, *options: str) -> str:
    return commands_of(folder, "graves2013/Makefile", "ROOT=/timit", *options)


def trains(printed: str) -> list[str]:
    joined = printed.replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if "-m asr train -m" in line]


def test_make_prepares_once_and_trains_all_by_one_command(checkout: Path) -> None:
    printed = make(checkout, "NETWORKS=ctc-1l-250h ctc-2l-250h", "SEEDS=1 2", "ARGS=threads=1")
    assert printed.startswith(".venv/bin/python -m asr prepare experiment=graves2013/ctc-1l-250h")
    assert printed.count("else mkdir -p") == 3
    (command,) = trains(printed)
    assert "experiment=graves2013/ctc-1l-250h,graves2013/ctc-2l-250h seed=1,2" in command
    assert "run_dir='exp/graves2013+threads-1/${name}/${seed}' resume=auto" in command
    assert "corpus.root='/timit'" in command
    assert "hydra/launcher" not in command


def test_make_trains_what_is_not_yet_trained(checkout: Path) -> None:
    for run in ("ctc-1l-250h/1", "ctc-1l-250h/2", "ctc-2l-250h/1"):
        folder = checkout / "exp" / "graves2013" / run
        folder.mkdir(parents=True)
        for name in ("vocabulary.txt", "training.json"):
            (folder / name).touch()
        (folder / "settings.txt").write_text("data=/timit\n")
    options = ("NETWORKS=ctc-1l-250h ctc-2l-250h", "SEEDS=1 2")
    (command,) = trains(make(checkout, *options))
    assert "experiment=graves2013/ctc-2l-250h seed=2 " in command
    printed = make(checkout, "NETWORKS=ctc-1l-250h", "SEEDS=1 2")
    assert trains(printed) == []
    assert printed.count("-m asr decode") == 2


def test_make_trains_a_network_after_the_one_that_it_begins_with(checkout: Path) -> None:
    commands = trains(make(checkout))
    assert len(commands) == 2
    assert "graves2013/ctc-3l-250h" in commands[0]
    assert "experiment=graves2013/pretrans-3l-250h seed=1 " in commands[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["JOBS=1000"], "threads=1 hydra/launcher=joblib hydra.launcher.n_jobs=1000"),
        (
            ["LAUNCHER=slurm hydra.launcher.partition=gpu"],
            "threads=0 hydra/launcher=submitit_slurm hydra.launcher.partition=gpu "
            "hydra.sweep.dir='exp/graves2013'",
        ),
    ],
)
def test_make_runs_jobs_at_once(options: list[str], says: str, checkout: Path) -> None:
    printed = make(checkout, "NETWORKS=ctc-1l-250h", *options)
    (command,) = trains(printed)
    assert command.endswith(says)
    assert "--cfg hydra" in printed.splitlines()[0]  # what is not installed is said at once
