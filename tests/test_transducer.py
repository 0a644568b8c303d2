"""Laws of the transducer: the loss is the lattice's sum, a wide beam is exhaustive search."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from conftest import batch_of, labels_only
from torch import Tensor, nn
from torchaudio.functional import rnnt_loss

from asr import checkpoint, train
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.batch import Batch
from asr.checkpoint import Checkpoint
from asr.config import RunConfig, TrainingConfig
from asr.corpora import TimitConfig
from asr.criteria import CriterionConfig, CTCConfig, Transducer, TransducerConfig
from asr.criteria.transducer import lattice
from asr.encoder import Encoder
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, transcribe_all
from asr.records import Utterance, write_jsonl
from asr.search import SearchConfig
from asr.search.graph import graph_of
from asr.search.ngram import estimate
from asr.training.learner import GradientDescent

VOCABULARY = Vocabulary(["aa", "iy", "m", "s"])
WIDE = SearchConfig(beam=1000, n_best=20, threshold=math.inf)


def transducer(seed: int, size: int = 3, sharpness: float = 3.0, **config: object) -> Transducer:
    """A small random one over frames of width 5, with clear preferences and many blanks."""
    torch.manual_seed(seed)
    criterion = Transducer(
        TransducerConfig(**{"hidden": 6, "joint": 7, "phones_per_frame": 9} | config),  # type: ignore[arg-type]
        5,
        size,
    )
    with torch.no_grad():
        criterion.joint.output.weight *= sharpness
        criterion.joint.output.bias[0] += 1
        criterion.prediction.layer.cells[0].inputs.weight *= sharpness
    return criterion


def log_probs(criterion: Transducer, encoded: Tensor, target: tuple[int, ...]) -> Tensor:
    """Of all nodes of one lattice, from prefixes taken one by one: (T, D) → (T, U + 1, V)."""
    states = [criterion.prediction.start(1)]
    for label in target:
        states.append(criterion.prediction.step(torch.tensor([label]), states[-1]))
    prefixes = criterion.joint.of_prefixes(torch.cat([state.hidden for state in states]))
    frames = criterion.joint.of_frames(encoded)
    return criterion.joint(frames.unsqueeze(1), prefixes.unsqueeze(0)).log_softmax(2)


def lattice_sum(log_probs: Tensor, target: tuple[int, ...]) -> Tensor:
    """log Σ over all orders of T blanks and U phones of which the last is a blank."""
    frames, phones = len(log_probs), len(target)
    ways = []
    for at in itertools.combinations(range(frames - 1 + phones), phones):
        t, u, total = 0, 0, torch.zeros(())
        for step in range(frames + phones):
            total = total + log_probs[t, u, target[u] if step in at else 0]
            t, u = (t, u + 1) if step in at else (t + 1, u)
        ways.append(total)
    return torch.stack(ways).logsumexp(0)


# ── loss ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", ["lstm", "peephole"])
@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("target", [(), (1,), (2, 2), (2, 1, 2)])
def test_the_loss_and_its_gradients_are_those_of_the_sum_over_all_ways(
    target: tuple[int, ...], frames: int, cell: str
) -> None:
    criterion = transducer(frames + len(target), cell=cell)
    encoded = torch.randn(1, frames, 5, requires_grad=True)
    wanted = [encoded, *criterion.parameters()]
    loss = criterion.loss(encoded, torch.tensor([frames]), labels_only([target])).sum()
    expected = -lattice_sum(log_probs(criterion, encoded[0], target), target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, wanted, allow_unused=True, materialize_grads=True),
        atol=1e-5,
        rtol=1e-4,
    )


def test_the_gradient_of_the_joint_network_is_right() -> None:
    joint = transducer(1, sharpness=1.0).joint.double()

    def logits(encoded: Tensor, predicted: Tensor) -> Tensor:
        frames, prefixes = joint.of_frames(encoded), joint.of_prefixes(predicted)
        return joint(frames.unsqueeze(1), prefixes.unsqueeze(0))

    inputs = [
        torch.randn(n, d, dtype=torch.double, requires_grad=True) for n, d in [(4, 5), (3, 6)]
    ]
    assert torch.autograd.gradcheck(logits, inputs)


def test_the_sizes_are_those_of_the_paper() -> None:
    """Graves, Mohamed & Hinton (2013), Trans-3l-250h: 4,335,312 weights."""
    encoder = Encoder(EncoderConfig(cell="peephole", hidden=250, layers=3), 123)
    head = Transducer(TransducerConfig(cell="peephole", hidden=250, joint=250), 500, 62)
    counts = [sum(p.numel() for p in m.parameters()) for m in (encoder, head.prediction, head)]
    assert counts[0] + counts[2] == 4_335_312
    gates, peepholes = 4 * 250 * (61 + 250 + 1), 3 * 250
    assert counts[1] == gates + peepholes


@pytest.fixture
def uneven() -> tuple[Transducer, Tensor, Tensor, Batch]:
    """Five utterances of different lengths, with other numbers behind their ends."""
    criterion = transducer(2, size=6)
    lengths = torch.tensor([7, 3, 9, 1, 5])
    return (
        criterion,
        torch.randn(5, 11, 5),
        lengths,
        labels_only([(1, 2), (3,), (5, 5, 1, 2), (), (4,)]),
    )


def test_the_loss_does_not_depend_on_batch_mates_and_padding(
    uneven: tuple[Transducer, Tensor, Tensor, Batch],
) -> None:
    criterion, encoded, lengths, batch = uneven
    together = criterion.loss(encoded, lengths, batch)
    for n, length in enumerate(lengths.tolist()):
        target = tuple(batch.targets[n, : batch.target_lengths[n]].tolist())
        alone = criterion.loss(
            encoded[n : n + 1, :length], lengths[n : n + 1], labels_only([target])
        )
        torch.testing.assert_close(alone[0], together[n])


@pytest.mark.parametrize("most_logits", [1, 300, 810])
def test_in_pieces_the_loss_and_its_gradients_are_the_same(
    uneven: tuple[Transducer, Tensor, Tensor, Batch], most_logits: int
) -> None:
    criterion, encoded, lengths, batch = uneven
    encoded.requires_grad_()
    result = []
    for limit in (10_000, most_logits):
        criterion.config = dataclasses.replace(criterion.config, lattice=limit)
        pieces = list(lattice.pieces(lengths.tolist(), batch.target_lengths.tolist(), 6, limit))
        losses = criterion.loss(encoded, lengths, batch)
        weighted = (losses * torch.arange(1, 6)).sum()
        result.append((losses, torch.autograd.grad(weighted, [encoded, *criterion.parameters()])))
    assert [n for piece in pieces for n in range(5)[piece]] == [0, 1, 2, 3, 4]
    assert len(pieces) == {1: 5, 300: 3, 810: 2}[most_logits]
    torch.testing.assert_close(result[0], result[1])


def test_pieces_hold_as_few_logits_as_was_said(
    uneven: tuple[Transducer, Tensor, Tensor, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    criterion, encoded, lengths, batch = uneven
    criterion.config = dataclasses.replace(criterion.config, lattice=300)
    sizes = []

    def recorded(logits: Tensor, *args: Tensor, **options: object) -> Tensor:
        sizes.append(logits.numel())
        return rnnt_loss(logits, *args, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr("asr.criteria.transducer.lattice.rnnt_loss", recorded)
    criterion.loss(encoded, lengths, batch).sum().backward()  # type: ignore[no-untyped-call]
    assert sizes == [252, 270, 120]


@pytest.mark.parametrize(
    ("targets", "lengths", "says"),
    [
        ([(1, 2), (1, 3)], [4, 4], "u1: label 3 in the targets, expected 1…2"),
        ([(0, 2), (1, 2)], [4, 4], "u0: label 0 in the targets"),
        ([(1,), (2,)], [4, 0], r"u1 \(needs 1 frames, has 0\)"),
    ],
)
def test_targets_and_lengths_that_mean_nothing_are_refused(
    targets: list[tuple[int, ...]], lengths: list[int], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        transducer(0).loss(torch.zeros(2, 4, 5), torch.tensor(lengths), labels_only(targets))


# ── search ───────────────────────────────────────────────────────────────────────────────────


def exhaustive(
    criterion: Transducer, encoded: Tensor, longest: int
) -> dict[tuple[int, ...], float]:
    """The log-probability of every label sequence up to a length, (T, D)."""
    labels = range(1, criterion.vocabulary_size)
    every = [s for n in range(longest + 1) for s in itertools.product(labels, repeat=n)]
    lengths = torch.full((len(every),), len(encoded))
    losses = criterion.loss(encoded.expand(len(every), -1, -1), lengths, labels_only(every))
    return dict(zip(every, (-losses).tolist(), strict=True))


def graves_search(criterion: Transducer, encoded: Tensor, width: int, longest: int) -> Tensor:
    """Algorithm 1 of Graves (2012) as it stands there: {sequence: log-probability}, (T, D).

    A prefix that lies in A from the frame before is not extended into a second time.
    """
    known: dict[tuple[int, ...], Tensor] = {}

    def log_prob(t: int, prefix: tuple[int, ...]) -> Tensor:
        if prefix not in known:
            known[prefix] = log_probs(criterion, encoded, prefix)[:, -1]
        return known[prefix][t]

    beam = {(): 0.0}
    for t in range(len(encoded)):
        before = dict(beam)
        waiting = {}
        for sequence, score in before.items():
            ways = [score]
            for n in range(len(sequence)):
                if sequence[:n] in before:
                    rest = [log_prob(t, sequence[:m])[sequence[m]] for m in range(n, len(sequence))]
                    ways.append(before[sequence[:n]] + float(sum(rest)))
            waiting[sequence] = float(torch.tensor(ways, dtype=torch.double).logsumexp(0))
        beam = {}
        while waiting:
            best = max(waiting, key=waiting.__getitem__)
            if sum(score > waiting[best] for score in beam.values()) >= width:
                break
            score = waiting.pop(best)
            beam[best] = score + float(log_prob(t, best)[0])
            for label in range(1, criterion.vocabulary_size):
                longer = (*best, label)
                if len(longer) <= longest and longer not in before:
                    waiting[longer] = score + float(log_prob(t, best)[label])
        beam = dict(sorted(beam.items(), key=lambda item: -item[1])[:width])
    return beam


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_wide_beam_is_exhaustive_search(seed: int, frames: int) -> None:
    criterion = transducer(seed)
    encoded = torch.randn(frames, 5)
    result = criterion.decode(encoded.unsqueeze(0), torch.tensor([frames]), WIDE)[0]
    expected = exhaustive(criterion, encoded, longest=7)
    best = sorted(expected, key=expected.__getitem__, reverse=True)[: WIDE.n_best]
    assert [path.labels for path in result] == best
    for path in result:
        assert math.isclose(path.score, expected[path.labels], rel_tol=1e-5, abs_tol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_algorithm_1_of_graves_finds(seed: int) -> None:
    criterion = transducer(seed, size=4)
    encoded = torch.randn(4, 5)
    with torch.no_grad():
        expected = graves_search(criterion, encoded, width=200, longest=5)
    search = SearchConfig(beam=400, n_best=5, threshold=math.inf)
    for path in criterion.decode(encoded.unsqueeze(0), torch.tensor([4]), search)[0]:
        assert math.isclose(path.score, expected[path.labels], rel_tol=1e-5, abs_tol=1e-5)
    best = max(expected, key=expected.__getitem__)
    assert criterion.decode(encoded.unsqueeze(0), torch.tensor([4]), search)[0][0].labels == best


def test_the_score_of_a_narrow_beam_is_no_more_than_the_log_probability_of_its_labels() -> None:
    for seed in range(10):
        criterion = transducer(seed)
        encoded = torch.randn(1, 5, 5)
        search = SearchConfig(beam=4, n_best=4)
        paths = criterion.decode(encoded, torch.tensor([5]), search)[0]
        assert len({path.labels for path in paths}) == len(paths) > 1
        assert [path.score for path in paths] == sorted((p.score for p in paths), reverse=True)
        for path in paths:
            loss = criterion.loss(encoded, torch.tensor([5]), labels_only([path.labels])).item()
            assert path.score <= -loss + 1e-5


def greedy(criterion: Transducer, encoded: Tensor) -> tuple[list[int], list[int], float]:
    """Labels, their frames and the log-probability of the likeliest step after step, (T, D)."""
    labels: list[int] = []
    frames: list[int] = []
    total = 0.0
    for t in range(len(encoded)):
        for _ in range(criterion.config.phones_per_frame + 1):
            here = log_probs(criterion, encoded, tuple(labels))[t, -1]
            best = int(here.argmax()) if frames.count(t) < criterion.config.phones_per_frame else 0
            total += here[best].item()
            if best == 0:
                break
            labels.append(best)
            frames.append(t)
    return labels, frames, total


def test_greedy_search_takes_the_likeliest_step() -> None:
    criterion = transducer(3, size=6, phones_per_frame=2)
    encoded, lengths = torch.randn(8, 9, 5), torch.tensor([9, 1, 4, 7, 9, 2, 0, 5])
    paths = criterion.decode(encoded, lengths, SearchConfig())
    assert max(len(path.labels) for (path,) in paths) > 2
    for n, (path,) in enumerate(paths):
        labels, frames, total = greedy(criterion, encoded[n, : lengths[n]])
        assert (path.labels, path.frames) == (tuple(labels), tuple(frames))
        assert math.isclose(path.score, total, abs_tol=1e-4)


def test_a_beam_finds_labels_that_greedy_search_misses() -> None:
    better = 0
    for seed in range(10):
        criterion = transducer(seed)
        encoded, lengths = torch.randn(1, 4, 5), torch.tensor([4])
        (greedy,) = criterion.decode(encoded, lengths, SearchConfig())[0]
        result = criterion.decode(encoded, lengths, SearchConfig(beam=50))[0][0]
        losses = [
            criterion.loss(encoded, lengths, labels_only([p.labels])).item()
            for p in (greedy, result)
        ]
        assert losses[1] <= losses[0] + 1e-5
        better += losses[1] < losses[0] - 0.01
    assert 2 < better < 10


@pytest.mark.parametrize("beam", [1, 5])
def test_hypotheses_do_not_depend_on_batch_mates_and_padding(
    uneven: tuple[Transducer, Tensor, Tensor, Batch], beam: int
) -> None:
    criterion, encoded, lengths, _ = uneven
    search = SearchConfig(beam=beam, n_best=beam)
    together = criterion.decode(encoded, lengths, search)
    for n, length in enumerate(lengths.tolist()):
        (alone,) = criterion.decode(encoded[n : n + 1, :length], lengths[n : n + 1], search)
        assert [path.labels for path in alone] == [path.labels for path in together[n]]
        for path, other in zip(alone, together[n], strict=True):
            assert path.frames == other.frames
            assert math.isclose(path.score, other.score, abs_tol=1e-5)


@pytest.mark.parametrize("beam", [1, 30])
def test_frames_and_confidences_are_those_of_an_alignment(beam: int) -> None:
    criterion = transducer(4, size=5)
    encoded, lengths = torch.randn(1, 8, 5), torch.tensor([8])
    for path in criterion.decode(encoded, lengths, SearchConfig(beam=beam, n_best=beam))[0]:
        assert path.frames is not None
        assert len(path.frames) == len(path.labels)
        assert list(path.frames) == sorted(path.frames)
        nodes = log_probs(criterion, encoded[0], path.labels).exp()
        probs = [
            nodes[t, u, v].item()
            for u, (t, v) in enumerate(zip(path.frames, path.labels, strict=True))
        ]
        assert path.confidences == pytest.approx(probs, rel=1e-4)


def test_no_search_finds_more_phones_than_were_allowed() -> None:
    criterion = transducer(0, phones_per_frame=2)
    with torch.no_grad():
        criterion.joint.output.bias[0] -= 100
    encoded, lengths = torch.randn(1, 3, 5), torch.tensor([3])
    (path,) = criterion.decode(encoded, lengths, SearchConfig())[0]
    assert path.frames == (0, 0, 1, 1, 2, 2)
    result = criterion.decode(encoded, lengths, SearchConfig(beam=50, n_best=50))[0]
    counts = [path.frames.count(t) for path in result if path.frames is not None for t in range(3)]
    assert max(counts) == 2


def test_a_blank_penalty_brings_phones_out_of_a_greedy_search() -> None:
    criterion = transducer(8)
    encoded, lengths = torch.randn(1, 6, 5), torch.tensor([6])
    counts = [
        len(criterion.decode(encoded, lengths, SearchConfig(blank_penalty=nats))[0][0].labels)
        for nats in (-9.0, 0.0, 0.5, 1.0)
    ]
    assert counts[0] == 0
    assert counts == sorted(set(counts))


def test_language_model_bonus_and_penalty_are_added_to_the_score() -> None:
    criterion = transducer(6)
    encoded, lengths = torch.randn(1, 4, 5), torch.tensor([4])
    model = estimate([("b", "a"), ("b", "b", "a"), ("b",)], order=3, symbols=("a", "b"))
    search = dataclasses.replace(
        WIDE, language_model="given below", lm_weight=0.7, bonus=0.4, blank_penalty=0.3
    )
    result = criterion.decode(encoded, lengths, search, graph_of(model, ("a", "b")))[0]
    total = {
        labels: score
        + 0.7 * model.log_prob_of(["ab"[label - 1] for label in labels])
        + 0.4 * len(labels)
        - 0.3 * 4
        for labels, score in exhaustive(criterion, encoded[0], longest=7).items()
    }
    assert result[0].labels == max(total, key=total.__getitem__)
    for path in result:
        assert math.isclose(path.score, total[path.labels], rel_tol=1e-5, abs_tol=1e-5)
    plain = criterion.decode(encoded, lengths, WIDE)[0]
    assert [path.labels for path in plain] != [path.labels for path in result]


def test_a_network_that_is_no_longer_one_is_named() -> None:
    with pytest.raises(DataError, match="NaN"):
        transducer(0).decode(torch.full((1, 2, 5), math.nan), torch.tensor([2]), SearchConfig())


# ── learning and keeping ─────────────────────────────────────────────────────────────────────


def recognizer(**criterion: object) -> Recognizer:
    torch.manual_seed(0)
    sizes = {"hidden": 24, "joint": 32} | criterion
    config = RecognizerConfig(
        FeaturesConfig(bins=20, deltas=1),
        EncoderConfig(hidden=48, layers=1, subsampling=2),
        TransducerConfig(**sizes),  # type: ignore[arg-type]
    )
    return Recognizer(config, VOCABULARY)


def test_one_batch_is_learned_by_heart_and_kept_in_a_checkpoint(
    tones: list[Utterance], tmp_path: Path
) -> None:
    tones = tones[:5]
    model, batch = recognizer().train(), batch_of(tones, VOCABULARY)
    model.features.fit_normalization([batch])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    checkpoint.save(tmp_path / "c.safetensors", Checkpoint(model))
    kept = checkpoint.load(tmp_path / "c.safetensors").recognizer
    assert kept.config == model.config
    heard = transcribe_all(model, [batch], SearchConfig(beam=10))
    assert {u.id: u.phones for u in tones} == {id: h.phones for id, h in heard.items()}
    for search in (SearchConfig(), SearchConfig(beam=10)):
        before = transcribe_all(model, [batch], search)
        assert transcribe_all(kept, [batch], search) == before


def test_pretraining_learns_the_transcripts_and_touches_the_prediction_network_only() -> None:
    torch.manual_seed(0)
    criterion = Transducer(TransducerConfig(hidden=16, pretraining=50), 5, 5)
    before = {name: value.clone() for name, value in criterion.state_dict().items()}
    sentences = [(1, 2, 3, 4), (2, 3, 4), (3, 4), (4,)] * 64  # from the second phone on certain
    lowest = criterion.pretrain(sentences, sentences[:4])
    for name, value in criterion.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("prediction.")
    entropy = 4 / 14 * math.log(4)  # of 14 symbols four are one of four
    assert entropy < math.log(lowest) < entropy + 0.1


def test_pretraining_keeps_the_epoch_that_was_best_for_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    criterion = Transducer(TransducerConfig(hidden=16, pretraining=30), 5, 5)
    caplog.set_level(logging.INFO)
    lowest = criterion.pretrain([(1, 2), (1, 3)] * 128, [(1, 4), (1, 2)])
    perplexities = [float(record.message.split()[-1]) for record in caplog.records]
    assert len(perplexities) == 30
    assert f"{lowest:.2f}" == f"{min(perplexities):.2f}" != f"{perplexities[-1]:.2f}"


# ── beginning with another run's weights ─────────────────────────────────────────────────────


@pytest.fixture
def ctc(tones: list[Utterance], tmp_path: Path) -> RunConfig:
    """A trained run of CTC on the tones."""
    run_dir = tmp_path / "ctc"
    for split, members in (("train", tones[:6]), ("dev", tones[6:])):
        write_jsonl(run_dir / "manifests" / f"{split}.jsonl", members)
    VOCABULARY.save(run_dir / "vocabulary.txt")
    config = RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=CTCConfig(),
        features=FeaturesConfig(bins=20, deltas=0),
        encoder=EncoderConfig(hidden=16, layers=1, dropout=0.3, subsampling=2),
        training=TrainingConfig(epochs=1, batch_size=3),
        name="ctc",
        run_dir=str(run_dir),
        device="cpu",
    )
    train.run(config)
    return config


def after(
    run: RunConfig, name: str, criterion: CriterionConfig, phones: Sequence[str]
) -> RunConfig:
    """The configuration of another run on the same data that starts from `run`."""
    folder = Path(run.run_dir).parent / name
    folder.mkdir()
    (folder / "manifests").symlink_to(Path(run.run_dir) / "manifests")
    Vocabulary(phones).save(folder / "vocabulary.txt")
    best = f"{run.run_dir}/checkpoint-best.safetensors"
    training = dataclasses.replace(run.training, start_from=best)
    return dataclasses.replace(run, criterion=criterion, training=training, run_dir=str(folder))


def begun_with(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The weights of a run before its first step."""
    result: dict[str, Tensor] = {}

    def step(learner: GradientDescent, *_: object) -> Tensor:
        weights = learner.recognizer.state_dict()
        result.update({name: value.clone() for name, value in weights.items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(GradientDescent, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train.run(config)
    return result


def test_a_run_can_start_from_the_encoder_of_another_criterion(
    ctc: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint.load(f"{ctc.run_dir}/checkpoint-best.safetensors").recognizer.state_dict()
    small = TransducerConfig(hidden=8, joint=8)
    result = {}
    for name, criterion in (
        ("plain", small),
        ("pretrained", dataclasses.replace(small, pretraining=2)),
        ("again", dataclasses.replace(small, pretraining=2)),
    ):
        config = after(ctc, name, criterion, VOCABULARY.phones)
        result[name] = begun_with(config, monkeypatch)
        for key, value in source.items():
            if not key.startswith("criterion."):
                assert torch.equal(result[name][key], value)
    for key, value in result["plain"].items():
        changed = key.startswith("criterion.prediction.")
        assert torch.equal(result["pretrained"][key], value) != changed
        assert torch.equal(result["pretrained"][key], result["again"][key])


def test_a_head_begins_with_the_phones_that_it_knows(
    ctc: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint.load(f"{ctc.run_dir}/checkpoint-best.safetensors").recognizer.state_dict()
    for name, phones in (("same", VOCABULARY.phones), ("other", VOCABULARY.phones[::-1])):
        result = begun_with(after(ctc, name, CTCConfig(), phones), monkeypatch)
        moved = [0, *(VOCABULARY.encode(phones))]
        for key, value in source.items():
            expected = value[moved] if key.startswith("criterion.head.") else value
            assert torch.equal(result[key], expected)


def test_an_encoder_that_does_not_fit_is_refused(ctc: RunConfig) -> None:
    config = after(ctc, "other", CTCConfig(), VOCABULARY.phones)
    for part, changes, says in (
        ("encoder", {"hidden": 17, "dropout": 0.1}, r"cannot be .* set encoder\.hidden=16$"),
        (
            "features",
            {"bins": 23},
            r"ctc/checkpoint-best\.safetensors: cannot be .* features\.bins=20",
        ),
        ("features", {"normalization": "speaker"}, r"cannot be .* features\.normalization=global"),
    ):
        other = dataclasses.replace(getattr(config, part), **changes)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=says):
            train.run(dataclasses.replace(config, **{part: other}))  # type: ignore[arg-type]


def test_normalisations_of_what_is_heard_fit_each_other(
    ctc: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def normalized(config: RunConfig, normalization: str) -> RunConfig:
        features = dataclasses.replace(config.features, normalization=normalization)
        return dataclasses.replace(config, features=features)

    plain = after(ctc, "utterance", CTCConfig(), VOCABULARY.phones)
    by_utterance = normalized(dataclasses.replace(plain, training=ctc.training), "utterance")
    train.run(by_utterance)
    by_speaker = after(by_utterance, "speaker", CTCConfig(), VOCABULARY.phones)
    result = begun_with(normalized(by_speaker, "speaker"), monkeypatch)
    source = checkpoint.load(f"{by_utterance.run_dir}/checkpoint-best.safetensors").recognizer
    assert all(torch.equal(result[key], value) for key, value in source.state_dict().items())
