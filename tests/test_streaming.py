"""A stream's phones are those of the whole recording, for any chunks, and of the past alone."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tones_of
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr import audio, checkpoint, model_file, network
from asr.architecture import CRITERIA, CTCConfig, EncoderConfig, RecognizerConfig
from asr.checkpoint import Checkpoint
from asr.detector import AHEAD_S, EVIDENCE, Listening, SpeechDetector, evidence
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.frames import Frames
from asr.lstm.inference import KERNEL_OF, Steps
from asr.network import CompiledNetwork
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Segment
from asr.search import SearchConfig, paths, prefix_beam
from asr.search.calibration import Calibration
from asr.search.decisions import BeamDecisions, Decisions, GreedyDecisions, Label, Streaming
from asr.search.graph import Graph, graph_of, no_language_model
from asr.search.ngram import LanguageModel, estimate
from asr.transcriber import STREAMING, Transcriber

RATE = 16_000
PHONES = ("aa", "iy", "m", "s")
FEATURES = FeaturesConfig(
    bins=20, deltas=0, energy=False, normalization="running", dither=1.0, low_hz=60.0
)
ENCODER = EncoderConfig(hidden=16, layers=2, bidirectional=False, subsampling=3)
FRAME_S = 0.03
BEAM = SearchConfig(beam=20, threshold=12.0, lm_weight=0.5, bonus=0.3, blank_penalty=0.5)


def ngram() -> LanguageModel:
    draw = np.random.default_rng(0)
    text = [tuple(draw.choice(PHONES, draw.integers(1, 7))) for _ in range(40)]
    return estimate(text, 3, PHONES)


def recognizer_of(
    features: FeaturesConfig = FEATURES, encoder: EncoderConfig = ENCODER
) -> Recognizer:
    """With random weights, of which the last are large, so that there are labels."""
    torch.manual_seed(3)
    config = RecognizerConfig(features, encoder, CTCConfig())
    recognizer = Recognizer(config, Vocabulary(PHONES)).eval()
    with torch.no_grad():
        recognizer.criterion.head.weight.mul_(25)
    recognizer.features.mean.fill_(10.0)
    recognizer.features.std.fill_(3.0)
    return recognizer


def speech(seconds: float = 3.0, seed: int = 0) -> audio.Waveform:
    draw = np.random.default_rng(seed)
    said = tones_of(draw.choice(PHONES, round(seconds / 0.15)))
    return said * draw.uniform(0.1, 1.0, len(said)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def greedy(folder: Path) -> Transcriber:
    checkpoint.save(folder / "greedy.safetensors", Checkpoint(recognizer_of()))
    return asr.load(folder / "greedy.safetensors", streaming=True)


@pytest.fixture(scope="module")
def complete(folder: Path) -> Transcriber:
    """With a beam, an n-gram, a detector that holds phones back, and a calibration."""
    draw = np.random.default_rng(2)
    weights = draw.normal(0, 0.3, EVIDENCE)
    path = folder / "complete.safetensors"
    whole = Checkpoint(
        recognizer_of(),
        search=BEAM,
        language_model=ngram(),
        detector=SpeechDetector(weights.tolist(), 0.5, ahead_s=AHEAD_S),
        calibration=Calibration((0.0, 1.0), (0.1, 0.9)),
        streaming=Streaming(-0.05, 0.02, 0.9, 0.3),
    )
    checkpoint.save(path, whole)
    return asr.load(path, streaming=True)


def streamed(model: Transcriber, samples: audio.Waveform, sizes: Sequence[int]) -> list[Segment]:
    """In chunks of these sizes, over and over."""
    stream, phones, begin, n = model.stream(), list[Segment](), 0, 0
    while begin < len(samples):
        size = sizes[n % len(sizes)]
        phones += stream.feed(samples[begin : begin + size])
        begin, n = begin + size, n + 1
    return phones + stream.finish()


# ── equality ─────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=12)
@given(
    sizes=st.lists(st.integers(1, 3 * RATE), min_size=1, max_size=5).filter(lambda s: sum(s) > 99)
)
@pytest.mark.parametrize("kind", ["greedy", "complete"])
def test_chunks_of_any_size_give_what_the_whole_gives(
    kind: str, sizes: list[int], request: pytest.FixtureRequest
) -> None:
    model: Transcriber = request.getfixturevalue(kind)
    samples = speech()
    whole = list(model.transcribe(samples, RATE).phones)
    assert len(whole) > 3
    assert streamed(model, samples, sizes) == whole


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 1_359, 1_360, 1_361, 2_000])
def test_the_last_block_may_be_of_any_length(greedy: Transcriber, samples: int) -> None:
    sound = speech()[:samples]
    phones = streamed(greedy, sound, [160])
    if samples >= FEATURES.window_samples:
        assert phones == list(greedy.transcribe(sound, RATE).phones)
    else:
        assert phones == []


@pytest.mark.parametrize("kind", ["greedy", "complete"])
def test_what_was_said_is_not_changed_by_what_follows(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: Transcriber = request.getfixturevalue(kind)
    known, half = speech(4.0), 2 * RATE
    stream = model.stream()
    early = stream.feed(known[:half])
    assert early
    for seed in (1, 2):
        other = np.concatenate([known[:half], speech(2.0, seed)])
        assert list(model.transcribe(other, RATE).phones[: len(early)]) == early


def test_phones_follow_each_other_and_have_probabilities(complete: Transcriber) -> None:
    phones = complete.transcribe(speech(6.0), RATE).phones
    for before, after in pairwise(phones):
        assert before.start_s < before.end_s <= after.start_s
    assert all(0.1 <= (one.confidence or 0) <= 0.9 for one in phones)
    assert phones[-1].end_s <= 6.0


def test_the_partial_result_is_what_silence_would_make_final(greedy: Transcriber) -> None:
    samples = speech()
    stream, final = greedy.stream(), list[Segment]()
    opened = 0
    for begin in range(0, len(samples), 160):
        final += stream.feed(samples[begin : begin + 160])
        twin = streamed(greedy, samples[: begin + 160], [160])
        if stream.partial:
            opened += 1
            assert [one.phone for one in twin[: len(final)]] == [one.phone for one in final]
        if begin > RATE:
            break
    assert opened
    assert greedy.stream().partial == []


def test_nothing_is_said_where_nobody_speaks(complete: Transcriber) -> None:
    deaf = replace(complete.detector, bias=-1e6) if complete.detector else None
    model = Transcriber(
        network.Model(complete.network, complete.search, complete.graph, deaf, None, None)
    )
    assert streamed(model, speech(), [800]) == []
    assert model.transcribe(speech(), RATE).phones == ()


def test_a_stream_belongs_to_one_thread_at_a_time(greedy: Transcriber) -> None:
    stream = greedy.stream()
    with stream._alone(), pytest.raises(DataError, match="another thread"):
        stream.feed(np.zeros(9, np.float32))
    assert stream.feed(np.zeros(9, np.float32)) == []


def test_human_speech_in_chunks(shared: Path) -> None:
    if not STREAMING.exists():
        pytest.skip("no packaged model for streams")
    model = asr.load(streaming=True)
    files = sorted((shared / "corpora/LibriSpeech/dev-part").rglob("*.[fo]*"))[:3]
    for path in files:
        samples = audio.load(path)[: 5 * RATE]
        whole = list(model.transcribe(samples, RATE).phones)
        assert len(whole) > 10
        for size in (160, 1_600, RATE):
            assert streamed(model, samples, [size]) == whole


# ── parts that carry a state ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cell", KERNEL_OF)
def test_one_step_at_a_time_is_a_run_of_all(cell: str, tmp_path: Path) -> None:
    projection = 5 if cell == "projected" else 0
    encoder = EncoderConfig(cell, 11, 2, False, projection, subsampling=3)
    checkpoint.save(tmp_path / "m.safetensors", Checkpoint(recognizer_of(encoder=encoder)))
    compiled = network.load(model_file.read(tmp_path / "m.safetensors"))
    assert isinstance(compiled, CompiledNetwork)
    frames = np.random.default_rng(0).standard_normal((30, 20)).astype(np.float32)
    steps = Steps(compiled.stack)
    by_step = np.stack([steps(frame) for frame in frames.reshape(10, 60)])
    np.testing.assert_allclose(by_step, compiled.stack(frames), atol=1e-5)


def test_static_frames_of_a_part_are_those_of_the_whole() -> None:
    frames, samples = Frames(FEATURES), speech(5.0)
    whole = frames.static(samples)
    for first in (0, 3, 411):
        begin = first * FEATURES.hop_samples
        part = samples[begin : begin + 2 * FEATURES.hop_samples + FEATURES.window_samples]
        np.testing.assert_array_equal(frames.static(part, first=begin), whole[first : first + 3])


@pytest.mark.parametrize("ahead_s", [0.0, AHEAD_S])
def test_the_detector_of_a_stream_sees_what_it_may(ahead_s: float) -> None:
    draw = np.random.default_rng(1)
    logits = 3 * draw.standard_normal((150, 5))
    log_probs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    static = draw.standard_normal((450, 20)).astype(np.float32)
    weights = draw.normal(0, 1, EVIDENCE).tolist()
    known = evidence(log_probs, static, FRAME_S, ahead_s)
    middle = float(np.median(SpeechDetector(weights, 0.0).odds(known)))
    detector = SpeechDetector(weights, -middle, ahead_s=ahead_s)
    listening, told = Listening(detector, FRAME_S), list[bool]()
    for n in range(150):
        told += listening.feed(log_probs[n : n + 1], static[3 * n : 3 * n + 3])
        assert len(told) == max(0, n + 1 - round(ahead_s / FRAME_S))
    told += listening.finish()
    assert told == detector.speech(log_probs, static, FRAME_S).tolist()
    assert 0 < sum(told) < 150
    end = 80 + round(ahead_s / FRAME_S) + 1
    log_probs[end:], static[3 * end :] = log_probs[0], 9.0
    changed = evidence(log_probs, static, FRAME_S, ahead_s)
    np.testing.assert_array_equal(changed[:81], known[:81])
    assert not np.array_equal(changed[81:], known[81:])


def test_a_detector_of_whole_recordings_is_none_of_a_stream() -> None:
    with pytest.raises(ValueError, match="whole recordings"):
        Listening(SpeechDetector([0.0] * EVIDENCE, 0.0), FRAME_S)
    with pytest.raises(ValueError, match="ahead"):
        SpeechDetector([0.0] * EVIDENCE, 0.0, ahead_s=3.0)


# ── decisions ────────────────────────────────────────────────────────────────────────────────


def log_probs_of(seed: int, frames: int, sharpness: float = 4.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((frames, 1 + len(PHONES)))
    logits[:, 0] += sharpness
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def decided(search: Decisions, log_probs: np.ndarray) -> list[Label]:
    labels = [label for row in log_probs for label in search.feed(row)]
    return labels + search.finish()


def graphs() -> list[Graph]:
    return [no_language_model(1 + len(PHONES), -0.3), graph_of(ngram(), PHONES)]


@settings(max_examples=15)
@given(
    st.integers(0, 10**6),
    st.integers(0, 60),
    st.sampled_from([1.0, 4.0]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_a_beam_that_goes_on_is_a_beam_of_all(
    seed: int, frames: int, sharpness: float, sizes: list[int]
) -> None:
    log_probs, options = log_probs_of(seed, frames, sharpness), (0.5, 0.3)
    for graph in graphs():
        labels, counts, scores = prefix_beam.search(log_probs, graph, *options, 20, 12.0, 1)
        # the smallest trie, which is pruned all the time
        beam, begin, n = prefix_beam.begin(graph, log_probs.shape[1], 20, 1), 0, 0
        while begin < frames:
            size = sizes[n % len(sizes)]
            part = log_probs[begin : begin + size]
            beam = prefix_beam.advance(beam, part, graph, *options, 12.0)
            begin, n = begin + size, n + 1
        best = prefix_beam.best(beam, graph, options[0])
        assert best.tolist() == labels[0, : counts[0]].tolist()
        assert prefix_beam._scores(beam, graph, options[0]).max() == scores[0]


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_what_all_prefixes_share_is_decided_without_loss(seed: int, frames: int) -> None:
    log_probs = log_probs_of(seed, frames)
    for graph in graphs():
        labelled = decided(BeamDecisions(BEAM, graph, 10**6, 1.0), log_probs)
        penalised = paths.penalised(log_probs, BEAM.blank_penalty)
        labels, counts, _ = prefix_beam.search(penalised, graph, 0.5, 0.3, 20, 12.0, 1)
        assert [one.label for one in labelled] == labels[0, : counts[0]].tolist()
        assert all(a.frame < b.frame for a, b in pairwise(labelled))


def test_a_sure_label_is_decided_at_once() -> None:
    log_probs = np.log(np.full((9, 5), 1e-4, np.float32))
    log_probs[:, 0] = np.log(0.9996)
    log_probs[4, [0, 2]] = np.log([1e-4, 0.9996])
    search = BeamDecisions(BEAM, graphs()[0], 20, 0.9)
    told = [search.feed(row) for row in log_probs]
    assert [len(labels) for labels in told] == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert told[4][0] == Label(2, 4, pytest.approx(0.9996, abs=1e-3))


def test_what_stays_unsure_is_decided_after_a_while() -> None:
    """Two labels are equally likely, and nothing that follows tells which it was."""
    log_probs = np.log(np.full((400, 5), 1e-4, np.float32))
    log_probs[:, 0] = np.log(0.9996)
    log_probs[::10, 0] = np.log(1e-4)
    log_probs[::10, 1:3] = np.log([0.5001, 0.4995])
    patience = 12
    search = BeamDecisions(SearchConfig(beam=50), graphs()[0], patience, 0.95)
    late = [n - one.frame for n, row in enumerate(log_probs) for one in search.feed(row)]
    assert len(late) == 39
    assert {*late} == {patience}


def test_memory_does_not_grow_with_the_stream() -> None:
    graph = graphs()[1]
    search = BeamDecisions(BEAM, graph, 10, 0.95)
    sizes = set()
    for n, row in enumerate(log_probs_of(0, 4_000, 1.0)):
        search.feed(row)
        if n > 500:
            beam = search.beam
            assert beam is not None
            sizes.add(tuple(part.nbytes for part in beam))
    assert len(sizes) == 1
    assert sum(*sizes) < 1e6


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_a_greedy_search_decides_what_it_finds_in_the_whole(seed: int, frames: int) -> None:
    log_probs = log_probs_of(seed, frames)
    penalised = paths.penalised(log_probs, 0.5)
    path = paths.greedy(penalised)
    labelled = decided(GreedyDecisions(SearchConfig(blank_penalty=0.5)), log_probs)
    assert tuple(one.label for one in labelled) == path.labels
    assert tuple(one.frame for one in labelled) == path.frames
    assert [one.confidence for one in labelled] == pytest.approx(path.confidences, rel=1e-6)


# ── wrong input ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (np.zeros((3, 2), np.float32), "expected \\(samples,\\)"),
        (np.zeros(3, np.int16), "int16"),
        (np.array([0.0, np.nan]), "sample 1 is nan"),
        (np.full(3, 2e4), "divide by full scale"),
    ],
)
def test_a_wrong_chunk_is_named(greedy: Transcriber, chunk: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        greedy.stream().feed(chunk)


def test_nothing_comes_behind_the_end(greedy: Transcriber) -> None:
    stream = greedy.stream()
    assert stream.finish() == []
    for use in (stream.finish, lambda: stream.feed(np.zeros(9, np.float32))):
        with pytest.raises(DataError, match="at its end"):
            use()


@pytest.mark.parametrize(
    ("features", "encoder", "criterion", "key"),
    [
        ({}, {"bidirectional": True}, "ctc", "encoder.bidirectional is true"),
        ({"normalization": "utterance"}, {}, "ctc", "features.normalization is utterance"),
        ({"normalization": "sliding"}, {}, "ctc", "features.normalization is sliding"),
        ({"deltas": 1}, {}, "ctc", "features.deltas is 1"),
        ({"context": 2}, {}, "ctc", "features.context is 2"),
        ({"snip_edges": False}, {}, "ctc", "features.snip_edges is false"),
        ({"dither_db": 45.0}, {}, "ctc", "features.dither_db is 45"),
        ({}, {}, "framewise", "criterion.name is framewise"),
        ({}, {}, "transducer", "criterion.name is transducer"),
    ],
)
def test_a_model_that_must_know_what_follows_is_refused_by_name(
    features: dict[str, object], encoder: dict[str, object], criterion: str, key: str
) -> None:
    config = RecognizerConfig(
        replace(FEATURES, **features),  # type: ignore[arg-type]
        replace(ENCODER, **encoder),  # type: ignore[arg-type]
        CRITERIA[criterion](),  # type: ignore[call-arg]
    )
    assert key in (config.reads_ahead or "")
    assert RecognizerConfig(FEATURES, ENCODER, CTCConfig()).reads_ahead is None


def test_who_cannot_stream_says_so(folder: Path) -> None:
    both = recognizer_of(encoder=replace(ENCODER, bidirectional=True))
    checkpoint.save(folder / "both.safetensors", Checkpoint(both))
    with pytest.raises(DataError, match=r"both\.safetensors: the model cannot stream"):
        asr.load(folder / "both.safetensors", streaming=True)
    with pytest.raises(DataError, match=r"asr\.load\(streaming=True\)"):
        asr.load(folder / "both.safetensors").stream()
    detector = SpeechDetector([0.0] * EVIDENCE, 1.0)
    checkpoint.save(folder / "d.safetensors", Checkpoint(recognizer_of(), detector=detector))
    with pytest.raises(DataError, match="detector of speech is one for whole recordings"):
        asr.load(folder / "d.safetensors").stream()
    with pytest.raises(ValueError, match="patience_s"):
        Streaming(patience_s=0.0)
