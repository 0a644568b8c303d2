"""Audio files → the phones in them, with start, end and confidence.

    asr transcribe my.wav
    asr transcribe *.mp3 --format textgrid --output phones
    asr transcribe my.wav --checkpoint exp/timit/1/checkpoint-best.safetensors
    asr transcribe anna/*.wav --one-speaker

Any format, rate and number of channels that libsndfile reads: here, and nowhere else, audio is
resampled and mixed, with a warning. A recording of any length is heard piece by piece, in bounded
memory. A bad file gets one line, and the others are transcribed all the same. Nothing is scored.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from asr.errors import DataError, exit_code, raise_problems
from asr.files import atomic_open
from asr.labels import textgrid
from asr.transcriber import Transcript, load

FORMATS = {"text": ".txt", "json": ".json", "textgrid": ".TextGrid"}


def run(
    files: Sequence[str | Path],
    checkpoint: str | Path | None = None,
    format: str = "text",
    output: str | Path | None = None,
    one_speaker: bool = False,
) -> list[str]:
    """Transcribe files to standard output, or each into a file of the folder `output`.

    With `one_speaker` the same person speaks in all of them, and they are normalised together.

    Returns a sentence for each file that could not be; warnings and these go to standard error too.
    Raises `DataError` before anything is transcribed where the model is missing or damaged, or two
    results would get one name.
    """
    targets = _targets(files, format, output)
    transcriber = load(checkpoint)
    moments = None
    if one_speaker:
        moments = transcriber.one_speaker(transcriber.blocks(path) for path in files)
    problems: list[str] = []
    for path, target in zip(files, targets, strict=True):
        try:
            text = in_format(transcriber.transcribe_file(path, _warn, moments), format)
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


def in_format(transcript: Transcript, format: str) -> str:
    """As text with a phone a line, one JSON object in a line, or Praat's TextGrid."""
    if format == "json":
        return json.dumps(asdict(transcript), ensure_ascii=False) + "\n"
    if format == "textgrid":
        confidences = [replace(one, phone=f"{one.confidence:.2f}") for one in transcript.phones]
        tiers = {"phones": transcript.phones, "confidences": confidences}
        return textgrid.text_of(tiers, transcript.duration_s)
    said = " ".join(one.phone for one in transcript.phones)
    lines = [f"# {transcript.file}, {transcript.duration_s:.2f} s: {said}"]
    lines += [
        f"{one.start_s:9.3f} {one.end_s:9.3f}  {one.phone:<5} {one.confidence:.2f}"
        for one in transcript.phones
    ]
    return "\n".join(lines) + "\n"


def _targets(
    files: Sequence[str | Path], format: str, output: str | Path | None
) -> list[Path | None]:
    """The file that each result goes to; None: standard output."""
    if output is None:
        if format == "textgrid" and len(files) > 1:
            raise DataError("a TextGrid holds one recording; give --output FOLDER for several")
        return [None for _ in files]
    folder = Path(output)
    inputs = {Path(path).resolve() for path in files}
    targets = [folder / f"{Path(path).stem}{FORMATS[format]}" for path in files]
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
    parser = argparse.ArgumentParser(
        prog="asr transcribe", description="Write the phones of audio files, with their times."
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="audio of any rate and length")
    add("--checkpoint", type=Path, help="model file; default: the packaged model")
    add("--format", choices=sorted(FORMATS), default="text")
    add("--output", type=Path, help="folder for one file each; else it is printed")
    one_speaker = "one person speaks in all files: better for files of some seconds"
    add("--one-speaker", action="store_true", help=one_speaker)
    return 1 if run(**vars(parser.parse_args(arguments))) else 0
