"""The table of methods: what Make would run, the searches of a run, and the table itself."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import commands_of, recipe

from asr import scoring, train
from asr.commands.configured import compose
from asr.phones import Vocabulary
from asr.records import Segment, Utterance, write_jsonl

REPOSITORY = Path(__file__).parents[1]

methods = recipe("methods/methods")

METHODS = {
    "ctc-lstm": ["criterion=ctc"],
    "framewise-lstm": ["criterion=framewise", "criterion.states=1"],
}


def timed(utterance: Utterance) -> Utterance:
    """With phones of equal length."""
    step = utterance.duration_s / len(utterance.phones)
    segments = tuple(
        Segment(phone, place * step, (place + 1) * step)
        for place, phone in enumerate(utterance.phones)
    )
    return replace(utterance, segments=segments)


@pytest.fixture(scope="module")
def runs(tones: Sequence[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods, trained for two epochs and searched."""
    folder = tmp_path_factory.mktemp("methods")
    for method, overrides in METHODS.items():
        run_dir = folder / method / "1"
        for split, members in (("train", tones[:6]), ("dev", tones[6:8]), ("test", tones[8:])):
            named = (replace(timed(one), split=split) for one in members)
            write_jsonl(run_dir / "manifests" / f"{split}.jsonl", named)
        Vocabulary(["aa", "iy", "m", "s"]).save(run_dir / "vocabulary.txt")
        small = ["encoder.hidden=8", "encoder.layers=1", "training.epochs=2", "tune.trials=2"]
        given = [*overrides, *small, "features=fbank23", f"run_dir={run_dir}", "device=cpu"]
        train.run(compose(given))
        methods.search(run_dir, 2, given)
    return folder


def test_a_run_is_searched_in_every_way_that_its_criterion_has(runs: Path) -> None:
    for method, names in (
        ("ctc-lstm", ["greedy", "beam", "beam-lm"]),
        ("framewise-lstm", ["beam", "beam-lm"]),
    ):
        run_dir = runs / method / "1"
        dev_pers = json.loads((run_dir / "searches.json").read_text())
        assert list(dev_pers) == names
        for name in names:
            chosen = json.loads((run_dir / f"search.{name}.json").read_text())
            assert chosen["dev_per"] == dev_pers[name]
            assert bool(chosen["search"]["language_model"]) == (name == "beam-lm")
            assert (run_dir / f"test.{name}.hyp.jsonl").exists()


def test_the_table_has_what_the_scorer_says(runs: Path) -> None:
    text = methods.table(runs, list(METHODS), [1], "none")
    for method in METHODS:
        run_dir = runs / method / "1"
        dev_pers = json.loads((run_dir / "searches.json").read_text())
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {method} ")]
        cells = [cell.strip() for cell in line.split("|")[4:10]]
        for place, name in enumerate(methods.SEARCHES):
            dev, test = cells[2 * place : 2 * place + 2]
            if name not in dev_pers:
                assert (dev, test) == ("", "")
                continue
            said, heard = (
                scoring.read_transcripts(run_dir / file)
                for file in ("manifests/test.jsonl", f"test.{name}.hyp.jsonl")
            )
            score = scoring.score_transcripts(said, heard, scoring.protocol("none"))
            assert dev == f"{dev_pers[name]:.2f}"
            assert test.split()[0] == f"{score.total.per:.2f}"


def test_a_folder_without_runs_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert methods.main(["table", str(tmp_path), "--methods", "ctc-lstm"]) == 1
    assert "ctc-lstm/1: no searches.json" in capsys.readouterr().err


def test_make_trains_what_others_begin_with_first(tmp_path: Path) -> None:
    methods = "METHODS=gmm framewise-lstm transducer-gru ctc-gru ctc-lstm"
    options = ("ROOT=/corpora/sample", "ALIGN=1", methods, "SEEDS=2")
    printed = commands_of(tmp_path, "methods/Makefile", *options)
    lines = [line for line in printed.splitlines() if "-m asr train" in line]
    order = [line.partition("run_dir='")[2].split("/")[2] for line in lines]
    assert sorted(order) == sorted(set(order))
    assert order.index("ctc-gru") < order.index("transducer-gru")
    assert order.index("ctc-lstm") < order.index("framewise-lstm")
    of = dict(zip(order, lines, strict=True))
    assert "criterion=gmm encoder.layers=0 " in of["gmm"]
    assert of["framewise-lstm"].endswith("search=beam resume=auto")
    start = "training.start_from='exp/methods-timit-sample/ctc-gru/2/checkpoint-best.safetensors'"
    assert start in of["transducer-gru"]
    assert "asr align" in printed
