"""The search is chosen on dev, from a network that is heard once, and never by looking at test."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asr import checkpoint, scoring
from asr.architecture import EncoderConfig
from asr.checkpoint import Checkpoint
from asr.commands import decode, tune
from asr.config import RunConfig, TuneConfig
from asr.corpora import TimitConfig
from asr.criteria import CTC, CTCConfig
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.files.decoding import convert
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.search import SearchConfig
from asr.search.arpa import write_arpa
from asr.search.graph import load_graph
from asr.search.ngram import estimate

PHONES = ("aa", "iy", "m", "s")
GRID = TuneConfig(
    lm_weight=[0.0, 0.5, 1.0], bonus=[0.0, 1.0, 2.0], blank_penalty=[0.0, 1.0, 2.0, 4.0]
)


@pytest.fixture
def config(tones: list[Utterance], tmp_path: Path) -> RunConfig:
    """A run with a network of random weights, and a manifest of test that nobody can read."""
    run_dir = tmp_path / "run"
    write_jsonl(run_dir / "manifests" / "dev.jsonl", tones[:5])
    (run_dir / "manifests" / "test.jsonl").write_text("not to be read")
    Vocabulary(PHONES).save(run_dir / "vocabulary.txt")
    write_arpa(run_dir / "lm.arpa", estimate([u.phones for u in tones], 2, PHONES))
    config = RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        features=FeaturesConfig(bins=20, deltas=0),
        encoder=EncoderConfig(hidden=16, layers=1, subsampling=2),
        search=SearchConfig(beam=8, language_model=str(run_dir / "lm.arpa")),
        tune=GRID,
        run_dir=str(run_dir),
        device="cpu",
    )
    new_network(config, 0)
    return config


def new_network(config: RunConfig, seed: int) -> Recognizer:
    torch.manual_seed(seed)
    recognizer = Recognizer(config.recognizer, Vocabulary(PHONES)).eval()
    with torch.no_grad():
        recognizer.criterion.head.weight.mul_(20)  # type: ignore[union-attr, operator]
    checkpoint.save(
        Path(config.run_dir) / "checkpoint-best.safetensors", Checkpoint(recognizer, {})
    )
    return recognizer


def fabricated(dev: list[Utterance]) -> Mapping[str, Tensor]:
    """Log-probabilities in which every phone of dev can be seen, but the blank is too strong."""
    generator = torch.Generator().manual_seed(1)
    result = {}
    for utterance in dev:
        logits = torch.randn(4 * len(utterance.phones), 5, generator=generator)
        logits[:, 0] += 2.5
        for n, phone in enumerate(utterance.phones):
            logits[4 * n + 1, 1 + PHONES.index(phone)] += 3.0
        result[utterance.id] = logits.log_softmax(dim=1)
    return result


def per_of(
    config: RunConfig, dev: list[Utterance], emissions: Mapping[str, Tensor], search: SearchConfig
) -> float:
    """One utterance after the other, and the score as `asr score` has it."""
    criterion = CTC(CTCConfig(), 1, 5)
    graph = load_graph(search.language_model, PHONES)
    hypotheses = {}
    for id, one in emissions.items():
        ((path, *_),) = criterion.search(one[None], torch.tensor([len(one)]), search, graph)
        hypotheses[id] = Vocabulary(PHONES).decode(path.labels)
    references = {utterance.id: utterance.phones for utterance in dev}
    return scoring.score(references, hypotheses, protocol=config.corpus.protocol).total.per


def test_all_is_tried_and_scored_as_one_would_by_hand(
    config: RunConfig, tones: list[Utterance]
) -> None:
    recognizer = checkpoint.load(Path(config.run_dir) / "checkpoint-best.safetensors").recognizer
    emissions = fabricated(tones)
    trials = tune.combinations(recognizer, config.search, config.tune, seed=1)
    assert len(trials) == 3 * 3 * 4 == len({tuple(trial.items()) for trial in trials})
    tried = tune.tune(recognizer, emissions, tones, config.search, trials, "strict")
    for trial, expected in zip(tried, trials, strict=True):
        per = trial.pop("dev_per")
        assert trial == expected
        search = dataclasses.replace(config.search, **trial)
        assert per == per_of(config, tones, emissions, search)


def test_the_best_is_kept_and_decode_uses_it(
    config: RunConfig, tones: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = Path(config.run_dir)
    emissions = fabricated(tones[:5])
    monkeypatch.setattr(tune, "_emissions", lambda *_: emissions)
    tune.run(config)
    result = json.loads((run_dir / "search.json").read_text())
    best = min(trial["dev_per"] for trial in result["tried"])
    assert result["dev_per"] == best < max(trial["dev_per"] for trial in result["tried"])
    assert len(result["tried"]) == 36
    chosen = SearchConfig(**result["search"])
    assert per_of(config, tones[:5], emissions, chosen) == best
    assert (chosen.beam, chosen.language_model) == (8, config.search.language_model)
    # decode takes it in place of its own
    splits = dataclasses.replace(config, split="dev")
    decode.run(dataclasses.replace(splits, search=chosen))
    expected = read_jsonl(run_dir / "dev.hyp.jsonl", Hypothesis)
    decode.run(dataclasses.replace(splits, search=SearchConfig(), tuned=True))
    assert read_jsonl(run_dir / "dev.hyp.jsonl", Hypothesis) == expected


def test_dev_is_heard_once_for_each_checkpoint(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = []
    encode = Recognizer.encode_batch

    def counted(self: Recognizer, *args: object, **options: object) -> object:
        heard.append(1)
        return encode(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Recognizer, "encode_batch", counted)
    run_dir = Path(config.run_dir)
    tune.run(config)
    first = json.loads((run_dir / "search.json").read_text())
    assert len(heard) == 1
    tune.run(config)
    assert json.loads((run_dir / "search.json").read_text()) == first
    assert len(heard) == 1
    new_network(config, 1)
    tune.run(config)
    assert len(heard) == 2
    (run_dir / "dev.emissions.safetensors").write_bytes(b"damaged")
    tune.run(config)
    assert len(heard) == 3
    dev = read_jsonl(run_dir / "manifests" / "dev.jsonl", Utterance)
    write_jsonl(run_dir / "manifests" / "dev.jsonl", dev[1:])
    tune.run(config)
    assert len(heard) == 4


def test_what_was_tuned_for_other_weights_is_refused(config: RunConfig) -> None:
    tuned = dataclasses.replace(config, split="dev", tuned=True)
    with pytest.raises(DataError, match=r"search\.json: no such file; run `asr tune`"):
        decode.run(tuned)
    tune.run(config)
    new_network(config, 1)
    with pytest.raises(DataError, match=r"search\.json: tuned for another checkpoint than"):
        decode.run(tuned)
    (Path(config.run_dir) / "search.json").write_text('{"search": {"beam": 0}}')
    with pytest.raises(DataError, match=r"search\.json: .*run `asr tune` again"):
        decode.run(tuned)


def test_a_random_choice_is_a_part_of_the_grid(config: RunConfig) -> None:
    recognizer = checkpoint.load(Path(config.run_dir) / "checkpoint-best.safetensors").recognizer
    grid = tune.combinations(recognizer, config.search, GRID, seed=1)
    some = dataclasses.replace(GRID, trials=7)
    drawn = tune.combinations(recognizer, config.search, some, seed=1)
    assert len(drawn) == 7
    assert all(trial in grid for trial in drawn)
    assert drawn == tune.combinations(recognizer, config.search, some, seed=1)
    assert drawn != tune.combinations(recognizer, config.search, some, seed=2)
    assert grid == tune.combinations(
        recognizer, config.search, dataclasses.replace(GRID, trials=99), seed=1
    )


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({}, {"blank_penalty"}),
        ({"beam": 9}, {"bonus", "blank_penalty"}),
        ({"beam": 9, "language_model": "lm"}, {"lm_weight", "bonus", "blank_penalty"}),
        (
            {"beam": 9, "words": "words"},
            {"lm_weight", "bonus", "word_bonus", "variant", "unknown", "blank_penalty"},
        ),
    ],
)
def test_only_what_a_search_takes_is_tuned(values: dict[str, int], keys: set[str]) -> None:
    result = CTC(CTCConfig(), 1, 5).tunable(SearchConfig(**values))  # type: ignore[arg-type]
    assert set(result) == keys
    assert all(hasattr(GRID, key) for key in result)


def test_a_criterion_without_knobs_is_refused(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CTC, "tunable", lambda *_: ())
    with pytest.raises(DataError, match="criterion ctc has nothing to tune"):
        tune.run(config)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"trials": -1}, "tune.trials is -1, expected at least 0"),
        ({"bonus": []}, "tune.bonus is \\[\\], expected"),
    ],
)
def test_a_grid_without_points_is_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TuneConfig(**values)  # type: ignore[arg-type]


def test_decode_writes_all_hypotheses_when_asked(config: RunConfig) -> None:
    search = SearchConfig(beam=8, n_best=4, threshold=math.inf)
    decode.run(dataclasses.replace(config, split="dev", search=search))
    run_dir = Path(config.run_dir)
    best = read_jsonl(run_dir / "dev.hyp.jsonl", Hypothesis)
    lines = (run_dir / "dev.n-best.jsonl").read_text().splitlines()
    for hypothesis, record in zip(best, map(json.loads, lines), strict=True):
        result = [convert(one, Hypothesis, "n-best") for one in record["n_best"]]
        assert (record["id"], result[0]) == (hypothesis.id, hypothesis)
        assert len({one.phones for one in result}) == 4


@pytest.mark.parametrize(("bonus", "edge"), [(-1.0, "lowest"), (0.0, ""), (1.0, "highest")])
def test_the_best_at_an_end_of_its_values_is_said(
    bonus: float,
    edge: str,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trials = [
        {"bonus": tried, "blank_penalty": 0.0, "dev_per": 10.0 + abs(tried - bonus)}
        for tried in (-1.0, 0.0, 1.0)
    ]
    monkeypatch.setattr(tune, "tune", lambda *args: trials)
    grid = TuneConfig(bonus=[-1.0, 0.0, 1.0])
    with caplog.at_level("INFO"):
        tune.run(dataclasses.replace(config, tune=grid))
    said = [message for message in caplog.messages if "that was tried" in message]
    assert said == (
        [f"bonus={bonus:g} is the {edge} that was tried; give tune.bonus more"] if edge else []
    )
