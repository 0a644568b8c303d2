"""Evidence for words against sums over all transcripts, by torch's CTC loss."""

import itertools
import math

import numpy as np
import pytest
import torch

from asr.search.evidence import Evidence, evidence, likelihood, words_of

PRICE = 0.7
FRAMES, SIZE = 6, 4
TRANSCRIPTS = {
    "words": [[[1, 2]], [[3]], [[1]]],
    "variants": [[[1], [1, 2]], [[2], [3]]],
    "same phones on both sides": [[[1]], [[1]], [[1, 1]]],
    "one word": [[[2, 3], [3]]],
    "words that do not fit": [[[1, 1, 1]], [[1, 2, 3]], [[1]]],
}


def log_probs(seed: int) -> torch.Tensor:
    return torch.randn(FRAMES, SIZE, generator=torch.Generator().manual_seed(seed)).log_softmax(1)


def of_labels(scores: torch.Tensor, labels: tuple[int, ...]) -> float:
    """log P of a sequence of labels."""
    loss = torch.nn.functional.ctc_loss(
        scores.double().unsqueeze(1),
        torch.tensor([labels or (1,)]),
        torch.tensor([len(scores)]),
        torch.tensor([len(labels)]),
        reduction="none",
    )
    return -float(loss)


def enumerated(scores: torch.Tensor, transcript: list[list[list[int]]]) -> Evidence:
    loops = [p for n in range(1, FRAMES + 1) for p in itertools.product(range(1, SIZE), repeat=n)]

    def total(words: list[list[list[int]] | None]) -> float:
        """None stands for any phones."""
        choices = [loops if word is None else word for word in words]
        terms = [
            of_labels(scores, tuple(itertools.chain(*parts)))
            - PRICE * sum(len(p) for p, word in zip(parts, words, strict=True) if word is None)
            for parts in itertools.product(*choices)
            if sum(map(len, parts)) <= FRAMES
        ]
        return float(np.logaddexp.reduce(terms)) if terms else -math.inf

    places = range(len(transcript))
    return Evidence(
        total(transcript),
        total([None]),
        np.array([total([*transcript[:w], None, *transcript[w + 1 :]]) for w in places]),
        np.array([total([*transcript[:w], *transcript[w + 1 :]]) for w in places]),
        np.array([total([*transcript[:w], None, *transcript[w:]]) for w in [*places, len(places)]]),
        None,
    )


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_evidence_is_that_of_all_transcripts(name: str) -> None:
    transcript = TRANSCRIPTS[name]
    scores = log_probs(len(name))
    words = words_of(transcript)
    result, expected = evidence(scores.numpy(), words, PRICE), enumerated(scores, transcript)
    for field in ("total", "free", "replaced", "left_out", "inserted"):
        np.testing.assert_allclose(
            getattr(result, field), getattr(expected, field), rtol=1e-9, err_msg=field
        )
    np.testing.assert_allclose(likelihood(scores.numpy(), words), expected.total)


def test_words_have_the_frames_of_their_phones() -> None:
    scores = torch.full((9, 4), -9.0)
    for frame, label in enumerate([0, 1, 2, 2, 0, 0, 3, 3, 0]):
        scores[frame, label] = 0.0
    words = words_of([[[1, 2], [1, 3]], [[3]]])
    assert evidence(scores.log_softmax(1).numpy(), words, PRICE).frames.tolist() == [[1, 3], [6, 7]]


def test_long_speech_and_wrong_words_stay_finite() -> None:
    """Where a likelihood is far below the smallest double."""
    labels = np.tile([1, 0, 2, 0], 300)
    scores = np.full((1200, 4), -40.0)
    scores[np.arange(1200), labels] = 0.0
    words = words_of([[[1]], [[2]]] * 100 + [[[3]], [[3]]] * 100 + [[[1]], [[2]]] * 100)
    result = evidence(scores, words, PRICE)
    assert result.total < -4000
    assert all(np.isfinite(part).all() for part in result[:5])
