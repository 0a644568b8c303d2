"""Laws of forced alignment: the best of all alignments, boundaries where speech changes."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import asr
from asr import alignment, audio, checkpoint, labels, scoring
from asr.aligner import Aligner
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.batch import Batch
from asr.by_torch import TorchNetwork
from asr.checkpoint import Checkpoint
from asr.commands import align
from asr.corpora.lexicon import Said
from asr.criteria import CTC, Criterion, CTCConfig, Span, Transducer, TransducerConfig
from asr.edges import change, stretches
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.labels import textgrid
from asr.network import Network
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Segment, Utterance, read_jsonl, write_jsonl
from asr.search.decoders import ALIGNMENT_PENALTY, CTCDecoder

VOCABULARY = Vocabulary(["aa", "iy", "m", "s"])
RATE = 16_000
OFF_S = 0.0125  # half a window of the aligner and a hop


def criterion_of(name: str, seed: int, size: int = 4) -> Criterion:
    """A random one over frames of width 5, with clear preferences."""
    torch.manual_seed(seed)
    criterion: Criterion
    if name == "ctc":
        criterion = CTC(CTCConfig(), 5, size)
        with torch.no_grad():
            criterion.head.weight *= 8
    else:
        criterion = Transducer(TransducerConfig(hidden=6, joint=7, lattice=64), 5, size)
        with torch.no_grad():
            criterion.joint.output.weight *= 3
    return criterion.eval()


def align_one(criterion: Criterion, encoded: Tensor, target: tuple[int, ...]) -> list[Span]:
    (spans,) = criterion.align(
        encoded.unsqueeze(0),
        torch.tensor([len(encoded)]),
        torch.tensor([target], dtype=torch.long),
        torch.tensor([len(target)]),
    )
    return spans


# ── the best alignment ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [(), (1,), (2, 2), (1, 3, 1), (3, 3, 2)])
@pytest.mark.parametrize("frames", [5, 6])
def test_ctc_finds_the_best_of_all_alignments(target: tuple[int, ...], frames: int) -> None:
    for seed in range(4):
        criterion = criterion_of("ctc", seed)
        encoded = torch.randn(frames, 5)
        log_probs = criterion.emissions(encoded.unsqueeze(0))[0].detach()
        scores: dict[tuple[int, ...], float] = {}
        for one in itertools.product(range(4), repeat=frames):
            if tuple(label for label, _ in itertools.groupby(one) if label) == target:
                along = sum(float(log_probs[t, label]) for t, label in enumerate(one))
                scores[one] = along - ALIGNMENT_PENALTY * one.count(0)
        best = max(scores, key=scores.__getitem__)
        expected, t = [], 0
        for label, run in itertools.groupby(best):
            size = len(list(run))
            if label:
                sure = log_probs[t : t + size, label].exp().mean()
                expected.append(Span(t, t + size, pytest.approx(float(sure))))
            t += size
        assert align_one(criterion, encoded, target) == expected


@pytest.mark.parametrize("target", [(), (1,), (2, 2), (1, 3, 1)])
@pytest.mark.parametrize("frames", [3, 5])
def test_the_transducer_finds_the_best_of_all_alignments(
    target: tuple[int, ...], frames: int
) -> None:
    """Of those with one label in a frame at most; probabilities from prefixes taken one by one."""
    for seed in range(4):
        criterion = criterion_of("transducer", seed)
        assert isinstance(criterion, Transducer)
        encoded = torch.randn(frames, 5)
        states = [criterion.prediction.start(1)]
        for label in target:
            states.append(criterion.prediction.step(torch.tensor([label]), states[-1]))
        prefixes = criterion.joint.of_prefixes(torch.cat([state.hidden for state in states]))
        nodes = criterion.joint(
            criterion.joint.of_frames(encoded).unsqueeze(1), prefixes.unsqueeze(0)
        )
        log_probs = nodes.log_softmax(2).detach()
        scores: dict[tuple[int, ...], float] = {}
        for at in itertools.combinations(range(frames), len(target)):
            u, total = 0, 0.0
            for t in range(frames):
                if t in at:
                    total += float(log_probs[t, u, target[u]])
                    u += 1
                total += float(log_probs[t, u, 0])
            scores[at] = total
        best = max(scores, key=scores.__getitem__)
        result = align_one(criterion, encoded, target)
        assert [(span.start, span.end) for span in result] == [(t, t + 1) for t in best]
        for u, span in enumerate(result):
            sure = float(log_probs[span.start, u, target[u]].exp())
            assert span.confidence == pytest.approx(sure, abs=1e-5)


@pytest.mark.parametrize("name", ["ctc", "transducer"])
def test_spans_follow_each_other_whatever_stands_beside_them(name: str) -> None:
    draw = np.random.default_rng(1)
    criterion = criterion_of(name, 1)
    lengths = torch.tensor([30, 9, 17, 41])
    encoded = 3 * torch.randn(4, 45, 5)  # padding is not zero
    counts = torch.tensor([12, 4, 0, 20])
    targets = torch.from_numpy(draw.integers(1, 4, (4, 22)))
    result = criterion.align(encoded, lengths, targets, counts)
    for n, spans in enumerate(result):
        assert len(spans) == counts[n]
        edges = [edge for span in spans for edge in (span.start, span.end)]
        assert edges == sorted(edges)
        assert all(0 <= span.start < span.end <= lengths[n] for span in spans)
        assert all(0 <= span.confidence <= 1 for span in spans)
        target = tuple(targets[n, : counts[n]].tolist())
        alone = align_one(criterion, encoded[n, : lengths[n]], target)
        assert [(s.start, s.end) for s in alone] == [(s.start, s.end) for s in spans]
        assert [s.confidence for s in alone] == pytest.approx(
            [s.confidence for s in spans], abs=1e-5
        )


@pytest.mark.parametrize(("name", "needed"), [("ctc", 4), ("transducer", 3)])
def test_too_few_frames_are_refused(name: str, needed: int) -> None:
    """CTC needs a blank between equal labels."""
    criterion = criterion_of(name, 1)
    assert len(align_one(criterion, torch.randn(needed, 5), (1, 1, 2))) == 3
    with pytest.raises(DataError, match=f"utterance 0 .* {needed} frames, has {needed - 1}"):
        align_one(criterion, torch.randn(needed - 1, 5), (1, 1, 2))


# ── boundaries ───────────────────────────────────────────────────────────────────────────────


def test_a_boundary_is_where_two_means_leave_the_least_distance() -> None:
    draw = np.random.default_rng(2)
    for _ in range(30):
        speech = draw.standard_normal((20, 3))
        a, b, c, d = sorted(draw.choice(21, 4, replace=False).tolist())
        sums = np.concatenate([np.zeros((1, 3)), np.cumsum(speech, axis=0)])

        def distance(cut: int) -> float:
            parts = (speech[a:cut], speech[cut:d])  # noqa: B023
            return sum(float(((part - part.mean(axis=0)) ** 2).sum()) for part in parts)

        cut = change(sums, (a, b), (c, d))
        assert b <= cut <= c
        assert distance(cut) == pytest.approx(min(map(distance, range(b, c + 1))))


def test_phones_hold_their_cores_and_without_pauses_all_of_the_time() -> None:
    draw = np.random.default_rng(3)
    for pause_frames in (None, 3):
        for _ in range(50):
            edges = sorted(draw.choice(61, 10, replace=False).tolist())
            cores = list(zip(edges[::2], edges[1::2], strict=True))
            result = stretches(draw.standard_normal((60, 2)), cores, pause_frames)
            assert len(result) == len(cores)
            for (begin, end), core in zip(result, cores, strict=True):
                assert begin <= core[0] < core[1] <= end
            flat = [edge for stretch in result for edge in stretch]
            assert flat == sorted(flat)
            if pause_frames is None:
                assert flat[0] == 0
                assert flat[-1] == 60
                assert flat[1:-1:2] == flat[2::2]


def test_pauses_are_long_and_quiet() -> None:
    """The first two quiet stretches are pauses, the third is too short; it belongs to a phone."""
    loudness = np.repeat([-60.0, 0.0, -60.0, 5.0, -60.0, 0.0], [40, 30, 35, 20, 10, 25])
    speech = loudness[:, None] + 0.01 * np.random.default_rng(4).standard_normal((160, 4))
    cores = [(50, 52), (110, 112), (140, 150)]
    assert stretches(speech, cores, 30)[:2] == [(40, 70), (105, 125)]
    assert stretches(speech, cores, 30)[2] == (125, 160)
    assert stretches(speech, cores)[0][0] == 0


# ── the pronunciation of a word ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(3))
def test_each_word_gets_the_pronunciation_of_least_loss(seed: int) -> None:
    model = recognizer_of(["aa", "iy", "m", "s"])
    model.criterion = criterion_of("ctc", seed, 5)
    encoded = torch.randn(9, 5)
    words = [[("aa",), ("iy", "m")], [("s",)], [("m",), ("iy",), ("s", "aa")]]
    nothing = torch.zeros(1, 0)
    batch = Batch(nothing, torch.tensor([0]), nothing.long(), torch.tensor([0]), None, ("x",))

    def loss(said: list[tuple[str, ...]]) -> float:
        labels = torch.tensor([model.vocabulary.encode(p for word in said for p in word)])
        target = replace(batch, targets=labels, target_lengths=torch.tensor([labels.shape[1]]))
        return model.criterion.loss(encoded.unsqueeze(0), torch.tensor([9]), target).item()

    firsts = [variants[0] for variants in words]
    expected = [
        min(variants, key=lambda one: loss([*firsts[:n], one, *firsts[n + 1 :]]))
        for n, variants in enumerate(words)
    ]
    network = TorchNetwork(model)
    emissions = model.criterion.emissions(encoded[None])[0].detach().numpy()
    assert Aligner(network).likeliest(emissions, words) == expected


def test_a_pronunciation_that_has_no_room_is_not_chosen() -> None:
    model = recognizer_of(["aa", "iy", "m", "s"])
    model.criterion = criterion_of("ctc", 0, 5)
    words = [[("aa", "aa"), ("iy", "m", "s", "iy")]]
    emissions = torch.randn(3, 5).log_softmax(dim=1).numpy()
    assert Aligner(TorchNetwork(model)).likeliest(emissions, words) == [("aa", "aa")]


# ── the whole, on tones ──────────────────────────────────────────────────────────────────────


class Oracle(CTCDecoder):
    """Hears each phone for one frame, in its middle."""

    def __init__(self, utterances: list[Utterance], network: Network) -> None:
        self.middles = {
            tuple(network.vocabulary.encode(u.phones)): [
                (segment.start_s + segment.end_s) / 2 for segment in u.segments or ()
            ]
            for u in utterances
        }
        self.config = network.config

    def align(self, emissions: object, labels: Sequence[int]) -> list[Span]:
        first_s, step_s = self.config.time_s(0), self.config.time_s(1) - self.config.time_s(0)
        frames = [round((s - first_s) / step_s) for s in self.middles[tuple(labels)]]
        return [Span(frame, frame + 1, 0.5) for frame in frames]


def recognizer_of(phones: list[str], subsampling: int = 1, **features: object) -> Recognizer:
    torch.manual_seed(0)
    config = RecognizerConfig(
        FeaturesConfig(**{"bins": 8, "deltas": 0} | features),  # type: ignore[arg-type]
        EncoderConfig(hidden=4, layers=1, subsampling=subsampling),
        CTCConfig(),
    )
    return Recognizer(config, Vocabulary(phones)).eval()


@pytest.fixture
def timed(tmp_path: Path) -> list[Utterance]:
    """Utterances of tones one after the other, between silences, labelled to the sample."""
    draw = np.random.default_rng(5)
    frequency = {"aa": 300.0, "iy": 900.0, "s": 2700.0, "m": 600.0}
    utterances = []
    for number in range(4):
        phones = draw.permutation(list(frequency))[: 1 + number].tolist()
        pieces = [0.001 * draw.standard_normal(4000)]
        segments = [Segment("h#", 0.0, 4000 / RATE)]
        for phone in [*phones, "h#"]:
            size = int(draw.integers(1600, 4000)) if phone != "h#" else 4000
            wave = 0.3 * np.sin(2 * np.pi * frequency.get(phone, 0.0) * np.arange(size) / RATE)
            pieces.append(wave + 0.001 * draw.standard_normal(size))
            start_s = segments[-1].end_s
            segments.append(Segment(phone, start_s, (round(start_s * RATE) + size) / RATE))
        waveform = np.concatenate(pieces)
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, waveform, RATE, subtype="FLOAT")
        utterances.append(
            Utterance(
                id=f"tones{number}",
                audio=str(path),
                duration_s=len(waveform) / RATE,
                speaker=f"speaker{number % 2}",
                phones=tuple(segment.phone for segment in segments),
                segments=tuple(segments),
            )
        )
    return utterances


@pytest.mark.parametrize(
    ("subsampling", "features"),
    [
        (1, {}),
        (3, {}),
        (1, {"snip_edges": False}),
        (2, {"family": "librosa", "energy": False}),
    ],
)
@pytest.mark.parametrize("silence", [True, False])
def test_boundaries_of_tones_are_found_to_the_grid(
    timed: list[Utterance], silence: bool, subsampling: int, features: dict[str, object]
) -> None:
    """From one frame in the middle of each, whatever the network's frames are."""
    if not silence:
        timed = [replace(u, segments=u.segments[1:-1], phones=u.phones[1:-1]) for u in timed]  # type: ignore[index]
    phones = ["aa", "iy", "m", "s"] + ["h#"] * silence
    network = TorchNetwork(recognizer_of(phones, subsampling, **features))
    network.decoder = Oracle(timed, network)
    aligner = Aligner(network)
    by_id = {utterance.id: utterance for utterance in timed}
    for id, utterance in by_id.items():
        waveform = audio.load(utterance.audio, RATE)
        emissions = network.emissions(network.frames.static(waveform))
        aligned = aligner(waveform, emissions, utterance.phones)
        expected = by_id[id].segments
        assert expected is not None
        assert [s.phone for s in aligned] == [s.phone for s in expected]
        for result, known in zip(aligned, expected, strict=True):
            assert result.start_s == pytest.approx(
                known.start_s, abs=0.0125
            )  # half a window and a hop
            assert result.end_s == pytest.approx(known.end_s, abs=OFF_S)
        if silence:
            assert aligned[0].start_s == 0
            assert aligned[-1].end_s == by_id[id].duration_s
            for left, right in itertools.pairwise(aligned):
                assert left.end_s == right.start_s


def test_a_network_that_gives_no_numbers_is_refused(timed: list[Utterance]) -> None:
    recognizer = recognizer_of(["aa", "h#", "iy", "m", "s"])
    with torch.no_grad():
        recognizer.criterion.head.bias.fill_(torch.nan)
    (one, *_), aligner = timed, Aligner(TorchNetwork(recognizer))
    waveform, said = audio.load(one.audio, RATE), [Said(p, ((p,),)) for p in one.phones]
    with pytest.raises(DataError, match="NaN"):
        alignment.transcript(aligner, one.id, iter([waveform]), said)


def test_an_edge_lies_between_the_middles_of_two_frames() -> None:
    recognizer = recognizer_of(["aa"], subsampling=3)
    for frame in range(4):
        middle = (recognizer.config.time_s(frame - 1) + recognizer.config.time_s(frame)) / 2
        assert recognizer.config.time_s(frame - 0.5) == pytest.approx(middle)


# ── files ────────────────────────────────────────────────────────────────────────────────────


SEGMENTS = (
    Segment('a"b', 0.0, 333 / RATE),
    Segment("s", 333 / RATE, 5001 / RATE),
    Segment("s", 0.5, 0.75),
)


def test_times_are_read_back_to_the_sample(tmp_path: Path) -> None:
    for name in ("one.phn", "one.TextGrid"):
        labels.write(tmp_path / name, SEGMENTS, RATE, RATE)
        read = labels.read_checked(tmp_path / name, RATE, RATE, {'a"b', "s"})
        assert read == SEGMENTS
    ((name, intervals),) = textgrid.read_tiers(tmp_path / "one.TextGrid")
    assert name == "phones"
    assert [(one.start, one.end) for one in intervals or () if not one.phone] == [
        (5001 / RATE, 0.5),
        (0.75, 1.0),
    ]


def test_praatio_reads_what_is_written(tmp_path: Path) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    labels.write(tmp_path / "one.TextGrid", SEGMENTS, RATE, RATE)
    grid = praatio.openTextgrid(str(tmp_path / "one.TextGrid"), includeEmptyIntervals=False)
    entries = grid.getTier("phones").entries
    assert [Segment(e.label.replace('""', '"'), e.start, e.end) for e in entries] == list(SEGMENTS)
    assert grid.maxTimestamp == 1.0


@pytest.fixture
def run(tmp_path: Path, timed: list[Utterance]) -> tuple[Path, Path]:
    """An untrained checkpoint and a manifest."""
    recognizer = recognizer_of(["aa", "h#", "iy", "m", "s"])
    checkpoint.save(tmp_path / "checkpoint.safetensors", Checkpoint(recognizer))
    write_jsonl(tmp_path / "in.jsonl", timed)
    return tmp_path / "checkpoint.safetensors", tmp_path / "in.jsonl"


def test_the_command_writes_the_same_times_into_all_files(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {
        "output": tmp_path / "out.jsonl",
        "textgrid": tmp_path / "grids",
        "phn": tmp_path / "phn",
        "ctm": tmp_path / "out.ctm",
    }
    named = [part for name, path in outputs.items() for part in (f"--{name}", str(path))]
    assert align.main([*map(str, run), *named, "--compare"]) == 0
    shown = capsys.readouterr().out
    assert "boundaries within 20 ms" in shown
    assert "95 % by speaker" in shown
    before, after = (read_jsonl(path, Utterance) for path in (run[1], outputs["output"]))
    assert [u.id for u in before] == [u.id for u in after]
    ctm = [line.split() for line in outputs["ctm"].read_text().splitlines()]
    for old, new in zip(before, after, strict=True):
        assert new.segments is not None
        assert new == replace(old, segments=new.segments)
        assert tuple(segment.phone for segment in new.segments) == old.phones
        path = outputs["phn"] / f"{new.id}.phn"
        samples = audio.info(old.audio).samples
        assert labels.read_checked(path, samples, RATE, new.phones) == new.segments
        assert labels.read(outputs["textgrid"] / f"{new.id}.TextGrid") == new.segments
        rows = [row for row in ctm if row[0] == new.id]
        assert [row[4] for row in rows] == list(new.phones)
        assert [float(row[2]) for row in rows] == pytest.approx(
            [segment.start_s for segment in new.segments], abs=1e-6
        )


def test_the_command_chooses_pronunciations_and_says_so(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        replace(u, words="Aah " * u.phones.count("aa") + "Ess", phones=("aa", "s"), segments=None)
        for u in read_jsonl(run[1], Utterance)
    ]
    write_jsonl(tmp_path / "words.jsonl", words)
    model = recognizer_of(["aa", "iy", "m", "s"])
    checkpoint.save(tmp_path / "words.safetensors", Checkpoint(model))
    (tmp_path / "lexicon.txt").write_text("aah aa\naah(2) iy m\ness s\ness(2) m\n")
    asked = [
        *(str(tmp_path / "words.safetensors"), str(tmp_path / "words.jsonl")),
        *("--lexicon", str(tmp_path / "lexicon.txt"), "--output", str(tmp_path / "out.jsonl")),
    ]
    assert align.main(asked) == 0
    known = {"Aah": {("aa",), ("iy", "m")}, "Ess": {("s",), ("m",)}}
    for utterance in read_jsonl(tmp_path / "out.jsonl", Utterance):
        said = [known[word] for word in (utterance.words or "").split()]
        possible = {sum(chosen, ()) for chosen in itertools.product(*said)}
        assert utterance.phones in possible
        assert utterance.pronunciation == "aligned"
    (tmp_path / "lexicon.txt").write_text("aah aa\naah(2) zh\n")
    assert align.main([*asked, "--overwrite", "--g2p", "none"]) == 1
    shown = capsys.readouterr().err
    assert "'Ess' is not in the lexicon" in shown
    (tmp_path / "lexicon.txt").write_text("aah aa\naah(2) zh\ness s\n")
    assert align.main([*asked, "--overwrite"]) == 1
    shown = capsys.readouterr().err
    assert "'aah' in the lexicon: phone 'zh' is not in the vocabulary of the checkpoint" in shown


def test_nothing_is_written_where_alignment_fails(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DataError("in the middle")

    monkeypatch.setattr(Aligner, "__call__", fail)
    out = tmp_path / "out"
    assert align.main([*map(str, run), "--output", f"{out}/a.jsonl", "--phn", f"{out}/phn"]) == 1
    assert not out.exists()


def test_an_error_of_many_utterances_is_said_a_few_times_and_counted(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = replace(read_jsonl(run[1], Utterance)[0], segments=None)
    bad = [replace(good, id=f"foreign{n}", phones=("aa", "zz")) for n in range(40)]
    write_jsonl(tmp_path / "bad.jsonl", [good, *bad])
    assert align.main([str(run[0]), str(tmp_path / "bad.jsonl"), "--ctm", str(tmp_path / "x")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert [line.split(":")[1] for line in lines[:3]] == [" foreign0", " foreign1", " foreign2"]
    assert len(lines) == 4
    assert "37 times more: foreign3, " in lines[3]


def test_what_cannot_be_aligned_gets_one_line_each_and_the_others_are_done(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = replace(read_jsonl(run[1], Utterance)[0], segments=None)
    soundfile.write(tmp_path / "slow.wav", np.zeros(4000), 8000)
    bad = [
        replace(good, id="foreign", phones=("aa", "zz")),
        replace(good, id="slow", audio=str(tmp_path / "slow.wav")),
        replace(good, id="long", phones=("aa", "aa") * 200),
        replace(good, id="empty", phones=()),
        replace(good, id="absent", audio=str(tmp_path / "absent.wav")),
    ]
    write_jsonl(tmp_path / "bad.jsonl", [good, *bad])
    assert align.main([str(run[0]), str(tmp_path / "bad.jsonl"), "--ctm", str(tmp_path / "x")]) == 1
    shown = capsys.readouterr().err
    assert sum(line.startswith("error: ") for line in shown.splitlines()) == 5
    assert "5 of 6 utterances not aligned" in shown
    for sentence in (
        "foreign: phone 'zz' is not in the vocabulary of the checkpoint",
        "slow: ",
        "8000 Hz",
        "long: ",
        "400 phones need 799",
        "empty: no phones",
        "absent: ",
    ):
        assert sentence in shown
    assert {line.split()[0] for line in (tmp_path / "x").read_text().splitlines()} == {good.id}
    write_jsonl(tmp_path / "bad.jsonl", bad)
    assert align.main([str(run[0]), str(tmp_path / "bad.jsonl"), "--ctm", str(tmp_path / "y")]) == 1
    assert not (tmp_path / "y").exists()


def test_a_transcript_of_another_recording_is_named(
    tones: list[Utterance], tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each recording with its own transcript, and with the next one's."""
    swapped = [
        replace(one, id=f"not-{one.id}", phones=other.phones)
        for one, other in zip(tones, [*tones[1:], tones[0]], strict=True)
        if one.phones != other.phones
    ]
    write_jsonl(tmp_path / "in.jsonl", [*tones, *swapped])
    arguments = [str(tone_model), str(tmp_path / "in.jsonl"), "--overwrite", "--ctm"]
    assert align.main([*arguments, str(tmp_path / "x")]) == 0
    shown = capsys.readouterr().err
    named = {line.split()[1] for line in shown.splitlines() if line.startswith("warning: ")}
    assert named == {f"{one.id}:" for one in swapped}
    assert f"{len(swapped)} of {len(tones) + len(swapped)} utterances seem" in shown
    assert align.main([*arguments, str(tmp_path / "x"), "--strict"]) == 1
    with pytest.warns(UserWarning, match="is this the transcript"):
        asr.align(swapped[0].audio, swapped[0].phones, checkpoint=tone_model)


@pytest.mark.parametrize(
    ("change_of", "arguments", "message"),
    [
        ({"id": "a/b"}, ["--phn", "phn"], "'a/b': cannot be the name of a file"),
        ({}, ["--output", "in.jsonl"], "is one of the inputs"),
        ({}, ["--ctm", "."], "is a folder"),
        ({}, ["--textgrid", "in.jsonl"], "is a file, expected a folder"),
    ],
)
def test_what_cannot_be_written_or_compared_is_refused_first(
    run: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change_of: dict[str, object],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = read_jsonl(run[1], Utterance)
    write_jsonl("in.jsonl", [replace(first, **change_of), *others])  # type: ignore[arg-type]
    monkeypatch.setattr(checkpoint, "load", None)
    assert align.main([str(run[0]), "in.jsonl", *arguments]) == 1
    assert message in capsys.readouterr().err


# ── the measure ──────────────────────────────────────────────────────────────────────────────


def shifted(segments: tuple[Segment, ...], by_s: float) -> tuple[Segment, ...]:
    """All inner boundaries later, the outer edges as they are."""
    edges = [segments[0].start_s, *(s.end_s + by_s for s in segments[:-1]), segments[-1].end_s]
    return tuple(
        Segment(segment.phone, start_s, end_s)
        for segment, (start_s, end_s) in zip(segments, itertools.pairwise(edges), strict=True)
    )


HAND_MADE = tuple(
    Segment(phone, n / 10, (n + 1) / 10) for n, phone in enumerate(["h#", "q", "ix", "ih"])
)


def timing_of(found: tuple[Segment, ...], speaker: str = "one") -> scoring.Timing:
    return scoring.compare_times([scoring.TimedPair("id", speaker, HAND_MADE, found)])


@pytest.mark.parametrize(
    ("by_s", "shares"), [(0.0, [100] * 4), (0.025, [0, 0, 100, 100]), (-0.02, [0, 100, 100, 100])]
)
def test_a_shift_moves_all_boundaries_out_of_a_tolerance(by_s: float, shares: list[float]) -> None:
    timing = timing_of(shifted(HAND_MADE, by_s))
    assert timing.errors_s == pytest.approx([by_s] * 3)
    names = [f"boundaries within {ms} ms" for ms in (10, 20, 30, 50)]
    assert [timing.percent(name) for name in names] == shares


def test_frames_are_counted_at_their_middles_and_q_folds_to_nothing() -> None:
    """Shifted by 20 ms, 2 of each 10 frames are wrong but of the first phone; ix is ih."""
    timing = timing_of(shifted(HAND_MADE, 0.02))
    assert timing.percent("frames of 10 ms, labels as they are") == 100 * 34 / 40
    assert timing.percent("frames of 10 ms, 39 labels") == pytest.approx(100 * 28 / 30)


def test_a_gap_has_two_boundaries() -> None:
    result = list(HAND_MADE)
    result[1] = Segment("q", 0.1, 0.19)
    assert timing_of(tuple(result)).errors_s == pytest.approx([0, -0.01, 0, 0], abs=1e-9)


def test_a_timing_has_intervals_by_speaker_where_there_are_two() -> None:
    assert timing_of(HAND_MADE).intervals == {}
    pairs = [
        scoring.TimedPair(speaker, speaker, HAND_MADE, shifted(HAND_MADE, by_s))
        for speaker, by_s in (("a", 0.0), ("b", 0.1 / 4))
    ]
    timing = scoring.compare_times(pairs)
    interval = timing.intervals["boundaries within 20 ms"]
    assert (interval.low, interval.high) == (0, 100)
    assert "6 boundaries in 2 utterances of 2 speakers" in timing.text()
    assert math.isclose(timing.percent("boundaries within 20 ms"), 50)


def test_utterances_without_times_are_counted() -> None:
    labels = {"a": (), "b": HAND_MADE}
    pairs = [scoring.TimedPair(id, "one", own, HAND_MADE) for id, own in labels.items()]
    timing = scoring.compare_times(pairs)
    assert (timing.utterances, timing.untimed, len(timing.errors_s)) == (1, 1, 3)
    with pytest.raises(DataError, match="no boundary to compare"):
        scoring.compare_times(pairs[:1])
