"""The program `asr`: it imports only the command that it runs, so that help answers at once."""

import gc
import os
import signal
import sys


def _stop(*_: object) -> None:
    """End at once: from an import, an exception would come with a traceback, or get lost."""
    os.write(2, b"error: interrupted\n")
    os._exit(130)


IS_PROGRAM = __name__ == "__main__" or os.path.basename(sys.argv[0]) == "asr"
if IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)  # before the imports

if IS_PROGRAM:
    gc.disable()  # until the command is imported: it would take a tenth of the start
    # Work is divided among threads here; those of OpenBLAS would wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))

import importlib  # noqa: E402

from asr import __version__  # noqa: E402
from asr.errors import DataError, exit_code, pip_install  # noqa: E402

COMMANDS = {
    "download": "free corpora from their sites, checked and unpacked",
    "prepare": "a corpus on disk → manifests and vocabulary",
    "train": "manifests → the checkpoint with the best dev PER",
    "ngram": "manifests, texts → an n-gram of phones or words",
    "words": "a lexicon and a word n-gram → a file of words, for transcribe and decode",
    "tune": "a checkpoint and dev → the search with the best dev PER",
    "decode": "a checkpoint and a manifest → hypotheses",
    "align": "recordings and their texts → words and phones with their times",
    "assess": "recordings and their texts → how well each sound was pronounced",
    "score": "references and hypotheses → phone error rate",
    "report": "a finished run → one HTML page; several runs → what differs",
    "show": "audio files → pictures of what is in them",
    "explain": "a recording and a network → a page on what an LSTM is",
    "transcribe": "audio files → phones with start, end and confidence",
    "listen": "a microphone or a pipe → phones while somebody speaks",
    "serve": "a page and an HTTP interface that do this, on this machine",
    "ship": "a finished run → one small model file to give away, and its card",
    "export": "a checkpoint → one ONNX file, which onnxruntime runs without asr",
    "exchange": "manifests → Kaldi data directories, Lhotse manifests, tar shards",
}

# What the extra `train` installs.
OF_TRAINING = (
    "torch",
    "torchaudio",
    "librosa",
    "hydra",
    "omegaconf",
    "matplotlib",
    "scipy",
)

USAGE = "\n".join(
    [
        "usage: asr COMMAND …, the same as python -m asr COMMAND …",
        "",
        *(f"  {command:<10} {does}" for command, does in COMMANDS.items()),
        "",
        "asr COMMAND --help explains it. prepare, train, tune and decode take Hydra overrides:",
        "  asr train experiment=demo encoder.hidden=320",
        "These four, report, show, explain and ship need what "
        + pip_install("train")
        + " installs.",
    ]
)


def _empty(arguments: list[str]) -> str | None:
    """The first argument without a value, by its option or its number: '' would be a path, `.`."""
    for number, argument in enumerate(arguments):
        if argument == "":
            option = arguments[number - 1] if number else ""
            return option if option[:2] == "--" else f"argument {number + 1}"
        if argument[:2] == "--" and argument[-1] == "=":
            return argument[:-1]
    return None


@exit_code
def main() -> int:
    """Run the command that the first argument names, with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if len(sys.argv) >= 2 else 2
    if sys.argv[1] == "--version":
        print(__version__)
        return 0
    name = sys.argv.pop(1)
    if name not in COMMANDS:
        print(f"error: no command {name!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"asr {name}"
    if (empty := _empty(sys.argv[1:])) is not None:
        where = f"error: asr {name}: {empty} is empty"
        print(f"{where}, expected a value; is a variable of the shell not set?", file=sys.stderr)
        return 2
    try:
        command = importlib.import_module(f"asr.commands.{name}")
        gc.enable()
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            code: int | None = command.main()
        finally:
            if IS_PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, _stop)  # while Python waits for threads at its end
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OF_TRAINING:
            raise
        raise DataError(
            f"asr {name} needs {error.name}, which is not installed; run: {pip_install('train')}"
        ) from error
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
