"""The page that explains an LSTM: measures against oracles, sentences against their numbers."""

import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import soundfile
import torch
from conftest import commands_of
from torch import Tensor

from asr import checkpoint, scoring
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.checkpoint import Checkpoint
from asr.commands import explain
from asr.criteria import CTCConfig
from asr.encoder import Encoder
from asr.errors import DataError
from asr.explanation import equations, figures, memory, study
from asr.explanation.activations import Activations, activations_of
from asr.explanation.network import Network, Sentence
from asr.explanation.page import _lag, page
from asr.explanation.wording import duration, signed
from asr.features.config import FeaturesConfig
from asr.lstm.cells import CELLS
from asr.phones import Vocabulary
from asr.pictures import Picture
from asr.recognizer import Recognizer
from asr.records import Segment, Utterance, write_jsonl

SECTIONS = (
    "The sound",
    "What the network says",
    "One step of the cell",
    "The gates over the sentence",
    "What one cell remembers",
    "How far back the memory reaches",
)


# ── the reach of memory ──────────────────────────────────────────────────────────────────────


def measure(encode: memory.Encode, frames: Tensor, times: Sequence[int], lags: Sequence[int],
            directions: Tensor, frames_per_step: int = 1) -> memory.Reach:  # fmt: skip
    return memory.reach(encode, frames, times, lags, directions, frames_per_step, 0.02)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_reach_equals_the_jacobian_when_directions_are_a_basis(
    cell: str, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(cell, hidden=3, layers=2, bidirectional=bidirectional, subsampling=2)
    encoder = Encoder(config, 4).double().eval()
    frames = torch.randn(13, 4, dtype=torch.float64)  # the last step holds one frame and padding
    times, lags = (2, 5), (-1, 0, 1, 2)
    result = measure(encoder, frames, times, lags, torch.eye(encoder.output_size).double(), 2)

    def encoded(inputs: Tensor) -> Tensor:
        return encoder(inputs[None], torch.tensor([len(inputs)]))[0][0]

    jacobian = torch.autograd.functional.jacobian(encoded, frames)  # (T', D, T, F)
    for row, time in enumerate(times):
        for column, lag in enumerate(lags):
            step = slice(2 * (time - lag), 2 * (time - lag) + 2)
            expected = jacobian[time, :, step].norm()
            assert result.norms[row, column] == pytest.approx(float(expected), abs=1e-12)


def test_random_directions_estimate_the_same() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(hidden=6, layers=1, bidirectional=False), 5).double()
    frames = torch.randn(12, 5, dtype=torch.float64)
    exact = measure(encoder, frames, (9,), range(6), torch.eye(6).double())
    random = torch.randn(4000, 6, dtype=torch.float64)
    random /= random.norm(dim=1, keepdim=True)
    estimate = measure(encoder, frames, (9,), range(6), random)
    np.testing.assert_allclose(estimate.norms, exact.norms, rtol=0.05)


def leaky(frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = 0.8 h_{t−1} + x_t: ∂h_t/∂x_{t−k} is 0.8 to the power of k."""
    states = [torch.zeros_like(frames[:, 0])]
    for frame in frames.unbind(1):
        states.append(0.8 * states[-1] + frame)
    return torch.stack(states[1:], dim=1), lengths


def test_a_linear_network_forgets_as_its_weight_says() -> None:
    frames = torch.randn(60, 1, dtype=torch.float64)
    result = measure(leaky, frames, (45, 50, 59), range(40), torch.ones(1, 1).double())
    np.testing.assert_allclose(result.curve(), 0.8 ** np.arange(40))
    for share in (0.1, 0.01):
        expected = 0.02 * math.log(share) / math.log(0.8)
        assert result.falls_to(share) == pytest.approx(expected)
    assert result.falls_to(1e-4) is None  # 0.8^39 is more: beyond what was measured


def test_reach_ahead_is_that_of_the_other_side() -> None:
    def ahead(frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return leaky(frames.flip(1), lengths)[0].flip(1), lengths

    frames = torch.randn(60, 1, dtype=torch.float64)
    result = measure(ahead, frames, (20, 30), range(-20, 21), torch.ones(1, 1).double())
    assert result.falls_to(0.1, later=True) == pytest.approx(0.02 * math.log(0.1) / math.log(0.8))
    assert result.falls_to(0.1) == pytest.approx(0.02 * 0, abs=0.02)  # nothing of the past


def test_half_lives_are_those_of_a_geometric_decay() -> None:
    keep = np.full((50, 3), [0.5, 0.9, 1.0])
    np.testing.assert_allclose(
        memory.half_lives(keep), [1.0, math.log(0.5) / math.log(0.9), np.inf]
    )
    content = np.prod(np.random.default_rng(0).uniform(0.5, 1, (8, 1)), axis=0)
    keep = np.random.default_rng(0).uniform(0.5, 1, (8, 1))
    assert 0.5 ** (8 / memory.half_lives(keep)[0]) == pytest.approx(float(content[0]))


# ── gates at boundaries ──────────────────────────────────────────────────────────────────────


def boundaries_of(rng: np.random.Generator, length: int) -> list[int]:
    return list(np.cumsum(rng.integers(4, 9, size=length // 8)))


def test_a_gate_that_closes_at_boundaries_is_found_and_no_other() -> None:
    rng = np.random.default_rng(1)
    boundaries = [boundaries_of(rng, 200) for _ in range(4)]
    noise = [rng.uniform(0.6, 0.8, size=200) for _ in boundaries]
    closing = [gate.copy() for gate in noise]
    for gate, steps in zip(closing, boundaries, strict=True):
        gate[steps] -= 0.3
    nothing = memory.at_boundaries(noise, boundaries, window=3)
    assert nothing is not None
    assert nothing.p > 0.05
    result = memory.at_boundaries(closing, boundaries, window=3)
    assert result is not None
    assert result.p == 0.001
    assert result.near < result.inside - 0.05
    assert int(np.argmin(result.profile)) == 3
    assert result.profile[3] < result.low[3]
    assert result.boundaries == sum(map(len, boundaries))


def test_means_at_boundaries_are_those_counted_by_hand() -> None:
    course = np.arange(12.0)
    result = memory.at_boundaries([course], [[1, 6, 11]], window=2, shuffles=1)
    assert result is not None
    near = [1, 2, 5, 6, 7, 10, 11]  # of the circle from step 1 to step 11
    assert result.near == pytest.approx(np.mean(near))
    assert result.inside == pytest.approx(np.mean([3, 4, 8, 9]))
    assert result.profile[2] == pytest.approx((1 + 6 + 11) / 3)
    assert memory.at_boundaries([course], [[4]], window=2) is None
    assert memory.at_boundaries([], [], window=2) is None


# ── what states tell ─────────────────────────────────────────────────────────────────────────


def test_the_cell_that_holds_a_past_class_is_found() -> None:
    rng = np.random.default_rng(2)
    previous, current = rng.choice(list("abc"), 400), rng.choice(list("xy"), 400)
    states = rng.normal(size=(400, 6))
    states[:, 1] += 3.0 * (current == "x")  # knows the present only
    states[:, 4] += 2.0 * (previous == "a")
    result = memory.recall(states, np.full(6, 0.5), list(previous), list(current))
    assert result.best == 4
    assert result.score[4] > result.chance
    assert (np.delete(result.score, 4) < result.chance).all()
    np.testing.assert_allclose(result.score, 0.5 * result.explained)


def test_a_class_that_only_goes_with_the_present_one_is_no_memory() -> None:
    rng = np.random.default_rng(3)
    current = rng.choice(list("xy"), 600)
    previous = np.where(rng.uniform(size=600) < 0.9, np.where(current == "x", "a", "b"), "c")
    states = (current == "x")[:, None] + 0.1 * rng.normal(size=(600, 1))
    result = memory.recall(states, np.ones(1), list(previous), list(current))
    assert result.score[0] < result.chance
    assert abs(result.explained[0]) < 0.02


def test_explained_variance_is_omega_squared_of_ranks() -> None:
    rng = np.random.default_rng(4)
    groups = [rng.normal(mean, 1, size) for mean, size in ((0, 30), (0.5, 25), (1, 40))]
    states = np.round(np.concatenate(groups), 2)[:, None]
    classes = ["a"] * 30 + ["b"] * 25 + ["c"] * 40
    ranks = np.split(scipy.stats.rankdata(states[:, 0]), [30, 55])
    f = scipy.stats.f_oneway(*ranks).statistic
    expected = 2 * (f - 1) / (2 * (f - 1) + len(states))
    result = memory.recall(states, np.ones(1), classes, ["x"] * 95, shuffles=5)
    assert result.explained[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="too few"):
        memory.recall(states, np.ones(1), ["a"] * 95, ["x"] * 95)


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(5)
    a, b = np.round(rng.normal(size=(2, 50, 3)), 2)
    expected = [scipy.stats.spearmanr(a[:, n], b[:, n]).statistic for n in range(3)]
    np.testing.assert_allclose(memory.rank_correlation(a, b), expected)
    assert memory.rank_correlation(a, np.ones_like(b)).tolist() == [0, 0, 0]


# ── one step in numbers ──────────────────────────────────────────────────────────────────────


def network_of(cell: str = "lstm", seed: int = 0, **encoder: object) -> Network:
    torch.manual_seed(seed)
    sizes = {"hidden": 10, "layers": 2, "subsampling": 2, "bidirectional": False} | encoder
    if cell == "projected":
        sizes["projection"] = 4
    config = RecognizerConfig(
        FeaturesConfig(bins=20, deltas=0), EncoderConfig(cell=cell, **sizes), CTCConfig()
    )
    recognizer = Recognizer(config, Vocabulary(["aa", "iy", "m", "s"])).eval()
    about = {"corpus": "tones", "experiment": "test", "epoch": 3, "dev_per": 12.34}
    return Network.of(Checkpoint(recognizer, about))


def sentence_of(utterance: Utterance, labelled: bool = True) -> Sentence:
    waveform, rate = soundfile.read(utterance.audio, dtype="float32")
    segments = segments_of(utterance) if labelled else None
    phones = utterance.phones if labelled else None
    return Sentence(utterance.id, waveform, rate, phones, segments, "the test")


def segments_of(utterance: Utterance) -> tuple[Segment, ...]:
    """Phones of equal length, which is near enough for what is tested."""
    edges = np.linspace(0, utterance.duration_s, len(utterance.phones) + 1).tolist()
    return tuple(Segment(phone, edges[n], edges[n + 1]) for n, phone in enumerate(utterance.phones))


def hear(network: Network, sentence: Sentence) -> Activations:
    (activations,) = activations_of(network, [sentence])
    return activations


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("cell", sorted(equations.PLAIN))
def test_the_worked_step_is_that_of_the_trace(cell: str, tones: list[Utterance]) -> None:
    activations = hear(network_of(cell), sentence_of(tones[0]))
    layer = activations.layers[1]
    step = equations.telling_step(layer, 3)
    result = equations.example(activations, layer, 3, step)
    assert result is not None
    for one in result.sums:
        squeeze = math.tanh if one.symbol in ("g", "h_t") else sigmoid
        assert squeeze(one.below + one.before + one.own) == pytest.approx(one.value, abs=1e-5)
        assert (one.own != 0) == (cell == "peephole" and one.symbol != "g")
    assert result.before == layer.state[step - 1, 3]
    assert result.after == layer.state[step, 3]
    if layer.cell is not None:
        forget = result["f"] if cell != "lstm1997" else 1.0
        expected = forget * result.before + result["i"] * result["g"]
        assert result.after == pytest.approx(expected, abs=1e-5)
    if cell == "gru":
        expected = (1 - result["z"]) * result["g"] + result["z"] * result.before
        assert result.after == pytest.approx(expected, abs=1e-5)
    if result.output is not None and layer.cell is not None:
        assert result.output == pytest.approx(result["o"] * math.tanh(result.after), abs=1e-5)
    text = " ".join(numbers for _, numbers in equations.substituted(result))
    for value in (result.after, *(one.value for one in result.sums)):
        assert f"<b>{signed(value)}</b>" in text


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_has_its_equations(cell: str) -> None:
    result = equations.equations(cell)
    expected = {"tanh": 1, "gru": 4, "lstm1997": 5, "layernorm": 3, "ligru": 2}
    assert len(result) == expected.get(cell, 6 if "lstm" in CELLS[cell].kernel else len(result))
    for html, gloss in result:
        assert html.count("<") == html.count(">")
        assert "_" not in html
        assert gloss


def test_a_projection_replaces_the_output_of_the_lstm() -> None:
    shown, plain = (
        [re.sub("<[^>]*>", "", html) for html, _ in equations.equations(cell)]
        for cell in ("projected", "lstm")
    )
    assert shown[:-1] == plain[:-1]
    assert shown[-1] == "ht = P (o ∘ tanh(ct))"


def test_formulas_are_set_as_in_print() -> None:
    assert equations.formula("c_t = f ∘ c_{t−1}") == (
        '<var>c</var><sub>t</sub> = <var class="forget">f</var> ∘ <var>c</var><sub>t−1</sub>'
    )
    assert equations.formula("tanh(b'_g)") == "tanh(<var>b</var>′<sub>g</sub>)"


def test_numbers_are_written_for_people() -> None:
    assert [duration(s) for s in (0.0423, 0.99, 1.26, 500)] == [
        "42 ms",
        "990 ms",
        "1.3 s",
        "more than 100 s",
    ]
    assert [signed(v, 2) for v in (-0.5, 0.004, -0.004)] == ["−0.50", "0.00", "0.00"]


# ── the page ─────────────────────────────────────────────────────────────────────────────────


class Balance(HTMLParser):
    """Fails where a tag is closed that is not open."""

    VOID = ("meta", "img", "br", "audio")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def text_of(html: str) -> str:
    """What a person reads: no tags, no style, no pictures."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", body))


def well_made(html: str) -> str:
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    assert all(image["alt"] and image["src"] for image in parser.images)
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "<script" not in html
    text = text_of(html)
    wrong = re.search(r".{60}(\bnan\b|\binf\b|None|\{).{20}", text)
    assert wrong is None, wrong[0]
    assert [title for title in SECTIONS if f"</small>{title}</h2>" in html] == list(SECTIONS)
    assert len(html) < 4_000_000
    return text


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures away, which take most of the time."""
    monkeypatch.setattr(figures, "image", lambda _draw, alt: Picture("x", 1, 1, alt))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handful of tones be enough to state what a cell recalls."""
    monkeypatch.setattr(study, "FEWEST_PHONES", 8)


@pytest.mark.usefixtures("few", "sketched")
def test_the_numbers_of_the_page_are_those_of_the_network(tones: list[Utterance]) -> None:
    network, other = network_of("lstm"), Network.of(Checkpoint(network_of("tanh").recognizer))
    sentence = sentence_of(tones[0])
    more = [sentence_of(tone) for tone in tones[1:]]
    text = well_made(page(sentence, network, [other], more))
    activations = hear(network, sentence)
    assert f"{network.recognizer.parameter_count:,} weights" in text
    assert "tones, experiment test; phone error rate on its development set 12.3 %" in text
    # what was said and recognised
    assert activations.log_probs is not None
    blanks = int((activations.log_probs.argmax(axis=1) == 0).sum())
    assert f"the most probable label in {blanks} of {activations.steps} steps" in text
    assert tuple(spike.phone for spike in activations.spikes) == activations.phones
    total = scoring.score({"a": sentence.phones or ()}, {"a": activations.phones}).total
    assert f"Phone error rate of this sentence: {total.per:.1f} %, {total.sub} substituted" in text
    # half-lives and gates
    for layer in activations.layers:
        assert layer.half_lives is not None
        lives = np.sort(layer.half_lives) * network.step_s
        assert f"It goes from {duration(lives[0])} to {duration(lives[-1])}" in text
        assert f"forget {layer.gates['forget'].mean():.2f}" in text
    # reach
    for one in (network, other):
        reach = study.measure_reach(one, sentence, figures.MOST_S)
        assert f"{one.name}: {_lag(reach, 0.01)}" in text
    # what a cell remembers
    known = study.measure(network, [sentence, *more])
    assert known is not None
    for gates in known.boundaries.values():
        at = gates["forget"]
        told = f", {at.near:.2f} against {at.inside:.2f} elsewhere" in text
        assert told == (at.p < 0.05 and abs(at.near - at.inside) >= 0.01)
    assert "(p =" not in text
    assert known.recall is not None
    recall = known.recall
    if recall.score.max() > recall.chance:
        best = recall.best
        product = (
            f"{recall.explained[best]:.2f} × {recall.kept[best]:.2f} = {recall.score[best]:.3f}"
        )
        assert product in text
    else:
        assert "So no single cell of this network was found to remember" in text
    assert f"stays below {recall.chance:.3f} in 95 % of the shuffles" in text


@pytest.mark.usefixtures("few")
def test_a_cell_that_remembers_is_shown_with_its_numbers(
    tones: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, sentence = network_of("peephole", bidirectional=True), sentence_of(tones[0])
    known = study.measure(network, [sentence_of(tone) for tone in tones])
    assert known is not None
    assert known.recall is not None
    sure = memory.Recall(
        known.recall.explained, known.recall.kept, known.recall.score, -1.0, known.recall.phones
    )
    monkeypatch.setattr(memory, "recall", lambda *_: sure)
    text = well_made(page(sentence, network, [], [sentence_of(tone) for tone in tones[1:]]))
    depth, cell = known.owners[sure.best]
    assert f"cell {cell + 1} of layer {depth} forwards, of which section 5 tells" in text
    assert f"The highest is that of cell {cell + 1} of layer {depth} forwards" in text
    states, classes = known.states[:, sure.best], np.array(known.previous)
    for name in {"vowel", "fricative", "nasal"} & set(known.previous):
        assert f"After {name}s it stands" not in text or (
            f"After {name}s it stands at {signed(float(states[classes == name].mean()), 2)}" in text
        )
    assert "through which the gates see the state as well" in text
    assert "This direction reads from the end of the sentence" in text
    assert "Left of zero are inputs that come later" in text


@pytest.mark.parametrize("cell", ["tanh", "gru", "layernorm"])
def test_other_cells_get_a_page_that_makes_sense(cell: str, tones: list[Utterance]) -> None:
    network = network_of(cell, layers=1)
    text = well_made(page(sentence_of(tones[0]), network, [], [sentence_of(tones[1])]))
    assert ("has no gates" in text) == (cell == "tanh")
    assert ("A worked step is left out" in text) == (cell == "layernorm")
    assert ("At the boundaries of phones" in text) == (cell != "tanh")
    assert "Left out: what a cell remembers is measured on 100 labelled phones or more" in text


def test_without_labels_nothing_is_said_of_boundaries(tones: list[Utterance]) -> None:
    text = well_made(page(sentence_of(tones[0], labelled=False), network_of(layers=1)))
    assert "No labels with times are known of this recording" in text
    assert "What the gates do at the boundaries of phones is left out" in text
    assert "Phone error rate of this sentence" not in text
    assert "Recognised:" in text


def test_the_page_is_the_same_twice(tones: list[Utterance]) -> None:
    network, sentence = network_of("tanh", layers=1), sentence_of(tones[0])
    assert page(sentence, network) == page(sentence, network)


@pytest.mark.usefixtures("sketched")
def test_names_are_no_html(tones: list[Utterance]) -> None:
    plain, known = sentence_of(tones[0]), network_of("tanh", layers=1)
    recognizer = Recognizer(known.recognizer.config, Vocabulary(["<a>&", "b"])).eval()
    network = replace(known, recognizer=recognizer)
    segments = tuple(segment._replace(phone="<a>&") for segment in plain.segments or ())
    phones = tuple(segment.phone for segment in segments)
    sentence = replace(
        plain, name="<a>&1", phones=phones, segments=segments, labels_from="<a>&.phn", words="<a>"
    )
    html = page(sentence, network, [replace(network, name="<a>&2")])
    assert "<a>" not in html
    for name in ("&lt;a&gt;&amp;1", "&lt;a&gt;&amp;.phn", "&lt;a&gt;&amp;2", "“&lt;a&gt;”"):
        assert name in html
    assert '<span class="phones">&lt;a&gt;&amp;</span>' in html


@pytest.mark.usefixtures("sketched")
def test_long_speech_is_shown_in_part(tones: list[Utterance]) -> None:
    waveform = np.tile(sentence_of(tones[0]).waveform, 20)[: 8 * 16_000]
    text = well_made(page(Sentence("long", waveform, 16_000), network_of("tanh", layers=1)))
    assert "The pictures show the first 6.0 s of 8.0 s" in text


@pytest.mark.usefixtures("sketched")
def test_features_normalised_by_speaker_are(tones: list[Utterance]) -> None:
    features = FeaturesConfig(bins=20, deltas=0, normalization="speaker")
    config = RecognizerConfig(features, EncoderConfig(hidden=6, layers=1), CTCConfig())
    recognizer = Recognizer(config, Vocabulary(["aa", "iy", "m", "s"])).eval()
    well_made(page(sentence_of(tones[0]), Network.of(Checkpoint(recognizer))))


# ── the command ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tones: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: two recordings with labels, a manifest, a trained network."""
    monkeypatch.chdir(tmp_path)
    for utterance in tones[:2]:
        shutil.copy(utterance.audio, f"{utterance.id}.wav")
        lines = [
            f"{round(s.start_s * 16_000)} {round(s.end_s * 16_000)} {s.phone}\n"
            for s in segments_of(utterance)
        ]
        Path(f"{utterance.id}.phn").write_text("".join(lines))
    save("network.safetensors", "lstm")
    write_jsonl("test.jsonl", tones)
    return tmp_path


def save(path: str, cell: str) -> None:
    result = network_of(cell, hidden=6, layers=1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(path, Checkpoint(result.recognizer, result.about))


@pytest.mark.usefixtures("folder", "sketched")
def test_labels_are_taken_from_beside_the_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["tone0.wav", "--checkpoint", "network.safetensors"]) == 0
    assert capsys.readouterr().out == "explain.html\n"
    assert "as labelled in tone0.phn" in well_made(Path("explain.html").read_text())
    Path("tone0.phn").unlink()
    explain.run("tone0.wav", "network.safetensors", output="plain.html")
    assert "No labels with times are known" in well_made(Path("plain.html").read_text())


@pytest.mark.usefixtures("folder", "sketched")
def test_a_distorted_recording_is_explained_with_a_warning() -> None:
    waveform, rate = soundfile.read("tone0.wav")
    soundfile.write("tone0.wav", (20 * waveform).clip(-1, 1), rate)
    explain.run("tone0.wav", "network.safetensors")
    assert "tone0.wav: clipped, " in well_made(Path("explain.html").read_text())


@pytest.mark.usefixtures("folder", "sketched")
def test_an_utterance_of_a_manifest_needs_no_file(tones: list[Utterance]) -> None:
    explain.run(None, "network.safetensors", manifest="test.jsonl", utterance="tone3")
    assert "tone3" in text_of(Path("explain.html").read_text())
    explain.run(None, "network.safetensors", manifest="test.jsonl", overwrite=True)
    middle = sorted(tones, key=lambda one: one.duration_s)[4].id
    assert middle in text_of(Path("explain.html").read_text())
    explain.run(tones[5].audio, "network.safetensors", manifest="test.jsonl", overwrite=True)
    text = text_of(Path("explain.html").read_text())
    assert "tone5" in text
    assert "Phone error rate of this sentence" in text


@pytest.mark.usefixtures("folder", "sketched")
def test_without_a_checkpoint_the_newest_run_of_make_explain_is_taken() -> None:
    with pytest.raises(DataError, match=r"exp/explain/lstm: .*--checkpoint .*`make explain`"):
        explain.run("tone0.wav")
    for number, (seed, cell) in enumerate([("1", "gru"), ("1", "lstm"), ("2", "lstm")]):
        path = f"exp/explain/{cell}/{seed}/checkpoint-best.safetensors"
        save(path, cell)
        os.utime(path, (1000 - number, 1000 - number))
    explain.run("tone0.wav")
    text = text_of(Path("explain.html").read_text())
    assert "GRU" in text
    assert "tanh RNN" not in text
    save("exp/explain+encoder.hidden-9/lstm/7/checkpoint-best.safetensors", "layernorm")
    explain.run("tone0.wav", overwrite=True)
    assert "layer-normalised LSTM" in text_of(Path("explain.html").read_text())


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize(("named", "scored"), [({}, True), ({"protocol": "no-sil"}, False)])
def test_the_protocol_is_the_checkpoints_and_a_phone_that_it_cannot_write_is_named(
    named: dict[str, str], scored: bool, tones: list[Utterance]
) -> None:
    network, sentence = network_of(layers=1), sentence_of(tones[0], labelled=False)
    network.about.update(named)
    text = well_made(page(replace(sentence, phones=("h#", "aa", "iy")), network))
    assert f"under the protocol {named.get('protocol', 'strict')} (" in text
    assert ("The network has no label for sil, which counts" in text) == scored


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        ("", "absent.wav", "absent.wav: no such file"),
        ("silence", "tone0.wav", "tone0.wav: silent, all 16000 samples are 0"),
        ("short", "tone0.wav", "tone0: 80 ms are 3 steps of LSTM, expected at least 12"),
        ("shorter", "tone0.wav", "tone0.wav: 200 samples, expected at least one window of 400"),
        ("long", "tone0.wav", "tone0.wav: 61 s, expected at most 60 s"),
        ("labels", "tone0.wav", "tone0.phn:1: label ends at 99999"),
        ("phone", "tone0.wav", "tone0.phn:1: phone 'aaa' is not in"),
        ("twice", "tone0.wav", "tone0.wav: ambiguous, keep one of"),
        ("", "tone0.wav --checkpoint none.safetensors", "none.safetensors: no such checkpoint"),
        ("", "tone0.wav --checkpoint tone0.wav", "tone0.wav: damaged, or not a checkpoint"),
        ("damage", "tone0.wav", "network.safetensors: damaged"),
        ("", "tone0.wav --compare x=none.safetensors", "none.safetensors: no such checkpoint"),
        ("", "tone0.wav --manifest none.jsonl", "none.jsonl: cannot be read, or does not exist"),
        ("", "--manifest test.jsonl --utterance no", "no utterance 'no'; one is 'tone0'"),
        ("", "tone0.wav --utterance tone0", "expected one of them"),
        ("", "", "no recording: give a FILE"),
        (
            "",
            "tone0.wav --output tone1.phn/page.html",
            "tone1.phn: is a file, expected a folder to write into",
        ),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    spoil: str, arguments: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    waveforms = {
        "rate": (rng.normal(size=8000) / 9, 8000),
        "silence": (np.zeros(16_000), 16_000),
        "short": (rng.normal(size=1280) / 9, 16_000),
        "shorter": (rng.normal(size=200) / 9, 16_000),
        "long": (rng.normal(size=61 * 16_000) / 9, 16_000),
    }
    if spoil in waveforms:
        Path("tone0.phn").unlink()
        soundfile.write("tone0.wav", *waveforms[spoil])
    if spoil == "labels":
        Path("tone0.phn").write_text("0 99999 aa\n")
    if spoil == "phone":
        Path("tone0.phn").write_text("0 1600 aaa\n")
    if spoil == "twice":
        shutil.copy("tone0.phn", "tone0.lab")
    if spoil == "damage":
        data = bytearray(Path("network.safetensors").read_bytes())
        data[-5] ^= 1
        Path("network.safetensors").write_bytes(data)
    before = sorted(folder.iterdir())
    given = arguments.split()
    if "--checkpoint" not in given:
        given += ["--checkpoint", "network.safetensors"]
    assert explain.main(given) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(folder.iterdir()) == before


def test_make_explain_trains_three_networks_and_opens_one(tmp_path: Path) -> None:
    printed = commands_of(tmp_path, "explain/Makefile", "SEEDS=3", "UTTERANCE=x_1")
    for cell in ("lstm", "gru", "tanh"):
        options = f"experiment=explain/{cell} seed=3 run_dir='exp/explain/{cell}/3'"
        assert f"-m asr prepare {options}" in printed
        assert f"-m asr train {options}" in printed
    page = printed.partition("-m asr explain ")[2]
    assert page.startswith("--utterance 'x_1'")
    assert "--checkpoint 'exp/explain/lstm/3/checkpoint-best.safetensors'" in page
    assert "'tanh RNN'='exp/explain/tanh/3/checkpoint-best.safetensors'" in page
    assert "--output 'exp/explain/x_1-3.html'" in page


def test_a_real_sentence(shared: Path, tmp_path: Path) -> None:
    recording = shared / "corpora" / "timit-sample" / "dr1-fvmh0" / "sx206.wav"
    network = network_of("lstm", hidden=16)
    checkpoint.save(tmp_path / "network.safetensors", Checkpoint(network.recognizer))
    explain.run(recording, tmp_path / "network.safetensors", output=tmp_path / "page.html")
    assert "as labelled in sx206.phn" in well_made((tmp_path / "page.html").read_text())
