"""Recordings of any length → the phones in them, with start, end and confidence.

A recording is heard piece by piece, in bounded memory. Here, and nowhere else, audio is resampled
and mixed, with a warning.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr import audio, checkpoint
from asr.audio import Waveform
from asr.batch import Batch
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.features import FeaturesConfig
from asr.recognizer import Recognizer
from asr.records import Hypothesis
from asr.search import SearchConfig
from asr.search.graph import Graph, graph_of

MODEL = Path(__file__).parent / "pretrained" / "librispeech.safetensors"
SHORTEST_S, LONGEST_S = 20.0, 40.0  # of a piece; no utterance of LibriSpeech or TIMIT is longer
CONTEXT_S = 2.0  # that the network hears on either side of a piece
QUIET_S = 0.2  # a piece ends in the middle of the quietest stretch of this length
SPEAKER = "who speaks"  # in what is normalised together: a file, or all files
REACH_S = 0.1  # a phone lasts at most so long on either side of the moment it was heard

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Heard:
    """A phone, its times in seconds from the start of the file, and its probability."""

    phone: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """The phones of a file, in order and without overlaps."""

    file: str
    duration_s: float
    phones: tuple[Heard, ...]


class Piece(NamedTuple):
    """A part of a recording, with what the network hears around it, (S,)."""

    waveform: Waveform
    start: int  # of the piece itself in the recording, in samples
    before: int  # samples of context that come first
    samples: int  # of the piece itself


class Transcriber:
    """A recogniser with the search that its file brings, or else a greedy one."""

    def __init__(self, found: Checkpoint) -> None:
        self.recognizer: Recognizer = found.recognizer
        self.search = found.search or SearchConfig()
        self.graph: Graph | None = None
        if found.language_model is not None:
            self.graph = graph_of(found.language_model, self.recognizer.vocabulary.phones)
        self.adapted = False

    def adapt(self, recordings: Iterable[Iterator[Waveform]]) -> None:
        """Normalise, from now on, by these recordings of one speaker together, each in blocks (S,).

        What cannot be read is left out. Raises `DataError` where the model normalises by its
        training set, or by the loud frames of each recording alone.
        """
        features = self.recognizer.features
        if features.config.normalization not in ("speaker", "utterance", "sliding"):
            raise DataError(
                f"--one-speaker is not for this model, which was trained with "
                f"features.normalization={features.config.normalization}; leave it out"
            )
        features.config = replace(
            features.config, normalization="speaker", cmn_window=FeaturesConfig.cmn_window
        )
        features.fit_speakers(self._batches(recordings))
        self.adapted = True

    def blocks(self, path: str | Path, warn: Warn) -> Iterator[Waveform]:
        """A file at the rate that the model takes, block by block, each (S,)."""
        config = self.recognizer.config.features
        return audio.stream(path, config.sample_rate, config.window_samples, warn)

    def _batches(self, recordings: Iterable[Iterator[Waveform]]) -> Iterator[Batch]:
        for blocks in recordings:
            with suppress(DataError):  # said when the file is heard
                for piece in pieces(blocks, self.step, self.recognizer.config.features.sample_rate):
                    yield _batch(piece)

    def transcribe(self, path: str | Path, warn: Warn) -> Transcript:
        """The phones of one file; `DataError` where it cannot be read, is too short or silent."""
        features = self.recognizer.features
        sample_rate = features.config.sample_rate
        samples = 0

        def counted() -> Iterator[Waveform]:
            nonlocal samples
            for block in self.blocks(path, warn):
                samples += len(block)
                yield block

        alone = features.speakers_of(self._batches([self.blocks(path, ignore)]))
        with nullcontext() if self.adapted else alone:
            found = [
                phone
                for piece in pieces(counted(), self.step, sample_rate)
                for phone in self._heard(piece, str(path))
            ]
        return Transcript(str(path), round(samples / sample_rate, 4), tuple(found))

    @property
    def step(self) -> int:
        """Samples from one encoded frame to the next."""
        config = self.recognizer.config
        return config.features.hop_samples * config.encoder.subsampling

    @torch.no_grad()
    def hypothesis(self, piece: Piece, name: str) -> Hypothesis:
        """What is heard in a piece, with times from its own start."""
        encoded, lengths = self.recognizer.encode(*_padded(piece.waveform), speakers=(SPEAKER,))
        first = piece.before // self.step
        last = first + -(-piece.samples // self.step)
        encoded = encoded[:, first : min(last, int(lengths))]
        own = torch.tensor([encoded.shape[1]])
        try:
            return self.recognizer.search(encoded, own, [name], self.search, self.graph)[0][0]
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def _heard(self, piece: Piece, name: str) -> list[Heard]:
        rate = self.recognizer.config.features.sample_rate
        hypothesis = self.hypothesis(piece, name)
        return placed(hypothesis, self.step / rate, piece.start / rate, piece.samples / rate)


def placed(
    hypothesis: Hypothesis, frame_s: float, start_s: float, duration_s: float
) -> list[Heard]:
    """The phones with times that follow from the moments at which they were heard.

    A boundary lies halfway between two moments, and no phone reaches further than `REACH_S`, so
    that pauses stay free. Phones heard in one frame share its time. The moments are those of the
    network, which may hear a phone anywhere in it: a boundary is right to some hundredths of a
    second. Moments count from `start_s`, where a piece of `duration_s` begins.
    """
    if hypothesis.times_s is None or hypothesis.confidences is None:
        raise DataError(f"{hypothesis.id}: this model's search does not say when a phone was heard")
    moments = _apart(hypothesis.times_s, min(frame_s, duration_s), duration_s)
    between = ((a + b) / 2 for a, b in pairwise(moments))
    boundaries = [0.0, *between, duration_s] if moments else []
    return [
        Heard(
            phone,
            round(start_s + max(before, moment - REACH_S), 4),
            round(start_s + min(after, moment + REACH_S), 4),
            confidence,
        )
        for phone, moment, confidence, (before, after) in zip(
            hypothesis.phones,
            moments,
            hypothesis.confidences,
            pairwise(boundaries),
            strict=True,
        )
    ]


def _apart(times_s: Sequence[float], frame_s: float, duration_s: float) -> list[float]:
    """Moments within the piece of which no two are equal, in order."""
    within = [min(max(time, frame_s / 2), duration_s - frame_s / 2) for time in times_s]
    found = []
    for time, same in groupby(within):
        count = len(list(same))
        found += [time + frame_s * ((n + 0.5) / count - 0.5) for n in range(count)]
    return sorted(found)


# ---------------------------------------------------------------- pieces


def pieces(blocks: Iterable[Waveform], step: int, sample_rate: int) -> Iterator[Piece]:
    """Cut a recording, which comes in blocks, where it is quietest.

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
            sought = buffer[before + shortest : before + longest]
            size = shortest + quietest(sought, step, sample_rate)
            end = before + size
            yield Piece(buffer[: end + context], start, before, size)
            start += size
            buffer = buffer[end - context :]
            before = context
    yield Piece(buffer, start, before, len(buffer) - before)


def quietest(samples: Waveform, step: int, sample_rate: int) -> int:
    """The multiple of `step` samples, from the start, around which there is least power."""
    power = np.square(samples[: len(samples) // step * step]).reshape(-1, step).sum(axis=1)
    width = max(2, round(QUIET_S * sample_rate / step))
    return step * (int(np.argmin(np.convolve(power, np.ones(width), "valid"))) + width // 2)


def _padded(waveform: Waveform) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(waveform).unsqueeze(0), torch.tensor([len(waveform)])


def _batch(piece: Piece) -> Batch:
    """A piece without its context, for normalisation by speaker."""
    own = piece.waveform[piece.before : piece.before + piece.samples]
    nothing = torch.zeros(1, 0, dtype=torch.long)
    return Batch(*_padded(own), nothing, torch.tensor([0]), None, ("",), (SPEAKER,))


def ignore(warning: str) -> None:
    """What is said of a file is said once, when it is heard."""


# ---------------------------------------------------------------- files


def load(model: str | Path | None = None) -> Transcriber:
    """The model of a file, or else the one in the package; it answers for its own checksum."""
    if model is None and not MODEL.exists():
        raise DataError(
            f"{MODEL}: no such file, this installation comes without a model; name one with "
            f"--model FILE, for example the checkpoint-best.safetensors of a run "
            f"(`make librispeech` trains one)"
        )
    try:
        return Transcriber(checkpoint.load(model or MODEL))
    except DataError as error:
        raise DataError(f"{error}{'' if model else '; install the package again'}") from error
