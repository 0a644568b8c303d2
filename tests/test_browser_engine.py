"""The engine of the static page, module by module: it gives the numbers of this package."""

import json
import lzma
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from conftest import REPOSITORY, recipe, tones_of

from asr import audio
from asr.audio import SilenceError
from asr.detector import EVIDENCE, SpeechDetector, evidence
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.frames import Frames
from asr.phones import phone_set
from asr.records import Hypothesis, Segment, Transcript
from asr.search import SearchConfig, packing, paths
from asr.search.calibration import Calibration
from asr.search.decoders import CTCDecoder
from asr.search.graph import fill_row, graph_of
from asr.search.ngram import LanguageModel, estimate
from asr.symbols import written
from asr.transcriber import pieces, placed

PHONES = [*"abcdefg"]
RATE, STEP = 16_000, 480


class Node:
    """A process that calls functions of the engine."""

    def __init__(self) -> None:
        command = ["node", f"{REPOSITORY}/tests/browser_engine.mjs"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *call: Any) -> Any:
        """The result of a call; `DataError` with the sentence of an error there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(call, default=typed) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise DataError(answer["error"])
        return answer.get("result")


def typed(value: Any) -> Any:
    """Arrays as typed arrays of JavaScript."""
    if isinstance(value, bytes):
        return {"uint8": [*value]}
    assert isinstance(value, np.ndarray), value
    return {"float32": value.astype(np.float32).ravel().tolist()}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    if shutil.which("node") is None:
        pytest.skip("needs Node.js")
    node = Node()
    with node.process:  # which closes its input and waits
        yield node
    assert node.process.returncode == 0


def raw(streams: dict[str, Any]) -> dict[str, bytes]:
    """The streams of a packed n-gram as the page has them, decompressed."""
    return {
        name: lzma.decompress(data.tobytes(), lzma.FORMAT_RAW, filters=packing.FILTERS)
        for name, data in streams.items()
    }


def sentences(rng: np.random.Generator, count: int = 60) -> list[list[str]]:
    """Of unequal phones, so that many n-grams are absent."""
    odds = 2.0 ** -np.arange(len(PHONES))
    sizes = rng.integers(1, 9, count)
    return [[*map(str, rng.choice(PHONES, size, p=odds / odds.sum()))] for size in sizes] + [PHONES]


def packed(model: LanguageModel) -> tuple[LanguageModel, list[Any]]:
    """A model after packing and unpacking, and what the page gets of it."""
    header, streams = packing.pack(model)
    return packing.unpack(header, streams, "here"), [asdict(header), raw(streams)]


def with_backoffs_everywhere(model: LanguageModel) -> LanguageModel:
    """The same with a back-off behind histories that nothing continues."""
    backoff = model.log10_backoff.copy()
    leaves = np.diff(model.children) == 0
    backoff[leaves] = -0.25
    parts = model.symbols, model.children, model.symbol, model.log10_prob, backoff
    return LanguageModel(model.order, *parts)


def emissions(rng: np.random.Generator, frames: int, size: int) -> np.ndarray:
    """Log-probabilities with peaks, mostly of the blank."""
    logits = 2 * rng.standard_normal((frames, size))
    logits[:, 0] += 2
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits.astype(np.float32)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("everywhere", [False, True])
def test_an_n_gram_has_the_same_probabilities(node: Node, order: int, everywhere: bool) -> None:
    rng = np.random.default_rng(order)
    model = estimate(sentences(rng), order, PHONES)
    model, given = packed(with_backoffs_everywhere(model) if everywhere else model)
    labels = rng.integers(1, 1 + len(PHONES), 40).tolist()
    graph = graph_of(model, PHONES)
    state, expected = graph.start, []
    row, target = np.zeros(1 + len(PHONES)), np.zeros(1 + len(PHONES), np.int32)
    for label in [0, *labels]:
        if label:
            fill_row(graph, state, row, target)
            state = int(target[label])
        fill_row(graph, state, row, target)
        expected.append([*row, float(graph.states["end"][state])])
    assert node("rows", *given, PHONES, labels) == expected


def test_labels_fold_to_an_n_gram_of_other_phones(node: Node) -> None:
    labels, phones = phone_set("timit61"), phone_set("arpabet39")
    rng = np.random.default_rng(0)
    odds = 2.0 ** -np.arange(len(phones) / 4).repeat(4)[: len(phones)]
    texts = [[*map(str, rng.choice(phones, 9, p=odds / odds.sum()))] for _ in range(300)]
    model, given = packed(estimate([*texts, [*phones]], 3, phones))
    folding = recipe("browser/build").folding({*phones}, labels, Path("my.safetensors"))
    graph = graph_of(model, labels)
    closures = [labels.index(name) + 1 for name in ("tcl", "t", "tcl", "ch", "bcl", "pau", "dcl")]
    path = [*closures, *rng.integers(1, 1 + len(labels), 200).tolist(), *closures]
    state, expected = graph.start, []
    row, target = np.zeros(1 + len(labels)), np.zeros(1 + len(labels), np.int32)
    for label in [0, *path]:
        if label:
            fill_row(graph, state, row, target)
            state = int(target[label])
        fill_row(graph, state, row, target)
        expected.append([*row[1:], float(graph.states["end"][state])])
    rows = [row[1:] for row in node("rows", *given, labels, path, folding)]
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    log_probs = emissions(rng, 60, 1 + len(labels))
    config = SearchConfig(beam=30, lm_weight=0.8)
    (best,) = CTCDecoder().search(log_probs, config, graph)
    (result,) = node("search", log_probs, asdict(config), *given, labels, folding)
    assert tuple(result["labels"]) == best.labels
    with pytest.raises(DataError, match=r"my\.safetensors: its n-gram has other phones"):
        recipe("browser/build").folding({"a"}, labels, Path("my.safetensors"))


@pytest.mark.parametrize("n_best", [1, 4])
@pytest.mark.parametrize("order", [0, 3])
def test_the_beam_has_the_same_paths(node: Node, order: int, n_best: int) -> None:
    rng = np.random.default_rng(10 * order + n_best)
    model, given = packed(estimate(sentences(rng), order, PHONES)) if order else (None, [])
    graph = model and graph_of(model, PHONES)
    config = SearchConfig(
        beam=30, n_best=n_best, threshold=12.0, blank_penalty=0.5, bonus=0.75, lm_weight=0.8
    )
    for frames in (1, 3, 60):
        log_probs = emissions(rng, frames, 1 + len(PHONES))
        expected = CTCDecoder().search(log_probs, config, graph)
        results = node("search", log_probs, asdict(config), *(given or [None, None]), PHONES)
        assert [tuple(one["labels"]) for one in results] == [path.labels for path in expected]
        assert [tuple(one["frames"]) for one in results] == [path.frames for path in expected]
        for one, path in zip(results, expected, strict=True):
            assert one["score"] == pytest.approx(path.score, abs=1e-9)
            assert one["confidences"] == pytest.approx(path.confidences, abs=1e-6)


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 2, 2, 2], [3, 1, 1, 3]])
def test_labels_are_aligned_to_the_same_frames(node: Node, labels: list[int]) -> None:
    for frames in (8, 20):
        log_probs = emissions(np.random.default_rng(frames), frames, 4)
        log_probs[:, 0] -= 5  # no blank but where it has to be
        alignment, _ = paths.align(log_probs, labels)
        assert node("paths", "align", log_probs, 4, labels) == alignment.tolist()


def test_a_greedy_search_has_the_same_path(node: Node) -> None:
    config = SearchConfig(blank_penalty=1.0)
    log_probs = emissions(np.random.default_rng(0), 50, 1 + len(PHONES))
    (path,) = CTCDecoder().search(log_probs, config)
    (result,) = node("search", log_probs, asdict(config), None, None, PHONES)
    assert (tuple(result["labels"]), tuple(result["frames"])) == (path.labels, path.frames)
    assert result["score"] == pytest.approx(path.score)


def test_outputs_that_are_no_numbers_are_refused(node: Node) -> None:
    log_probs = emissions(np.random.default_rng(0), 5, 1 + len(PHONES))
    assert node("search", log_probs, asdict(SearchConfig()), None, None, PHONES)
    call = "decoders", "search", {"float32": [-0.5, None, -0.5, "NaN"]}, 2, asdict(SearchConfig())
    with pytest.raises(DataError, match="outputs are NaN"):
        node(*call)


def test_an_n_gram_of_other_phones_is_refused(node: Node) -> None:
    _, given = packed(estimate([["a", "b"]], 2, ["a", "b"]))
    with pytest.raises(DataError, match=r"other phones than the model \(c\)"):
        node("search", np.zeros(4), asdict(SearchConfig()), *given, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("hidden", "deltas", "ahead_s"), [(0, 0, None), (3, 2, None), (0, 2, 0.12)]
)
def test_the_detector_hears_the_same(
    node: Node, hidden: int, deltas: int, ahead_s: float | None
) -> None:
    rng = np.random.default_rng(hidden)
    config = FeaturesConfig(normalization="active", deltas=deltas, energy=False, bins=20)
    frames = Frames(config, (rng.normal(8, 1, config.dynamic_width), np.ones(config.dynamic_width)))
    static = (8 + 3 * rng.standard_normal((200, 20))).astype(np.float32)
    log_probs = emissions(rng, 67, 8)
    log_probs[20:60] = 0, *np.full(7, -16.0)  # sure that there is no label
    units = [[*row] for row in rng.normal(0, 0.3, (hidden, EVIDENCE + 1))]
    known = evidence(log_probs, static, 0.03, ahead_s)
    weights = rng.normal(0, 1, hidden or EVIDENCE).tolist()
    odds = np.sort(SpeechDetector(weights, 0.0, units).odds(known))
    detector = SpeechDetector(weights, -float(odds[33:35].mean()), units, ahead_s)
    fixed = {"values": static, "count": 200, "width": 20}
    of_training = dict(zip(("mean", "std"), map(np.ndarray.tolist, frames.training), strict=True))
    given = asdict(detector), log_probs, 8, fixed, 0.03, asdict(config), of_training
    result = node("detected", *given)
    assert result["odds"] == pytest.approx(detector.odds(known), abs=1e-4)
    gated = detector.gate(log_probs, static, 0.03)
    np.testing.assert_array_equal(np.reshape(result["gated"], gated.shape), gated)
    moments = detector.moments(log_probs, static, frames, 0.03)
    assert moments is not None
    assert result["moments"]["mean"] == pytest.approx(moments[0], abs=1e-5)
    assert result["moments"]["std"] == pytest.approx(moments[1], abs=1e-5)


def test_confidences_are_calibrated_to_the_same_digits(node: Node) -> None:
    calibration = Calibration((0.1, 0.3, 0.35, 0.9), (0.2, 0.2, 0.7, 0.95))
    confidences = [*np.linspace(0, 1, 501).round(4).tolist(), 0.1, 0.3, 0.35, 0.9]
    hypothesis = Hypothesis("", ("a",) * 505, 0.0, (0.0,) * 505, tuple(confidences))
    result = node("calibration", "calibrated", confidences, asdict(calibration))
    assert tuple(result) == calibration.of(hypothesis).confidences


def test_numbers_are_rounded_to_the_same_digits(node: Node) -> None:
    ties = [n / 32 for n in range(70)]
    values = [*ties, *np.random.default_rng(0).uniform(0, 700, 300).tolist(), 0.00005, 1.00005]
    assert [node("rounding", "round4", value) for value in values] == [round(v, 4) for v in values]
    halves = [-1.5, -0.5, 0.5, 1.5, 2.5, 1.2, 8.333]
    assert [node("rounding", "rint", value) for value in halves] == [round(v) for v in halves]


def test_phones_are_placed_at_the_same_times(node: Node) -> None:
    rng = np.random.default_rng(0)
    for duration_s in (0.02, 0.4, 3.0):
        count = 12
        times = np.sort(rng.integers(0, 1 + duration_s / 0.03, count)) * 0.03 + 0.0275
        own = tuple(map(str, range(count))), tuple(times.round(4).tolist()), (0.5,) * count
        hypothesis = Hypothesis("", own[0], 0.0, *own[1:])
        given = dict(zip(("phones", "times_s", "confidences"), own, strict=True))
        result = node("placed", given, 0.03, 20.01, duration_s)
        expected = [one._asdict() for one in placed(hypothesis, 0.03, 20.01, duration_s)]
        assert result == expected


def test_long_recordings_are_cut_in_the_same_places(node: Node) -> None:
    rng = np.random.default_rng(0)
    rate = 2_000  # as with 16,000 of them, but for the work
    for seconds in (1, 42, 100):
        loud = 0.1 + np.abs(np.sin(np.arange(seconds * rate) / 700))
        waveform = (loud * rng.standard_normal(seconds * rate)).astype(np.float32)
        expected = [
            {"start": p.start, "before": p.before, "samples": p.samples, "length": len(p.waveform)}
            for p in pieces([waveform], 60, rate)
        ]
        assert node("pieces", waveform, 60, rate) == expected


@pytest.mark.parametrize("alphabet", ["arpabet", "ipa", "xsampa"])
def test_alphabets_are_the_same(node: Node, alphabet: str) -> None:
    phones = phone_set("timit61")
    rng = np.random.default_rng(0)
    names = [*phones, "tcl", "t", "tcl", "ch", "dcl", "b", *rng.choice(phones, 200)]
    starts = np.arange(len(names)) * 0.1
    segments = [
        Segment(str(name), round(start, 4), round(start + 0.1 - 0.05 * (n % 3 == 0), 4), 0.5)
        for n, (name, start) in enumerate(zip(names, starts.tolist(), strict=True))
    ]
    tables = dict(recipe("browser/build").alphabets(phones))
    result = node("symbols", "written", [one._asdict() for one in segments], tables[alphabet])
    expected = written(Transcript("", 99.0, tuple(segments)), alphabet).phones
    assert result == [one._asdict() for one in expected]


# ── audio ────────────────────────────────────────────────────────────────────────────────────

VOICE = tones_of(["aa", "s", "iy", "m"])


def heard(node: Node, path: Path) -> Any:
    return node("heard", path.name, path.read_bytes(), RATE, 0.025)


def streamed(path: Path) -> tuple[np.ndarray, list[str]]:
    """The samples, and the warnings without the folder."""
    said: list[str] = []
    with_name = str(path)
    try:
        blocks = list(audio.stream(path, RATE, 400, said.append))
    except SilenceError:
        blocks = []
    samples = np.concatenate(blocks) if blocks else np.zeros(0)
    return samples, [one.replace(with_name, path.name) for one in said]


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        *(("WAV", one) for one in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
        *(("WAVEX", one) for one in ("PCM_16", "FLOAT")),
        *(("NIST", one) for one in ("PCM_S8", "PCM_16", "PCM_24")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_files_of_pcm_are_read_exactly(
    node: Node, format: str, subtype: str, channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "my.wav"
    samples = np.stack([VOICE / (1 + c) for c in range(channels)], axis=1)
    soundfile.write(path, samples, RATE, subtype, format=format)
    result = heard(node, path)
    expected, warnings = streamed(path)
    np.testing.assert_array_equal(result["samples"], expected)
    assert result["warnings"] == warnings
    assert not result["isSilent"]


DISTORTED = {
    "quiet": VOICE / 400,
    "clipped": (40 * VOICE).clip(-1, 1),
    "clipped lower": VOICE.clip(-0.27, 0.27),
    "offset": VOICE + 0.3,
    "zeros": np.concatenate([VOICE, np.zeros(3 * len(VOICE))]),
    "silent": np.full(16_000, 0.25),
    "good": VOICE,
}


@pytest.mark.parametrize("name", DISTORTED)
def test_warnings_are_the_same(node: Node, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, DISTORTED[name], RATE, "PCM_16")
    result = heard(node, path)
    assert result["warnings"] == streamed(path)[1]
    assert bool(result["warnings"]) == (name not in ("silent", "good"))
    assert result["isSilent"] == (name == "silent")


NOISE = 0.1 * np.random.default_rng(0).standard_normal(len(VOICE))
UNFIT = {
    "cancelled": [VOICE, -0.99 * VOICE],
    "dead": [1e-5 * VOICE, VOICE],
    "different": [VOICE, VOICE, NOISE],
    "alike": [VOICE, 0.5 * VOICE],
}


@pytest.mark.parametrize("name", UNFIT)
def test_channels_that_do_not_mix_are_named(node: Node, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.wav"
    soundfile.write(path, np.stack(UNFIT[name], axis=1), RATE, "FLOAT")
    ours, theirs = heard(node, path)["warnings"], streamed(path)[1]
    until = "choose one"  # with a flag there, and by another program here
    assert [one.partition(until)[0] for one in ours] == [one.partition(until)[0] for one in theirs]
    assert len(ours) == 1 + (name != "alike")


def wrong_files(folder: Path) -> Iterator[Path]:
    path = folder / "short.wav"
    soundfile.write(path, VOICE[:100], RATE)
    yield path
    path = folder / "empty.wav"
    soundfile.write(path, VOICE[:0], RATE)
    yield path
    path = folder / "nothing.wav"
    path.write_bytes(b"")
    yield path
    path = folder / "slow.wav"
    soundfile.write(path, VOICE, 3_000)
    yield path
    path = folder / "large.wav"
    soundfile.write(path, 1000 * VOICE, RATE, "FLOAT")
    yield path


def test_files_of_no_use_have_the_same_sentences(node: Node, tmp_path: Path) -> None:
    for path in wrong_files(tmp_path):
        with pytest.raises(DataError) as theirs:
            streamed(path)
        with pytest.raises(DataError) as ours:
            heard(node, path)
        assert str(ours.value) == str(theirs.value).replace(str(path), path.name)


def test_a_truncated_file_is_named(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, VOICE, RATE)
    path.write_bytes(path.read_bytes()[:-2000])
    held = f"truncated, the header says {len(VOICE)} samples, the file holds {len(VOICE) - 1000}"
    for read in (lambda: streamed(path), lambda: heard(node, path)):
        with pytest.raises(DataError, match=held):
            read()


def test_what_the_browser_cannot_decode_is_named(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "letter.mp3"
    path.write_text("Dear Sir,")
    with pytest.raises(DataError, match=r"letter.mp3: not an audio file that this browser reads"):
        heard(node, path)


@pytest.mark.parametrize("divisor", [32767.0, 32768.0])
def test_flac_of_16_bits_is_exact(node: Node, divisor: float, tmp_path: Path) -> None:
    exact = np.array([-32768, -1, 0, 1, 2, 1000, 32766, 32767])
    decoded = (exact / np.where(exact > 0, divisor, 32768)).astype(np.float32)
    assert node("restored", decoded) == (exact / 32768).tolist()
    path = tmp_path / "my.flac"
    soundfile.write(path, VOICE, 44_100, "PCM_16")
    header = node("headers", "headerOfFLAC", path.read_bytes()[:100])
    assert header == {"sampleRate": 44_100, "bits": 16}
    assert node("headers", "headerOfFLAC", b"RIFF") is None


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 47_999])
def test_resampling_is_that_of_soxr_but_for_its_last_digits(node: Node, rate: int) -> None:
    rng = np.random.default_rng(rate)
    samples = (0.1 * rng.standard_normal(rate // 4)).astype(np.float32)
    expected = soxr.resample(samples, rate, RATE)
    result = np.array(node("resampling", "resampled", samples, rate, RATE))
    assert abs(len(result) - len(expected)) <= 1
    inner = slice(200, min(len(result), len(expected)) - 200)
    spectra = [np.fft.rfft(one[inner] * np.hanning(len(one[inner]))) for one in (result, expected)]
    ours, theirs = (one[: math.floor(len(one) * 0.9 * min(1, rate / RATE))] for one in spectra)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()
