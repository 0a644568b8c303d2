"""Speech while it comes, from a pipe or the microphone → its phones, as soon as they are final.

    asr listen                                            # the microphone
    arecord -f S16_LE -r 16000 | asr listen
    sox my.wav -t raw -r 44100 -e signed -b 16 -c 1 - | asr listen --rate 44100 --encoding s16
    ffmpeg -i rtsp://… -f wav - | asr listen --format jsonl --symbols ipa

A line for each phone, with start and end in seconds from the first sample. Ctrl-C ends the speech,
and so does the end of the pipe: then the last phones come. Other rates are resampled while they
come, and channels are mixed. docs/streaming.md says how late a phone is.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio import live
from asr.audio.checks import Waveform
from asr.commands import recordings
from asr.errors import DataError, exit_code
from asr.labels.formats import NO_SPEECH, line_of
from asr.records import Segment
from asr.symbols import ALPHABETS
from asr.transcriber import load

FORMATS = ("text", "jsonl")
WARM_S = 0.5  # of zeros, which load the compiled code
ZEROS_S = 5.0  # from a microphone, after which it is said


def run(
    source: str | None = None,
    checkpoint: str | Path | None = None,
    rate: int | None = None,
    encoding: str | None = None,
    channels: int | None = None,
    channel: int | None = None,
    format: str = "text",
    symbols: str | None = None,
) -> int:
    """Print the phones of standard input (`-`) or of a microphone; returns how many there were.

    Without a source it is standard input, or the default microphone where that is a terminal.
    Raises `DataError` where the model cannot stream, or there is no audio.
    """
    if source is not None and source != "-" and Path(source).exists():
        raise DataError(
            f"{source}: is a file, expected a microphone, or - for a pipe; run: asr transcribe "
            f"{source}, or asr listen < {source}"
        )
    is_open = sys.stdin is not None  # not where it was closed: `<&-`
    is_pipe = source == "-" or (source is None and is_open and not sys.stdin.isatty())
    if is_pipe and not is_open:
        raise DataError("standard input is closed, expected audio from a pipe")
    if not is_pipe and not (rate is None and encoding is None and channels is None):
        raise DataError("--rate, --encoding and --channels are for a pipe; leave them out")
    transcriber = load(checkpoint, symbols=symbols, stream=True)
    own_rate = transcriber.sample_rate
    warm = transcriber.stream()
    warm.feed(np.zeros(round(WARM_S * own_rate), np.float32))
    warm.finish()
    with Stop() as stop:
        stop.is_reading = True
        if is_pipe:
            given = rate, encoding, channels, _warn
            incoming = live.pipe(sys.stdin.buffer, *given)  # type: ignore[arg-type]
        else:
            incoming = live.microphone(source, own_rate, _say)
            _say(f"listening to {incoming.name} at {incoming.sample_rate} Hz; Ctrl-C ends")
        live.require_use(incoming, channel)
        stop.is_reading = False
        blocks = _counted(stop.until(incoming.blocks), incoming)
        if not is_pipe:
            blocks = _noticed(blocks, incoming)
        stream, count = transcriber.stream(), 0
        for samples in live.mono(blocks, incoming.sample_rate, own_rate, channel):
            count += _print(stream.feed(samples), format)
        count += _print(stream.finish(), format)
    if not count:
        _say(f"{incoming.name}, {stream.heard_s:.2f} s: {NO_SPEECH}")
    return count


def _counted(blocks: Iterator[Waveform], incoming: live.Incoming) -> Iterator[Waveform]:
    """The same blocks; `DataError` where there is none."""
    first = next(blocks, None)
    if first is None:
        raise DataError(f"{incoming.name}: nothing came, expected samples")
    yield first
    yield from blocks


class Stop:
    """Ctrl-C ends the reading of what comes, not the work on what came; a second one ends all."""

    def __init__(self) -> None:
        self.is_pressed = self.is_reading = False

    def __enter__(self) -> "Stop":
        self.before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _press(self, *_: object) -> None:
        if self.is_reading or self.is_pressed:
            raise KeyboardInterrupt
        self.is_pressed = True

    def until(self, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
        """The blocks that come before Ctrl-C."""
        while not self.is_pressed:
            self.is_reading = True
            try:
                block = next(blocks, None)
            except KeyboardInterrupt:
                return
            finally:
                self.is_reading = False
            if block is None:
                return
            yield block


def _noticed(blocks: Iterable[Waveform], incoming: live.Incoming) -> Iterator[Waveform]:
    """The same blocks; it is said where they begin with zeros, as of a muted microphone."""
    zeros = 0
    for block in blocks:
        if 0 <= zeros < ZEROS_S * incoming.sample_rate:
            zeros = -1 if block.any() else zeros + len(block)
            if zeros >= ZEROS_S * incoming.sample_rate:
                _say(f"{incoming.name}: nothing but zeros for {ZEROS_S:g} s; is it muted?")
        yield block


def _warn(sentence: str) -> None:
    _say(f"warning: {sentence}")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print(phones: Sequence[Segment], format: str) -> int:
    for one in phones:
        text = json.dumps(one._asdict(), ensure_ascii=False) if format == "jsonl" else line_of(one)
        print(text, flush=True)
    return len(phones)


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    recordings.tell_first_use()
    parser = argparse.ArgumentParser(
        prog="asr listen",
        description="Print the phones of speech while it comes.",
        epilog="Ctrl-C ends the speech; the last phones come then.",
    )
    add: Any = parser.add_argument
    source = "-: standard input; otherwise a microphone, by name or number (python -m sounddevice)"
    add("source", nargs="?", help=f"{source}; default: a pipe, or else the microphone")
    add("--checkpoint", type=Path, help="model file; default: the packaged one for streams")
    add("--rate", type=int, metavar="HZ", help="of raw samples in a pipe; WAV says it itself")
    codings = f"of raw samples, little-endian: {', '.join(live.ENCODINGS)}"
    add("--encoding", metavar="NAME", help=codings)
    add("--channels", type=int, metavar="N", help="of raw samples; default: 1")
    add("--channel", type=int, metavar="N", help="read only this one, from 1; default: the mix")
    add("--format", choices=FORMATS, default="text", help="default: text")
    alphabet = "alphabet of the phones; default: the model's own"
    add("--symbols", choices=ALPHABETS, help=alphabet)
    run(**vars(parser.parse_args(arguments)))
