"""Audio files → the phones in them, with start, end and confidence.

    asr transcribe my.wav
    asr transcribe my.wav --output my.TextGrid
    asr transcribe my.wav --words
    asr transcribe my.wav --symbols ipa
    asr transcribe *.mp3 recordings/ --format textgrid --output phones
    asr transcribe my.wav --checkpoint exp/timit/1/checkpoint-best.safetensors
    asr transcribe anna/*.wav --one-speaker
    sox in.wav -t wav - | asr transcribe -

Any format, rate and number of channels that libsndfile reads: here, and nowhere else, audio is
resampled and mixed, with a warning. A recording of any length is transcribed piece by piece, in
bounded memory. Folders are read with all that is below them, and their tree is kept. A bad file
gets one line, and the others are transcribed all the same. Nothing is scored.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from asr import audio
from asr.commands import recordings
from asr.errors import DataError, escaped, exit_code
from asr.features.moments import Moments
from asr.files.outputs import atomic_open, require_new
from asr.labels.formats import NO_SPEECH, in_format
from asr.processor.choice import device_for
from asr.processor.workers import end_with_parent
from asr.symbols import ALPHABETS
from asr.transcriber import Transcriber, load

FORMATS = ("text", "json", "textgrid")


@dataclass(frozen=True)
class Result:
    """Of one file: its transcript in a format, or what is wrong with it."""

    text: str = ""
    duration_s: float = 0.0
    warnings: Sequence[str] = ()
    problems: Sequence[str] = ()


@dataclass
class Worker:
    """What transcribes one file after the other, in this process or in another one."""

    checkpoint: str | Path | None
    words: str | Path | bool | None
    format: str
    channel: int | None
    device: str
    threads: int
    symbols: str | None = None
    moments: Moments | None = None

    @cached_property
    def transcriber(self) -> Transcriber:
        device = device_for(self.device, self.threads)
        return load(self.checkpoint, device, self.words, self.symbols)

    def __call__(self, path: str | Path) -> Result:
        said: list[str] = []
        try:
            transcript = self.transcriber.transcribe_file(
                path, said.append, self.moments, self.channel
            )
        except DataError as error:
            return Result(warnings=said, problems=error.problems)
        if not transcript.phones:
            said.append(f"{transcript.file}: {NO_SPEECH}")
        return Result(in_format(transcript, self.format), transcript.duration_s, said)


def run(
    files: Sequence[str | Path],
    checkpoint: str | Path | None = None,
    words: str | Path | bool | None = None,
    format: str | None = None,
    output: str | Path | None = None,
    one_speaker: bool = False,
    channel: int | None = None,
    overwrite: bool = False,
    device: str = "auto",
    threads: int = 0,
    jobs: int = 1,
    symbols: str | None = None,
) -> list[str]:
    """Transcribe files to standard output, or each into a file in the folder `output`.

    Where `output` ends as a format does, it is the file for the only result; `-` is standard
    output. With `one_speaker` the
    same person speaks in all files, and they are normalised together; `jobs` processes share them.

    Returns a sentence for each file that could not be; warnings and these go to standard error too.
    Raises `DataError` before anything is transcribed where the model is missing or damaged, two
    results would get one name, or, unless `overwrite`, a result is there already.
    """
    started = time.monotonic()
    problems: list[str] = []
    places = list(recordings.expanded(files, problems))
    output = None if str(output) == "-" else output
    format, targets = recordings.targets(places, format, output, FORMATS)
    paths = [path for path, _ in places]
    models = [one for one in (checkpoint, words) if isinstance(one, str | Path)]
    require_new(filter(None, targets), overwrite, [*paths, *models])
    if jobs > 1 and "-" in map(str, paths):
        raise DataError("-: standard input is read by one process; leave --jobs out")
    worker = Worker(checkpoint, words, format, channel, device, threads or int(jobs > 1), symbols)
    model = worker.transcriber
    for problem in problems:
        print(f"error: {escaped(problem)}", file=sys.stderr)
    unlisted, heard_s = len(problems), 0.0
    with ExitStack() as stack:
        if one_speaker:
            for path in paths:
                with suppress(DataError):  # `worker` reports it
                    stack.enter_context(audio.on_disk(path))
            worker.moments = model.one_speaker(model.blocks(p, channel=channel) for p in paths)
        results = stack.enter_context(_results(worker, paths, min(jobs, len(paths))))
        say: Callable[[str], object] = partial(print, file=sys.stderr, flush=True)
        if output is not None:
            from tqdm import tqdm  # takes 0.05 s to import

            results = tqdm(results, total=len(paths), unit="file", disable=None)
            say = partial(tqdm.write, file=sys.stderr)
        for result, target in zip(results, targets, strict=True):
            for kind in ("warning", "problem"):
                for sentence in getattr(result, f"{kind}s"):
                    say(f"{'error' if kind == 'problem' else kind}: {escaped(sentence)}")
            problems += result.problems
            heard_s += result.duration_s
            if target is None:
                print(result.text, end="", flush=True)
            elif not result.problems:
                with atomic_open(target) as file:
                    file.write(result.text)
    failed = len(problems) - unlisted
    count = len(paths) - failed
    if output is not None:
        length = f"{heard_s:.1f} s" if heard_s < 60 else f"{heard_s / 60:.1f} minutes"
        print(
            f"{escaped(str(output))}: {count} file{'s' * (count != 1)}, {length} of audio, in "
            f"{time.monotonic() - started:.1f} s",
            file=sys.stderr,
        )
    if failed and len(paths) > 1:
        print(f"{failed} of {len(paths)} files are not transcribed", file=sys.stderr)
    return problems


@contextmanager
def _results(worker: Worker, paths: Sequence[str | Path], jobs: int) -> Iterator[Iterator[Result]]:
    """The results in the order of the files, by processes that end with the context."""
    if jobs <= 1:
        yield map(worker, paths)
        return
    import multiprocessing  # which takes 0.03 s to import
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    del worker.transcriber  # each process loads its own
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the processes, which are ended here
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (worker,)) as pool:
        try:
            # not pool.map, which cancels what is left, and breaks where processes end at that time
            futures = [pool.submit(_transcribe, path) for path in paths]
            signal.signal(signal.SIGINT, before)
            yield (future.result() for future in futures)
        except BaseException as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise DataError(
                    "a process of --jobs was killed, expected memory for all; lower --jobs"
                ) from error
            raise


_worker: Worker  # of a process of --jobs


def _begin(worker: Worker) -> None:
    global _worker
    _worker = worker
    end_with_parent()


def _transcribe(path: str | Path) -> Result:
    return _worker(path)


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is a number from `least` upwards."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}, expected a number from {least} upwards")
        return int(text)

    return number


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    recordings.tell_first_use()
    parser = argparse.ArgumentParser(
        prog="asr transcribe",
        description="Write the phones of audio files, with their times.",
        epilog="A FILE may be a folder: all audio in it and below it.",
        parents=[recordings.flags("+")],
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, help="model file; default: the packaged model")
    add("--words", action="store_const", const=True, help="words too, of the packaged lexicon")
    a_file = "words too, of a file that `asr words` wrote"
    add("--words-file", dest="words", metavar="FILE", help=a_file)
    add("--format", choices=sorted(FORMATS), help="default: that of --output FILE, or text")
    add("--output", type=Path, help="folder for one file each, or FILE.TextGrid, .json or .txt")
    alphabet = "alphabet of the phones; default: the model's own"
    add("--symbols", choices=ALPHABETS, help=alphabet)
    one_speaker = "one person speaks in all files: better for files of some seconds"
    add("--one-speaker", action="store_true", help=one_speaker)
    add("--jobs", type=at_least(1), default=1, metavar="N", help="processes that share the files")
    add("--threads", type=at_least(0), default=0, metavar="N", help="of each process")
    add("--device", default="auto", help="cpu, cuda or cuda:N; default: cuda where there is one")
    return 1 if run(**vars(parser.parse_args(arguments))) else 0
