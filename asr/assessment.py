"""How well each sound of a known text was pronounced: goodness of pronunciation.

A recogniser (CTC) says how much likelier the text is with another phone in one place, without the
phone, or with one more (`asr.search.substitutions`). A table has what natives do, so that their
reductions and the recogniser's own confusions count for little. docs/assessment.md has the fields.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr import alignment, transcriber
from asr.aligner import Aligner
from asr.audio import BLOCK, Waveform
from asr.corpora.lexicon import Pronunciation, Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError
from asr.files import shown
from asr.phones import Vocabulary, table_rows
from asr.records import Transcript, Word
from asr.search.decoders import CTCDecoder
from asr.search.paths import BLANK
from asr.search.substitutions import variants
from asr.symbols import require_alphabet, symbols_of
from asr.transcriber import Recording, Transcriber, Warn, load_model

LEFT_OUT = "-"  # in place of the phone that was recognised, where there was none
SLOPE = 0.5  # of the score over the log-odds that a phone is right
FLAGGED = 50.0  # natives' phones are rarely below it
CLEARLY = 2.0  # nats by which one more phone must be likelier than none
DOUBTFUL = 40  # score below which a text may be of another recording
ABSENT = 5.0  # nats by which a text must be likelier without a word that was not said
VOWELS = frozenset(
    ["aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"]
)
VOWEL = 1.5  # weight of a vowel in the score of a word; a consonant has 1
SHORTEST_S, LONGEST_S, BESIDE_S = 8.0, 30.0, 1.0  # of what is judged together, and around it

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sound:
    """A phone that was to be said, and the phone that was heard: itself, another, "-" for none."""

    phone: str
    start_s: float
    end_s: float
    score: float  # 0…100
    heard: str


@dataclass(frozen=True)
class Extra:
    """A phone that was clearly said and was not to be, behind `after` phones of its word."""

    phone: str
    time_s: float
    score: float  # 0…100, low where it is clear
    after: int


@dataclass(frozen=True)
class AssessedWord:
    """A word; it is `left_out` where most of its phones were not heard."""

    word: str
    start_s: float
    end_s: float
    score: float
    left_out: bool
    phones: tuple[Sound, ...] = ()
    extra: tuple[Extra, ...] = ()


@dataclass(frozen=True)
class Assessment:
    """A recording: `score` of all its phones, `accuracy` of those of the words that were said.

    `completeness` is the share of these words. All are 0…100.
    """

    file: str
    duration_s: float
    score: float
    accuracy: float
    completeness: float
    words: tuple[AssessedWord, ...]


class Judgement(NamedTuple):
    """Log-odds in nats of labels (U,), and of the places before, between and behind them (U + 1,).

    `odds` are that a label was said rather than anything else, `extra_odds` that no other was said
    there. `heard` and `extra` are the likeliest; the label, and 0, where nothing else is likelier.
    """

    odds: Array
    heard: Array
    extra_odds: Array
    extra: Array


def judge(log_probs: Array, labels: Array, prior: Array) -> Judgement:
    """Judge a transcript, `labels` (U,), by a recogniser's `log_probs` (T, V).

    `prior` (V, V) has the log-odds of each label in place of each, in column 0 of none. Raises
    `DataError` where there are too few frames.
    """
    total, replaced, inserted = variants(log_probs.astype(np.float64), labels)
    if not np.isfinite(total):
        raise DataError(
            f"{len(log_probs)} frames of the network are too few for {len(labels)} phones; is this "
            f"the text of the recording?"
        )
    places = np.arange(len(labels))
    others = replaced + prior[labels]
    others[places, labels] = -np.inf
    heard = np.where(others.max(axis=1) > 0, others.argmax(axis=1), labels)
    inserted[:, BLANK] = inserted[places, labels] = inserted[places + 1, labels] = -np.inf
    extra_odds = CLEARLY - inserted.max(axis=1)  # a long phone is no second one
    extra = np.where(extra_odds < 0, inserted.argmax(axis=1), BLANK)
    return Judgement(-np.logaddexp.reduce(others, axis=1), heard, extra_odds, extra)


def score_of(odds: Array) -> Array:
    """0…100 of log-odds in nats; 50 is where both are as likely."""
    scores: Array = np.round(100 / (1 + np.exp(-SLOPE * np.clip(odds, -100.0, 100.0))), 1)
    return scores


@cache
def prior_of(phones: tuple[str, ...]) -> Array:
    """The table's log-odds for a vocabulary, (V, V); `DataError` for one of other phones."""
    head, *rows = table_rows("pronunciation.txt")
    by_phone = {row[0]: dict(zip(head, map(float, row[1:]), strict=True)) for row in rows}
    for phone in phones:
        if phone not in by_phone:
            raise DataError(
                f"the model has the phone {phone!r}, expected those of CMUdict, for which natives' "
                f"pronunciation is known; use another model"
            )
    heard = (LEFT_OUT, *phones)
    return np.array([[0.0] * len(heard), *([by_phone[p][one] for one in heard] for p in phones)])


def losses_of(
    log_probs: Array, texts: Sequence[Sequence[Pronunciation]], vocabulary: Vocabulary
) -> list[float]:
    """CTC's loss in nats of each text, a pronunciation for each word."""
    decoder = CTCDecoder()
    labels = [vocabulary.encode([phone for way in text for phone in way]) for text in texts]
    return [-decoder.log_likelihood(log_probs, one) for one in labels]


def likeliest(
    log_probs: Array, said: Sequence[Said], vocabulary: Vocabulary
) -> list[Pronunciation]:
    """The pronunciation of each word that fits best, while the others are in their first."""
    first = [one.pronunciations[0] for one in said]
    changes = [(n, way) for n, one in enumerate(said) for way in one.pronunciations]
    texts = [[*first[:n], way, *first[n + 1 :]] for n, way in changes]
    best: dict[int, tuple[float, Pronunciation]] = {}
    for (n, way), loss in zip(changes, losses_of(log_probs, texts, vocabulary), strict=True):
        if n not in best or loss < best[n][0]:
            best[n] = loss, way
    return [way for _, way in best.values()]


def without_absent(
    log_probs: Array, ways: Sequence[Pronunciation], vocabulary: Vocabulary
) -> list[int]:
    """The words that were said: one without which the text is `ABSENT` likelier was not.

    At most half of the words are left out; more are another text.
    """
    said = list(range(len(ways)))
    while 2 * len(said) > len(ways) and len(said) > 1:
        texts = [[ways[n] for n in said if n != absent] for absent in (None, *said)]
        whole, *losses = losses_of(log_probs, texts, vocabulary)
        if whole - min(losses) < ABSENT:
            break
        del said[int(np.argmin(losses))]
    return said


class Assessor:
    """A recogniser that judges pronunciation, and an aligner that knows the times."""

    def __init__(self, recogniser: Transcriber, aligner: Aligner) -> None:
        if not isinstance(recogniser.network.decoder, CTCDecoder):
            name = recogniser.config.criterion.name
            raise DataError(f"the model has criterion.name={name}, expected ctc; use another one")
        self.recogniser, self.aligner = recogniser, aligner
        self.vocabulary = recogniser.network.vocabulary
        self.prior = prior_of(self.vocabulary.phones)

    def assess(
        self,
        name: str,
        waveform: Waveform,
        said: Sequence[Said],
        warn: Warn = warnings.warn,
        between: Callable[[], object] = lambda: None,
    ) -> Assessment:
        """The words of a recording (S,), at the recogniser's sample rate.

        `between` is called before each piece; what it raises ends the work. Raises `DataError`
        where the words have unknown phones, or too many for the recording.
        """
        transcript = self.aligner.transcript(name, iter([waveform]), said, warn, between)
        words, there = transcript.words or (), list[int]()  # the words that the aligner has placed
        for n, one in enumerate(said):
            if len(there) < len(words) and words[len(there)].word == one.word:
                there.append(n)
        log_probs = self.recogniser.log_probs(_cut(waveform, between))
        frame_s = self.recogniser.step / self.recogniser.sample_rate
        chosen: dict[int, Pronunciation] = {}
        for begin, end, frames in parts_of(words, frame_s):
            between()
            own = there[begin:end]
            ways = likeliest(log_probs[frames], [said[n] for n in own], self.vocabulary)
            spoken = without_absent(log_probs[frames], ways, self.vocabulary)
            chosen |= {own[place]: ways[place] for place in spoken}
        if list(chosen.values()) != [word.phones for word in words]:
            certain = [Said(said[n].word, (way,)) for n, way in chosen.items()]
            again = self.aligner.transcript(
                name, iter([waveform]), certain, lambda _: None, between
            )
            if len(again.words or ()) == len(certain):
                transcript, words, there = again, again.words or (), list(chosen)
        assessed: dict[int, AssessedWord] = {}
        for begin, end, frames in parts_of(words, frame_s):
            phones = [phone for word in words[begin:end] for phone in word.phones]
            labels = np.array(self.vocabulary.encode(phones))
            judged = judge(log_probs[frames], labels, self.prior)
            of_part = self._words(transcript, begin, end, judged)
            assessed |= zip(there[begin:end], of_part, strict=True)
        time_s = 0.0
        for n, one in enumerate(said):
            absent = AssessedWord(one.word, time_s, time_s, 0.0, left_out=True)
            time_s = assessed.setdefault(n, absent).end_s
        result = summary(name, transcript.duration_s, [assessed[n] for n in range(len(said))])
        result = in_symbols(result, self.recogniser.symbols)
        if result.score < DOUBTFUL:
            at_least = f"expected at least {DOUBTFUL}; is this what was said?"
            warn(f"score {result.score:.0f}, {at_least}")
        return result

    def _words(
        self, transcript: Transcript, begin: int, end: int, judged: Judgement
    ) -> Iterator[AssessedWord]:
        """The words begin…end of a transcript, with what was judged of their phones."""
        words: Sequence[Word] = transcript.words or ()
        segments = transcript.phones[sum(len(word.phones) for word in words[:begin]) :]
        scores, extra_scores = score_of(judged.odds).tolist(), score_of(judged.extra_odds).tolist()
        heard, more = (
            [(LEFT_OUT, *self.vocabulary.phones)[n] for n in some] for some in judged[1::2]
        )
        first = 0
        for word in words[begin:end]:
            last = first + len(word.phones)
            sounds = tuple(Sound(*segments[u][:3], scores[u], heard[u]) for u in range(first, last))
            extra = tuple(
                Extra(more[u], segments[max(u - 1, 0)].end_s, extra_scores[u], u - first)
                for u in range(first + (first > 0), last + 1)
                if more[u] != LEFT_OUT
            )
            left_out = 2 * sum(one.heard == LEFT_OUT for one in sounds) > len(sounds)
            score = mean_score(sounds, extra)
            yield AssessedWord(*word[:3], score, left_out, sounds, extra)
            first = last


def _cut(waveform: Waveform, between: Callable[[], object]) -> Iterator[Waveform]:
    """A waveform (S,) in blocks, with a call before each."""
    for start in range(0, len(waveform), BLOCK):
        between()
        yield waveform[start : start + BLOCK]


def parts_of(words: Sequence[Word], frame_s: float) -> Iterator[tuple[int, int, slice]]:
    """First and last word (exclusive) of what is judged together, cut in pauses, and its frames."""
    begin, first_s = 0, -BESIDE_S
    while begin < len(words):
        start_s, end = words[begin].start_s, len(words)
        last_s = words[-1].end_s + BESIDE_S
        if words[-1].end_s - start_s > LONGEST_S:
            pauses = {
                n: words[n].start_s - words[n - 1].end_s
                for n in range(begin + 1, len(words))
                if SHORTEST_S <= words[n].start_s - start_s <= LONGEST_S
            }
            end = max(pauses, key=lambda n: pauses[n], default=begin + 1)
            last_s = (words[end - 1].end_s + words[end].start_s) / 2
        edges_s = max(first_s, start_s - BESIDE_S), min(last_s, words[end - 1].end_s + BESIDE_S)
        yield begin, end, slice(*(max(0, round(edge_s / frame_s)) for edge_s in edges_s))
        begin, first_s = end, last_s


def mean_score(sounds: Sequence[Sound], extra: Sequence[Extra]) -> float:
    """The mean of scores in which a vowel counts as `VOWEL` consonants."""
    scored = [(one.phone, one.score) for one in sounds] + [(one.phone, one.score) for one in extra]
    weights = [VOWEL if phone in VOWELS else 1.0 for phone, _ in scored]
    total = sum(weight * score for weight, (_, score) in zip(weights, scored, strict=True))
    return round(total / max(1.0, sum(weights)), 1)


def summary(name: str, duration_s: float, words: Sequence[AssessedWord]) -> Assessment:
    """An assessment of the words that were to be said."""
    said = [word for word in words if not word.left_out]
    score, accuracy = (
        mean_score([p for w in some for p in w.phones], [p for w in some for p in w.extra])
        for some in (words, said)
    )
    placed, count = sum(bool(word.phones) for word in words), max(1, len(words))
    complete = round(100 * len(said) / count, 1)
    return Assessment(
        name, duration_s, round(score * placed / count, 1), accuracy, complete, tuple(words)
    )


def in_symbols(result: Assessment, alphabet: str | None) -> Assessment:
    """An assessment in the symbols of an alphabet of `asr.symbols`; None: as it is."""
    if alphabet is None:
        return result
    table = {LEFT_OUT: LEFT_OUT} | {p: s for p, s in symbols_of(alphabet).items() if s}
    words = (
        replace(
            word,
            phones=tuple(
                replace(one, phone=table[one.phone], heard=table[one.heard]) for one in word.phones
            ),
            extra=tuple(replace(one, phone=table[one.phone]) for one in word.extra),
        )
        for word in result.words
    )
    return replace(result, words=tuple(words))


def load(
    path: str | Path | None = None,
    device: str = "cpu",
    symbols: str | None = None,
) -> Assessor:
    """The recogniser of a file, or else the packaged one, with the packaged aligner."""
    require_alphabet(symbols)
    model = load_model(path or transcriber.MODEL, device, language_model=False)
    return Assessor(
        Transcriber(model, symbols=symbols), Aligner(alignment.load(device=device).network)
    )


def assess(
    recording: Recording,
    text: str | Path,
    sample_rate: int | None = None,
    checkpoint: str | Path | None = None,
    channel: int | None = None,
    lexicon: str | Path | None = None,
    symbols: str | None = None,
) -> Assessment:
    """How well a text is pronounced in a recording: see `asr.assess`."""
    assessor = load(checkpoint, symbols=symbols)
    said = Pronouncer(Path(lexicon) if lexicon else None).said(alignment.text_of(text))
    name = shown(recording) if isinstance(recording, str | Path) else ""
    return assessor.assess(
        name, assessor.recogniser.waveform(recording, sample_rate, channel), said
    )
