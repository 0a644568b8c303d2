"""Whether the words of a transcript are those of its recording, each with a probability.

A recogniser (CTC) says how much likelier the transcript would be with any other phones in place of
a word, without the word, or with more phones between two words (`asr.search.evidence`). A logistic
regression makes probabilities of that; `recipes/align/check.py` fits its coefficients.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from asr.aligner import Aligner
from asr.audio import Waveform
from asr.corpora.lexicon import Said
from asr.errors import DataError
from asr.search.decoders import CTCDecoder
from asr.search.evidence import Evidence, agreement, evidence, likelihood, neighbours_of, words_of
from asr.transcriber import Transcriber, Warn

PRICE = 1.0  # nats for each phone of a loop
LARGEST = 300.0  # nats; what is beyond is as certain
# Fitted by recipes/align/check.py on LibriSpeech's dev speakers and Common Voice's dev sentences.
WORD = (4.988, 0.045, 0.429, -0.270, -0.081, 2.789, -1.841, -0.766, -0.422)
MISSING = (5.759, -1.592, 0.291, -2.570, -0.415)
SHORTEST_S, LONGEST_S = 20.0, 120.0  # of what is judged together, where a recording is longer

Array = np.ndarray[Any, Any]


class Judged(NamedTuple):
    """A word, or the place behind it, and the probability that it is right.

    `kind` says what would be wrong: "wrong", another word was said; "inserted", none was; or
    "missing", more was said behind the word (`number` −1: before the first one). `heard` are the
    phones that the recogniser finds there.
    """

    number: int
    word: str
    kind: str
    probability: float
    start_s: float
    end_s: float
    heard: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """What is judged of a recording: W words, and W + 1 places before, between and behind them.

    `agreement` is 1 where the words are as likely as what the recogniser finds and 0 where they are
    as likely as their phones in another order; `is_other`: they are those of another recording.
    """

    file: str
    duration_s: float
    agreement: float
    is_other: bool
    words: tuple[Judged, ...]
    missing: tuple[Judged, ...]

    @property
    def suspects(self) -> list[Judged]:
        """Words and places, the likeliest to be wrong first."""
        return sorted((*self.words, *self.missing), key=lambda one: one.probability)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the fields by name, at every level."""
        parts = {key: [one._asdict() for one in getattr(self, key)] for key in ("words", "missing")}
        return asdict(self) | parts


class Checker:
    """A recogniser that judges transcripts; for long recordings an aligner finds their parts."""

    def __init__(
        self, recogniser: Transcriber, aligner: Callable[[], Aligner] | None = None
    ) -> None:
        if not isinstance(recogniser.network.decoder, CTCDecoder):
            name = recogniser.config.criterion.name
            raise DataError(f"the recogniser has criterion.name={name}, expected ctc")
        self.recogniser, self.aligner = recogniser, aligner and cache(aligner)
        self.vocabulary = recogniser.network.vocabulary
        self.frame_s = recogniser.step / recogniser.sample_rate

    def check(
        self, name: str, waveform: Waveform, said: Sequence[Said], warn: Warn = warnings.warn
    ) -> Check:
        """The words of a recording (S,), at the recogniser's sample rate.

        Raises `DataError` where there are no words, or one has unknown phones.
        """
        if not said:
            raise DataError(f"{name}: no words to check")
        transcript = [[self.vocabulary.encode(way) for way in one.pronunciations] for one in said]
        log_probs = self.recogniser.log_probs([waveform])
        duration_s = len(waveform) / self.recogniser.sample_rate
        words: list[Judged] = []
        places: list[Judged] = []
        likelihoods = np.zeros(3)
        phones = 0
        for begin, end, frames in self._parts(name, waveform, said, len(log_probs), warn):
            of_part = transcript[begin:end]
            judged, there, of_likelihood = self._judge(
                log_probs[frames], of_part, said, begin, frames
            )
            if places:  # of two parts, what is behind the one is before the other
                there[0] = min(there[0], places.pop(), key=lambda one: one.probability)
            words, places = [*words, *judged], [*places, *there]
            likelihoods += of_likelihood
            phones += sum(len(one[0]) for one in of_part)
        given, best, chance = likelihoods.tolist()
        share, is_other = agreement(given, best, chance, phones)
        trust = share if is_other else 1.0  # words of another transcript may fit by chance
        result = (
            tuple(one._replace(probability=round(trust * one.probability, 4)) for one in part)
            for part in (words, places)
        )
        return Check(name, round(duration_s, 4), round(share, 3), is_other, *result)

    def _judge(
        self, log_probs: Array, transcript: Any, said: Sequence[Said], begin: int, frames: slice
    ) -> tuple[list[Judged], list[Judged], Array]:
        """Words and places of a part, and its three log-likelihoods for `agreement`."""
        of_all = evidence(log_probs, words_of(transcript), PRICE)
        right, whole = probabilities(of_all, transcript)
        path = log_probs.argmax(axis=1)
        firsts, lasts = of_all.frames.T
        edges = np.concatenate([[0], lasts + 1]), np.concatenate([firsts, [len(path)]])

        def judged(n: int, kind: str, odds: float, first: int, last: int) -> Judged:
            last = max(first, last)
            heard = [int(label) for label, _ in groupby(path[first:last]) if label]
            start_s, end_s = (
                round((frames.start + int(at)) * self.frame_s, 3) for at in (first, last)
            )
            word = said[begin + n].word if begin + n >= 0 else ""
            phones = self.vocabulary.decode(heard)
            return Judged(begin + n, word, kind, round(float(odds), 4), start_s, end_s, phones)

        # What is between its neighbours is a word's, in case that its own phones are elsewhere.
        words = [
            judged(
                n,
                "inserted" if of_all.left_out[n] >= of_all.replaced[n] else "wrong",
                right[n],
                edges[0][n],
                edges[1][n + 1],
            )
            for n in range(len(transcript))
        ]
        places = [
            judged(n - 1, "missing", whole[n], edges[0][n], edges[1][n])
            for n in range(len(transcript) + 1)
        ]
        recognised = [[[int(label)]] for label, _ in groupby(path) if label]
        best = likelihood(log_probs, words_of(recognised))
        chance = max(likelihood(log_probs, words_of(one)) for one in neighbours_of(transcript))
        return words, places, np.array([of_all.total, best, chance])

    def _parts(
        self, name: str, waveform: Waveform, said: Sequence[Said], count: int, warn: Warn
    ) -> Iterator[tuple[int, int, slice]]:
        """First and last word (exclusive) of what is judged together, and its frames of `count`.

        A long recording is cut in the widest pauses between words that the aligner places.
        """
        begin, first, cuts = 0, 0, list[tuple[float, int, float]]()
        if self.aligner and len(waveform) > LONGEST_S * self.recogniser.sample_rate:
            aligned = iter(self.aligner().transcript(name, [waveform], said, warn).words or ())
            word, before = next(aligned, None), None
            for n, one in enumerate(said):
                this = word if word and word.word == one.word else None
                if this and before:
                    cuts.append((this.start_s - before.end_s, n, (before.end_s + this.start_s) / 2))
                before, word = this, next(aligned, None) if this else word
        while (count - first) * self.frame_s > LONGEST_S:
            start_s = first * self.frame_s
            ahead = [one for one in cuts if SHORTEST_S <= one[2] - start_s <= LONGEST_S]
            if not ahead:
                raise DataError(
                    f"{name}: none of its words from {start_s:.0f} to {start_s + LONGEST_S:.0f} s; "
                    f"is this what was said?"
                )
            _, end, cut_s = max(ahead)
            last = round(cut_s / self.frame_s)
            yield begin, end, slice(first, last)
            begin, first = end, last
        yield begin, len(said), slice(first, count)


def probabilities(of_all: Evidence, transcript: Sequence[Any]) -> tuple[Array, Array]:
    """That each word is right, (W,), and that nothing is missing in each place, (W + 1,)."""
    words, places = clues(of_all, transcript)
    odds = (part @ weights[1:] + weights[0] for part, weights in ((words, WORD), (places, MISSING)))
    right, whole = (1 / (1 + np.exp(-part)) for part in odds)
    return right, whole


def clues(of_all: Evidence, transcript: Sequence[Any]) -> tuple[Array, Array]:
    """The values that a probability is made of, (W, 8), (W + 1, 4).

    Of each change, by how many nats it makes the transcript likelier, also beyond the changes of
    its neighbours, which explain the same mistake.
    """
    with np.errstate(invalid="ignore"):  # a transcript that does not fit has nothing right
        replaced, left_out, inserted = (
            np.nan_to_num(of_all.total - part, nan=-LARGEST).clip(-LARGEST, LARGEST)
            for part in (of_all.replaced, of_all.left_out, of_all.inserted)
        )

    def gain(change: Array) -> Array:
        nats: Array = np.log1p(np.maximum(-change, 0.0))
        return nats

    def beside(change: Array) -> Array:
        """The better one of the changes of the words before and behind, where it is one."""
        padded = np.pad(change, 1)
        better: Array = np.minimum(np.minimum(padded[:-2], padded[2:]), 0.0)
        return better

    between = np.minimum(np.minimum(inserted[:-1], inserted[1:]), 0.0)
    sizes = np.array([np.mean([len(way) for way in word]) for word in transcript])
    words = [gain(replaced), np.maximum(replaced, 0), gain(left_out), np.maximum(left_out, 0)]
    words += [np.log(sizes), gain(replaced - between)]
    words += [gain(replaced - beside(left_out)), gain(replaced - beside(replaced))]
    padded = np.pad(replaced, 1)
    around = np.minimum(np.minimum(padded[:-1], padded[1:]), 0.0)
    at_end = np.zeros(len(inserted))
    at_end[[0, -1]] = 1.0
    places = [gain(inserted), np.maximum(inserted, 0), gain(inserted - around), at_end]
    return np.stack(words, axis=1), np.stack(places, axis=1)
