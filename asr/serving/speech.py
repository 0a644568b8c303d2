"""What is said of one recording: its waveform, phones and words, their times, scores and gates.

The models are loaded once. Every method takes a whole file in memory, and needs no other request:
nothing is kept between two of them. Records are objects of JSON. Nothing here knows HTTP.
"""

import base64
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from asr import __version__, alignment, audio, transcriber
from asr.aligner import Aligner
from asr.architecture import BLOCKS
from asr.assessment import Assessor, in_symbols
from asr.audio import InMemory, Waveform
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.labels.formats import NO_SPEECH
from asr.lstm.inference import GATES
from asr.network import Model
from asr.records import Transcript
from asr.search.decoders import CTCDecoder, HMMDecoder
from asr.serving.limits import Limits, TooMuchError
from asr.symbols import ALPHABETS, require_alphabet, written
from asr.transcriber import Transcriber, Warn

DIRECTIONS = ("forwards", "backwards")
GATES_S = 60.0  # of which gates are given at once

Record = dict[str, Any]


class NotAudioError(DataError):
    """A file that is no audio that can be read."""


class StoppedError(DataError):
    """The server ends, or nobody waits for the answer any more."""


class Speech:
    """Recogniser and aligner, and what they can do together.

    `checkpoint`, `words` and `device` are those of `transcriber.load`; without a file of words, the
    packaged one is used where it suits the recogniser.
    """

    def __init__(
        self,
        limits: Limits,
        checkpoint: str | Path | None = None,
        words: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.limits, self.stopped = limits, Event()
        self.left = Event()  # set while a recording is worked on: nobody waits for the result
        self.phones = transcriber.load(checkpoint, device)
        self.name = Path(checkpoint or transcriber.MODEL).stem
        self.words = self._with_words(words)
        self.aligner = Aligner(alignment.load(device=device).network)
        self.assessor: Assessor | None = None
        with suppress(DataError):  # the recogniser has other phones, or no CTC
            self.assessor = Assessor(self.phones, self.aligner)

    def _with_words(self, words: str | Path | None) -> Transcriber | None:
        own = self.phones
        model = Model(own.network, own.search, None, own.detector, own.calibration)
        try:
            return Transcriber(model, words or transcriber.WORDS)
        except DataError:
            if words is not None:
                raise
            return None

    def about(self) -> Record:
        """What can be done, within which limits, and by which model."""
        config = self.phones.config
        encoder = config.encoder
        has_gates = encoder.layers > 0 and not set(GATES).isdisjoint(BLOCKS[encoder.cell])
        alphabets = [one for one in ALPHABETS if self._is_written(one)]
        return {
            "version": __version__,
            "model": {
                "name": self.name,
                "cell": encoder.cell,
                "layers": encoder.layers,
                "directions": list(DIRECTIONS[: 2 if encoder.bidirectional else 1]),
                "phones": list(self.phones.network.vocabulary.phones),
            },
            "can": {
                "words": self.words is not None,
                "align": True,
                "assess": self.assessor is not None,
                "gates": has_gates,
                "posteriors": self._has_posteriors,
                "symbols": alphabets,
            },
            "limits": {
                "seconds": self.limits.seconds,
                "bytes": self.limits.bytes,
                "text": self.limits.text,
            },
        }

    def warm_up(self) -> None:
        """Do once what only the first recording needs: compiling and unpacking."""
        noise = 0.05 * np.random.default_rng(0).standard_normal(self.phones.sample_rate)
        blocks = [noise.astype(np.float32)]
        for one in filter(None, (self.phones, self.words)):
            one.transcribe_blocks("", iter(blocks))
        said = Pronouncer().said("a man")
        if self.assessor:
            self.assessor.assess("", blocks[0], said, lambda _: None)

    # ── of one recording ─────────────────────────────────────────────────────────────────────

    def waveform(self, recording: InMemory, channel: int | None = None) -> bytes:
        """What the recogniser hears, as a WAV of 16 bits and one channel."""
        file, rate = io.BytesIO(), self.phones.sample_rate
        with soundfile.SoundFile(file, "w", rate, 1, "PCM_16", format="WAV") as wav:
            try:
                for block in self._blocks(recording, lambda _: None, channel):
                    wav.write(block)
            except audio.SilenceError:
                pass  # a line is drawn, and there are no phones
        return file.getvalue()

    def transcribe(
        self,
        recording: InMemory,
        words: bool = False,
        symbols: str | None = None,
        channel: int | None = None,
        posteriors: bool = False,
        warn: Warn = lambda _: None,
    ) -> tuple[Transcript, Record | None]:
        """The phones, and words where they are wanted, with the posteriors of each step."""
        self._require_alphabet(symbols)
        model = self.phones
        if words:
            if self.words is None:
                raise DataError("this server's model has no words; leave words out")
            model = self.words
        if posteriors and not self._has_posteriors:
            raise DataError("this server's model has no posteriors; leave posteriors out")
        seen: list[npt.NDArray[np.uint8]] = []

        def see(emissions: npt.NDArray[Any]) -> None:
            if posteriors:
                seen.append(_bytes(model.posteriors(emissions)))

        transcript = model.transcribe_blocks(
            recording.name,
            self._blocks(recording, warn, channel),
            self._moments(recording, channel),
            see,
            warn,
        )
        if not transcript.phones:
            warn(f"{recording.name}: {NO_SPEECH}")
        record = None
        if posteriors:
            record = {
                "phones": ["blank", *model.network.vocabulary.phones],
                "step_s": self._step_s,
                "start_s": model.config.time_s(0),
                "values": _text(np.concatenate(seen)) if seen else "",
            }
        return written(transcript, symbols), record

    def align(
        self,
        recording: InMemory,
        text: str,
        symbols: str | None = None,
        channel: int | None = None,
        warn: Warn = lambda _: None,
    ) -> Transcript:
        """The words of a text and their phones, with their times."""
        self._require_alphabet(symbols)
        said = self._said(text, warn)
        features = self.aligner.network.config.features
        blocks = self._blocks(recording, warn, channel, features)
        result = alignment.transcript(
            self.aligner, recording.name, blocks, said, warn, between=self._require_wanted
        )
        return written(result, symbols)

    def assess(
        self,
        recording: InMemory,
        text: str,
        symbols: str | None = None,
        channel: int | None = None,
        warn: Warn = lambda _: None,
    ) -> Record:
        """How well each sound of a text was said."""
        self._require_alphabet(symbols)
        if self.assessor is None:
            raise DataError("this server's model assesses no pronunciation; align works")
        said = self._said(text, warn)
        waveform = np.concatenate(list(self._blocks(recording, warn, channel)))
        result = self.assessor.assess(recording.name, waveform, said, warn, self._require_wanted)
        return asdict(in_symbols(result, symbols))

    def gates(
        self,
        recording: InMemory,
        layer: int = 1,
        direction: str = DIRECTIONS[0],
        start_s: float = 0.0,
        end_s: float | None = None,
        channel: int | None = None,
    ) -> Record:
        """The gates of a layer, from one time to another of at most `GATES_S` more."""
        about = self.about()
        model, names = about["model"], about["model"]["directions"]
        if not about["can"]["gates"]:
            raise DataError(f"this server's model has cells of kind {model['cell']}, without gates")
        if not 1 <= layer <= model["layers"]:
            raise DataError(f"layer is {layer}, expected 1 to {model['layers']}")
        if direction not in names:
            raise DataError(f"direction is {direction!r}, expected {' or '.join(names)}")
        end_s = start_s + GATES_S if end_s is None else end_s
        if not 0 <= start_s < end_s <= start_s + GATES_S + 1e-6:
            raise DataError(
                f"gates from {start_s:g} to {end_s:g} s, expected at most {GATES_S:g} s, which end "
                f"after they begin"
            )
        blocks = self._blocks(recording, lambda _: None, channel)
        moments = self._moments(recording, channel)
        place = names.index(direction)
        first_s, gates = self.phones.gates(blocks, layer, place, start_s, end_s, moments)
        if not gates:
            raise DataError(f"gates from {start_s:g} s: the recording ends before")
        return {
            "layer": layer,
            "direction": direction,
            "step_s": self._step_s,
            "start_s": first_s,
            "hidden": self.phones.config.encoder.hidden,
            "gates": {name: _text(_bytes(gate)) for name, gate in gates.items()},
        }

    # ── parts ────────────────────────────────────────────────────────────────────────────────

    def _blocks(
        self,
        recording: InMemory,
        warn: Warn,
        channel: int | None,
        features: FeaturesConfig | None = None,
    ) -> Iterator[Waveform]:
        """A recording block by block, at the rate of the recogniser or of other `features`.

        Raises as `audio.stream`, and where it is too long.
        """
        try:
            header = audio.info(recording)
        except DataError as error:
            raise NotAudioError(f"{error}", error.problems) from error
        self._require_length(recording, header.duration_s)
        features, samples = features or self.phones.config.features, 0
        rate, window = features.sample_rate, features.window_samples
        for block in audio.stream(recording, rate, window, warn, channel):
            samples += len(block)
            self._require_length(recording, samples / rate)
            self._require_wanted()
            yield block

    def _require_wanted(self) -> None:
        """Raise `StoppedError` where the work is for nobody."""
        if self.stopped.is_set():
            raise StoppedError("the server ends")
        if self.left.is_set():
            raise StoppedError("nobody waits for the answer")

    def _require_length(self, recording: InMemory, duration_s: float) -> None:
        longest_s = self.limits.seconds
        if duration_s > longest_s + 1.0:
            raise TooMuchError(
                f"{recording}: {duration_s:.0f} s, expected at most {longest_s:g} s, the limit of "
                f"this server; cut it, or transcribe it with `asr transcribe`"
            )

    def _moments(self, recording: InMemory, channel: int | None) -> Any:
        if self.phones.config.features.normalization != "speaker":
            return None
        return self.phones.one_speaker([self._blocks(recording, lambda _: None, channel)])

    def _said(self, text: str, warn: Warn) -> tuple[Said, ...]:
        if len(text) > self.limits.text:
            raise TooMuchError(
                f"the text has {len(text)} characters, expected at most {self.limits.text}"
            )
        if not text.strip():
            raise DataError("the text has no words, expected what is said in the recording")
        pronouncer = Pronouncer()
        said = pronouncer.said(text)
        for warning in pronouncer.warnings():
            warn(warning)
        return said

    def _is_written(self, alphabet: str) -> bool:
        try:
            require_alphabet(alphabet, self.phones.network.vocabulary.phones)
        except DataError:
            return False
        return True

    def _require_alphabet(self, symbols: str | None) -> None:
        require_alphabet(symbols, self.phones.network.vocabulary.phones)

    @property
    def _has_posteriors(self) -> bool:
        is_given = isinstance(self.phones.network.decoder, CTCDecoder | HMMDecoder)
        return is_given and not self.phones.streams

    @property
    def _step_s(self) -> float:
        return self.phones.step / self.phones.sample_rate


def _bytes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Values from 0 to 1 as whole numbers of 255ths."""
    rounded: npt.NDArray[np.uint8] = np.rint(255 * values.clip(0, 1)).astype(np.uint8)
    return rounded


def _text(values: npt.NDArray[np.uint8]) -> str:
    """Rows one after the other, in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
