"""Recordings of any length → their phones, with start, end and confidence.

A recording is transcribed piece by piece, in bounded memory. Only here is audio resampled and
mixed, with a warning.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr import audio, checkpoint
from asr.audio import Waveform
from asr.batch import Batch
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.features import SpeakerMoments
from asr.files import shown
from asr.recognizer import Recognizer, encode_all
from asr.records import Hypothesis, Segment, Transcript, Word
from asr.search import SearchConfig
from asr.search.graph import Graph, graph_of
from asr.search.word_model import load_words, word_graph
from asr.symbols import require_alphabet, written

MODEL = Path(__file__).parent / "pretrained" / "librispeech.safetensors"
WORDS = MODEL.with_name("words.safetensors")
SHORTEST_S, LONGEST_S = 20.0, 40.0  # of a piece; no utterance of LibriSpeech or TIMIT is longer
CONTEXT_S = 2.0  # what the network gets on either side of a piece
QUIET_S = 0.2  # a piece ends in the middle of the quietest stretch of this length
QUIET = 4.0  # nats that a phone loses in `log_probs` where a detector finds no speech
SPEAKER = "the speaker"  # of all that is normalised together: a file, or all files
REACH_S = 0.1  # how long a phone lasts at most on either side of its moment

Warn = Callable[[str], object]
Recording = str | Path | npt.NDArray[Any] | torch.Tensor


class Piece(NamedTuple):
    """A part of a recording, with its context on both sides, (S,)."""

    waveform: Waveform
    start: int  # of the piece itself in the recording, in samples
    before: int  # samples of context that come first
    samples: int  # of the piece itself


class Transcriber:
    """A recogniser with the search of its file, or else a greedy search.

    With the `words` file of `asr words`, words are searched for, as that file says. Transcripts
    are in `symbols`, an alphabet of `asr.symbols`; None: in the model's own phones.
    """

    def __init__(
        self, loaded: Checkpoint, words: str | Path | None = None, symbols: str | None = None
    ) -> None:
        self.recognizer: Recognizer = loaded.recognizer
        require_alphabet(symbols, self.recognizer.vocabulary.phones)
        self.symbols = symbols
        self.search = loaded.search or SearchConfig()
        self.detector = loaded.detector
        self.calibration = loaded.calibration
        self.graph: Graph | None = None
        self.no_words: tuple[Word, ...] | None = None if words is None else ()
        config = self.recognizer.config
        if words is not None:
            if config.criterion.name != "ctc":
                raise DataError(
                    f"{words}: words need a model with criterion.name=ctc, and this one has "
                    f"{config.criterion.name}; use another model, or leave out words"
                )
            phones, model = self.recognizer.vocabulary.phones, load_words(words)
            self.search = model.search
            self.graph = word_graph(model, phones, where=f"{words}: ")
        elif loaded.language_model is not None:
            self.graph = graph_of(loaded.language_model, self.recognizer.vocabulary.phones)
        self.sample_rate = config.features.sample_rate
        # samples from one encoded frame to the next
        self.step = config.features.hop_samples * config.encoder.subsampling

    def one_speaker(self, recordings: Iterable[Iterator[Waveform]]) -> SpeakerMoments:
        """The moments of recordings by one speaker together, each in blocks (S,).

        They are for `transcribe` and `hypothesis`. Unreadable recordings are left out. Raises
        `DataError` where the model is normalised by its training set, by nothing, or by the loud
        frames of a recording.
        """
        features = self.recognizer.features
        if features.config.normalization not in ("speaker", "utterance", "sliding"):
            raise DataError(
                f"--one-speaker needs a model with features.normalization=speaker, utterance or "
                f"sliding, and this one has features.normalization="
                f"{features.config.normalization}; leave it out"
            )
        return features.speaker_moments(self._batches(recordings))

    def blocks(
        self, path: str | Path, warn: Warn = lambda _: None, channel: int | None = None
    ) -> Iterator[Waveform]:
        """A file at the model's sample rate, block by block, each (S,)."""
        window = self.recognizer.config.features.window_samples
        return audio.stream(path, self.sample_rate, window, warn, channel)

    def _batches(self, recordings: Iterable[Iterator[Waveform]]) -> Iterator[Batch]:
        """All pieces without their context; unreadable recordings are left out."""
        for blocks in recordings:
            with suppress(DataError):  # `transcribe` reports it
                for piece in pieces(blocks, self.step, self.sample_rate):
                    own = piece.waveform[piece.before : piece.before + piece.samples]
                    batch = Batch.of([torch.from_numpy(own)], [SPEAKER])
                    yield batch.to(self.recognizer.device)

    @overload
    def transcribe(
        self, recording: Recording, sample_rate: int | None = None, channel: int | None = None
    ) -> Transcript: ...

    @overload
    def transcribe(
        self, recording: list[Recording], sample_rate: int | None = None, channel: int | None = None
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        recording: Recording | list[Recording],
        sample_rate: int | None = None,
        channel: int | None = None,
    ) -> Transcript | list[Transcript]:
        """The phones of a recording, or of each in a list, with their times.

        A recording is the path of an audio file of any format, rate and length (`-` is standard
        input), or an array (S,) or (S, channels) with its `sample_rate` in Hz. Channels are mixed,
        or one is chosen by its number from 1. Changes and distortions of the audio are given as
        warnings. A recording without speech has no phones. Raises `DataError` where a recording
        is unreadable, or shorter than one analysis window.

            transcript = asr.load().transcribe("my.wav")
            asr.load().transcribe(samples, sample_rate=44_100, channel=2)
        """
        if isinstance(recording, list):
            return [self.transcribe(one, sample_rate, channel) for one in recording]
        if isinstance(recording, str | Path):
            _require_no_rate(recording, sample_rate)
            return self.transcribe_file(recording, warnings.warn, channel=channel)
        try:
            waveform = self.waveform(recording, sample_rate, channel)
        except audio.SilenceError as silence:
            return Transcript("", silence.duration_s, (), self.no_words)
        moments = self.recognizer.moments_of(self._batches([iter([waveform])]))
        return self._transcript("", iter([waveform]), moments)

    def waveform(
        self, recording: Recording, sample_rate: int | None = None, channel: int | None = None
    ) -> Waveform:
        """A whole recording, as for `transcribe`, at the model's sample rate, (S,)."""
        if isinstance(recording, str | Path):
            _require_no_rate(recording, sample_rate)
            return np.concatenate(list(self.blocks(recording, warnings.warn, channel)))
        if isinstance(recording, torch.Tensor):
            recording = recording.detach().cpu().numpy()
        if not isinstance(recording, np.ndarray):
            kind = type(recording).__name__
            raise DataError(f"a recording is {kind}, expected a path, an array, or a list of them")
        if sample_rate is None:
            raise DataError("an array has no sample rate of its own; set sample_rate=…, in Hz")
        window = self.recognizer.config.features.window_samples
        return audio.from_array(
            recording, sample_rate, self.sample_rate, window, warnings.warn, channel
        )

    def transcribe_file(
        self,
        path: str | Path,
        warn: Warn,
        moments: SpeakerMoments | None = None,
        channel: int | None = None,
    ) -> Transcript:
        """`transcribe` of one file, with a function that gets each warning.

        `moments` are those of `one_speaker`. Without them a model with normalization=speaker takes
        the file for all that its speaker says.
        """
        with audio.on_disk(path):
            if moments is None:
                blocks = self.blocks(path, channel=channel)
                moments = self.recognizer.moments_of(self._batches([blocks]))
            try:
                return self._transcript(shown(path), self.blocks(path, warn, channel), moments)
            except audio.SilenceError as silence:
                return Transcript(shown(path), silence.duration_s, (), self.no_words)

    def _transcript(
        self, name: str, blocks: Iterator[Waveform], moments: SpeakerMoments | None
    ) -> Transcript:
        rate, samples, phones = self.sample_rate, 0, list[Segment]()
        words = self.no_words
        for piece in pieces(blocks, self.step, rate):
            hypothesis = self.hypothesis(piece, name, moments)
            own = placed(hypothesis, self.step / rate, piece.start / rate, piece.samples / rate)
            if words is not None:
                words += tuple(spoken(hypothesis.words or (), own))
            phones += own
            samples += piece.samples
        transcript = Transcript(name, round(samples / rate, 4), tuple(phones), words)
        return written(transcript, self.symbols)

    @torch.no_grad()
    def hypothesis(
        self, piece: Piece, name: str, moments: SpeakerMoments | None = None
    ) -> Hypothesis:
        """The phones of a piece, with times from the start of the piece itself.

        Confidences are calibrated, where the model file has a calibration.
        """
        encoded, static, own = self.encoded(piece, moments)
        frame_s = self.step / self.sample_rate
        count = torch.tensor([own.stop - own.start], device=encoded.device)

        def gate(emissions: Tensor) -> Tensor:
            if self.detector is not None:
                emissions = self.detector.gate(emissions, static, frame_s)
            return emissions[:, own]

        try:
            ((best, *_),) = self.recognizer.search(
                encoded, count, [name], self.search, self.graph, gate
            )
        except DataError as error:
            raise DataError(f"{name or 'the array'}: {error}") from error
        return self.calibration.of(best) if self.calibration else best

    @torch.no_grad()
    def encoded(
        self, piece: Piece, moments: SpeakerMoments | None = None
    ) -> tuple[Tensor, Tensor, slice]:
        """A piece with its context: encoded (1, T', D), features (1, T, F), its own part of T'."""
        batch = Batch.of([torch.from_numpy(piece.waveform)], [SPEAKER]).to(self.recognizer.device)
        static, _ = self.recognizer.features.static(batch.waveforms, batch.waveform_lengths)
        batch = replace(batch, frames=static)
        encoded, lengths = self.recognizer.encode_batch(batch, moments=moments)
        frame_s = self.step / self.sample_rate
        if self.detector is not None and moments is None:
            emissions = self.recognizer.criterion.emissions(encoded)
            features = self.recognizer.features
            of_speech = self.detector.moments(emissions, static, features, frame_s)
            if of_speech is not None:  # noise is as loud as much of the speech
                moments = {SPEAKER: of_speech}
                encoded, lengths = self.recognizer.encode_batch(batch, moments=moments)
        first = piece.before // self.step
        last = min(first + -(-piece.samples // self.step), int(lengths))
        return encoded, static, slice(first, last)

    @torch.no_grad()
    def log_probs(self, blocks: Iterable[Waveform]) -> npt.NDArray[np.float32]:
        """A CTC recogniser's log-probabilities of a recording in blocks (S,): (T, V).

        Where its detector finds no speech, labels lose `QUIET`.
        """
        parts = []
        for piece in pieces(blocks, self.step, self.sample_rate):
            encoded, static, own = self.encoded(piece)
            log_probs = self.recognizer.criterion.emissions(encoded)
            if self.detector is not None:
                frame_s = self.step / self.sample_rate
                speech = self.detector.speech(log_probs, static, frame_s)
                log_probs[0, ~speech, 1:] -= QUIET
            parts.append(log_probs[0, own].float().cpu().numpy())
        return np.concatenate(parts)


def _require_no_rate(path: str | Path, sample_rate: int | None) -> None:
    if sample_rate is not None:
        raise DataError(
            f"{path}: its header has the sample rate; leave out sample_rate={sample_rate}, which "
            f"is for arrays"
        )


def placed(
    hypothesis: Hypothesis, frame_s: float, start_s: float, duration_s: float
) -> list[Segment]:
    """The phones of a piece with start and end, from the moments of a hypothesis.

    A boundary lies halfway between two moments, and no phone reaches further than `REACH_S` from
    its own, so that pauses stay free. Phones of one frame share its time. The network may place a
    moment anywhere in its phone, so a boundary is exact to some hundredths of a second. Moments
    count from `start_s`, where a piece of `duration_s` begins.
    """
    if hypothesis.times_s is None or hypothesis.confidences is None:
        raise DataError(
            f"{hypothesis.id}: this model's search gives no times of its phones; use another model"
        )
    moments = _apart(hypothesis.times_s, min(frame_s, duration_s), duration_s)
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(moments)), duration_s]
    timed = zip(hypothesis.phones, moments, hypothesis.confidences, strict=True)
    return [
        Segment(
            phone,
            round(start_s + max(edges[n], moment - REACH_S), 4),
            round(start_s + min(edges[n + 1], moment + REACH_S), 4),
            confidence,
        )
        for n, (phone, moment, confidence) in enumerate(timed)
    ]


def spoken(words: Iterable[tuple[str, int]], phones: Sequence[Segment]) -> Iterator[Word]:
    """Words, each with its number of `phones`; their confidence is the mean of their phones'."""
    begin = 0
    for word, count in words:
        own = phones[begin : begin + count]
        begin += count
        confidence = round(sum(one.confidence or 0.0 for one in own) / count, 4)
        names = tuple(one.phone for one in own)
        yield Word(word, own[0].start_s, own[-1].end_s, confidence, names)


def _apart(times_s: Sequence[float], frame_s: float, duration_s: float) -> list[float]:
    """Different moments within the piece, in order."""
    within = [min(max(time, frame_s / 2), duration_s - frame_s / 2) for time in times_s]
    moments = []
    for time, same in groupby(within):
        count = len(list(same))
        moments += [time + frame_s * ((n + 0.5) / count - 0.5) for n in range(count)]
    return sorted(moments)


def pieces(blocks: Iterable[Waveform], step: int, sample_rate: int) -> Iterator[Piece]:
    """Cut a recording, given in blocks, where it is quietest.

    Pieces follow each other without gap or overlap, each with `CONTEXT_S` on both sides, and are
    `SHORTEST_S` to `LONGEST_S` long, the last `CONTEXT_S` to `LONGEST_S` + `CONTEXT_S`. They begin
    at multiples of `step` samples, so that the frames of a piece are those of the whole recording.
    Holds one piece and one block in memory.
    """
    shortest, longest, context = (
        int(seconds * sample_rate) // step * step for seconds in (SHORTEST_S, LONGEST_S, CONTEXT_S)
    )
    buffer = np.zeros(0, dtype=np.float32)
    before = start = 0  # samples of context in the buffer; where the piece begins in the recording
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > before + longest + context:
            candidates = buffer[before + shortest : before + longest]
            size = shortest + quietest(candidates, step, sample_rate)
            end = before + size
            yield Piece(buffer[: end + context], start, before, size)
            start += size
            buffer = buffer[end - context :]
            before = context
    yield Piece(buffer, start, before, len(buffer) - before)


def quietest(samples: Waveform, step: int, sample_rate: int) -> int:
    """The multiple of `step` samples, from the start, with the least power around it."""
    power = np.square(samples[: len(samples) // step * step]).reshape(-1, step).sum(axis=1)
    width = max(2, round(QUIET_S * sample_rate / step))
    return step * (int(np.argmin(np.convolve(power, np.ones(width), "valid"))) + width // 2)


def load(
    model: str | Path | None = None,
    device: torch.device | str = "cpu",
    words: str | Path | bool | None = None,
    symbols: str | None = None,
) -> Transcriber:
    """The model of a file, or else the packaged model, whose error says to install again.

    `words` is a file of words; True: the packaged one. `symbols` are those of `Transcriber`.
    """
    require_alphabet(symbols)
    if model is None and not MODEL.exists():
        raise DataError(
            f"{MODEL}: no such file, this installation has no packaged model; name a model with "
            f"--checkpoint FILE, for example checkpoint-best.safetensors of a run "
            f"(`make librispeech` trains one)"
        )
    if words is True and not WORDS.exists():
        raise DataError(
            f"{WORDS}: no such file, this installation has no packaged words; name a file of words "
            f"with --words-file FILE (`asr words` makes one), or leave --words out"
        )
    words = (WORDS if words is True else words) or None
    try:
        loaded = checkpoint.load(model or MODEL, device, language_model=words is None)
    except DataError as error:
        raise DataError(f"{error}{'' if model else '; install the package again'}") from error
    return Transcriber(loaded, words, symbols)


def transcribe_all(
    recognizer: Recognizer,
    batches: Iterable[Batch],
    search: SearchConfig,
    graph: Graph | None = None,
) -> dict[str, Hypothesis]:
    """The best hypothesis of every utterance, by id; leaves the recogniser in evaluation mode."""
    return {
        id: n_best[0]
        for batch, encoded, lengths in encode_all(recognizer, batches)
        for id, n_best in zip(
            batch.ids, recognizer.search(encoded, lengths, batch.ids, search, graph), strict=True
        )
    }
