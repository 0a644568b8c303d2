"""Records survive their files; files appear whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError, exit_code
from asr.files import atomic_open
from asr.records import Hypothesis, Segment, Utterance, read_jsonl, write_jsonl

names = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())
seconds = st.floats(0, 1e4)
utterances = st.builds(
    Utterance,
    id=names,
    audio=names,
    duration_s=seconds,
    speaker=names,
    phones=st.lists(names, max_size=5).map(tuple),
    segments=st.none()
    | st.lists(st.builds(Segment, names, seconds, seconds, st.none() | st.floats(0, 1))).map(tuple),
    corpus=names,
    split=names,
    sex=st.none() | st.sampled_from("mf"),
    dialect=st.none() | names,
)


@given(st.lists(utterances, unique_by=lambda utterance: utterance.id))
def test_utterances_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, written: list[Utterance]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "manifest.jsonl"
    write_jsonl(path, written)
    assert read_jsonl(path, Utterance) == written


def test_hypotheses_survive_their_file(tmp_path: Path) -> None:
    written = [Hypothesis("a", ("sil", "aa"), -1.5), Hypothesis("b", ())]
    write_jsonl(tmp_path / "hyp.jsonl", written)
    assert read_jsonl(tmp_path / "hyp.jsonl", Hypothesis) == written


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "expected one JSON object"),
        ("[1]", "found [1]"),
        ('{"id": "a"}', "found ['id'], expected a Hypothesis"),
        ('{"id": "b", "phones": [], "colour": 1}', "colour"),
        ('{"id": "first", "phones": []}', "is a duplicate of line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "hyp.jsonl"
    path.write_text('{"id": "first", "phones": []}\n' + line)
    with pytest.raises(DataError) as error:
        read_jsonl(path, Hypothesis)
    assert str(error.value).startswith(f"{path}:2: ")
    assert says in str(error.value)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def interrupted() -> None:
        with atomic_open(path) as file:
            file.write("half of it")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_open(path) as file:
        file.write("after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (DataError("a.wav: empty"), 1, "error: a.wav: empty\n"),
        (
            OSError(28, "No space left"),
            1,
            "error: the disk is full (No space left); make room, and repeat the command\n",
        ),
        (OSError(2, "Gone", "x"), 1, "error: x: cannot be read or written (Gone)\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_a_command_line_ends_with_a_sentence_and_a_code(
    raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @exit_code
    def command(fails: bool, returns: int | None = None) -> int | None:
        if fails:
            raise raised
        return returns

    assert command(True) == code
    assert capsys.readouterr().err == said
    assert [command(False), command(False, 3)] == [0, 3]


def test_a_fault_of_the_program_is_not_made_a_sentence() -> None:
    @exit_code
    def command() -> None:
        raise ValueError("shape")

    with pytest.raises(ValueError, match="shape"):
        command()
