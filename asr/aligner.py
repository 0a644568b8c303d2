"""Known phones and their speech → the times of the phones.

A criterion gives each phone some frames of the network; frames between two phones belong to
neither. The boundary is where the speech itself changes most there, so that it is finer than the
network's frames. Nothing here reads or writes files.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

from asr.audio import Waveform
from asr.corpora.lexicon import Pronunciation, Said
from asr.edges import refined, stretches
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.frames import Frames
from asr.features.moments import Moments, Sums, level_of, of_loud
from asr.network import Network
from asr.phones import SILENCES, table_rows, unknown_phone
from asr.records import Segment, Transcript
from asr.search import SearchConfig, forced
from asr.search.decoders import HMMDecoder, require_numbers
from asr.search.evidence import agreement, neighbours_of, share_of
from asr.transcriber import CONTEXT_S, LONGEST_S, Piece, Warn, pieces, spoken

# What a boundary is looked for in: narrow windows at a short hop, few filters.
HOP_MS, WINDOW_MS, FILTERS = 5.0, 16.0, 23
PAUSE_S = 0.1  # quiet for so long between two phones is a pause; most closures are shorter
NOT_SAID = "is this the transcript of the recording? It does not agree with what is recognised"
IN_MEMORY, BLOCK = 1 << 26, 1 << 20  # bytes of a recording, before a temporary file; read at once
# Of recordings longer than a piece, in nats of scores that are weighted by `acoustic_scale`:
GAPS = forced.Costs(filler=0.5, entry=10.0, skip=30.0, word=0.1)
THRESHOLD = 150.0
AGREEING = 0.2  # agreement with an HMM below which a text seems to be of another recording
FEW = 6  # phones, of which the order says little
PHONE_S = 0.1  # a phone is shorter, on average of a text
NAMED_S = 0.5  # sound without text of at least this length is named

Floats = np.ndarray[Any, np.dtype[np.float16]]
Array = np.ndarray[Any, np.dtype[np.int64]]


class Aligner:
    """Forced alignment by a network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        own = network.config.features
        parts = range(math.ceil(own.hop_ms / HOP_MS), own.hop_samples + 1)
        hop = next(own.hop_samples // n for n in parts if own.hop_samples % n == 0)
        config = FeaturesConfig(
            bins=FILTERS,
            deltas=0,
            normalization="none",
            sample_rate=own.sample_rate,
            window_ms=WINDOW_MS,
            hop_ms=1000 * hop / own.sample_rate,
            energy=False,
            snip_edges=False,
        )
        self.sample_rate, self.hop_samples = config.sample_rate, config.hop_samples
        self.pause_frames = None
        if SILENCES.isdisjoint(network.vocabulary.phones):
            self.pause_frames = round(PAUSE_S * self.sample_rate / self.hop_samples)
        self.fine = Frames(config)  # in which boundaries are looked for
        self.manners = {row[0]: row[1] for row in table_rows("articulation.txt")}
        self.step = network.step

    def transcript(
        self,
        name: str,
        blocks: Iterable[Waveform],
        said: Sequence[Said],
        warn: Warn = warnings.warn,
        between: Callable[[], object] = lambda: None,
    ) -> Transcript:
        """The phones and words of a recording, given in blocks (S,), with their times.

        Each word has the pronunciation that fits best. Between words, before the first and behind
        the last there may be silence, inside of words there is none. Confidences are mean
        probabilities. The criterion must be an HMM. Memory grows with the features of the frames,
        not with frames × text.

        In a recording longer than a piece of the transcriber, words that nobody says are left out,
        and sound that is not in the text belongs to no word; `warn` gets a sentence for each.
        `between` is called before each piece; what it raises ends the work. Raises `DataError`
        where the recording is too short or has no path through the words, or a phone is unknown.
        """
        words = [[self._labels(each.word, one) for one in each.pronunciations] for each in said]
        with _kept(blocks, self.step, self.sample_rate) as (samples, cut):
            net, route, probs, doubt = self._search(cut, samples, words, between)
            phones, starts = route.parts()
            apart = {forced.SILENCE: "", forced.FILLER: "sound"}
            kinds = [apart[p] if p < 0 else self._kind(int(net.label[p])) for p in phones.tolist()]
            edges = self._edges(cut, starts.tolist(), kinds, samples)
        if doubt:
            warn(doubt)
        times_s = (np.minimum(edges * self.hop_samples, samples) / self.sample_rate).round(4)
        times_s[-1] = round(samples / self.sample_rate, 4)
        segments, counts, foreign_s = list[Segment](), [0] * len(said), list[float]()
        spans = zip(
            phones.tolist(), pairwise(starts.tolist()), pairwise(times_s.tolist()), strict=True
        )
        for phone, (start, end), (start_s, end_s) in [*spans, (0, (0, 0), (0.0, 0.0))]:
            if phone == forced.FILLER:
                foreign_s += [start_s, end_s]
                continue
            if phone == forced.SILENCE:
                continue
            if sum(np.diff(foreign_s)[::2]) >= NAMED_S:
                about = f"{foreign_s[0]:.2f} to {foreign_s[-1]:.2f} s"
                warn(f"the sound of {about} is not in the text, left out")
            foreign_s.clear()
            if end:
                label = int(net.label[phone])
                share = round(float(probs[start:end, label].mean(dtype=np.float64)), 4)
                (symbol,) = self.network.vocabulary.decode([label])
                segments.append(Segment(symbol, start_s, end_s, share))
                counts[net.word[phone]] += 1
        for spoken_there, numbers in groupby(range(len(said)), lambda n: counts[n] > 0):
            first, *others = numbers
            if not spoken_there:
                at_s = segments[sum(counts[:first])].start_s if any(counts[first:]) else times_s[-1]
                text = " … ".join(said[n].word for n in (first, *others[-1:]))
                warn(
                    f"{len(others) + 1} words of the text from word {first + 1} on "
                    f"({text}) are not spoken before {at_s:.2f} s, left out"
                )
        lengths = [(one.word, count) for one, count in zip(said, counts, strict=True) if count]
        return Transcript(name, float(times_s[-1]), tuple(segments), (*spoken(lengths, segments),))

    def _search(
        self,
        cut: Callable[[], Iterator[Piece]],
        samples: int,
        words: Sequence[Sequence[Sequence[int]]],
        between: Callable[[], object],
    ) -> tuple[forced.Network, forced.Route, Floats, str]:
        """The best path of a recording, probabilities of labels (T', V), and a doubt or ""."""
        decoder = self.network.decoder
        if not isinstance(decoder, HMMDecoder):
            raise DataError(
                f"text is aligned by a model with criterion=framewise or gmm, and this one "
                f"has criterion={self.network.config.criterion.name}; use another model"
            )
        is_long = samples > (LONGEST_S + CONTEXT_S) * self.sample_rate
        scale = decoder.config.acoustic_scale
        costs = forced.Costs(*(cost / scale for cost in GAPS)) if is_long else forced.Costs()
        net = decoder.network(words, filler=is_long)
        phones = sum(len(pronunciations[0]) for pronunciations in words)
        frames = self.network.config.encoded_length(samples)
        if not words:
            raise DataError("the text has no words; give what is said in the recording")
        if frames < net.least and not is_long:
            raise DataError(
                f"{frames} frames of the network, but {phones} phones need {net.least}; is this "
                f"the text of the recording?"
            )
        search = forced.Search(net, costs, THRESHOLD / scale if is_long else math.inf)
        others = [] if is_long or phones < FEW else neighbours_of(words)
        chance = [forced.Search(decoder.network(other)) for other in others]
        best = 0.0
        moments = self._moments(cut(), phones)
        probs = []
        for piece in cut():
            between()
            emissions = self.network.emissions(self.network.frames.static(piece.waveform), moments)
            first = piece.before // self.step
            emissions = emissions[first : first + -(-piece.samples // self.step)]
            require_numbers(emissions)
            scores = decoder.state_scores(emissions, prior_scale=1.0)
            best += float(scores.max(axis=1).sum())
            for one in (search, *chance):
                one.feed(scores)
            probs.append(np.exp(decoder.label_posteriors(emissions)).astype(np.float16))
        route = search.route()
        if not (route.phones >= 0).any():
            raise DataError("no path through its words fits the recording; is this its text?")
        doubt = ""
        if chance:
            by_chance = max(one.route().score for one in chance)
            share = share_of(route.score, best, by_chance)
            doubt = f"{NOT_SAID} (agreement {share:.2f})" if share < AGREEING else ""
        return net, route, np.concatenate(probs), doubt

    def _moments(self, parts: Iterable[Piece], phones: int) -> Moments | None:
        """Those of the whole recording, so that a piece of noise alone is not as loud as speech.

        With normalization=active they are of as many frames as the phones may have, the loudest:
        noise beside the speech may be nearly as loud, and last much longer.
        """
        frames = self.network.frames
        config = frames.config
        if config.normalization not in ("active", "speaker"):
            return None
        own = (p.waveform[p.before : p.before + p.samples] for p in parts)
        dynamic = (frames.dynamic(frames.static(waveform)) for waveform in own)
        if config.normalization == "speaker":
            sums = Sums()
            for one in dynamic:
                sums.add(one)
            return sums.moments()
        whole = np.concatenate(list(dynamic))
        level = level_of(whole, config)
        count = min(len(level), round(PHONE_S * phones * self.sample_rate / config.hop_samples))
        if not len(level):
            return None
        place = len(level) - max(1, count)
        within = level >= np.partition(level, place)[place]
        return of_loud(whole, within, config, frames.training)

    def _kind(self, label: int) -> str:
        """The manner of articulation of a label; "sound" for one that the table does not have."""
        (phone,) = self.network.vocabulary.decode([label])
        return "" if phone in SILENCES else self.manners.get(phone, "sound")

    def _edges(
        self,
        cut: Callable[[], Iterator[Piece]],
        starts: Sequence[int],
        kinds: Sequence[str],
        samples: int,
    ) -> Array:
        """Edges between frames of the network → the frames of `features` in which parts begin."""
        edges = np.array([self._frame(start) for start in starts])
        edges[0], edges[-1] = 0, -(-samples // self.hop_samples)
        result = edges.copy()
        for piece in cut():
            first = (piece.start - piece.before) // self.hop_samples
            own = piece.start / self.hop_samples, (piece.start + piece.samples) / self.hop_samples
            inner = np.flatnonzero((edges[1:-1] >= own[0]) & (edges[1:-1] < own[1])) + 1
            if len(inner):
                frames = self.fine.static(piece.waveform).astype(np.float64)
                near = edges[inner[0] - 1 : inner[-1] + 2] - first
                near = near.clip(0, len(frames)).tolist()
                near_kinds = kinds[inner[0] - 1 : inner[-1] + 1]
                result[inner] = np.array(refined(frames, near, near_kinds)[1:-1]) + first
        return result

    def _labels(self, word: str, pronunciation: Pronunciation) -> list[int]:
        """The labels of a word's phones; `DataError` for one without phones, or an unknown one."""
        vocabulary = self.network.vocabulary
        for phone in pronunciation:
            if phone not in vocabulary:
                checkpoint = "the vocabulary of the checkpoint"
                unknown = unknown_phone(phone, vocabulary.phones, checkpoint)
                raise DataError(f"{word!r} in the text: {unknown}" if word != phone else unknown)
        if not pronunciation:
            raise DataError(f"{word!r} in the text has a pronunciation without phones; correct it")
        return vocabulary.encode(pronunciation)

    def require_room(self, phones: Sequence[str], samples: int) -> None:
        """Raise `DataError` where audio is too short for its phones, or a phone is unknown."""
        is_list = isinstance(phones, Sequence) and not isinstance(phones, str)
        if not is_list or not all(isinstance(phone, str) for phone in phones):
            raise DataError(f"phones are {phones!r}, expected a list of strings")
        if not phones:
            raise DataError("no phones to align; remove the utterance")
        vocabulary = self.network.vocabulary
        for phone in phones:
            if phone not in vocabulary:
                name = "the vocabulary of the checkpoint"
                raise DataError(unknown_phone(phone, vocabulary.phones, name))
        frames = self.network.config.encoded_length(samples)
        needed = self.network.decoder.frames_needed(vocabulary.encode(phones))
        if frames < needed:
            raise DataError(
                f"{frames} frames of the network, but {len(phones)} phones need {needed}; is this "
                f"the transcript of the recording?"
            )

    def __call__(
        self, waveform: Waveform, emissions: Floats, phones: Sequence[str]
    ) -> tuple[Segment, ...]:
        """Phones with their times and mean probabilities, from emissions of a recording (S,)."""
        vocabulary = self.network.vocabulary
        spans = self.network.decoder.align(emissions, vocabulary.encode(phones))
        speech = self.fine.static(waveform).astype(np.float64)
        count = len(speech)
        cores = [(self._frame(span.start), self._frame(span.end)) for span in spans]
        cores = [(begin, min(end, count)) for begin, end in cores]
        edges = np.arange(count + 1) * self.hop_samples
        edges[count] = len(waveform)  # the last frame ends with the audio
        times_s = (edges / self.sample_rate).tolist()
        places = stretches(speech, cores, self.pause_frames)
        return tuple(
            Segment(phone, times_s[begin], times_s[end], span.confidence)
            for phone, span, (begin, end) in zip(phones, spans, places, strict=True)
        )

    def doubt(self, emissions: Floats, phones: Sequence[str]) -> str:
        """A sentence where phones seem to be those of another recording, or "".

        It is judged by `evidence.agreement`, of a decoder that is no HMM.
        """
        decoder, given = self.network.decoder, self.network.vocabulary.encode(phones)

        def likelihood(labels: Sequence[int]) -> float:
            return decoder.log_likelihood(emissions, labels)

        best, *_ = decoder.search(emissions, SearchConfig())
        others = [
            [word[0][0] for word in one] for one in neighbours_of([[[label]] for label in given])
        ]
        chance = max(map(likelihood, others))
        share, is_other = agreement(
            likelihood(given), likelihood(best.labels or (1,)), chance, len(given)
        )
        return f"{NOT_SAID} (agreement {share:.2f})" if is_other else ""

    def likeliest(
        self, emissions: Floats, words: Sequence[Sequence[Pronunciation]]
    ) -> list[Pronunciation]:
        """For each word the pronunciation with which the phones are likeliest, without an HMM.

        A word is tried in all its pronunciations while the others are in their first.
        """
        encode, decoder = self.network.vocabulary.encode, self.network.decoder
        first = [variants[0] for variants in words]
        if all(len(variants) == 1 for variants in words):
            return first
        chosen = []
        for n, variants in enumerate(words):
            odds = [
                decoder.log_likelihood(
                    emissions,
                    encode([p for one in (*first[:n], way, *first[n + 1 :]) for p in one]),
                )
                for way in (variants if len(variants) > 1 else ())
            ]
            chosen.append(variants[int(np.argmax(odds))] if odds else variants[0])
        return chosen

    def _frame(self, edge: int) -> int:
        """The frame of `features` that begins nearest to an edge of the network's frames."""
        place = self.network.config.time_s(edge - 0.5) * self.sample_rate / self.hop_samples
        return max(0, math.floor(place + 0.5))


@contextmanager
def _kept(
    blocks: Iterable[Waveform], step: int, sample_rate: int
) -> Iterator[tuple[int, Callable[[], Iterator[Piece]]]]:
    """Samples of a recording and its pieces, any number of times; a long one is on disk."""
    with SpooledTemporaryFile(IN_MEMORY) as file:
        for block in blocks:
            file.write(block.astype(np.float32, copy=False).tobytes())
        samples = file.tell() // 4

        def cut() -> Iterator[Piece]:
            file.seek(0)
            kept = iter(lambda: file.read(BLOCK), b"")
            return pieces((np.frombuffer(data, np.float32) for data in kept), step, sample_rate)

        yield samples, cut
