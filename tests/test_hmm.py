"""Laws of the HMM criteria: Viterbi is enumeration, frames have their labels, EM never worsens."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import labels_only
from torch import Tensor

from asr import checkpoint, train
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.batch import Batch, pad
from asr.checkpoint import Checkpoint
from asr.commands import decode, tune
from asr.commands.configured import compose
from asr.config import AdamConfig, RunConfig, TrainingConfig, TuneConfig
from asr.corpora import TimitConfig
from asr.criteria import GMM, FrameTimes, Framewise, FramewiseConfig, GMMConfig, Split
from asr.dataset import Example, SpeechDataset
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary, phone_set
from asr.recognizer import Recognizer
from asr.records import Segment, Utterance, write_jsonl
from asr.search import SearchConfig, viterbi
from asr.search.arpa import write_arpa
from asr.search.graph import graph_of, no_language_model
from asr.search.ngram import LanguageModel, estimate
from asr.training.schedule import Phase

PHONES = ("aa", "iy", "m", "s")
TIMES = FrameTimes(5.0, 10.0)  # frame t is that of samples 10 t … 10 (t + 1)
WIDE = {"beam": 10_000, "threshold": math.inf}


def language_model(size: int, order: int) -> LanguageModel:
    phones = PHONES[: size - 1]
    draw = np.random.default_rng(size)
    text = [tuple(draw.choice(phones, draw.integers(1, 7))) for _ in range(40)]
    return estimate(text, order, phones)


# ── enumeration ──────────────────────────────────────────────────────────────────────────────


def chain(label: int, states: int, floor: int) -> list[tuple[int, bool]]:
    """Column and whether it may be stayed in, of each position of a label."""
    if label == 0:
        return [(0, True)]
    return [
        (1 + (label - 1) * states + position // floor, position % floor == floor - 1)
        for position in range(states * floor)
    ]


def ways(frames: int, size: int, states: int, floor: int) -> Iterator[list[tuple[int, int, bool]]]:
    """Every path of T frames: of each the label, its position, and whether the label begins."""
    steps = [[(label, 0, True)] for label in range(size)]
    while steps:
        way = steps.pop()
        label, position, _ = way[-1]
        model = chain(label, states, floor)
        if len(way) == frames:
            if position == len(model) - 1:
                yield way
            continue
        if model[position][1]:
            steps.append([*way, (label, position, False)])
        if position < len(model) - 1:
            steps.append([*way, (label, position + 1, False)])
        else:
            others = [v for v in range(size) if v or label]  # label 0 need not follow itself
            steps += [[*way, (v, 0, True)] for v in others]


def enumerated(
    scores: Tensor, states: int, floor: int, search: SearchConfig, model: LanguageModel | None
) -> dict[tuple[int, ...], float]:
    """The score of the best path of every label sequence."""
    best: dict[tuple[int, ...], float] = {}
    size = 1 + (scores.shape[1] - 1) // states
    for way in ways(len(scores), size, states, floor):
        labels = tuple(v for v, _, begins in way if begins and v)
        total = sum(
            float(scores[t, chain(v, states, floor)[p][0]]) for t, (v, p, _) in enumerate(way)
        )
        best[labels] = max(best.get(labels, -math.inf), total)
    for labels in best:
        best[labels] += search.bonus * len(labels)
        if model is not None:
            phones = [PHONES[label - 1] for label in labels]
            best[labels] += search.lm_weight * model.log_prob_of(phones)
    return best


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("frames", "size", "states", "floor"), [(1, 3, 1, 1), (4, 3, 1, 1), (5, 2, 2, 1), (5, 2, 1, 2)]
)
def test_viterbi_is_enumeration(
    frames: int, size: int, states: int, floor: int, order: int
) -> None:
    model = language_model(size, order) if order else None
    for seed, bonus in itertools.product(range(3), (0.0, 1.5)):
        generator = torch.Generator().manual_seed(seed)
        scores = 3 * torch.randn(frames, 1 + (size - 1) * states, generator=generator)
        if seed == 2:
            scores[:, 0] = -math.inf  # as of a corpus without frames outside all phones
        config = SearchConfig(**WIDE, lm_weight=0.7, bonus=bonus)  # type: ignore[arg-type]
        expected = enumerated(scores, states, floor, config, model)
        best = max(expected, key=lambda labels: expected[labels])
        labels, starts, score = found(scores, size, states, floor, config, model)
        if expected[best] > -math.inf:
            spoken = tuple(label for label in labels if label)  # others may be as good
            assert expected[spoken] == pytest.approx(expected[best], abs=1e-4)
            assert score == pytest.approx(expected[best], abs=1e-4)
            assert starts == sorted(set(starts))
            assert starts[0] == 0


def found(
    scores: Tensor,
    size: int,
    states: int,
    floor: int,
    config: SearchConfig,
    model: LanguageModel | None,
) -> tuple[list[int], list[int], float]:
    arcs = no_language_model(size) if model is None else graph_of(model, PHONES[: size - 1])
    labels, starts, score = viterbi.search(
        scores.numpy(),
        arcs,
        states,
        floor,
        config.lm_weight,
        config.bonus,
        config.beam,
        config.threshold,
    )
    return labels.tolist(), starts.tolist(), score


def test_a_narrow_search_finds_at_most_what_a_wide_one_does() -> None:
    model = language_model(5, 3)
    differing = 0
    for seed in range(20):
        scores = 2 * torch.randn(60, 9, generator=torch.Generator().manual_seed(seed))
        wide = SearchConfig(**WIDE, lm_weight=0.7)  # type: ignore[arg-type]
        best = found(scores, 5, 2, 1, wide, model)
        near = found(scores, 5, 2, 1, dataclasses.replace(wide, threshold=15.0), model)
        assert near == best  # what is so far behind never comes back here
        narrow = found(scores, 5, 2, 1, dataclasses.replace(wide, beam=4), model)
        assert narrow[2] <= best[2]
        differing += narrow[0] != best[0]
    assert differing


# ── the criterion ────────────────────────────────────────────────────────────────────────────


def framewise(size: int = 5, width: int = 6, **values: object) -> Framewise:
    torch.manual_seed(0)
    criterion = Framewise(FramewiseConfig(**values), width, size, TIMES)  # type: ignore[arg-type]
    with torch.no_grad():
        criterion.head.weight.mul_(8)
    return criterion


def gmm(size: int = 5, width: int = 3, **values: object) -> GMM:
    """Mixtures of drawn densities; no component of label 0 but the first."""
    generator = torch.Generator().manual_seed(1)
    criterion = GMM(GMMConfig(**values), width, size, TIMES)  # type: ignore[arg-type]
    shape = criterion.means.shape
    criterion.means.copy_(torch.randn(shape, generator=generator))
    criterion.variances.copy_(0.2 + torch.rand(shape, generator=generator))
    criterion.log_weights.copy_(torch.rand(shape[:2], generator=generator).log().log_softmax(1))
    criterion.log_weights[0] = criterion.log_weights.new_full(shape[1:2], -math.inf)
    criterion.log_weights[0, 0] = 0.0
    return criterion


@pytest.mark.parametrize("search", [SearchConfig(), SearchConfig(beam=50, bonus=0.5)])
@pytest.mark.parametrize("make", [framewise, gmm])
def test_batch_mates_and_padding_change_nothing(make, search: SearchConfig) -> None:  # type: ignore[no-untyped-def]
    criterion = make(states=2)
    lengths = torch.tensor([9, 3, 17])
    encoded = torch.randn(3, 17, criterion.state_dict().get("means", torch.zeros(6)).shape[-1])
    together = criterion.decode(encoded, lengths, search)
    encoded[0, 9:], encoded[1, 3:] = 1e3, -1e3
    assert criterion.decode(encoded, lengths, search) == together
    batch = labels_only([[1, 2], [3], [4, 4, 1]])
    spans = criterion.align(encoded, lengths, batch.targets, batch.target_lengths)
    for n, length in enumerate(lengths.tolist()):
        ((alone,),) = criterion.decode(encoded[n : n + 1, :length], lengths[n : n + 1], search)
        (path,) = together[n]
        assert (alone.labels, alone.frames) == (path.labels, path.frames)
        assert alone.score == pytest.approx(path.score, rel=1e-5)
        assert alone.confidences == pytest.approx(path.confidences, rel=1e-4)
        one = slice(n, n + 1)
        targets = batch.targets[one, : batch.target_lengths[n]]
        (span,) = criterion.align(
            encoded[one, :length], lengths[one], targets, batch.target_lengths[one]
        )
        assert [(each.start, each.end) for each in span] == [(s.start, s.end) for s in spans[n]]
        assert all(0 <= s.start < s.end <= length for s in span)
        assert all(s.end <= t.start for s, t in itertools.pairwise(span))


def test_greedy_joins_the_likeliest_label_of_each_frame() -> None:
    criterion = framewise(size=3, width=5, states=2)
    wanted = [1, 2, 0, 3, 4, 3]  # columns: states 1 and 2 are label 1's
    logits = 5 * torch.nn.functional.one_hot(torch.tensor(wanted), 5).float()
    with torch.no_grad():
        criterion.head.weight.copy_(torch.eye(5))
        criterion.head.bias.zero_()
    ((path,),) = criterion.decode(logits[None], torch.tensor([6]), SearchConfig())
    probs = logits.softmax(1)
    assert path.labels == (1, 2)
    assert path.frames is not None
    assert path.confidences is not None
    assert (path.frames[0] in (0, 1), path.frames[1] in (3, 4, 5)) == (True, True)
    assert path.confidences == pytest.approx([float(probs[0, 1:3].sum())] * 2)


def test_frames_have_the_label_that_their_middle_lies_in() -> None:
    """Middles are at 5, 15, 25, … samples."""
    batch = labels_only([[2, 1, 3], [1]], [[(0, 14), (15, 45), (60, 90)], [(7, 35)]])
    lengths = torch.tensor([10, 3])
    labels = framewise(states=1).frame_states(lengths, batch)
    assert labels[0].tolist() == [2, 1, 1, 1, 0, 0, 3, 3, 3, 0]
    assert labels[1, :3].tolist() == [0, 1, 1]
    # In three states label v has the columns 3 v − 2 … 3 v; 15…44 is cut at 24.7 and 34.3.
    batch = labels_only([[2, 1, 3]], [[(0, 14), (15, 44), (60, 90)]])
    states = framewise(states=3).frame_states(lengths[:1], batch)
    assert states[0].tolist() == [5, 1, 2, 3, 0, 0, 7, 8, 9, 0]


@pytest.mark.parametrize(("family", "subsampling"), [("kaldi", 1), ("kaldi", 3), ("librosa", 2)])
@pytest.mark.parametrize("speed", [1.0, 0.9])
def test_labels_of_encoded_frames_agree_with_their_times(
    family: str, subsampling: int, speed: float
) -> None:
    features = FeaturesConfig(family=family, bins=20, energy=False, deltas=0)
    encoder = EncoderConfig(hidden=2, layers=1, subsampling=subsampling)
    config = RecognizerConfig(features, encoder, FramewiseConfig(states=1))
    recognizer = Recognizer(config, Vocabulary(PHONES))
    limits = [(0.0, 0.21), (0.21, 0.3), (0.41, 0.8)]
    segments = tuple(
        Segment(phone, start, end) for phone, (start, end) in zip(PHONES, limits, strict=False)
    )
    utterance = Utterance("u", "u.wav", 1.0, "s", PHONES[:3], segments)
    samples = math.ceil(16_000 / speed)
    example = Example(utterance, torch.zeros(samples), samples, seed=0, speed=speed)
    batch = SpeechDataset([utterance], Vocabulary(PHONES), 16_000).collate([example])
    _, lengths = recognizer.encode_batch(batch)
    assert torch.equal(lengths, recognizer.encoded_lengths(batch.waveform_lengths))
    assert isinstance(recognizer.criterion, Framewise)
    (labels,) = recognizer.criterion.frame_states(lengths, batch)
    for frame, label in enumerate(labels.tolist()):
        time_s = recognizer.config.time_s(frame) * speed
        inside = [n for n, (start, end) in enumerate(limits, 1) if start <= time_s < end]
        assert label == (inside[0] if inside else 0)


def test_the_loss_is_the_cross_entropy_of_the_frames() -> None:
    criterion = framewise(states=1)
    batch = labels_only([[2, 1], [1]], [[(0, 20), (20, 50)], [(10, 30)]])
    encoded = torch.randn(2, 5, 6)
    loss = criterion.loss(encoded, torch.tensor([5, 3]), batch)
    cross_entropy = torch.nn.functional.cross_entropy
    first = cross_entropy(
        criterion.head(encoded[0]), torch.tensor([2, 2, 1, 1, 1]), reduction="sum"
    )
    second = cross_entropy(criterion.head(encoded[1, :3]), torch.tensor([0, 1, 1]), reduction="sum")
    assert torch.allclose(loss, torch.stack([first, second]))


def test_priors_are_counted_and_taken_away() -> None:
    criterion = framewise(states=1, size=4, acoustic_scale=1.0)
    batch = labels_only([[2, 1], [1]], [[(0, 20), (20, 50)], [(10, 30)]])
    train_split = Split((), [(batch, torch.tensor([5, 3]))])
    criterion.prepare(train_split, Split((), []))
    assert criterion.occupancy.tolist() == [1, 5, 2, 0]
    log_priors = torch.from_numpy(criterion.decoder.log_priors())
    assert torch.allclose(log_priors.exp(), torch.tensor([1 / 8, 5 / 8, 2 / 8, 1 / 8]))
    emissions = torch.randn(1, 6, 4).log_softmax(2)
    expected = emissions - 0.5 * log_priors
    expected[..., 3] = -math.inf  # never in training, never found
    config = SearchConfig(**WIDE, prior_scale=0.5)  # type: ignore[arg-type]
    ((path,),) = criterion.search(emissions, torch.tensor([6]), config)
    scores = enumerated(expected[0], 1, 1, config, None)
    assert scores[path.labels] == pytest.approx(path.score, abs=1e-4)
    assert path.score == pytest.approx(max(scores.values()), abs=1e-4)


@pytest.mark.parametrize(("states", "percent"), [(1, None), (2, None), (3, "50"), (4, "100")])
def test_states_that_many_phones_are_too_short_for_are_warned_of(
    states: int, percent: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    criterion = framewise(states=states)  # frames of 10 samples
    batch = labels_only([[2, 1], [1, 2]], [[(0, 20), (20, 50)], [(0, 29), (29, 59)]])
    criterion.prepare(Split((), [(batch, torch.tensor([5, 6]))]), Split((), []))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (percent is not None)
    if percent:
        assert f"{percent} % of the training phones are shorter than {states} frames" in said[0]
        assert f"criterion.states={states}" in said[0]


def test_spans_have_the_mean_posterior_of_their_frames() -> None:
    criterion = framewise(states=2)
    encoded = torch.randn(1, 12, 6)
    ((first, second),) = criterion.align(
        encoded, torch.tensor([12]), torch.tensor([[2, 1]]), torch.tensor([2])
    )
    probs = criterion.emissions(encoded)[0].exp().detach()
    of_label = {2: probs[:, 3:5].sum(1), 1: probs[:, 1:3].sum(1)}
    for label, span in ((2, first), (1, second)):
        mean = float(of_label[label][span.start : span.end].mean())
        assert span.confidence == pytest.approx(mean, rel=1e-5)


def test_what_cannot_be_done_is_said() -> None:
    criterion = framewise(states=3)
    some = labels_only([[1]] * 3, [None, [(0, 9)], None])
    with pytest.raises(DataError, match=r"2 utterances have no times of their phones \(u0, u2\)"):
        criterion.loss(torch.zeros(3, 2, 6), torch.tensor([2, 2, 2]), some)
    unknown = Split((), [(labels_only([[1]] * 2), torch.tensor([2, 2]))])
    with pytest.raises(DataError, match=r"2 utterances have no times .* with `asr align`"):
        criterion.prepare(Split((), []), unknown)
    with pytest.raises(DataError, match=r"utterance 0 of the batch \(needs 6 frames, has 5\)"):
        criterion.align(
            torch.zeros(1, 5, 6), torch.tensor([5]), torch.tensor([[1, 1]]), torch.tensor([2])
        )
    with pytest.raises(
        DataError, match=r"search\.n_best is 2, but a Viterbi search finds one path"
    ):
        criterion.decode(torch.zeros(1, 5, 6), torch.tensor([5]), SearchConfig(beam=9, n_best=2))


@pytest.mark.parametrize(
    ("config", "values", "says"),
    [
        (FramewiseConfig, {"states": 0}, "criterion.states is 0, expected at least 1"),
        (FramewiseConfig, {"acoustic_scale": 0.0}, "criterion.acoustic_scale is 0.0, expected"),
        (GMMConfig, {"mixtures": 0}, "criterion.mixtures is 0, expected at least 1"),
        (GMMConfig, {"variance_floor": 0.0}, "criterion.variance_floor is 0.0, expected more"),
        (SearchConfig, {"prior_scale": -1.0}, "search.prior_scale is -1.0, expected at least 0"),
    ],
)
def test_wrong_values_are_refused(config, values: dict[str, float], says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        config(**values)


@pytest.mark.parametrize(
    "override",
    ["encoder.layers=1", "encoder.dropout=0.5", "training.weight_noise=1.0"],
)
def test_what_needs_gradients_is_refused_with_mixtures(override: str) -> None:
    assert compose(["criterion=gmm"]).encoder.layers == 0
    with pytest.raises(ValueError, match=r"but criterion\.name is gmm, which is trained without"):
        compose(["criterion=gmm", override])


# ── mixtures ─────────────────────────────────────────────────────────────────────────────────


def test_densities_are_torchs() -> None:
    criterion = gmm(states=2, mixtures=3)
    frames = 2 * torch.randn(7, 3)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=criterion.log_weights),
        torch.distributions.Independent(
            torch.distributions.Normal(criterion.means, criterion.variances.sqrt()), 1
        ),
    )
    expected = mixture.log_prob(frames.unsqueeze(1))
    assert torch.allclose(criterion.emissions(frames[None])[0], expected, atol=1e-4)


def two_classes(count: int = 60) -> tuple[Tensor, Tensor, Batch]:
    """Utterances of two phones, each a cluster of its own: left and right of 0."""
    generator = torch.Generator().manual_seed(4)
    draw = np.random.default_rng(4)
    labels, frames = [], []
    for _ in range(count):
        labels.append(draw.integers(1, 3, draw.integers(2, 5)).tolist())
        runs = [torch.full((int(draw.integers(3, 8)),), 3.0 - 6.0 * (v - 1)) for v in labels[-1]]
        middle = torch.cat(runs).unsqueeze(1)
        frames.append(middle + torch.randn(len(middle), 2, generator=generator))
    encoded, lengths = pad(frames)
    return encoded, lengths, labels_only(labels)


def em_pass(criterion: GMM, encoded: Tensor, lengths: Tensor, batch: Batch) -> float:
    loss = criterion.accumulate(encoded, lengths, batch).sum()
    criterion.update()
    return float(loss)


def test_two_classes_are_learned_from_transcripts_alone() -> None:
    encoded, lengths, batch = two_classes(30)
    criterion = GMM(GMMConfig(states=1, mixtures=1, acoustic_scale=1.0), 2, 3, TIMES)
    for _ in range(6):
        em_pass(criterion, encoded, lengths, batch)
    for n, (path,) in enumerate(criterion.decode(encoded, lengths, SearchConfig(beam=99))):
        spoken = batch.targets[n, : batch.target_lengths[n]].tolist()
        assert list(path.labels) == [label for label, _ in itertools.groupby(spoken)]
    for label, mean in ((1, 3.0), (2, -3.0)):
        assert float(criterion.means[label, 0, 0]) == pytest.approx(mean, abs=0.2)
        assert criterion.variances[label, 0].tolist() == pytest.approx([1.0, 1.0], abs=0.25)


def test_passes_never_lower_the_likelihood_between_splits() -> None:
    encoded, lengths, batch = two_classes(20)
    encoded = torch.cat([encoded, encoded.cos()], 2)  # which is no Gaussian
    config = GMMConfig(states=2, mixtures=4, passes=6, variance_floor=1e-6)
    criterion = GMM(config, 4, 3, TIMES).double()
    losses = [em_pass(criterion, encoded.double(), lengths, batch) for _ in range(18)]
    for begin in (1, 6, 12):  # the first pass has no alignment yet
        some = losses[begin : begin + 6 - (begin == 1)]
        assert all(after <= before + 1e-6 for before, after in itertools.pairwise(some))
    assert losses[17] < losses[11] < losses[5]
    assert (criterion.log_weights.exp() > 0).sum(1).tolist()[1:] == [4] * 4
    assert criterion.log_weights[1:].exp().sum(1).tolist() == pytest.approx([1.0] * 4)


def test_components_without_frames_are_dropped_and_states_keep_one() -> None:
    encoded, lengths, batch = two_classes(4)
    config = GMMConfig(states=1, mixtures=64, passes=1)
    criterion = GMM(config, 2, 4, TIMES)
    for _ in range(9):
        em_pass(criterion, encoded, lengths, batch)
    alive = (criterion.log_weights > -math.inf).sum(1)
    assert (alive >= 1).all()
    assert (alive[1:3] < 20).all()  # of 40 frames or so
    assert alive[3] == 1  # never in training
    assert criterion.emissions(encoded).isfinite().all()
    assert (criterion.variances >= criterion.least_variances).all()


def test_batches_are_summed_and_the_first_alignment_is_by_times_where_they_are_known() -> None:
    encoded = torch.arange(8.0).reshape(1, 8, 1)
    times: list[list[tuple[int, int]] | None] = [[(0, 20), (30, 80)]]
    timed, untimed = labels_only([[1, 2]], times), labels_only([[1, 2]], [None])
    lengths = torch.tensor([8])
    for batches, means in (
        ([timed], [2.0, 0.5, 5.0]),
        ([untimed], [None, 1.5, 5.5]),
        ([timed, untimed], [2.0, 7 / 6, 47 / 9]),
    ):
        criterion = GMM(GMMConfig(states=1, variance_floor=1e-9), 1, 3, TIMES)
        for batch in batches:
            criterion.accumulate(encoded, lengths, batch)
        criterion.update()
        for label, mean in enumerate(means):
            if mean is not None:
                assert float(criterion.means[label, 0, 0]) == pytest.approx(mean)


# ── through the commands ─────────────────────────────────────────────────────────────────────


def config_of(tones: list[Utterance], folder: Path, criterion: str) -> RunConfig:
    """A run on tones with the times of their phones, as asr.prepare would leave it."""
    for split, members in (("train", tones[:6]), ("dev", tones[6:8]), ("test", tones[8:])):
        write_jsonl(folder / "manifests" / f"{split}.jsonl", [timed(u) for u in members])
    Vocabulary(PHONES).save(folder / "vocabulary.txt")
    is_gmm = criterion == "gmm"
    return RunConfig(
        corpus=TimitConfig(root="unused"),
        criterion=GMMConfig(states=2, mixtures=2, passes=1) if is_gmm else FramewiseConfig(),
        features=FeaturesConfig(bins=20, deltas=0),
        encoder=EncoderConfig(hidden=16, layers=0 if is_gmm else 1, dropout=0.0 if is_gmm else 0.3),
        optimizer=AdamConfig(learning_rate=0.01),
        training=TrainingConfig(epochs=3, batch_size=2, schedule="one_cycle"),
        name="tones",
        run_dir=str(folder),
        device="cpu",
    )


def timed(utterance: Utterance) -> Utterance:
    """With equal parts as times, which is near enough."""
    part = utterance.duration_s / len(utterance.phones)
    segments = tuple(Segment(p, n * part, (n + 1) * part) for n, p in enumerate(utterance.phones))
    return dataclasses.replace(utterance, segments=segments)


@pytest.mark.parametrize("criterion", ["framewise", "gmm"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    criterion: str, tones: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, other = (config_of(tones, tmp_path / name, criterion) for name in ("one", "two"))
    train.run(config)

    def stop(*args: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Phase, "describe", stop)  # what an epoch ends with
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train.run(dataclasses.replace(other, resume="auto"))
    train.run(dataclasses.replace(other, resume="auto"))
    for which in ("best", "last"):
        expected, weights = (
            checkpoint.load(Path(each.run_dir) / f"checkpoint-{which}.safetensors").recognizer
            for each in (config, other)
        )
        result = weights.state_dict()
        assert all(torch.equal(result[n], w) for n, w in expected.state_dict().items())
        assert float(expected.state_dict()["criterion.occupancy"].sum()) > 100
    assert (tmp_path / "two" / "learning-curve.png").exists()
    decode.run(dataclasses.replace(config, search=SearchConfig(beam=100)))
    assert (tmp_path / "one" / "test.hyp.jsonl").exists()


def test_a_language_model_of_the_phones_that_labels_fold_to_is_refused() -> None:
    composed = graph_of(estimate([("t", "ch")], 2, phone_set("arpabet39")), ("t", "tcl", "ch", "q"))
    criterion = framewise()
    with pytest.raises(DataError, match="CMUdict's phones"):
        criterion.search(torch.zeros(1, 3, 13), torch.tensor([3]), SearchConfig(beam=5), composed)


@pytest.mark.parametrize(
    ("criterion", "keys"),
    [("framewise", {"lm_weight", "bonus", "prior_scale"}), ("gmm", {"lm_weight", "bonus"})],
)
def test_the_search_is_tuned_on_dev(
    criterion: str, keys: set[str], tones: list[Utterance], tmp_path: Path
) -> None:
    config = config_of(tones, tmp_path, criterion)
    write_arpa(tmp_path / "lm.arpa", estimate([u.phones for u in tones], 2, PHONES))
    recognizer = Recognizer(config.recognizer, Vocabulary(PHONES))
    path = tmp_path / "checkpoint-best.safetensors"
    checkpoint.save(path, Checkpoint(recognizer, {}))
    search = SearchConfig(beam=50, language_model=str(tmp_path / "lm.arpa"))
    grid = TuneConfig(lm_weight=[0.0, 1.0], bonus=[0.0, 1.0], prior_scale=[0.0, 1.0])
    config = dataclasses.replace(config, search=search, tune=grid)
    tune.run(config)
    trials = tune.combinations(checkpoint.load(path).recognizer, search, grid, 1)
    assert {tuple(trial) for trial in trials} == {tuple(sorted(keys, key=list(trials[0]).index))}
    assert len(trials) == 2 ** len(keys)
    decode.run(dataclasses.replace(config, tuned=True))


def test_utterances_without_times_are_refused_before_training(
    tones: list[Utterance], tmp_path: Path
) -> None:
    config = config_of(tones, tmp_path, "framewise")
    write_jsonl(tmp_path / "manifests" / "dev.jsonl", tones[6:8])
    with pytest.raises(DataError, match=r"2 utterances have no times of their phones \(tone"):
        train.run(config)
    assert not (tmp_path / "train.jsonl").exists()
