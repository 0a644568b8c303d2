"""The program `asr`: it imports only the command that it runs, so that help answers at once."""

import importlib
import sys

from asr import __version__
from asr.errors import exit_code

COMMANDS = {
    "download": "free corpora from their sites, checked and unpacked",
    "prepare": "a corpus on disk → manifests and vocabulary",
    "train": "manifests → the checkpoint with the best dev PER",
    "ngram": "manifests → a phone n-gram language model",
    "tune": "a checkpoint and dev → the search with the best dev PER",
    "decode": "a checkpoint and a manifest → hypotheses",
    "align": "a checkpoint and a manifest → the times of its phones",
    "score": "references and hypotheses → phone error rate",
    "report": "a finished run → one HTML page",
    "show": "audio files → pictures of what is in them",
    "explain": "a recording and a network → a page on what an LSTM is",
    "transcribe": "audio files → phones with start, end and confidence",
    "ship": "a finished run → one small model file to give away, and its card",
    "exchange": "manifests → Kaldi data directories, Lhotse manifests",
}

USAGE = "\n".join(
    [
        "usage: asr COMMAND …, the same as python -m asr COMMAND …",
        "",
        *(f"  {command:<10} {does}" for command, does in COMMANDS.items()),
        "",
        "asr COMMAND --help explains it. prepare, train, tune and decode take Hydra overrides:",
        "  asr train experiment=demo encoder.hidden=320",
    ]
)


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
    code: int | None = importlib.import_module(f"asr.commands.{name}").main()
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
