"""Known phones and their speech → the times of the phones.

A criterion gives each phone some frames of the network; frames between two phones belong to
neither. The boundary is where the speech itself changes most there, so that it is finer than the
network's frames. Nothing here reads or writes files.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, pairwise
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
import torch

from asr.audio import Waveform
from asr.batch import Batch, pad
from asr.corpora.lexicon import Pronunciation, Said
from asr.criteria.hmm import HMM
from asr.dataset import MOST_FRAMES
from asr.edges import refined, stretches
from asr.errors import DataError
from asr.features import Features, FeaturesConfig, SpeakerMoments
from asr.features.normalization import level_of, of_loud
from asr.phones import SILENCES, table_rows, unknown_phone
from asr.recognizer import Recognizer
from asr.records import Segment, Transcript
from asr.search import SearchConfig, forced
from asr.search.evidence import agreement, neighbours_of, share_of
from asr.transcriber import CONTEXT_S, LONGEST_S, SPEAKER, Piece, Warn, pieces, spoken

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
    """Forced alignment by a recogniser, which must be in evaluation mode."""

    def __init__(self, recognizer: Recognizer) -> None:
        self.recognizer = recognizer
        own = recognizer.config.features
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
        if SILENCES.isdisjoint(recognizer.vocabulary.phones):
            self.pause_frames = round(PAUSE_S * self.sample_rate / self.hop_samples)
        self.features = Features(config).to(recognizer.device)
        self.manners = {row[0]: row[1] for row in table_rows("articulation.txt")}
        self.step = own.hop_samples * recognizer.config.encoder.subsampling

    @torch.no_grad()
    def transcript(
        self,
        name: str,
        blocks: Iterable[Waveform],
        said: Sequence[Said],
        warn: Warn = warnings.warn,
    ) -> Transcript:
        """The phones and words of a recording, given in blocks (S,), with their times.

        Each word has the pronunciation that fits best. Between words, before the first and behind
        the last there may be silence, inside of words there is none. Confidences are mean
        probabilities. The criterion must be an HMM. Memory grows with the features of the frames,
        not with frames × text.

        In a recording longer than a piece of the transcriber, words that nobody says are left out,
        and sound that is not in the text belongs to no word; `warn` gets a sentence for each.
        Raises `DataError` where the recording is too short or has no path through the words, or
        a phone is unknown.
        """
        words = [[self._labels(each.word, one) for one in each.pronunciations] for each in said]
        with _kept(blocks, self.step, self.sample_rate) as (samples, cut):
            net, route, probs, doubt = self._search(cut, samples, words)
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
                (symbol,) = self.recognizer.vocabulary.decode([label])
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
    ) -> tuple[forced.Network, forced.Route, Floats, str]:
        """The best path of a recording, probabilities of labels (T', V), and a doubt or ""."""
        recognizer, criterion = self.recognizer, self.recognizer.criterion
        if not isinstance(criterion, HMM):
            raise DataError(
                f"text is aligned by a model with criterion=framewise or gmm, and this one "
                f"has criterion={recognizer.config.criterion.name}; use another model"
            )
        is_long = samples > (LONGEST_S + CONTEXT_S) * self.sample_rate
        scale = criterion.config.acoustic_scale
        costs = forced.Costs(*(cost / scale for cost in GAPS)) if is_long else forced.Costs()
        net = criterion.network(words, filler=is_long)
        phones = sum(len(pronunciations[0]) for pronunciations in words)
        frames = int(recognizer.encoded_lengths(torch.tensor([samples])))
        if not words:
            raise DataError("the text has no words; give what is said in the recording")
        if frames < net.least and not is_long:
            raise DataError(
                f"{frames} frames of the network, but {phones} phones need {net.least}; is this "
                f"the text of the recording?"
            )
        search = forced.Search(net, costs, THRESHOLD / scale if is_long else math.inf)
        others = [] if is_long or phones < FEW else neighbours_of(words)
        chance = [forced.Search(criterion.network(other)) for other in others]
        best = 0.0
        moments = self._moments(cut(), phones)
        probs = []
        for piece in cut():
            batch = Batch.of([torch.from_numpy(piece.waveform)], [SPEAKER]).to(recognizer.device)
            encoded, lengths = recognizer.encode_batch(batch, moments=moments)
            first = piece.before // self.step
            last = min(first + -(-piece.samples // self.step), int(lengths))
            emissions = criterion.emissions(encoded[:, first:last])
            criterion.require_numbers(emissions)
            scores = criterion.state_scores(emissions, prior_scale=1.0)[0].cpu().numpy()
            best += float(scores.max(axis=1).sum())
            for one in (search, *chance):
                one.feed(scores)
            probs.append(criterion.label_posteriors(emissions)[0].exp().half().cpu().numpy())
        route = search.route()
        if not (route.phones >= 0).any():
            raise DataError("no path through its words fits the recording; is this its text?")
        doubt = ""
        if chance:
            by_chance = max(one.route().score for one in chance)
            share = share_of(route.score, best, by_chance)
            doubt = f"{NOT_SAID} (agreement {share:.2f})" if share < AGREEING else ""
        return net, route, np.concatenate(probs), doubt

    def _moments(self, parts: Iterable[Piece], phones: int) -> SpeakerMoments | None:
        """Those of the whole recording, so that a piece of noise alone is not as loud as speech.

        With normalization=active they are of as many frames as the phones may have, the loudest:
        noise beside the speech may be nearly as loud, and last much longer.
        """
        recognizer, features = self.recognizer, self.recognizer.features
        own = (
            Batch.of([torch.from_numpy(p.waveform[p.before : p.before + p.samples])], [SPEAKER])
            for p in parts
        )
        if features.config.normalization != "active":
            return recognizer.moments_of(own)
        moved = (batch.to(recognizer.device) for batch in own)
        static = (features.static(one.waveforms, one.waveform_lengths) for one in moved)
        frames = torch.cat([features.dynamic(*one)[0] for one in static], dim=1)
        level = level_of(frames, features.config)
        count = min(
            level.shape[1], round(PHONE_S * phones * self.sample_rate / features.config.hop_samples)
        )
        within = level >= level.topk(max(1, count), dim=1).values[:, -1:]
        mean, std = of_loud(frames, within, features.config, (features.mean, features.std))
        return {SPEAKER: (mean[0, 0], std[0, 0])}

    def _kind(self, label: int) -> str:
        """The manner of articulation of a label; "sound" for one that the table does not have."""
        (phone,) = self.recognizer.vocabulary.decode([label])
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
                batch = Batch.of([torch.from_numpy(piece.waveform)], [SPEAKER])
                batch = batch.to(self.recognizer.device)
                speech, _ = self.features.static(batch.waveforms, batch.waveform_lengths)
                near = edges[inner[0] - 1 : inner[-1] + 2] - first
                near = near.clip(0, speech.shape[1]).tolist()
                frames = speech[0].double().cpu().numpy()
                near_kinds = kinds[inner[0] - 1 : inner[-1] + 1]
                result[inner] = np.array(refined(frames, near, near_kinds)[1:-1]) + first
        return result

    def _labels(self, word: str, pronunciation: Pronunciation) -> list[int]:
        """The labels of a word's phones; `DataError` for one without phones, or an unknown one."""
        vocabulary = self.recognizer.vocabulary
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
        """For each utterance a sentence where its transcript seems to be a wrong one, or "".

        It is judged by `evidence.agreement`. `encoded` is (N, T', D), by a criterion with a loss of
        whole transcripts, which an HMM does not have.
        """
        criterion = self.recognizer.criterion

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
    at_once = max(1, MOST_FRAMES // max(1, len(encoded)))
    losses = torch.full((len(changes),), torch.inf, device=encoded.device)
    for some in torch.split(fits.nonzero().flatten(), at_once):
        tried = replace(
            batch,
            targets=targets[some],
            target_lengths=target_lengths[some],
            ids=batch.ids[:1] * len(some),
        )
        counts = torch.full_like(tried.target_lengths, len(encoded))
        repeated = encoded.expand(len(counts), -1, -1)
        losses[some] = criterion.loss(repeated, counts, tried).detach()
    least = {n: float(losses[0]) for n in range(len(words))}
    for (n, other), loss in zip(changes[1:], losses[1:].tolist(), strict=True):
        if loss < least[n]:
            chosen[n], least[n] = other, loss
    return chosen
