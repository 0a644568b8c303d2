"""Recordings of any length → their phones, with start, end and confidence.

A recording is transcribed piece by piece, in bounded memory. Only here is audio resampled and
mixed, with a warning.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Union, cast, overload

import numpy as np
import numpy.typing as npt

from asr import audio, model_file, network, streaming
from asr.architecture import CTCConfig
from asr.audio import InMemory, Waveform
from asr.errors import DataError, pip_install
from asr.features.moments import Moments, Sums
from asr.files import shown
from asr.network import Model, Network
from asr.records import Hypothesis, Segment, Transcript, Word
from asr.search import SearchConfig
from asr.search.decoders import CTCDecoder, HMMDecoder, hypothesis
from asr.search.graph import kept_graph
from asr.search.word_model import kept_word_graph, require_words
from asr.streaming import Stream, require_stream
from asr.symbols import require_alphabet, written

if TYPE_CHECKING:
    from torch import Tensor

MODEL = Path(__file__).parent / "pretrained" / "librispeech.safetensors"
STREAMING = MODEL.with_name("streaming.safetensors")
WORDS = MODEL.with_name("words.safetensors")
SHORTEST_S, LONGEST_S = 20.0, 40.0  # of a piece; no utterance of LibriSpeech or TIMIT is longer
CONTEXT_S = 2.0  # what the network gets on either side of a piece
QUIET_S = 0.2  # a piece ends in the middle of the quietest stretch of this length
QUIET = 4.0  # nats that a phone loses in `log_probs` where a detector finds no speech
REACH_S = 0.1  # how long a phone lasts at most on either side of its moment

Warn = Callable[[str], object]
See = Callable[[npt.NDArray[Any]], object]
Recording = Union[str, Path, npt.NDArray[Any], "Tensor"]


class Piece(NamedTuple):
    """A part of a recording, with its context on both sides, (S,)."""

    waveform: Waveform
    start: int  # of the piece itself in the recording, in samples
    before: int  # samples of context that come first
    samples: int  # of the piece itself


class Transcriber:
    """A model with the search of its file, or else a greedy search.

    With the `words` file of `asr words`, words are searched for, as that file says. Transcripts
    are in `symbols`, an alphabet of `asr.symbols`; None: in the model's own phones.
    """

    def __init__(
        self, model: Model, words: str | Path | None = None, symbols: str | None = None
    ) -> None:
        self.network, self.search, self.graph, self.detector, self.calibration, self.streaming = (
            model
        )
        phones = self.network.vocabulary.phones
        require_alphabet(symbols, phones)
        self.symbols = symbols
        self.no_words: tuple[Word, ...] | None = None if words is None else ()
        self.config = self.network.config
        if words is not None:
            if not isinstance(self.config.criterion, CTCConfig):
                raise DataError(
                    f"{words}: words need a model with criterion.name=ctc, and this one has "
                    f"{self.config.criterion.name}; use another model, or leave out words"
                )
            self.graph = of_words = kept_word_graph(words, phones)
            self.search = of_words.tuned
        self.sample_rate = self.config.features.sample_rate
        self.step = self.network.step
        self.streams = words is None and streaming.obstacle(model) is None

    def stream(self) -> Stream:
        """A stream of samples, whose phones come out while it goes on.

        They are those that `transcribe` gives for all of it. Raises `DataError` where the model
        needs to know what follows, and of a transcriber of words.
        """
        if self.no_words is not None:
            raise DataError("words are searched for in a whole recording; leave out words")
        return self._stream(self.symbols)

    def _stream(self, symbols: str | None) -> Stream:
        parts = self.search, self.graph, self.detector, self.calibration, self.streaming
        return Stream(Model(self.network, *parts), symbols)

    def one_speaker(self, recordings: Iterable[Iterator[Waveform]]) -> Moments | None:
        """The moments of recordings by one speaker together, each in blocks (S,); None of nothing.

        They are for `transcribe_file` and `hypothesis`. Unreadable recordings are left out. Raises
        `DataError` where the model is normalised by its training set, by nothing, or by the loud
        frames of a recording.
        """
        normalization = self.config.features.normalization
        if normalization not in ("speaker", "utterance", "sliding"):
            raise DataError(
                f"one-speaker needs a model with features.normalization=speaker, utterance or "
                f"sliding, and this one has features.normalization={normalization}; leave it out"
            )
        sums, frames = Sums(), self.network.frames
        for blocks in recordings:
            with suppress(DataError):  # `transcribe` reports it
                for piece in pieces(blocks, self.step, self.sample_rate):
                    own = piece.waveform[piece.before : piece.before + piece.samples]
                    sums.add(frames.dynamic(frames.static(own)))
        return sums.moments() if sums.count else None

    def _of_speaker(self, blocks: Iterator[Waveform]) -> Moments | None:
        """Those of a whole recording, where the model is normalised by speaker."""
        if self.config.features.normalization != "speaker":
            return None
        return self.one_speaker([blocks])

    def blocks(
        self,
        path: str | Path | InMemory,
        warn: Warn = lambda _: None,
        channel: int | None = None,
    ) -> Iterator[Waveform]:
        """A file at the model's sample rate, block by block, each (S,)."""
        window = self.config.features.window_samples
        return audio.stream(path, self.sample_rate, window, warn, channel)

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
            warnings.warn(f"{silence}", stacklevel=2)
            return Transcript("", silence.duration_s, (), self.no_words)
        moments = self._of_speaker(iter([waveform]))
        return self.transcribe_blocks("", iter([waveform]), moments)

    def waveform(
        self, recording: Recording, sample_rate: int | None = None, channel: int | None = None
    ) -> Waveform:
        """A whole recording, as for `transcribe`, at the model's sample rate, (S,)."""
        if isinstance(recording, str | Path):
            _require_no_rate(recording, sample_rate)
            return np.concatenate(list(self.blocks(recording, warnings.warn, channel)))
        if type(recording).__module__.partition(".")[0] == "torch":
            recording = cast("Tensor", recording).detach().cpu().numpy()
        if not isinstance(recording, np.ndarray):
            kind = type(recording).__name__
            raise DataError(f"a recording is {kind}, expected a path, an array, or a list of them")
        if sample_rate is None:
            raise DataError("an array has no sample rate of its own; set sample_rate=…, in Hz")
        window = self.config.features.window_samples
        return audio.from_array(
            recording, sample_rate, self.sample_rate, window, warnings.warn, channel
        )

    def transcribe_file(
        self,
        path: str | Path | InMemory,
        warn: Warn,
        moments: Moments | None = None,
        channel: int | None = None,
    ) -> Transcript:
        """`transcribe` of one file, with a function that gets each warning.

        `moments` are those of `one_speaker`. Without them a model with normalization=speaker takes
        the file for all that its speaker says.
        """
        name = path.name if isinstance(path, InMemory) else shown(path)
        with audio.on_disk(path):
            if moments is None:
                moments = self._of_speaker(self.blocks(path, channel=channel))
            blocks = self.blocks(path, warn, channel)
            return self.transcribe_blocks(name, blocks, moments, warn=warn)

    def transcribe_blocks(
        self,
        name: str,
        blocks: Iterator[Waveform],
        moments: Moments | None = None,
        see: See = lambda _: None,
        warn: Warn = lambda _: None,
    ) -> Transcript:
        """`transcribe_file` of a recording in blocks (S,); `see` gets the emissions of each piece.

        These are what the network says, before a detector of speech changes them. `warn` gets a
        sentence where all is silence.
        """
        rate, samples, phones = self.sample_rate, 0, list[Segment]()
        words = self.no_words
        try:
            if self.streams:
                return self._streamed(name, blocks)
            for piece in pieces(blocks, self.step, rate):
                hypothesis = self.hypothesis(piece, name, moments, see)
                if self.graph is not None:
                    self.graph.give_back()
                own = placed(hypothesis, self.step / rate, piece.start / rate, piece.samples / rate)
                if words is not None:
                    words += tuple(spoken(hypothesis.words or (), own))
                phones += own
                samples += piece.samples
        except audio.SilenceError as silence:
            warn(f"{silence}")
            return Transcript(name, silence.duration_s, (), self.no_words)
        transcript = Transcript(name, round(samples / rate, 4), tuple(phones), words)
        return written(transcript, self.symbols)

    def _streamed(self, name: str, blocks: Iterator[Waveform]) -> Transcript:
        stream, samples, phones = self._stream(None), 0, list[Segment]()
        for block in blocks:
            try:
                phones += stream.feed(block)
            except DataError as error:
                raise DataError(f"{name or 'the array'}: {error}") from error
            samples += len(block)
        phones += stream.finish()
        seconds = round(samples / self.sample_rate, 4)
        return written(Transcript(name, seconds, tuple(phones)), self.symbols)

    def hypothesis(
        self, piece: Piece, name: str, moments: Moments | None = None, see: See = lambda _: None
    ) -> Hypothesis:
        """The phones of a piece, with times from the start of the piece itself.

        Confidences are calibrated, where the model file has a calibration.
        """
        emissions, static, own = self.emissions(piece, moments)
        see(emissions[own])
        if self.detector is not None:
            emissions = self.detector.gate(emissions, static, self.step / self.sample_rate)
        try:
            best, *_ = self.network.decoder.search(emissions[own], self.search, self.graph)
        except DataError as error:
            raise DataError(f"{name or 'the array'}: {error}") from error
        result = hypothesis(name, best, self.network.vocabulary, self.config)
        return self.calibration.of(result) if self.calibration else result

    def emissions(
        self, piece: Piece, moments: Moments | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], slice]:
        """Of a piece with its context: (T', E), static frames (T, F), its own part of T'."""
        static = self.network.frames.static(piece.waveform)
        emissions, _ = self._heard(static, moments)
        first = piece.before // self.step
        last = min(first + -(-piece.samples // self.step), len(emissions))
        return emissions, static, slice(first, last)

    def _heard(
        self, static: npt.NDArray[Any], moments: Moments | None
    ) -> tuple[npt.NDArray[Any], Moments | None]:
        """Emissions of static frames, and the moments that they are normalised by."""
        emissions = self.network.emissions(static, moments)
        if self.detector is not None and moments is None:
            frames, frame_s = self.network.frames, self.step / self.sample_rate
            of_speech = self.detector.moments(emissions, static, frames, frame_s)
            if of_speech is not None:  # noise is as loud as much of the speech
                return self.network.emissions(static, of_speech), of_speech
        return emissions, moments

    def gates(
        self,
        blocks: Iterable[Waveform],
        layer: int,
        direction: int,
        start_s: float,
        end_s: float,
        moments: Moments | None = None,
    ) -> tuple[float, dict[str, npt.NDArray[np.float32]]]:
        """Of a recording in blocks (S,): the time of the first step, and gates (T', H) by name.

        Layers are counted from 1, direction 1 is the backward one. The steps are those from
        `start_s` to `end_s`, as far as the recording goes. Values are those of `transcribe`.
        """
        parts: list[dict[str, npt.NDArray[np.float32]]] = []
        edges = [round(edge_s * self.sample_rate / self.step) for edge_s in (start_s, end_s)]
        first = None
        for piece in pieces(blocks, self.step, self.sample_rate):
            begin, before = piece.start // self.step, piece.before // self.step
            static = self.network.frames.static(piece.waveform)
            steps = self.config.encoded_length(len(piece.waveform)) - before
            steps = min(-(-piece.samples // self.step), steps)
            low, high = max(edges[0] - begin, 0), min(edges[1] - begin, steps)
            if low >= high:
                continue
            own = slice(before + low, before + high)
            _, used = self._heard(static, moments)
            gates = self.network.gates(static, used, layer - 1, direction)
            parts.append({name: gate[own] for name, gate in gates.items()})
            first = begin + low if first is None else first
        names = parts[0] if parts else ()
        joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return self.config.time_s(first or 0), joined

    def posteriors(self, emissions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """P(label | step) of emissions (T', E), as `see` gets them: (T', V)."""
        decoder = self.network.decoder
        assert isinstance(decoder, CTCDecoder | HMMDecoder), type(decoder)
        return np.exp(decoder.label_posteriors(emissions))

    def log_probs(self, blocks: Iterable[Waveform]) -> npt.NDArray[np.float32]:
        """A CTC recogniser's log-probabilities of a recording in blocks (S,): (T, V).

        Where its detector finds no speech, labels lose `QUIET`.
        """
        parts = []
        for piece in pieces(blocks, self.step, self.sample_rate):
            log_probs, static, own = self.emissions(piece)
            if self.detector is not None:
                speech = self.detector.speech(log_probs, static, self.step / self.sample_rate)
                log_probs[~speech, 1:] -= np.float32(QUIET)
            parts.append(log_probs[own])
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
    device: str = "cpu",
    words: str | Path | bool | None = None,
    symbols: str | None = None,
    stream: bool = False,
) -> Transcriber:
    """The model of a file, or else a packaged model, whose error says to install again.

    `words` is a file of words; True: the packaged one. `symbols` are those of `Transcriber`. With
    `stream` the packaged model is the one that can stream, and `DataError` says why another cannot.
    """
    require_alphabet(symbols)
    if stream and words:
        raise DataError(
            "words are searched for in a whole recording; leave out words, or streaming"
        )
    packaged = STREAMING if stream else MODEL
    if model is None and not packaged.exists():
        which, made = ("model for streams", "-stream") if stream else ("model", "")
        raise DataError(
            f"{packaged}: no such file, this installation has no packaged {which}; name the "
            f"file of a model (checkpoint), for example checkpoint-best.safetensors of a run "
            f"(`make librispeech{made and ' EXPERIMENT=librispeech-18h-stream'}` trains one)"
        )
    if words is True and not WORDS.exists():
        raise DataError(
            f"{WORDS}: no such file, this installation has no packaged words; name a file of words "
            f"(`asr words` makes one), or leave words out"
        )
    words = (WORDS if words is True else words) or None
    if words is not None:
        require_words(words)  # before the model, whose first use takes seconds
    try:
        path = packaged if model is None else model
        loaded = load_model(path, device, language_model=words is None)
    except DataError as error:
        hint = "; install the package again" if model is None else ""
        raise DataError(f"{error}{hint}") from error
    if stream:
        try:
            require_stream(loaded)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return Transcriber(loaded, words, symbols)


def load_model(path: str | Path, device: str = "cpu", language_model: bool = True) -> Model:
    """The model of a file; raises `DataError` where it is absent, damaged, or of an unknown format.

    On a CPU it needs no torch, unless the model is a transducer. A model that can stream runs on
    the CPU everywhere, where its streams are those of whole recordings.
    """
    on_cpu = device == "cpu"
    file = model_file.read_weights(path, network.shapes_of) if on_cpu else model_file.read(path)
    file.require_sizes()
    if (on_cpu or file.config.reads_ahead is None) and network.runs(file.config):
        loaded: Network = network.load(file)
    else:
        try:
            from asr import by_torch
        except ModuleNotFoundError as error:
            name = file.config.criterion.name
            what = f"criterion.name is {name}" if on_cpu else f"device is {device}"
            install = pip_install("train")
            raise DataError(
                f"{path}: {what}, which needs torch, and torch is not installed; run: {install}"
            ) from error
        loaded = by_torch.load(file, device)
    header, graph = file.header, None
    if language_model and file.has_language_model:
        phones = loaded.vocabulary.phones
        graph = kept_graph(file.sha256, phones, file.language_model, f"{path}")
    search = header.search or SearchConfig()
    return Model(loaded, search, graph, header.detector, header.calibration, header.streaming)
