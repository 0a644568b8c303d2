"""Known phones and their speech → the times of the phones.

A criterion gives each phone some frames of the network; frames between two phones belong to
neither. The boundary is where the speech itself changes most there, so that it is finer than the
network's frames. Nothing here reads or writes files.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from asr.batch import Batch, pad
from asr.corpora.lexicon import Pronunciation
from asr.criteria.hmm import HMM
from asr.errors import DataError
from asr.features import Features, FeaturesConfig
from asr.phones import unknown_phone
from asr.recognizer import Recognizer
from asr.records import Segment
from asr.search import SearchConfig
from asr.search.evidence import agreement, neighbours_of

# Phones that stand for silence: where a vocabulary has one, transcripts leave no time unlabelled.
SILENCES = frozenset({"h#", "pau", "epi", "sil", "sp", "spn", "SIL", "<sil>"})
# What a boundary is looked for in: narrow windows at a short hop, few filters.
HOP_MS, WINDOW_MS, FILTERS = 5.0, 16.0, 23
PAUSE_S = 0.1  # quiet for so long between two phones is a pause; most closures are shorter
NOT_SAID = "is this the transcript of the recording? It does not agree with what is recognised"
QUIET = (5, 95)  # percentiles of the loudness in dB; below the middle of them it is quiet

Frames = np.ndarray[Any, np.dtype[np.float64]]
Stretch = tuple[int, int]  # frames begin…end (exclusive) of those in which boundaries are found


class Aligner:
    """Forced alignment by a recogniser, which must be in evaluation mode."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        own = recognizer.config.features
        config = FeaturesConfig(
            bins=FILTERS,
            deltas=0,
            normalization="none",
            sample_rate=own.sample_rate,
            window_ms=WINDOW_MS,
            hop_ms=min(HOP_MS, own.hop_ms),
            energy=False,
            snip_edges=False,
        )
        self.sample_rate, self.hop_samples = config.sample_rate, config.hop_samples
        self.pause_frames = None
        if SILENCES.isdisjoint(recognizer.vocabulary.phones):
            self.pause_frames = round(PAUSE_S * self.sample_rate / self.hop_samples)
        self.features = Features(config).to(recognizer.device)

    def require_room(self, phones: Sequence[str], samples: int) -> None:
        """Raise `DataError` where audio is too short for its phones, or a phone is unknown."""
        is_list = isinstance(phones, Sequence) and not isinstance(phones, str)
        if not is_list or not all(isinstance(phone, str) for phone in phones):
            raise DataError(f"phones are {phones!r}, expected a list of strings")
        if not phones:
            raise DataError("no phones to align; remove the utterance")
        vocabulary = self.recognizer.vocabulary
        for phone in phones:
            if phone not in vocabulary:
                name = "the vocabulary of the checkpoint"
                raise DataError(unknown_phone(phone, vocabulary.phones, name))
        labels = torch.tensor([vocabulary.encode(phones)])
        frames = int(self.recognizer.encoded_lengths(torch.tensor([samples])))
        criterion = self.recognizer.criterion
        needed = int(criterion.frames_needed(labels, torch.tensor([labels.shape[1]])))
        if frames < needed:
            raise DataError(
                f"{frames} frames of the network, but {len(phones)} phones need {needed}; is this "
                f"the transcript of the recording?"
            )

    def __call__(
        self, batch: Batch, encoded: torch.Tensor, lengths: torch.Tensor
    ) -> list[tuple[Segment, ...]]:
        """The targets of each utterance with their times and mean probabilities.

        `encoded` (N, T', D) is of the waveforms of the batch.
        """
        criterion = self.recognizer.criterion
        criterion.require_numbers(encoded)
        spans = criterion.align(encoded, lengths, batch.targets, batch.target_lengths)
        frames, counts = self.features.static(batch.waveforms, batch.waveform_lengths)
        aligned = []
        for n, of_labels in enumerate(spans):
            count = int(counts[n])
            cores = [(self._frame(span.start), self._frame(span.end)) for span in of_labels]
            cores = [(begin, min(end, count)) for begin, end in cores]
            speech = frames[n, :count].double().cpu().numpy()
            labels = batch.targets[n, : int(batch.target_lengths[n])].tolist()
            phones = self.recognizer.vocabulary.decode(labels)
            edges = np.arange(count + 1) * self.hop_samples
            edges[count] = batch.waveform_lengths[n]  # the last frame ends with the audio
            times_s = (edges / self.sample_rate).tolist()
            places = stretches(speech, cores, self.pause_frames)
            segments = (
                Segment(phone, times_s[begin], times_s[end], span.confidence)
                for phone, span, (begin, end) in zip(phones, of_labels, places, strict=True)
            )
            aligned.append(tuple(segments))
        return aligned

    def doubts(self, batch: Batch, encoded: torch.Tensor, lengths: torch.Tensor) -> list[str]:
        """For each utterance a sentence where its transcript seems to be another's, otherwise "".

        What is judged is `evidence.agreement`. `encoded` is (N, T', D). An HMM is not asked: its
        likelihoods are of frames, and their scale is its own.
        """
        criterion = self.recognizer.criterion
        if isinstance(criterion, HMM):
            return [""] * len(batch.ids)

        def likelihoods(transcripts: Sequence[Sequence[int]]) -> list[float]:
            targets, _ = pad([torch.tensor(one or (1,)) for one in transcripts])
            counts = torch.tensor([len(one) for one in transcripts])
            misfits = criterion.frames_needed(targets, counts) > lengths.cpu()
            counts[misfits] = 0
            with torch.no_grad():
                tried = replace(batch, targets=targets, target_lengths=counts).to(encoded.device)
                losses = criterion.loss(encoded, lengths, tried).cpu()
            return (-losses.masked_fill(misfits, torch.inf)).tolist()

        best = [paths[0].labels for paths in criterion.decode(encoded, lengths, SearchConfig())]
        counts = batch.target_lengths.tolist()
        given = [row[:count] for row, count in zip(batch.targets.tolist(), counts, strict=True)]
        neighbours = [neighbours_of([[[label]] for label in one]) for one in given]
        others = [
            [[word[0][0] for word in one] for one in each] for each in zip(*neighbours, strict=True)
        ]
        chance = [max(each) for each in zip(*map(likelihoods, others), strict=True)]
        judged = map(agreement, likelihoods(given), likelihoods(best), chance, counts)
        return [f"{NOT_SAID} (agreement {share:.2f})" if other else "" for share, other in judged]

    def _frame(self, edge: int) -> int:
        """The frame of `features` that begins nearest to an edge of the network's frames."""
        place = self.recognizer.time_s(edge - 0.5) * self.sample_rate / self.hop_samples
        return max(0, math.floor(place + 0.5))


def _labels(
    recognizer: Recognizer, transcripts: Sequence[Sequence[Pronunciation]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of transcripts, each a pronunciation for each word: N → (N, U), (N,)."""
    phones = ([phone for word in words for phone in word] for words in transcripts)
    labels = pad([torch.tensor(recognizer.vocabulary.encode(one)) for one in phones])
    return labels[0].to(recognizer.device), labels[1].to(recognizer.device)


def likeliest(
    recognizer: Recognizer,
    batch: Batch,
    encoded: torch.Tensor,
    words: Sequence[Sequence[Pronunciation]],
) -> list[Pronunciation]:
    """For each word of an utterance the pronunciation under which the recogniser's loss is least.

    A word is tried in all its pronunciations while the others are in their first. `encoded` is
    (T', D).
    """
    criterion = recognizer.criterion
    chosen = [variants[0] for variants in words]
    changes = [(0, chosen[0]), *((n, other) for n, all in enumerate(words) for other in all[1:])]
    transcripts = [[*chosen[:n], other, *chosen[n + 1 :]] for n, other in changes]
    targets, target_lengths = _labels(recognizer, transcripts)
    fits = criterion.frames_needed(targets, target_lengths) <= len(encoded)
    losses = torch.full((len(changes),), torch.inf, device=encoded.device)
    tried = replace(
        batch,
        targets=targets[fits],
        target_lengths=target_lengths[fits],
        ids=batch.ids[:1] * int(fits.sum()),
    )
    counts = torch.full_like(tried.target_lengths, len(encoded))
    repeated = encoded.expand(len(counts), -1, -1)
    losses[fits] = criterion.loss(repeated, counts, tried).detach()
    least = {n: float(losses[0]) for n in range(len(words))}
    for (n, other), loss in zip(changes[1:], losses[1:].tolist(), strict=True):
        if loss < least[n]:
            chosen[n], least[n] = other, loss
    return chosen


def stretches(
    speech: Frames, cores: Sequence[Stretch], pause_frames: int | None = None
) -> list[Stretch]:
    """What belongs to each phone of which the core is known, in `speech` (T, F).

    Cores do not overlap. Between two of them the boundary is where the speech changes most. With
    `pause_frames` a stretch that is quiet for so long, between two phones or at either end, is a
    pause and belongs to none; without, the phones take up all of the time.
    """
    if not cores:
        return []
    parts = [(core, True) for core in cores]
    if pause_frames is not None:
        parts += [(pause, False) for pause in quiet_stretches(speech, cores, pause_frames)]
        parts.sort()
    places = [core for core, _ in parts]
    sums = np.concatenate([np.zeros((1, speech.shape[1])), np.cumsum(speech, axis=0)])
    inner = [change(sums, left, right) for left, right in pairwise(places)]
    edges = [0, *inner, len(speech)]
    return [
        (edges[number], edges[number + 1]) for number, (_, is_phone) in enumerate(parts) if is_phone
    ]


def change(sums: Frames, left: Stretch, right: Stretch) -> int:
    """Where, between two cores, the second begins: left[1]…right[0].

    Of all ways to cut left[0]…right[1] in two there, the one with the least squared distance of the
    frames from the mean of their part. `sums` (T + 1, F) are of the frames before each edge.
    """
    cuts = np.arange(left[1], right[0] + 1)
    first = sums[cuts] - sums[left[0]]
    second = sums[right[1]] - sums[cuts]
    explained = (first**2).sum(1) / (cuts - left[0]) + (second**2).sum(1) / (right[1] - cuts)
    return int(cuts[explained.argmax()])


def quiet_stretches(speech: Frames, cores: Sequence[Stretch], at_least: int) -> Iterator[Stretch]:
    """The longest quiet stretch before, between and behind the cores, where it lasts."""
    loudness = speech.mean(axis=1)
    quiet = loudness < np.percentile(loudness, QUIET).mean()
    begins = [0, *(end for _, end in cores)]
    ends = [*(begin for begin, _ in cores), len(speech)]
    for begin, end in zip(begins, ends, strict=True):
        steps = np.diff(np.concatenate([[0], quiet[begin:end].astype(np.int8), [0]]))
        starts, stops = (steps == 1).nonzero()[0], (steps == -1).nonzero()[0]
        if len(starts):
            longest = int((stops - starts).argmax())
            if stops[longest] - starts[longest] >= at_least:
                yield begin + int(starts[longest]), begin + int(stops[longest])
