"""Laws of texts aligned with recordings: words and phones where they are, nothing where not."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TONES_HZ, tones_of

from asr.aligner import Aligner
from asr.architecture import EncoderConfig, RecognizerConfig
from asr.audio import Waveform
from asr.batch import Batch
from asr.by_torch import TorchNetwork
from asr.corpora.lexicon import Said
from asr.criteria import GMM, CriterionConfig, CTCConfig, GMMConfig
from asr.edges import EARLIER, LATER, LEAST, VOICE_FILTERS, refined
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.phones import Vocabulary
from asr.recognizer import Recognizer
from asr.records import Transcript

RATE = 16_000
TONE_S = 0.15
MOM, SEE, ME = (
    Said("mom", (("m", "aa", "m"),)),
    Said("see", (("s", "aa"), ("s", "iy"))),
    Said("me", (("m", "iy"), ("m", "aa", "iy"))),
)


def recognizer_of(criterion: CriterionConfig, **features: object) -> Recognizer:
    config = FeaturesConfig(
        **{"family": "librosa", "bins": 20, "deltas": 0, "energy": False, "log_floor": 0.1}
        | features  # type: ignore[arg-type]
    )
    encoder = EncoderConfig(layers=0)
    return Recognizer(RecognizerConfig(config, encoder, criterion), Vocabulary(sorted(TONES_HZ)))


def sound(*phones: str) -> Waveform:
    """A tone for each phone, silence for "-"."""
    tones = (tones_of([phone.replace("-", "aa")]) * (phone != "-") for phone in phones)
    return np.concatenate(list(tones))


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    """By densities whose means are those of the tones and of silence."""
    recognizer = recognizer_of(
        GMMConfig(states=1, duration_floor=4, mixtures=1), normalization="none"
    ).eval()
    criterion = recognizer.criterion
    assert isinstance(criterion, GMM)
    for column, phone in enumerate(["-", *sorted(TONES_HZ)]):
        batch = Batch.of([torch.from_numpy(sound(phone))], [""])
        criterion.means[column] = recognizer.features(batch)[0][0].mean(dim=0)
    criterion.variances.fill_(0.1)
    return Aligner(TorchNetwork(recognizer))


def checked(transcript: Transcript, duration_s: float) -> Transcript:
    edges = [0.0, *(s for one in transcript.phones for s in one[1:3]), transcript.duration_s]
    assert edges == sorted(edges)
    assert transcript.duration_s == pytest.approx(duration_s)
    rest = list(transcript.phones)
    for word, start_s, end_s, confidence, phones in transcript.words or ():
        own, rest = rest[: len(phones)], rest[len(phones) :]
        assert word
        assert [one.phone for one in own] == list(phones)
        assert (own[0].start_s, own[-1].end_s) == (start_s, end_s)
        assert all(left.end_s == right.start_s for left, right in pairwise(own))
        assert confidence == pytest.approx(np.mean([one.confidence or 0 for one in own]), abs=1e-3)
    assert not rest
    return transcript


def test_words_are_where_they_are_said(aligner: Aligner) -> None:
    spoken = ["-", "-", "s", "iy", "m", "aa", "m", "-", "m", "aa", "iy", "-"]
    said = [SEE, MOM, ME]
    waveform = sound(*spoken)
    whole = checked(aligner.transcript("a", [waveform], said), len(waveform) / RATE)
    words = whole.words or ()
    assert [one.word for one in words] == ["see", "mom", "me"]
    assert [one.phones for one in words] == [("s", "iy"), ("m", "aa", "m"), ("m", "aa", "iy")]
    starts = [n * TONE_S for n, phone in enumerate(spoken) if phone != "-"]
    for phone, start_s in zip(whole.phones, starts, strict=True):
        assert phone.start_s == pytest.approx(start_s, abs=0.04)  # tones rise and fall
        assert phone.end_s == pytest.approx(start_s + TONE_S, abs=0.04)
        assert 0.5 < (phone.confidence or 0) <= 1
    blocks = np.array_split(waveform, 7)
    assert aligner.transcript("a", iter(blocks), said) == whole


def test_a_long_recording_is_aligned_piece_by_piece(aligner: Aligner) -> None:
    """Words that nobody says and sound that is no word are left out and named."""
    said: list[Said] = []
    spoken: list[str] = []
    expected = []
    for n, word in enumerate([SEE, ME, MOM, ME, SEE, MOM] * 25):
        said.append(word._replace(word=f"{word.word}{n}"))
        if 60 <= n < 74:
            continue
        if n == 100:
            spoken += ["aa", "iy"] * 15
            foreign_s = (len(spoken) - 30) * TONE_S, len(spoken) * TONE_S
        expected.append((f"{word.word}{n}", len(spoken) * TONE_S))
        spoken += word.pronunciations[-1]
        spoken += ["-"] * (n % 3 == 0)
    named: list[str] = []
    blocks = np.array_split(sound(*spoken), 50)
    long = aligner.transcript("long", iter(blocks), said, named.append)
    words = checked(long, len(spoken) * TONE_S).words or ()
    assert [one.word for one in words] == [word for word, _ in expected]
    assert [one.start_s for one in words] == pytest.approx([at for _, at in expected], abs=0.05)
    assert len(named) == 2
    assert f"{said[60].word} … {said[73].word}" in named[1]
    first, last = (float(number) for number in named[0].split() if "." in number)
    assert (first, last) == pytest.approx(foreign_s, abs=0.08)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([], "no words"),
        ([Said("x", ((),))], "without phones"),
        ([Said("x", (("zz",),))], "'zz'"),
        ([MOM] * 30, "need 360"),
    ],
)
def test_what_cannot_be_aligned(aligner: Aligner, said: Sequence[Said], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        aligner.transcript("b", [sound("m", "aa")], said)


def test_other_criteria_are_refused() -> None:
    with pytest.raises(DataError, match="ctc"):
        Aligner(TorchNetwork(recognizer_of(CTCConfig()).eval())).transcript(
            "b", [sound("m", "aa")], [ME]
        )


def test_moved_edges_are_where_the_speech_changes() -> None:
    draw = np.random.default_rng(0)
    for reach in (4, 2, 1):
        true = np.cumsum([0, *draw.integers(12, 20, 30)])
        speech = np.repeat(draw.normal(size=(30, 5)), np.diff(true), axis=0)
        speech += 0.01 * draw.normal(size=speech.shape)
        moved = [0, *(true[1:-1] + draw.integers(-reach // 2, reach // 2 + 1, 29)), true[-1]]
        assert refined(speech, moved, ["nasal"] * 30, reach) == true.tolist()
        edges = np.cumsum([0, *draw.integers(1, 9, 40)]).tolist()
        other = refined(draw.normal(size=(edges[-1], 5)), edges, ["nasal"] * 40, reach)
        assert (other[0], other[-1]) == (edges[0], edges[-1])
        assert max(abs(a - b) for a, b in zip(edges, other, strict=True)) <= reach
        for before, after in zip(np.diff(edges), np.diff(other), strict=True):
            assert after >= min(before, LEAST)


def test_a_stop_lasts_until_the_voice_behind_it_begins() -> None:
    """A release, where the network has the edge, and the lowest filters, louder from one frame."""
    draw = np.random.default_rng(0)
    for onset in range(20 - EARLIER, 20 + LATER):
        speech = draw.normal(size=(50, 23)) * 0.01
        speech[20:, 10:] += 3.0
        speech[onset:, :VOICE_FILTERS] += 5.0
        assert refined(speech, [0, 20, 50], ["stop", "vowel"])[1] == onset
        assert refined(speech, [0, 20, 50], ["fricative", "vowel"])[1] in range(18, 23)
    late = np.zeros((50, 23))
    late[29:, :VOICE_FILTERS] = 5.0
    assert refined(late, [0, 20, 30, 50], ["stop", "vowel", "nasal"])[1] == 30 - LEAST
    assert refined(np.zeros((50, 23)), [0, 20, 50], ["stop", "vowel"])[1] == 20


@pytest.mark.parametrize("kind", ["vowel", "stop", "fricative"])
def test_a_phone_beside_silence_has_its_loud_frames(kind: str) -> None:
    """The network's phone has 10 quiet frames at both ends; a little noise is everywhere."""
    draw = np.random.default_rng(0)
    for begin, end in ((40, 60), (38, 45), (31, 69)):
        speech = 0.1 * draw.normal(size=(100, 23))
        speech[begin:end] += 6.0
        assert refined(speech, [0, 30, 70, 100], ["", kind, ""]) == [0, begin, end, 100]
        assert refined(speech[30:70], [0, 40], [kind]) == [0, 40]
    hardly = 0.1 * draw.normal(size=(100, 23))
    hardly[35:65] += 0.5
    assert refined(hardly, [0, 30, 70, 100], ["", kind, ""]) == [0, 30, 70, 100]
