"""Records survive their files; files appear whole or not at all."""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import checkpoint
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open
from asr.phones import Vocabulary
from asr.records import Hypothesis, Manifest, Segment, Utterance, read_jsonl, write_jsonl
from asr.search.arpa import read_arpa

letters = st.characters(exclude_categories=("C", "Z"))
names = st.text(letters, min_size=1, max_size=8).map(partial(normalize, "NFC"))


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    phones = tuple(draw(st.lists(names, max_size=5)))
    edges = sorted(draw(st.sets(st.integers(0, 1000), min_size=6, max_size=6)))
    segments = tuple(
        Segment(phone, start / 7, end / 7, draw(st.none() | st.floats(0, 1)))
        for phone, start, end in zip(phones, edges, edges[1:], strict=False)
    )
    return Utterance(
        id=draw(names),
        audio=draw(st.text(letters)),
        duration_s=edges[-1] / 7,
        speaker=draw(names),
        phones=phones,
        segments=draw(st.sampled_from([None, segments])),
        corpus=draw(st.text(letters)),
        sex=draw(st.sampled_from([None, "m", "f"])),
        words=draw(st.none() | st.text(letters)),
    )


@given(st.lists(utterances(), unique_by=lambda utterance: utterance.id))
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


FINE: dict[type[Utterance] | type[Hypothesis], dict[str, Any]] = {
    Utterance: {
        "id": "u1",
        "audio": "u1.wav",
        "duration_s": 1.5,
        "speaker": "s1",
        "phones": ["t", "e"],
        "segments": [["t", 0, 0.5], ["e", 0.5, 1.5, 0.25]],
        "corpus": "ours",
        "split": "dev",
        "sex": "f",
        "dialect": "dr1",
        "words": "tea",
        "pronunciation": "first",
    },
    Hypothesis: {
        "id": "u1",
        "phones": ["t", "e"],
        "score": -2,
        "times_s": [0.1, 0.5],
        "confidences": [1, 0.5],
    },
}
OF_NO_TYPE = [True, {"a": 1}, [[[]]], [{"t": 1}], math.nan, math.inf, -math.inf, 10**400]
IMPOSSIBLE: dict[str, list[Any]] = {
    "id": ["", "a b", "a\n", "\u200b", "\ud800", 7, 1.5, None, ["u1"]],
    "audio": [None, 3, "a\0"],
    "duration_s": ["1.5", None, 0, -1, 1e7, 1e-400, [1]],
    "speaker": ["", 3, None, "a\tb"],
    "phones": ["aab", None, [1, 2], [None], ["a b"], [""], ["t\u00ad"], 3],
    "segments": [
        [{"phone": "t", "start_s": 0, "end_s": 0.4}],
        [["t", 0, 0.5]],
        [["t", 0, 0.5], ["a", 0.5, 1]],
        [["t", 0.5, 1], ["e", 0, 0.5]],
        [["t", 0.5, 0.5], ["e", 0.5, 1]],
        [["t", -0.5, 0.5], ["e", 0.5, 1]],
        [["t", 0, 0.5], ["e", 0.5, 15]],
        [["t", 0, 0.5, 2], ["e", 0.5, 1]],
        [["t", 0, 0.5, "1"], ["e", 0.5, 1]],
        [["t", 0, math.nan], ["e", 0.5, 1]],
        [["t", 0], ["e", 0.5, 1]],
        "te",
        1,
    ],
    "corpus": [None, 1],
    "split": [None, 1],
    "sex": [1, "female", ""],
    "dialect": [1],
    "words": [1, ["tea"], "\udc80"],
    "pronunciation": [0],
    "score": ["-2", [1]],
    "times_s": [[0.1], [0.1, -1], [0.1, None], 0.1],
    "confidences": [[0.1], [0.1, 7], ["0.1", "0.5"], 0.1],
}


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        pytest.param(kind, key, value, id=f"{kind.__name__}-{key}-{str(value)[:30]!a}")
        for kind, record in FINE.items()
        for key in record
        for value in IMPOSSIBLE[key] + OF_NO_TYPE
    ],
)
def test_every_wrong_value_is_named_by_line_and_key(
    tmp_path: Path, kind: type[Any], key: str, value: object
) -> None:
    lines = [json.dumps(FINE[kind]), json.dumps(FINE[kind] | {"id": "u2", key: value})]
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"\A{re.escape(str(path))}:2: {key}\b.*expected.*\Z"):
        read_jsonl(path, kind)


@pytest.mark.parametrize("kind", FINE)
@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"{", "expected"),
        (b'["a", "list"]', "list"),
        (b"3", "found 3"),
        (b"null", "null"),
        (b"[" * 3000, "expected"),
        (b'{"id":' + b"[" * 3000 + b"]" * 3000 + b"}", "brackets"),
        (b'{"id": "a"}', "phones"),
        (b'{"id": "a", "phones": [], "phone": []}', "did you mean 'phones'"),
        (b'{"id": "a", "phones": ["t"], "phones": ["e"]}', "'phones'"),
        (b'{"id": "\xe9", "phones": []}', "UTF-8"),
        (b'{"id": "a", "phones": []} {}', "expected"),
    ],
)
def test_a_line_that_is_no_record_is_named(
    tmp_path: Path, kind: type[Any], line: bytes, named: str
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n" + line)
    with pytest.raises(DataError) as error:
        read_jsonl(path, kind)
    message = str(error.value)
    assert message.startswith(f"{path}:2: ")
    assert named in message
    assert "\n" not in message


def test_ids_are_unique_in_each_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "hyp.jsonl"
    path.write_text('{"id": "\u00e9", "phones": []}\n{"id": "e\u0301", "phones": ["e\u0301"]}\n')
    with pytest.raises(DataError, match=r"hyp\.jsonl:2: .*duplicate of line 1"):
        read_jsonl(path, Hypothesis)


def test_a_byte_order_mark_colons_in_text_and_nulls_are_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    fine = FINE[Utterance] | {"words": '"id": e\u0301', "segments": None, "sex": None}
    path.write_text(json.dumps(fine), encoding="utf-8-sig")
    (utterance,) = read_jsonl(path, Utterance)
    assert (utterance.words, utterance.segments) == ('"id": e\u0301', None)


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


@pytest.mark.parametrize("read", [Manifest, checkpoint.load, Vocabulary.load, read_arpa])
@pytest.mark.parametrize("kind", ["a folder", "a checkpoint", "JSON text"])
def test_what_is_another_kind_of_file_is_called_so(
    read: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    if kind == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b'{"id": 1}' if kind == "JSON text" else b"\x08" + b"\0" * 7 + b'{"a": 1}')
    own = {Manifest: "JSON text", checkpoint.load: "a checkpoint"}.get(read)
    with pytest.raises(DataError, match=re.escape(f"{path}")) as caught:
        read(path)
    assert (f"is {kind}, expected" in str(caught.value)) == (
        kind != own and (kind != "JSON text" or read is checkpoint.load)
    )


REPORTED = ["speaker", "duration_s", "duration_s", "id", "audio", "segments[0]", "phones[0]", ""]


@pytest.mark.parametrize(("number", "key"), list(enumerate(REPORTED)))
def test_manifests_that_were_reported(shared: Path, number: int, key: str) -> None:
    path = shared / "conformance" / "reports" / "manifest" / f"{number}.jsonl"
    with pytest.raises(DataError, match=re.escape(f"{path}:1: {key}")) as error:
        Manifest(path)
    assert "expected" in str(error.value)
