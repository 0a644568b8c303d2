"""What a run gives away: the same phones from half the bytes, with its search, and a true card."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import SUMMARY
from omegaconf import OmegaConf

from asr import checkpoint, scoring
from asr import transcriber as transcribe
from asr.checkpoint import Checkpoint, TrainingState
from asr.commands import ship
from asr.commands.configured import compose
from asr.commands.configured import overrides as overrides_of
from asr.criteria import CTC
from asr.dataset import Batches
from asr.errors import DataError
from asr.recognizer import transcribe_all
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl
from asr.search import SearchConfig
from asr.search.arpa import write_arpa
from asr.search.graph import graph_of
from asr.search.ngram import estimate
from asr.transcriber import MODEL

PHONES = ("aa", "iy", "m", "s")


@pytest.fixture
def run_dir(tones: list[Utterance], tone_model: Path, tmp_path: Path) -> Path:
    """A finished, tuned run whose best checkpoint is the model of tones."""
    folder = tmp_path / "run"
    sexed = [
        replace(one, sex="m" if one.speaker == "speaker0" else "f", corpus="librispeech")
        for one in tones
    ]
    for split, some in (("train", sexed), ("dev", sexed[:4]), ("test", sexed[4:])):
        write_jsonl(
            folder / "manifests" / f"{split}.jsonl", [replace(one, split=split) for one in some]
        )
    result = checkpoint.load(tone_model)
    state = TrainingState({}, [], {"optimizer": {"state": {0: torch.zeros(1000)}}})
    about = {"corpus": "librispeech", "experiment": "librispeech", "seed": 3}
    best = folder / "checkpoint-best.safetensors"
    checkpoint.save(best, Checkpoint(result.recognizer, about, state))
    (folder / "training.json").write_text(json.dumps(SUMMARY | about))
    overrides = ["experiment=librispeech", "corpus.root=here", "encoder.hidden=24", "seed=3"]
    (folder / "config.yaml").write_text(compose(overrides).to_yaml())
    write_arpa(folder / "lm.arpa", estimate([one.phones for one in tones], 3, PHONES))
    search = SearchConfig(beam=8, n_best=4, language_model="gone/lm.arpa", lm_weight=0.3)
    tuned = {"search": vars(search), "checkpoint": digest_of(best)}
    (folder / "search.json").write_text(json.dumps(tuned))
    return folder


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_shipped_model_hears_the_same_from_half_the_bytes(
    run_dir: Path, tones: list[Utterance], tmp_path: Path
) -> None:
    path = tmp_path / "given.safetensors"
    ship.run(run_dir, path)
    best = checkpoint.load(run_dir / "checkpoint-best.safetensors").recognizer
    result = checkpoint.load(path)
    assert result.training is None
    (batch,) = Batches(tones, best.vocabulary, 16_000, batch_size=len(tones))
    log_probs = []
    for recognizer in (best, result.recognizer):
        assert isinstance(recognizer.criterion, CTC)
        with torch.no_grad():
            encoded, _ = recognizer.encode_batch(batch)
            log_probs.append(recognizer.criterion.emissions(encoded))
    likely = log_probs[0] > -4.0
    assert (log_probs[0] - log_probs[1])[likely].abs().max() < 1e-2
    greedy = [transcribe_all(one, [batch], SearchConfig()) for one in (best, result.recognizer)]
    assert all(greedy[0][id].phones == greedy[1][id].phones for id in batch.ids)
    weights = sum(4 * parameter.numel() for parameter in best.parameters())
    assert path.stat().st_size < 0.6 * weights + 20_000
    assert torch.equal(best.features.mean, result.recognizer.features.mean)


def test_the_search_and_its_language_model_travel_inside(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    ship.run(run_dir, path)
    (run_dir / "lm.arpa").unlink()
    result = checkpoint.load(path)
    assert result.search == SearchConfig(beam=8, lm_weight=0.3)
    transcriber = transcribe.load(path)
    assert transcriber.search == result.search
    assert transcriber.graph is not None
    log_probs = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    lengths = torch.tensor([40, 31, 25])
    criterion = result.recognizer.criterion
    with_model = criterion.search(log_probs, lengths, result.search, transcriber.graph)
    without = criterion.search(log_probs, lengths, result.search)
    assert [paths[0].labels for paths in with_model] != [paths[0].labels for paths in without]
    light = checkpoint.load(path, language_model=False)
    assert light.language_model is None
    assert (light.search, light.calibration) == (result.search, result.calibration)
    assert result.language_model is not None


def test_a_language_model_is_read_back_as_it_was_to_single_precision(
    tones: list[Utterance], tone_model: Path, tmp_path: Path
) -> None:
    model = estimate([one.phones for one in tones], 3, PHONES)
    recognizer = checkpoint.load(tone_model).recognizer
    checkpoint.save(tmp_path / "a.safetensors", Checkpoint(recognizer, language_model=model))
    result = checkpoint.load(tmp_path / "a.safetensors").language_model
    assert result is not None
    assert (result.order, result.about, result.phones) == (3, model.about, model.phones)
    for key in ("children", "symbol", "log10_prob", "log10_backoff"):
        ours, theirs = getattr(result, key), getattr(model, key)
        assert ours == pytest.approx(theirs, rel=1e-6, nan_ok=True)
    ours, theirs = graph_of(result, PHONES), graph_of(model, PHONES)
    assert ours.start == theirs.start
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        for name in one.dtype.names:
            assert one[name] == pytest.approx(other[name], rel=1e-6)


def test_the_card_says_what_the_file_does(run_dir: Path, tmp_path: Path) -> None:
    card = ship.run(run_dir, tmp_path / "given.safetensors").read_text()
    assert digest_of(tmp_path / "given.safetensors") in card
    assert "CC BY 4.0" in card
    assert "asr train experiment=librispeech encoder.hidden=24 seed=3\n" in card
    assert "Seed 3, best epoch 7" in card
    assert "a beam of 8, a phone 3-gram with the weight 0.3" in card
    assert "$" not in card
    for split in ("dev", "test"):
        score = scoring.score_transcripts(
            scoring.read_transcripts(run_dir / "manifests" / f"{split}.jsonl"),
            scoring.read_transcripts(run_dir / f"{split}.shipped.hyp.jsonl"),
            scoring.protocol("arpabet"),
        )
        assert f"librispeech {split} | {score.total.per:.2f} |" in card
    assert "| test | women | 2 |" in card
    assert "| test | men | 1 |" in card


@pytest.mark.parametrize(
    ("corpus", "seen"),
    [
        ("librispeech/train-clean-5", None),
        ("librispeech/train-clean-5+dev-clean-10+dev-clean-2+dev-part", None),
        ("librispeech/part-of-dev-clean+dev-other+common-voice-v1", "dev-clean and dev-other"),
        ("librispeech/test-clean", "test-clean"),
    ],
)
def test_the_card_says_what_it_learned_from(
    run_dir: Path, tmp_path: Path, tones: list[Utterance], corpus: str, seen: str | None
) -> None:
    train = [replace(one, corpus=corpus, duration_s=1800.0) for one in tones]
    write_jsonl(run_dir / "manifests" / "train.jsonl", train)
    card = ship.run(run_dir, tmp_path / "given.safetensors").read_text()
    assert f"9 utterances, 4.5 hours, 3 speakers of `{corpus}`" in card
    assert ("training data of this model" in card) == (seen is not None)
    assert seen is None or f"Speech of {seen} is training data" in card
    assert ("CC0" in card) == ("common-voice" in corpus)


def test_the_licence_is_that_of_the_corpus(run_dir: Path, tmp_path: Path) -> None:
    training = json.loads((run_dir / "training.json").read_text())
    (run_dir / "training.json").write_text(json.dumps(training | {"corpus": "timit"}))
    card = ship.run(run_dir, tmp_path / "given.safetensors").read_text()
    assert "CC BY 4.0" not in card
    assert "LDC" in card


@pytest.mark.parametrize(
    ("start", "licence", "named"),
    [
        ("", None, None),
        ("packaged", "CC BY 4.0", "the model that is packaged"),
        (str(MODEL), "CC BY 4.0", "the model that is packaged"),
        ("data/other.safetensors", None, "`data/other.safetensors`: its data"),
    ],
)
def test_the_card_of_a_fine_tuned_model_names_what_it_began_with(
    run_dir: Path, tmp_path: Path, start: str, licence: str | None, named: str | None
) -> None:
    training = json.loads((run_dir / "training.json").read_text())
    (run_dir / "training.json").write_text(json.dumps(training | {"corpus": "folder"}))
    config = OmegaConf.load(run_dir / "config.yaml")
    config.training.start_from = start
    OmegaConf.save(config, run_dir / "config.yaml")
    card = ship.run(run_dir, tmp_path / "given.safetensors").read_text()
    assert ("CC BY 4.0" in card) == (licence is not None)
    assert ("began with" in card) == (named is not None)
    assert (named or "") in card.replace("\n", " ")
    for claim in ("English", "lexicon", "read aloud"):  # nobody knows what is in the folder
        assert claim not in card


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: (run / "training.json").unlink(), "training.json: no such file"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: cannot be read"),
        (lambda run: (run / "lm.arpa").unlink(), "lm.arpa: cannot be read"),
        (lambda run: (run / "search.json").write_text("{}"), "search.json: no key search"),
    ],
)
def test_what_cannot_be_shipped_is_refused_before_anything_is_written(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object, says: str
) -> None:
    spoil(run_dir)  # type: ignore[operator]
    target = tmp_path / "given.safetensors"
    assert ship.main([str(run_dir), str(target)]) == 1
    assert says in capsys.readouterr().err
    assert not target.exists()


def test_weights_beyond_half_precision_are_refused(tone_model: Path, tmp_path: Path) -> None:
    recognizer = checkpoint.load(tone_model).recognizer
    with torch.no_grad():
        next(recognizer.parameters()).fill_(1e6)
    with pytest.raises(DataError, match="too large for half precision"):
        checkpoint.save(tmp_path / "a.safetensors", Checkpoint(recognizer), half=True)
    assert not (tmp_path / "a.safetensors").exists()


def test_overrides_give_the_configuration_again() -> None:
    said = ["experiment=timit-sample", "encoder.cell=gru", "features.bins=23", "augment.speed=0.1"]
    run = compose([*said, "corpus.root=/there", "threads=1"])
    again = overrides_of(asdict(run))
    assert again[0] == "experiment=timit-sample"
    assert set(again[1:]) == set(said[1:])
    assert compose([*again, "corpus.root=/there", "threads=1"]) == run


def test_confidences_are_calibrated_on_dev_and_the_card_says_how_well(
    run_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "given.safetensors"
    card = ship.run(run_dir, path).read_text()
    result = checkpoint.load(path)
    assert result.calibration is not None
    for condition in ship.CALIBRATED_ON:
        assert f"\n| {condition} | " in card
    shipped = read_jsonl(run_dir / "dev.shipped.hyp.jsonl", Hypothesis)
    written = [value for one in shipped for value in one.confidences or ()]
    lowest, *_, highest = result.calibration.probability
    assert lowest - 1e-4 <= min(written) <= max(written) <= highest + 1e-4


def test_conditions_go_into_the_card_of_the_file_that_they_are_about(
    run_dir: Path, tmp_path: Path
) -> None:
    path, rows = tmp_path / "given.safetensors", tmp_path / "rows.json"
    ship.run(run_dir, path)
    before = path.read_bytes()
    row = {"sha256": digest_of(path), "greedy": False, "manifest": "dev", "utterances": 4}
    row |= {"interval": None, "ece": 0.25, "per": 10.0, "condition": "as recorded"}
    rows.write_text(json.dumps([row, row | {"condition": "rain", "per": 30.0, "ece": None}]))
    card = ship.run(run_dir, path, overwrite=True, conditions=rows).read_text()
    assert "| dev | rain | 4 | 30.00 | – |  |" in card
    assert "- **rain** (dev): 30.0 % PER, 3.0 times" in card
    assert path.read_bytes() == before
    rows.write_text(json.dumps([row | {"sha256": "another"}]))
    with pytest.raises(DataError, match="measured with another file"):
        ship.run(run_dir, path, overwrite=True, conditions=rows)
