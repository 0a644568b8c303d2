"""What commands do with the place that their output goes to: its encoding, its end, its disk."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asr.__main__ import COMMANDS, main
from asr.errors import said_by_system
from asr.files.outputs import atomic_open

REPOSITORY = Path(__file__).parents[1]
PHONES = "ʃ … é \U0001f600 \udcff"  # in no encoding; the last is a byte of a file name
FULL_DISK = Path("/dev/full")
CONFIGURED = {"prepare", "train", "tune", "decode"}  # by Hydra, which writes their help


def start(code: str, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
    """A command whose body is `code`, in a process of its own."""
    body = "\n    ".join(code.splitlines())
    program = f"from asr.errors import exit_code\n@exit_code\ndef main():\n    {body}\nexit(main())"
    return subprocess.Popen(
        [sys.executable, *arguments, "-c", program],
        env=os.environ | environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_argument_without_a_value_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a path it would be the folder that one is in."""
    for arguments, named in (
        (["--checkpoint", ""], "--checkpoint is empty"),
        (["a.wav", "", "--output", "b"], "argument 2 is empty"),
        (["--output="], "--output is empty"),
    ):
        monkeypatch.setattr(sys, "argv", ["asr", command, *arguments])
        assert main() == 2
        assert named in capsys.readouterr().err


@pytest.mark.parametrize("command", ["align", "assess", "report", "ship"])
def test_a_root_that_is_no_folder_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would say nothing where the audio is still in its old place."""
    monkeypatch.setattr(sys, "argv", ["asr", command, "a", "b", "--root", "nosuch"])
    with pytest.raises(SystemExit, match=r"^2$"):
        sys.exit(main())
    assert "--root: 'nosuch'" in capsys.readouterr().err


OUTPUTS = [  # arguments up to the output's name, and the inputs that it may not be
    ("words a b --search c --output", "a b c"),
    ("ngram a --text b --lexicon c --vocabulary d --perplexity e --output", "a b c d e"),
    ("score a b --compare c --map d --output", "a b c d"),
    ("score a b --compare c --map d --json", "a b c d"),
    ("score a b --compare c --map d --html", "a b c d"),
    ("transcribe a.wav --checkpoint b.txt --words-file c.txt --output", "b.txt c.txt"),
    ("align a.wav b.txt --lexicon c.txt --checkpoint d.txt --output", "b.txt c.txt d.txt"),
    ("align a.wav b.txt --lexicon c.txt --checkpoint d.txt --ctm", "a.wav b.txt c.txt d.txt"),
    ("align --check a.wav b.txt --lexicon c.json --output", "c.json"),
    ("assess a.wav b.txt --lexicon c.txt --checkpoint d.txt --output", "b.txt c.txt d.txt"),
    ("show a.html --manifest b.html --utterance x --output", "a.html b.html"),
    ("explain a --checkpoint b --manifest c --compare GRU=d --output", "a b c d"),
    ("export a.onnx", "a.onnx"),
    ("exchange shards manifest.jsonl", "."),
    ("ship run", "run/checkpoint-best.safetensors"),
    ("report run --output", "run/manifests/test.jsonl run/train.jsonl"),
]


@pytest.mark.parametrize(("line", "outputs"), OUTPUTS)
def test_no_output_replaces_an_input(
    line: str,
    outputs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor with --overwrite, which is for the results of an earlier call."""
    monkeypatch.chdir(tmp_path)
    text = '{"id": "x", "audio": "a", "duration_s": 1, "speaker": "s", "phones": ["b"]}\n'
    (tmp_path / "run" / "manifests").mkdir(parents=True)
    names = (word.rpartition("=")[2] for word in f"{line} {outputs}".split()[1:])
    files = {Path(name) for name in names if Path(name).suffix or len(name) == 1} - {Path(".")}
    for file in files:
        file.write_text(text)
    for output in outputs.split():
        monkeypatch.setattr(sys, "argv", ["asr", *line.split(), output, "--overwrite"])
        assert main() == 1
        assert "is one of the inputs" in capsys.readouterr().err
    assert all(file.read_text() == text for file in files)


# ── encodings ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["", *sorted(set(COMMANDS) - CONFIGURED)])
def test_help_can_be_had_in_any_encoding(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["asr", *filter(None, [command]), "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        sys.exit(main())
    assert b"usage" in written.getvalue()


def test_hydra_writes_in_any_encoding() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "asr",
            "train",
            "--cfg",
            "job",
            "--package",
            "name",
            "name='\u0283'",
        ],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        cwd=REPOSITORY,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u0283" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_written_as_json_escapes_it(encoding: str) -> None:
    code = f"import json; print(json.dumps({PHONES!r}, ensure_ascii=False))"
    output, errors = start(code, PYTHONIOENCODING=encoding).communicate()
    assert errors == b""
    assert json.loads(output.decode(encoding)) == PHONES


def test_a_file_name_that_the_locale_cannot_write_is_one_sentence() -> None:
    ascii_names = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = start(r"open('\u0283.wav')", **ascii_names)
    assert [line.count(b"set PYTHONUTF8=1") for line in done.communicate()[1].splitlines()] == [1]
    assert done.returncode == 1


# ── readers that leave ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("options", [(), ("-u",)], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(
    options: tuple[str, ...],
) -> None:
    endless = "print('first', flush=True)\nwhile True: print('more')"
    with start(endless, *options) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        assert done.stdout.readline() == b"first\n"
        done.stdout.close()
        assert done.stderr.read() == b""
    assert done.returncode == 0


def test_another_pipe_that_breaks_is_an_error() -> None:
    done = start("raise BrokenPipeError(32, 'Broken pipe')")
    assert done.communicate() == (
        b"",
        b"error: something cannot be read or written (Broken pipe)\n",
    )
    assert done.returncode == 1


# ── disks that fill up ───────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full")
def test_output_to_a_full_disk_is_one_sentence() -> None:
    done = subprocess.run(
        f"{sys.executable} -m asr --help > {FULL_DISK}",
        shell=True,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    )
    assert done.stderr.count(b"\n") == 1
    assert b"the disk is full" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("moment", ["write", "fsync", "open"])
def test_a_file_that_does_not_fit_is_named_and_leaves_nothing(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment != "write":
        name = {"fsync": "os.fsync", "open": "asr.files.outputs.open"}[moment]
        monkeypatch.setattr(name, full, raising=False)
    path = tmp_path / "checkpoint"
    path.write_text("before")

    def write() -> None:
        with atomic_open(path) as file:
            file.write("half of it")
            if moment == "write":
                full()

    with pytest.raises(OSError, match="No space") as raised:
        write()
    assert said_by_system(raised.value).startswith(f"{path}: the disk is full")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]


def test_what_the_system_refuses_is_a_sentence_about_a_file() -> None:
    other = OSError(errno.EACCES, "Permission denied", "a.wav")
    assert said_by_system(other) == "a.wav: cannot be read or written (Permission denied)"
    assert said_by_system(OSError(errno.EDQUOT, "Quota exceeded"), "exp") == (
        "exp: the disk is full (Quota exceeded); make room, and repeat the command"
    )
