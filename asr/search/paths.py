"""The labels of one utterance's frames, and where they are: greedy, aligned, as spans and paths."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.processor.compiled import compiled

BLANK = 0


@dataclass(frozen=True)
class Path:
    """One result of a search: labels without blanks.

    `score` is what the search maximised, in nats, penalties, bonus and language model included. A
    greedy search scores its best alignment, a beam search the sum over all alignments in the beam.
    `frames` (U,) has, for each label, the frame of the best alignment in which it is most probable;
    `confidences` (U,) has the probabilities there. `words` are those of a search of words, each
    with its number of labels.
    """

    labels: tuple[int, ...]
    score: float
    frames: tuple[int, ...]
    confidences: tuple[float, ...]
    words: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True)
class Span:
    """Frames start…end (exclusive) of one aligned label, and its mean probability in them."""

    start: int
    end: int
    confidence: float


def greedy(log_probs: Any) -> Path:
    """The path of the best alignment: (T, V) → path."""
    along = log_probs.max(axis=1)
    return path_of(log_probs.argmax(axis=1), along, float(along.sum()))


def penalised(log_probs: Any, blank_penalty: float) -> Any:
    """Log-probabilities with a penalty on the blank, (T, V)."""
    if blank_penalty == 0:
        return log_probs
    log_probs = log_probs.copy()
    log_probs[:, BLANK] -= np.float32(blank_penalty)
    return log_probs


def align(log_probs: Any, labels: Any) -> tuple[Any, Any]:
    """CTC's best alignment of labels (U,) and its log-probabilities: (T, V) → (T,), (T,).

    Labels need as many frames as they are, and one more between two that are the same.
    """
    labels = np.asarray(labels, np.int64)
    alignment = np.empty(len(log_probs), np.int64)
    if len(alignment):
        _align(np.ascontiguousarray(log_probs, np.float32), labels, alignment)
    return alignment, log_probs[np.arange(len(alignment)), alignment]


@compiled()
def _align(log_probs: Any, labels: Any, alignment: Any) -> None:
    """Viterbi over 2U + 1 states: a blank before, between and behind the labels."""
    frames, states = len(log_probs), 2 * len(labels) + 1
    lowest = np.float32(-np.inf)
    score = np.full(states, lowest, np.float32)
    before = np.empty(states, np.float32)
    back = np.zeros((frames, states), np.uint8)  # states that the best path goes up by
    score[0] = log_probs[0, BLANK]
    if states > 1:
        score[1] = log_probs[0, labels[0]]
    for t in range(1, frames):
        before[:] = score
        # A state that the end cannot be reached from, or that is not reached yet, is left out.
        for s in range(max(0, states - 2 * (frames - t)), min(states, 2 * t + 2)):
            label = labels[s // 2] if s % 2 else BLANK
            best, steps = before[s], 0
            if s > 0 and before[s - 1] > best:
                best, steps = before[s - 1], 1
            if s % 2 and s > 1 and labels[s // 2 - 1] != label and before[s - 2] > best:
                best, steps = before[s - 2], 2
            score[s] = best + log_probs[t, label]
            back[t, s] = steps
    s = states - 1
    if states > 1 and score[s - 1] > score[s]:
        s -= 1
    for t in range(frames - 1, -1, -1):
        alignment[t] = labels[s // 2] if s % 2 else BLANK
        s -= back[t, s]


def spans_of(alignment: Any, along: Any) -> list[Span]:
    """The spans of the labels in an alignment (T,) with its log-probabilities `along` (T,)."""
    starts = runs(alignment)
    probs = np.exp(along)
    return [
        Span(start, end, float(probs[start:end].mean()))
        for start, end in zip(starts, [*starts[1:], len(alignment)], strict=True)
        if alignment[start] != BLANK
    ]


def path_of(alignment: Any, along: Any, score: float) -> Path:
    """The path of an alignment (T,) with its log-probability in each frame, `along` (T,)."""
    starts = np.array(runs(alignment), np.int64)
    return path_of_runs(alignment[starts], starts, along, score)


def path_of_runs(labels: Any, starts: Any, along: Any, score: float) -> Path:
    """The path of runs of labels (n,) with first frames (n,) and log-probabilities (T,)."""
    run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(along)))
    likeliest = np.lexsort((-along, run))[starts]  # frame of each run
    is_label = labels != BLANK
    frames = likeliest[is_label]
    confidences = tuple(np.exp(along[frames]).tolist())
    return Path(tuple(labels[is_label].tolist()), score, tuple(frames.tolist()), confidences)


def runs(alignment: Any) -> list[int]:
    """The first frame of each run of equal labels: (T,) → list."""
    changes = np.flatnonzero(alignment[1:] != alignment[:-1]) + 1
    return [0, *changes.tolist()] if len(alignment) else []
