"""Laws of the model: padding changes nothing, CTC sums over alignments, a batch is learnable."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import batch_of
from torch import Tensor, nn

from asr import checkpoint
from asr.architecture import RecognizerConfig
from asr.augment import Augment, AugmentConfig, seed_of
from asr.batch import Batch, length_mask, pad, reverse
from asr.checkpoint import Checkpoint, TrainingState
from asr.criteria import CTC, CTCConfig
from asr.criteria.ctc import divergence
from asr.dataset import POOL_BATCHES, Batches, BucketSampler
from asr.encoder import EncoderConfig, stack_frames
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer, transcribe_all
from asr.records import Utterance
from asr.search import SearchConfig

VOCABULARY = Vocabulary(["aa", "iy", "m", "s"])


def recognizer(**encoder: object) -> Recognizer:
    torch.manual_seed(0)
    sizes = {"hidden": 24, "layers": 2} | encoder
    config = RecognizerConfig(
        FeaturesConfig(bins=20, deltas=1),
        EncoderConfig(**sizes),
        CTCConfig(),  # type: ignore[arg-type]
    )
    return Recognizer(config, VOCABULARY).eval()


# ── padding ──────────────────────────────────────────────────────────────────────────────────


def test_reverse_is_its_own_inverse_and_leaves_padding() -> None:
    padded, lengths = pad([torch.arange(1, 4), torch.arange(1, 6)])
    assert reverse(padded, lengths).tolist() == [[3, 2, 1, 0, 0], [5, 4, 3, 2, 1]]
    assert torch.equal(reverse(reverse(padded, lengths), lengths), padded)


@pytest.mark.parametrize("subsampling", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_loss_and_hypotheses_do_not_depend_on_batch_mates(
    tones: list[Utterance], subsampling: int, bidirectional: bool
) -> None:
    model = recognizer(subsampling=subsampling, bidirectional=bidirectional)
    batch = batch_of(tones, VOCABULARY)
    together = dict(zip(batch.ids, model.loss(batch).tolist(), strict=True))
    heard = transcribe_all(model, [batch], SearchConfig())
    for utterance in tones:
        alone = batch_of([utterance], VOCABULARY)
        assert math.isclose(model.loss(alone).item(), together[utterance.id], rel_tol=1e-4)
        (result,) = transcribe_all(model, [alone], SearchConfig()).values()
        assert result.phones == heard[utterance.id].phones


def test_more_padding_changes_nothing(tones: list[Utterance]) -> None:
    model, batch = recognizer(subsampling=2), batch_of(tones, VOCABULARY)
    longer = nn.functional.pad(batch.waveforms, (0, 7777))
    encoded, lengths = model.encode_batch(batch)
    again, lengths_again = model.encode_batch(replace(batch, waveforms=longer))
    assert torch.equal(lengths, lengths_again)
    mask = length_mask(lengths, encoded.shape[1])
    torch.testing.assert_close(again[:, : encoded.shape[1]][mask], encoded[mask], atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_stacking_keeps_every_frame(factor: int) -> None:
    frames = torch.arange(1.0, 15.0).reshape(1, 7, 2)
    stacked, lengths = stack_frames(frames, torch.tensor([7]), factor)
    assert lengths.tolist() == [math.ceil(7 / factor)]
    assert stacked.flatten()[:14].tolist() == frames.flatten().tolist()
    assert not stacked.flatten()[14:].any()


@pytest.mark.parametrize("layers", [0, 1])
def test_dropout_lies_between_the_last_layer_and_the_head(
    tones: list[Utterance], layers: int
) -> None:
    model, batch = recognizer(layers=layers, dropout=0.4), batch_of(tones, VOCABULARY)
    encoded, _ = model.encode_batch(batch)
    dropped, _ = model.train().encode_batch(batch)
    inside = encoded != 0
    kept = inside & (dropped != 0)
    torch.testing.assert_close(dropped[kept], encoded[kept] / 0.6)
    assert int(kept.sum()) / int(inside.sum()) == pytest.approx(0.6, abs=0.02)


# ── copies ───────────────────────────────────────────────────────────────────────────────────


def consistent(weight: float) -> tuple[CTC, Batch, Tensor, Tensor]:
    """A criterion, three utterances in two copies, and encoded frames of the six."""
    torch.manual_seed(3)
    lengths = torch.tensor([7, 5, 6])
    batch = Batch(
        torch.zeros(6, 1),
        torch.ones(6),
        torch.tensor([[1, 2], [2, 0], [3, 3]]).repeat(2, 1),
        torch.tensor([2, 1, 2]).repeat(2),
        None,
        ("a", "b", "c") * 2,
    )
    return CTC(CTCConfig(consistency=weight), 6, 4), batch, torch.randn(6, 7, 6), lengths.repeat(2)


def test_a_batch_has_copy_after_copy_with_seeds_of_their_own(tones: list[Utterance]) -> None:
    augment = Augment(AugmentConfig(speed=0.1), 16_000, [-1] * 20)
    (once,) = Batches(tones, VOCABULARY, 16_000, 9, seed=5, augment=augment)
    (twice,) = Batches(tones, VOCABULARY, 16_000, 9, seed=5, augment=augment, copies=2)
    assert twice.ids == once.ids * 2
    assert twice.speakers == once.speakers * 2
    assert torch.equal(twice.waveforms, once.waveforms.repeat(2, 1))
    assert torch.equal(twice.targets, once.targets.repeat(2, 1))
    assert once.seeds is not None
    assert twice.seeds == tuple(
        seed_of(seed, copy, id)
        for copy in range(2)
        for seed, id in zip(once.seeds, once.ids, strict=True)
    )


def test_two_copies_cost_what_their_distributions_differ_by() -> None:
    criterion, batch, encoded, lengths = consistent(0.7)
    plain = CTC(CTCConfig(), 6, 4)
    plain.load_state_dict(criterion.state_dict())
    alone = plain.loss(encoded, lengths, batch)
    log_probs = criterion.emissions(encoded)
    for n, loss in enumerate(criterion.loss(encoded, lengths, batch)):
        this, other = (log_probs[k, : lengths[n]] for k in (n, (n + 3) % 6))
        apart = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=other),
            torch.distributions.Categorical(logits=this),
        ).sum()
        torch.testing.assert_close(loss, alone[n] + 0.7 * apart)
    same = torch.cat([encoded[:3], encoded[:3]])
    torch.testing.assert_close(
        criterion.loss(same, lengths, batch), plain.loss(same, lengths, batch)
    )


def test_utterances_without_copies_cost_nothing_more() -> None:
    criterion, batch, encoded, lengths = consistent(0.7)
    plain = CTC(CTCConfig(), 6, 4)
    plain.load_state_dict(criterion.state_dict())
    single = replace(batch, ids=tuple("abcdef"))
    assert torch.equal(
        criterion.loss(encoded, lengths, single), plain.loss(encoded, lengths, single)
    )


def test_a_copy_learns_from_the_other_and_not_the_other_from_it() -> None:
    log_probs = torch.randn(2, 4, 3).log_softmax(2).requires_grad_()
    lengths = torch.tensor([4, 3])
    (gradient,) = torch.autograd.grad(divergence(log_probs, lengths)[0], log_probs)
    assert gradient[0].any()
    assert not gradient[1].any()
    (gradient,) = torch.autograd.grad(divergence(log_probs, lengths)[1], log_probs)
    assert not gradient[:, 3].any()


def test_copies_differ_by_their_masks(tones: list[Utterance]) -> None:
    plain = recognizer()
    augment = Augment(AugmentConfig(time_masks=2), 16_000, [-1] * 20)
    (batch,) = Batches(tones, VOCABULARY, 16_000, 9, seed=5, augment=augment, copies=2)
    losses = []
    for weight in (0.0, 0.1, 1.0):
        model = Recognizer(
            replace(plain.config, criterion=CTCConfig(consistency=weight)), VOCABULARY
        ).eval()
        model.load_state_dict(plain.state_dict())
        torch.testing.assert_close(model.loss(batch), plain.loss(batch))  # no mask, no difference
        losses.append(model.loss(batch, augment))
    none, little, much = losses
    assert none.shape == (2 * len(tones),)
    assert not torch.equal(*none.chunk(2))
    assert (none < little).all()
    assert (little < much).all()


# ── CTC ──────────────────────────────────────────────────────────────────────────────────────


def brute_force_log_prob(log_probs: Tensor, target: tuple[int, ...]) -> float:
    """log Σ over all alignments that collapse to the target, (T, V)."""
    total = 0.0
    for alignment in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        joined = [label for label, _ in itertools.groupby(alignment)]
        if tuple(label for label in joined if label) == target:
            total += math.exp(sum(log_probs[t, v].item() for t, v in enumerate(alignment)))
    return math.log(total)


@pytest.mark.parametrize("target", [(1,), (1, 2), (1, 1), (2, 1, 2)])
def test_the_loss_is_minus_the_sum_over_all_alignments(target: tuple[int, ...]) -> None:
    torch.manual_seed(len(target))
    criterion = CTC(CTCConfig(), 6, 3)
    encoded = torch.randn(1, 5, 6)
    batch = Batch(
        torch.zeros(1, 1),
        torch.tensor([1]),
        torch.tensor([target]),
        torch.tensor([len(target)]),
        None,
        ("a",),
    )
    result = criterion.loss(encoded, torch.tensor([5]), batch).item()
    expected = -brute_force_log_prob(criterion.emissions(encoded)[0], target)
    assert math.isclose(result, expected, rel_tol=1e-5)


def test_greedy_search_is_the_best_alignment_collapsed() -> None:
    torch.manual_seed(3)
    criterion = CTC(CTCConfig(), 6, 4)
    encoded = 3 * torch.randn(2, 6, 6)
    lengths = torch.tensor([6, 4])
    for n, (path,) in enumerate(criterion.decode(encoded, lengths, SearchConfig())):
        log_probs = criterion.emissions(encoded)[n, : lengths[n]]
        best = max(
            itertools.product(range(4), repeat=int(lengths[n])),
            key=lambda alignment: sum(log_probs[t, v].item() for t, v in enumerate(alignment)),
        )
        joined = [label for label, _ in itertools.groupby(best)]
        assert path.labels == tuple(label for label in joined if label)
        score = sum(log_probs[t, v].item() for t, v in enumerate(best))
        assert math.isclose(path.score, score, rel_tol=1e-5)


def test_a_blank_penalty_brings_phones_out() -> None:
    criterion = CTC(CTCConfig(), 2, 2)
    with torch.no_grad():
        criterion.head.weight.zero_()
        criterion.head.bias.copy_(torch.tensor([1.0, 0.0]))
    encoded, lengths = torch.zeros(1, 3, 2), torch.tensor([3])
    assert criterion.decode(encoded, lengths, SearchConfig())[0][0].labels == ()
    assert criterion.decode(encoded, lengths, SearchConfig(blank_penalty=2.0))[0][0].labels == (1,)


def test_labels_that_share_a_counterpart_share_its_probability() -> None:
    """Sums over labels with the same counterpart are what the other head says."""
    torch.manual_seed(0)
    coarse, fine = CTC(CTCConfig(), 6, 4), CTC(CTCConfig(), 6, 7)
    labels = [0, 2, 1, 2, 3, 2, 3]
    fine.begin_with(coarse, labels)
    encoded = torch.randn(2, 5, 6)
    summed = torch.zeros(2, 5, 4)
    summed.index_add_(2, torch.tensor(labels), fine.emissions(encoded).exp())
    torch.testing.assert_close(summed, coarse.emissions(encoded).exp())
    fine.begin_with(coarse, [0, 1, 1, 2, 3, None, None])
    odds = fine.emissions(encoded)[..., 3:5].diff()
    torch.testing.assert_close(odds, coarse.emissions(encoded)[..., 2:4].diff())


def test_an_utterance_too_short_for_ctc_is_named() -> None:
    criterion = CTC(CTCConfig(), 6, 3)
    targets, target_lengths = pad([torch.tensor([1, 1, 2]), torch.tensor([1, 2])])
    batch = Batch(
        torch.zeros(2, 1), torch.ones(2), targets, target_lengths, None, ("short", "fits")
    )
    with pytest.raises(DataError, match=r"short \(needs 4 frames, has 3\)") as error:
        criterion.loss(torch.zeros(2, 3, 6), torch.tensor([3, 2]), batch)
    assert "fits" not in str(error.value)


# ── batches ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_utterance_comes_once_in_an_epoch(seed: int | None, batch_size: int) -> None:
    sampler = BucketSampler([7.0, 1.0, 3.0, 9.0, 2.0] * 9, batch_size, seed)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(45))
    assert len(batches) == len(sampler)


def test_the_order_is_drawn_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = BucketSampler([float(n % 13) for n in range(60)], 4, seed)
        sampler.epoch = epoch
        return list(sampler)

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


def test_the_whole_set_is_shuffled_before_it_is_cut_into_pools_and_the_batches_after() -> None:
    sampler = BucketSampler([float(n) for n in range(2 * POOL_BATCHES * 3)], 2, seed=1)
    mates = set()
    for sampler.epoch in range(1, 21):
        order = list(sampler)
        mates |= {frozenset(batch) for batch in order}
        longer = sum(max(a) < min(b) for a, b in itertools.pairwise(order))
        assert 0.3 < longer / (len(order) - 1) < 0.7  # sorted pools one after the other: 0.97
    assert len(mates) > 5 * len(order)  # pools of the same utterances in every epoch: 1


@pytest.mark.parametrize("budget", [0, 7, 20])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_steps_do_not_depend_on_processes_and_parts_keep_the_budget(
    budget: int, ranks: int
) -> None:
    lengths = [float(n % 13 + 1) for n in range(61)]
    whole = list(BucketSampler(lengths, 4, 1))
    steps: list[list[int]] = [[] for _ in whole]
    for rank in range(ranks):
        plan = BucketSampler(lengths, 4, 1, 0, rank, ranks, budget, int)
        parts = list(plan)
        assert len(plan) == len(parts)
        assert plan.steps == len(whole)
        assert [part.step for part in parts if part.ends_step] == list(range(len(whole)))
        for part in parts:
            assert part.step_utterances == len(whole[part.step])
            if part.counted:
                steps[part.step] += part
            if budget and len(part) > 1:
                assert len(part) * max(lengths[n] for n in part) <= budget
        plan.start = 9
        assert list(plan) == [part for part in parts if part.step >= 9]
    assert [sorted(step) for step in steps] == [sorted(step) for step in whole]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation_gives_whole_batches_to_ranks_in_turn(ranks: int) -> None:
    lengths = [3.0, 1.0, 9.0, 2.0, 2.5, 4.0, 8.0]
    whole = list(BucketSampler(lengths, 3, None, batch_frames=12, frames=int))
    assert whole == [[1, 3, 4], [0, 5], [6], [2]]
    for rank in range(ranks):
        plan = BucketSampler(lengths, 3, None, 0, rank, ranks, 12, int)
        assert list(plan) == whole[rank::ranks]


def test_a_batch_carries_integer_lengths_and_targets(tones: list[Utterance]) -> None:
    batch = batch_of(tones, VOCABULARY)
    for utterance in tones:
        n = batch.ids.index(utterance.id)
        assert int(batch.waveform_lengths[n]) == round(utterance.duration_s * 16_000)
        labels = batch.targets[n, : batch.target_lengths[n]].tolist()
        assert VOCABULARY.decode(labels) == utterance.phones
    assert not batch.waveform_lengths.is_floating_point()


# ── learning and keeping ─────────────────────────────────────────────────────────────────────


def test_one_batch_is_learned_by_heart(tones: list[Utterance]) -> None:
    model, batch = (
        recognizer(hidden=48, layers=1, subsampling=2).train(),
        batch_of(tones, VOCABULARY),
    )
    model.features.fit_normalization([batch])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        model.loss(batch).mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    heard = transcribe_all(model, [batch], SearchConfig())
    assert {u.id: u.phones for u in tones} == {id: h.phones for id, h in heard.items()}


def test_a_checkpoint_gives_back_the_same_recogniser(
    tones: list[Utterance], tmp_path: Path
) -> None:
    model, batch = recognizer(subsampling=2), batch_of(tones, VOCABULARY)
    model.features.fit_normalization([batch])
    checkpoint.save(tmp_path / "c.safetensors", Checkpoint(model, {"corpus": "tones"}))
    result = checkpoint.load(tmp_path / "c.safetensors")
    assert result.about == {"corpus": "tones"}
    assert result.training is None
    assert result.recognizer.vocabulary == VOCABULARY
    assert result.recognizer.config == model.config
    before = transcribe_all(model, [batch], SearchConfig())
    assert transcribe_all(result.recognizer, [batch], SearchConfig()) == before
    for name, tensor in model.state_dict().items():
        assert torch.equal(result.recognizer.state_dict()[name], tensor)


def test_a_checkpoint_gives_back_the_optimiser(tones: list[Utterance], tmp_path: Path) -> None:
    model, batch = recognizer().train(), batch_of(tones, VOCABULARY)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.loss(batch).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    parts = {"optimizer": optimizer.state_dict()}
    state = TrainingState({"seed": 1}, [{"epoch": 1, "dev_per": 9.5}], parts)
    checkpoint.save(tmp_path / "c.safetensors", Checkpoint(model, {}, state))
    result = checkpoint.load(tmp_path / "c.safetensors").training
    assert result is not None
    assert (result.run, result.history) == (state.run, state.history)
    assert result.learner["optimizer"]["param_groups"] == [
        {**group, "betas": list(group["betas"])} for group in parts["optimizer"]["param_groups"]
    ]
    for index, moments in parts["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(result.learner["optimizer"]["state"][index][name], tensor)


def test_a_checkpoint_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "FORMAT", 1)
        checkpoint.save(tmp_path / "c.safetensors", Checkpoint(recognizer()))
    with pytest.raises(DataError, match="format 1, this version reads 2; train it again"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, Checkpoint(recognizer()))
    whole = path.read_bytes()
    with pytest.raises(DataError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "absent.safetensors")
    for cut in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"c\.safetensors: damaged"):
            checkpoint.load(path)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(DataError, match="does not match its checksum"):
        checkpoint.load(path)
