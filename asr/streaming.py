"""Phones of speech while it comes: samples in, and phones out as soon as they are final.

    stream = asr.load(streaming=True).stream()
    for chunk in microphone:  # (S,) float32 at stream.sample_rate, of any size
        for phone in stream.feed(chunk):
            print(phone.phone, phone.start_s, phone.end_s)
    last = stream.finish()

Samples are computed in blocks of one encoded frame, counted from the first sample, and each block
continues the state of the one before. So the phones, their times and their confidences are those of
`Transcriber.transcribe` bit for bit, whatever the size of the chunks: it runs this code.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.audio import checks
from asr.detector import Listening
from asr.errors import DataError, raise_problems
from asr.features.moments import Moments
from asr.features.running import Running
from asr.lstm.inference import Steps, product
from asr.network import CompiledNetwork, Model
from asr.phones import fold_to_arpabet
from asr.records import Segment, Transcript
from asr.search.decisions import Label, Streaming, decisions_of
from asr.search.decoders import logsumexp
from asr.symbols import written

GAP_S = 0.1  # between two phones is a pause; a shorter one belongs to the second phone
LEAST_S = 0.01  # that a phone lasts
TOLD = 1000  # frames of which it is kept whether somebody spoke
GIVEN_BACK = 300  # frames after which the memory of the n-gram is given back

Array = npt.NDArray[np.float32]


class Stream:
    """The phones of one stream of samples; `Transcriber.stream` makes it.

    A phone is final when `feed` or `finish` returns it. Times are seconds from the first sample. A
    phone begins where the one before ended, or behind a pause, `model.streaming` before its moment.
    """

    def __init__(self, model: Model, symbols: str | None = None) -> None:
        network = require_stream(model)
        if symbols == "arpabet" and {*network.vocabulary.phones} & {*fold_to_arpabet().releases}:
            raise DataError(
                "symbols=arpabet joins a closure with the phone behind it, which a stream does not "
                "know; use timit or ipa"
            )
        self.sample_rate = network.config.features.sample_rate
        self.model, self.symbols = model, symbols
        self._network, features = network, network.config.features
        stacked = network.config.encoder.subsampling
        self._window = features.window_samples
        self._needed = (stacked - 1) * features.hop_samples + features.window_samples
        self._samples = np.zeros(0, np.float32)  # from the first one of the next block
        self._running = None
        if features.normalization == "running":
            assert network.frames.training is not None
            self._running = Running(features, network.frames.training)
        self._steps = Steps(network.stack)
        self._head = np.ascontiguousarray(network.head["head.weight"].T)
        frame_s = network.step / self.sample_rate
        size = len(network.vocabulary)
        self._how = model.streaming or Streaming()
        self._decisions = decisions_of(model.search, self._how, size, frame_s, model.graph)
        self._detector = Listening(model.detector, frame_s) if model.detector else None
        self._speech: deque[bool] = deque(maxlen=TOLD)  # of the last frames that are known
        self._told = 0  # frames that are known
        self._held: deque[Label] = deque()  # decided, but it is not known whether somebody spoke
        self._end_s: float | None = None  # of the last phone
        self._is_finished = False
        self._use = Lock()

    def feed(self, samples: npt.ArrayLike) -> list[Segment]:
        """The next samples, (S,) floats in [-1, 1], any number: the phones that became final.

        Raises `DataError` for another type or shape, for samples that are NaN, infinite or far
        beyond [-1, 1], after `finish`, and while another thread feeds it.
        """
        self._require_open()
        chunk = np.asarray(samples)
        if chunk.ndim != 1 or chunk.dtype.kind != "f":
            raise DataError(
                f"a chunk of the stream: shape {chunk.shape} {chunk.dtype}, expected (samples,) of "
                f"floats in [-1, 1]; take one channel, and divide integers by full scale, which is "
                f"32768 for 16 bits"
            )
        raise_problems(checks.no_samples_of_audio("a chunk of the stream", chunk))
        with self._alone():
            return self._fed(chunk)

    def _fed(self, chunk: npt.NDArray[Any]) -> list[Segment]:
        waiting = np.concatenate([self._samples, chunk.astype(np.float32)])
        phones, begin = list[Segment](), 0
        while len(waiting) - begin >= self._needed:
            phones += self._block(waiting[begin : begin + self._needed])
            begin += self._network.step
        self._samples = waiting[begin:].copy()
        return self._written(phones)

    def finish(self) -> list[Segment]:
        """The last phones, when no sample is left; the stream is then at its end."""
        self._require_open()
        with self._alone():
            return self._finished()

    def _finished(self) -> list[Segment]:
        self._is_finished = True
        phones = list[Segment]()
        if len(self._samples) >= self._window:
            phones = self._block(self._samples)
        self._held.extend(self._decisions.finish())
        if self._detector is not None:
            self._tell(self._detector.finish())
        return self._written([*phones, *self._final()])

    @property
    def partial(self) -> list[Segment]:
        """What follows the final phones if nothing more is said; it changes with further samples.

        Here may be phones where `feed` will find that nobody spoke.
        """
        end_s, phones = self._end_s, list[Segment]()
        for label in () if self._is_finished else (*self._held, *self._decisions.open()):
            if self._speaks(label) is not False:
                phones.append(self._segment(label, end_s))
                end_s = phones[-1].end_s
        return self._written(phones)

    @property
    def heard_s(self) -> float:
        """Seconds that all frames so far have heard."""
        samples = self._decisions.frames * self._network.step + self._needed - self._network.step
        return samples / self.sample_rate

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._use.acquire(blocking=False):
            raise DataError(
                "another thread feeds this stream; give each thread a stream of its own"
            )
        try:
            yield
        finally:
            self._use.release()

    def _require_open(self) -> None:
        if self._is_finished:
            raise DataError("the stream is at its end; begin another with Transcriber.stream()")

    def _block(self, samples: Array) -> list[Segment]:
        """One encoded frame further: its samples, fewer in the last block."""
        network, first = self._network, self._decisions.frames * self._network.step
        static = network.frames.static(samples, first=first)
        moments: Moments | None = None if self._running is None else self._running(static)
        frames = network.frames.normalised(static, moments)
        missing = network.config.encoder.subsampling - len(frames)
        encoded = self._steps(np.pad(frames, ((0, missing), (0, 0))).reshape(-1))
        log_probs = product(self._head, encoded) + network.head["head.bias"]
        log_probs -= logsumexp(log_probs)
        if self._detector is not None:
            spectrum = np.pad(static, ((0, missing), (0, 0)), mode="edge")
            self._tell(self._detector.feed(log_probs[None], spectrum))
        self._held.extend(self._decisions.feed(log_probs))
        if self.model.graph is not None and self._decisions.frames % GIVEN_BACK == 0:
            self.model.graph.give_back()
        return list(self._final())

    def _tell(self, speech: list[bool]) -> None:
        self._speech.extend(speech)
        self._told += len(speech)

    def _speaks(self, label: Label) -> bool | None:
        """Whether somebody spoke in the frame of a label; None: not known yet."""
        if self._detector is None:
            return True
        if label.frame >= self._told:
            return None
        return self._speech[max(0, len(self._speech) - (self._told - label.frame))]

    def _final(self) -> Iterator[Segment]:
        while self._held and (speaks := self._speaks(self._held[0])) is not None:
            label = self._held.popleft()
            if speaks:
                phone = self._segment(label, self._end_s)
                self._end_s = phone.end_s
                yield phone

    def _segment(self, label: Label, before_s: float | None) -> Segment:
        """A label as a phone, behind one that ended at `before_s`."""
        moment_s = self._network.config.time_s(label.frame)
        start_s = max(0.0, moment_s + self._how.start_s)
        if before_s is not None and start_s < before_s + GAP_S:
            start_s = before_s
        end_s = max(start_s + LEAST_S, min(moment_s + self._how.end_s, self.heard_s))
        confidence = label.confidence
        if self.model.calibration is not None:
            confidence = float(self.model.calibration([confidence])[0])
        phone = self._network.vocabulary.decode([label.label])[0]
        return Segment(phone, round(start_s, 4), round(end_s, 4), round(confidence, 4))

    def _written(self, phones: list[Segment]) -> list[Segment]:
        return list(written(Transcript("", 0.0, tuple(phones)), self.symbols).phones)


def require_stream(model: Model) -> CompiledNetwork:
    """The network of a model that can stream; `DataError` says why another one cannot."""
    if (reason := obstacle(model)) is not None:
        raise DataError(
            f"the model cannot stream: {reason}; the packaged one for streams is "
            f"asr.load(streaming=True)"
        )
    assert isinstance(model.network, CompiledNetwork)
    return model.network


def obstacle(model: Model) -> str | None:
    """What keeps a model from a stream, as a clause; None: nothing."""
    network, detector = model.network, model.detector
    if (reason := network.config.reads_ahead) is not None:
        return reason
    if not isinstance(network, CompiledNetwork):
        return "it runs by torch, and a stream needs the compiled network"
    if detector is not None and detector.ahead_s is None:
        return "its detector of speech is one for whole recordings"
    return None
