"""Door: audio files → the phones in them, with start, end and confidence.

    asr transcribe my.wav
    asr transcribe *.mp3 --format textgrid --output phones
    asr transcribe my.wav --model exp/timit/1/checkpoint-best.safetensors
    asr transcribe anna/*.wav --one-speaker

Any format, rate and number of channels that libsndfile reads: here, and nowhere else, audio is
resampled and mixed, with a warning. A recording of any length is heard piece by piece, in bounded
memory. A bad file gets one line, and the others are transcribed all the same. Nothing is scored.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr import audio, checkpoint, textgrid
from asr.audio import Waveform
from asr.batch import Batch
from asr.checkpoint import Checkpoint
from asr.criteria import SearchConfig
from asr.features import FeaturesConfig
from asr.language_model import Graph
from asr.language_model import graph as graph_of
from asr.recognizer import Recognizer
from asr.records import DataError, Hypothesis, atomic_open, exit_code, raise_problems

MODEL = Path(__file__).parent / "models" / "librispeech.safetensors"
FORMATS = {"text": ".txt", "json": ".json", "textgrid": ".TextGrid"}
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

        alone = features.speakers_of(self._batches([self.blocks(path, _ignore)]))
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


def _ignore(warning: str) -> None:
    """What is said of a file is said once, when it is heard."""


# ---------------------------------------------------------------- files


def run(
    files: Sequence[str | Path],
    model: str | Path | None = None,
    format_name: str = "text",
    output: str | Path | None = None,
    one_speaker: bool = False,
) -> list[str]:
    """Transcribe files to standard output, or each into a file of the folder `output`.

    With `one_speaker` the same person speaks in all of them, and they are normalised together.

    Returns a sentence for each file that could not be; warnings and these go to standard error too.
    Raises `DataError` before anything is transcribed where the model is missing or damaged, or two
    results would get one name.
    """
    targets = _targets(files, format_name, output)
    transcriber = load(model)
    if one_speaker:
        transcriber.adapt(transcriber.blocks(path, _ignore) for path in files)
    problems: list[str] = []
    for path, target in zip(files, targets, strict=True):
        try:
            text = in_format(transcriber.transcribe(path, _warn), format_name)
        except DataError as error:
            problems.extend(error.problems)
            print(f"error: {error}", file=sys.stderr)
            continue
        if target is None:
            print(text, end="", flush=True)
        else:
            with atomic_open(target) as file:
                file.write(text)
    return problems


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


def in_format(transcript: Transcript, format_name: str) -> str:
    """As text with a phone a line, one JSON object in a line, or Praat's TextGrid."""
    if format_name == "json":
        return json.dumps(asdict(transcript), ensure_ascii=False) + "\n"
    if format_name == "textgrid":
        phones = [(one.start_s, one.end_s, one.phone) for one in transcript.phones]
        confidences = [(s.start_s, s.end_s, f"{s.confidence:.2f}") for s in transcript.phones]
        tiers = {"phones": phones, "confidences": confidences}
        return textgrid.text_of(tiers, transcript.duration_s)
    said = " ".join(one.phone for one in transcript.phones)
    lines = [f"# {transcript.file}, {transcript.duration_s:.2f} s: {said}"]
    lines += [
        f"{one.start_s:9.3f} {one.end_s:9.3f}  {one.phone:<5} {one.confidence:.2f}"
        for one in transcript.phones
    ]
    return "\n".join(lines) + "\n"


def _targets(
    files: Sequence[str | Path], format_name: str, output: str | Path | None
) -> list[Path | None]:
    """The file that each result goes to; None: standard output."""
    if output is None:
        if format_name == "textgrid" and len(files) > 1:
            raise DataError("a TextGrid holds one recording; give --output FOLDER for several")
        return [None for _ in files]
    folder = Path(output)
    inputs = {Path(path).resolve() for path in files}
    targets = [folder / f"{Path(path).stem}{FORMATS[format_name]}" for path in files]
    first: dict[str, str | Path] = {}
    problems = []
    for path, target in zip(files, targets, strict=True):
        other = first.setdefault(target.name.lower(), path)
        if other is not path:
            problems.append(f"{path}: would be written to {target}, and so would {other}")
        elif target.resolve() in inputs:
            problems.append(f"{path}: would be written to {target}, which is one of the inputs")
    raise_problems(problems)
    folder.mkdir(parents=True, exist_ok=True)
    return list(targets)


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0 done, 1 a file or the model is bad, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="asr transcribe", description="Write the phones of audio files, with their times."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio of any rate and length")
    parser.add_argument("--model", type=Path, help="a checkpoint; else the one in the package")
    parser.add_argument("--format", choices=sorted(FORMATS), default="text")
    parser.add_argument("--output", type=Path, help="folder for one file each; else it is printed")
    parser.add_argument(
        "--one-speaker",
        action="store_true",
        help="one person speaks in all files: better for files of some seconds",
    )
    options = parser.parse_args(arguments)
    problems = run(
        options.files, options.model, options.format, options.output, options.one_speaker
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
