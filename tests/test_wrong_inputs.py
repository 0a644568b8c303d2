"""Each command with each kind of wrong input: one error, no traceback, nothing written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.commands import align, exchange, explain, ngram, score, ship, show, transcribe
from asr.records import Utterance

# Commands, and where in their arguments the input X goes.
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "transcribe by": (transcribe.main, "a.wav --checkpoint X --output out"),
    "align by": (align.main, "X in.jsonl --ctm out"),
    "align": (align.main, "MODEL X --ctm out"),
    "align with": (align.main, "MODEL in.jsonl --lexicon X --ctm out"),
    "exchange": (exchange.main, "kaldi X out"),
    "explain by": (explain.main, "a.wav --checkpoint X --output out.html"),
    "explain of": (explain.main, "--checkpoint MODEL --manifest X --output out.html"),
    "ngram": (ngram.main, "X --output out"),
    "ngram of": (ngram.main, "--checkpoint X --output out"),
    "ngram for": (ngram.main, "in.jsonl --vocabulary X --output out"),
    "score": (score.main, "in.jsonl X --output out"),
    "ship": (ship.main, "X out.safetensors"),
    "show": (show.main, "--manifest X --utterance tone1 --output out.html"),
}
INPUTS = ("a checkpoint", "a folder", "nothing", "audio", "an empty file", "text", "a list")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", INPUTS)
def test_wrong_input_is_an_error_and_writes_nothing(
    command: str,
    kind: str,
    tones: list[Utterance],
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind == "a checkpoint" and command.endswith((" by", " of")) and command != "explain of":
        pytest.skip("the right input")
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.random.default_rng(0).normal(size=16_000) / 9, 16_000)
    Path("in.jsonl").write_text("".join(f"{json.dumps(one.to_dict())}\n" for one in tones))
    wrong = Path("wrong.jsonl")
    if kind == "a checkpoint":
        wrong = tone_model
    elif kind == "a folder":
        wrong.mkdir()
    elif kind == "audio":
        wrong = Path("a.wav")
    elif kind != "nothing":
        wrong.write_text({"an empty file": "", "text": "some text\n", "a list": "[1]\n"}[kind])
    before = sorted(Path().rglob("*"))
    main, arguments = COMMANDS[command]
    places = {"X": str(wrong), "MODEL": str(tone_model)}
    code = main([places.get(word, word) for word in arguments.split()])
    shown = capsys.readouterr().err
    assert code == 1, shown
    assert shown.startswith("error: ")
    assert "Traceback" not in shown
    assert sorted(Path().rglob("*")) == before
