"""Files of every format give the same transcripts; bad ones are refused by name and line."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asr.commands import score as command
from asr.errors import DataError
from asr.phones import TABLES, fold_to_39, phone_set
from asr.records import Hypothesis, Segment, Utterance, write_jsonl
from asr.scoring import Transcript, protocol, read_transcripts

REFERENCE = {"fcjf0_si1": ("sil", "b", "aa"), "mdab0_sx2": (), "mdab0_sx3": ("iy",)}


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def phones_of(path: Path, format_name: str | None = None) -> dict[str, tuple[str, ...]]:
    return {id_: t.phones for id_, t in read_transcripts(path, format_name).items.items()}


LONG_TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "say ""b"" 3"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.1
            text = "sil"
        intervals [2]:
            xmin = 0.1
            xmax = 0.2
            text = "b"
        intervals [3]:
            xmin = 0.2
            xmax = 0.3
            text = ""
        intervals [4]:
            xmin = 0.3
            xmax = 0.5
            text = "aa"
"""
SHORT_TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.5
<exists>
1
"IntervalTier"
"phones"
0
0.5
3
0
0.1
"sil"
0.1
0.2
"b"
0.2
0.5
"aa"
"""


def test_formats_say_the_same(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "hyp.jsonl", [Hypothesis(i, p) for i, p in REFERENCE.items()])
    trn = "".join(f"{' '.join(p)} ({i})\n" for i, p in REFERENCE.items())
    text = "".join(f"{i} {' '.join(p)}\n" for i, p in REFERENCE.items())
    for path in (
        tmp_path / "hyp.jsonl",
        put(tmp_path / "hyp.trn", trn),
        put(tmp_path / "trn-by-content", trn),
        put(tmp_path / "text", text),
    ):
        assert phones_of(path) == REFERENCE, path


def test_ctm_is_put_in_order_of_time(tmp_path: Path) -> None:
    path = put(tmp_path / "hyp", ";; note\na_1 1 0.30 0.10 b 0.9\na_1 1 0.00 0.30 sil 0.8\n")
    result = read_transcripts(path).items["a_1"]
    assert result.phones == ("sil", "b")
    assert result.times_s == ((0.0, 0.3), (0.3, pytest.approx(0.4)))


def test_folder_of_phn_has_the_ids_of_our_manifests(tmp_path: Path) -> None:
    labels = put(tmp_path / "TEST" / "DR1" / "FCJF0" / "SI1.PHN", "0 1600 h#\r\n1600 3200 b\r\n")
    times = ((0.0, 0.1), (0.1, 0.2))
    expected = Transcript("fcjf0_si1", ("h#", "b"), 0, times, "fcjf0", file=str(labels))
    assert read_transcripts(tmp_path).items == {"fcjf0_si1": expected}
    put(tmp_path / "nltk" / "dr1-fvmh0" / "sa1.phn", "0 1600 h#\n")
    assert list(phones_of(tmp_path / "nltk")) == ["fvmh0_sa1"]


@pytest.mark.parametrize("text", [LONG_TEXTGRID, SHORT_TEXTGRID])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrid_long_and_short(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "1089-1.TextGrid").write_text(text, encoding=encoding)
    result = read_transcripts(tmp_path).items["1089-1"]
    assert result.phones == ("sil", "b", "aa")
    assert result.times_s is not None
    assert result.times_s[2][1] == 0.5


def test_one_file_with_labels(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b.TextGrid", SHORT_TEXTGRID)
    put(tmp_path / "a" / "C.PHN", "0 1600 sil\n")
    assert phones_of(tmp_path / "a" / "b.TextGrid") == {"b": ("sil", "b", "aa")}
    assert phones_of(tmp_path / "a" / "C.PHN") == {"c": ("sil",)}


@pytest.mark.parametrize("name", ["-", "pipe"])
def test_a_pipe_is_read_once(tmp_path: Path, name: str) -> None:
    if name == "pipe":
        name = str(tmp_path / "pipe")
        os.mkfifo(name)
        threading.Thread(target=put, args=(Path(name), "aa (s-1)\n"), daemon=True).start()
    command = f"from asr.scoring import read_transcripts as r; print([*r({name!r}).items])"
    ran = subprocess.run(
        [sys.executable, "-c", command], input="aa (s-1)\n", capture_output=True, text=True
    )
    assert ran.stdout == "['s-1']\n"


def test_bom_crlf_and_no_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "hyp.trn"
    path.write_bytes("\ufeffsil b aa (fcjf0_si1)\r\n(mdab0_sx2)\r\niy (mdab0_sx3)".encode())
    assert phones_of(path) == REFERENCE


MANIFEST_LINE = '{"id": "a", "phones": ["aa"]}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.trn", "aa b\n", r"x.trn:1: .*utterance-id.*'aa b'"),
        ("x.trn", "aa ()\n", r"x.trn:1: expected"),
        ("x.trn", "aa (s-1) b\n", r"x.trn:1: expected"),
        ("x.trn", "aa (s-1)\n\nb (s-1)\n", r"x.trn:3: .*'s-1'.*line 1"),
        ("x.trn", "{ aa / b } (s-1)\n", r"x.trn:1: alternatives"),
        ("x.trn", "aa {aa/b} (s-1)\n", r"x.trn:1: alternatives"),
        ("x.txt", " aa b\n", r"x.txt:1: .* without space before it"),
        ("x.ctm", "s-1 1 0.0 aa\n", r"x.ctm:1: expected `utterance-id channel start duration"),
        ("x.ctm", "s-1 1 0.0 nan aa\n", r"x.ctm:1: expected"),
        ("x.jsonl", MANIFEST_LINE + "\n{\n", r"x.jsonl:2: found {, expected one JSON value"),
        ("x.jsonl", f"{MANIFEST_LINE}\n{MANIFEST_LINE}", r"x.jsonl:2: .*'a'"),
        ("x.jsonl", '{"id": "a", "phones": "aa b"}', r"x.jsonl:1: .*phones"),
        ("x.jsonl", '{"id": "a", "phones": [1]}', r"x.jsonl:1: .*phones"),
        ("x.jsonl", '{"id": "", "phones": []}', r"x.jsonl:1: .*id"),
        ("x.jsonl", '{"phones": []}', r"x.jsonl:1: no key id"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_transcripts(put(tmp_path / name, text))


@pytest.mark.parametrize("name", ["x.trn", "x.jsonl", "text"])
def test_what_is_not_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"id": "a", "phones": []}\n\xff\xfe\n')
    with pytest.raises(DataError, match="not UTF-8"):
        read_transcripts(tmp_path / name, name.partition(".")[2] or name)


def test_sides_of_two_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = put(tmp_path / "r", "aa b (s-1)\n")
    result = put(tmp_path / "h.trn", "s-1 1 0.0 0.1 aa\n")
    assert command.main([str(reference), str(result), "--format", "trn,ctm"]) == 0
    assert capsys.readouterr().out.startswith("%PER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ] r, ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--format", "trn,ctm,text"],
        ["--format", "wav"],
        ["--protocol", "kaldi"],
        ["--scorer", "best"],
        ["--bootstrap", "-1"],
        ["--bootstrap", "100000000000"],
        ["--seed", "-1"],
        ["--output", "x", "--json", "./x"],
    ],
)
def test_wrong_arguments_are_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(["r", "h", *wrong])
    assert exit_.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_report_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = put(tmp_path / "r.trn", "aa (s-1)\n")
    put(tmp_path / "file", "")
    arguments = [str(reference), str(reference), "--output", str(tmp_path / "file" / "out")]
    assert command.main(arguments) == 1
    assert "file: is a file, expected a folder" in capsys.readouterr().err


def test_bad_folders_and_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found neither"):
        read_transcripts(tmp_path)
    put(tmp_path / "a.phn", "0 10 aa\n0 10\n")
    with pytest.raises(DataError, match=r"a.phn:2: .*expected `start end label` in samples"):
        read_transcripts(tmp_path)
    put(tmp_path / "b.TextGrid", "nothing")
    with pytest.raises(DataError, match=r"found both.*--format"):
        read_transcripts(tmp_path)
    with pytest.raises(DataError, match="not a complete TextGrid"):
        read_transcripts(tmp_path, "textgrid")
    with pytest.raises(DataError, match="unknown format 'wav'"):
        read_transcripts(tmp_path / "a.phn", "wav")
    with pytest.raises(DataError, match="no such file or folder"):
        read_transcripts(tmp_path / "absent")


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        ("aa (s-1)\n", "no hypothesis for 1 of 2 utterances of .*'s-2'.*--missing delete"),
        ("aa (s-1)\nb (s-2)\nb (s-3)\n", r"h.trn:3: id 's-3' is not in .*r.trn"),
        ("aa (s-1)\nb (S-2)\n", r"h.trn:2: id 'S-2' is not in .*.*'s-2'.*letter case"),
        ("aa (s-1)\nzz (s-2)\n", r"h.trn:2: the hypothesis holds 1 labels outside timit39"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hypothesis: str, message: str
) -> None:
    reference = put(tmp_path / "r.trn", "aa (s-1)\nb (s-2)\n")
    result = put(tmp_path / "h.trn", hypothesis)
    assert command.main([str(reference), str(result), "--output", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err)
    assert not (tmp_path / "out").exists()


def test_missing_hypotheses_can_count_as_deletions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = put(tmp_path / "r.trn", "aa (s-1)\nb iy (s-2)\n")
    result = put(tmp_path / "h.trn", "aa (s-1)\n")
    assert command.main([str(reference), str(result), "--missing", "delete"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("%PER 66.67 [ 2 / 3, 0 ins, 2 del, 0 sub ]")
    assert "1 missing hypotheses counted as deletions" in printed.splitlines()[0]


def test_empty_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = put(tmp_path / "full.trn", "aa b (s-1)\n(s-2)\n")
    empty = put(tmp_path / "empty.trn", "(s-1)\niy (s-2)\n")
    assert command.main([str(full), str(empty)]) == 0
    assert capsys.readouterr().out.startswith("%PER 150.00 [ 3 / 2, 1 ins, 2 del, 0 sub ]")
    nothing = put(tmp_path / "nothing.trn", "(s-1)\n(s-2)\n")
    assert command.main([str(nothing), str(full)]) == 1
    assert "the references hold no phones under strict, so PER is undefined" in (
        capsys.readouterr().err
    )
    assert command.main([str(nothing), str(full), "--protocol", "all", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["total"]["per"] is None


def kaldi_map() -> list[str]:
    rows = [line.split() for line in (TABLES / "timit-phones.txt").read_text().splitlines()]
    return [
        f"{row[0]}\n" if row[1] == "-" else "\t".join(row) + "\n"
        for row in rows
        if row and row[0] != "#"
    ]


def test_kaldis_map_is_our_folding(tmp_path: Path) -> None:
    path = put(tmp_path / "phones.60-48-39.map", "".join(kaldi_map()))
    mapped = protocol("strict", path)
    labels = phone_set("timit61")
    assert mapped.apply(labels, "reference")[0] == fold_to_39()(labels)
    assert mapped.says == "map phones.60-48-39.map, 39 phones, q deleted, silence scored"
    assert protocol("q-as-sil", path).apply(["q"], "reference")[0] == ("sil",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "no line for zh; add it"),
        (lambda rows: [r.replace("\tjh\n", "\tch\n") for r in rows], "39 classes .* found 38"),
        (lambda rows: [*rows, rows[0]], r"map:62: .*'aa'.*line 1"),
        (
            lambda rows: ["q\tsil\n" if r == "q\n" else r for r in rows],
            r"map:\d+: expected 3 columns as in the other lines.*'q sil'",
        ),
        (lambda rows: [], "expected lines of two or three columns, found 0"),
        (lambda rows: ["a b c d\n"], "expected lines of two or three columns, found 4"),
        (lambda rows: ["aa x\n"], "the protocol has a rule for sil"),
        (lambda rows: ["a\u200b x\n"], "map:1: .*invisible"),
    ],
)
def test_bad_maps_are_refused(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    path = put(tmp_path / "phones.map", "".join(change(kaldi_map())))
    with pytest.raises(DataError, match=message):
        protocol("no-sil", path)


def test_custom_map_of_two_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "my.map", "AA aa\nSIL\nB b\n")
    reference = put(tmp_path / "r.trn", "SIL AA B (s-1)\n")
    result = put(tmp_path / "h.trn", "aa B SIL (s-1)\n")
    arguments = [str(reference), str(result), "--map", str(path), "--protocol", "none"]
    assert command.main(arguments) == 0
    assert capsys.readouterr().out.startswith(
        "%PER 0.00 [ 0 / 2, 0 ins, 0 del, 0 sub ] r.trn, none (map my.map)"
    )
    with pytest.raises(DataError, match="--map"):
        protocol("arpabet", path)


def test_manifest_names_corpus_speakers_and_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = (Segment("h#", 0.0, 0.1), Segment("aa", 0.1, 0.25), Segment("h#", 0.25, 0.4))
    utterances = [
        Utterance(
            f"{speaker}_si{n}",
            "a.wav",
            0.4,
            speaker,
            ("h#", "aa", "h#"),
            segments,
            "synthetic",
            "test",
            speaker[0],
            "dr1",
        )
        for n, speaker in enumerate(["fcjf0", "mdab0", "mdab0"])
    ]
    write_jsonl(tmp_path / "test.jsonl", utterances)
    ctm = "".join(f"{u.id} 1 0.00 0.1 sil\n{u.id} 1 0.11 0.1 aa\n" for u in utterances)
    arguments = [str(tmp_path / "test.jsonl"), str(put(tmp_path / "hyp.ctm", ctm))]
    page, contract = tmp_path / "page.html", tmp_path / "score.json"
    assert command.main([*arguments, "--html", str(page), "--json", str(contract)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(contract.read_text())
    for text in (printed.splitlines()[0], page.read_text(), result["line"]):
        assert "synthetic test" in text
    assert result["synthetic"] is True
    assert result["sexes"]["m"]["utterances"] == 2
    assert result["dialects"]["dr1"]["del"] == 3
    assert result["boundaries"]["within_ms"] == {"10": 6, "20": 6}
    assert result["boundaries"]["durations_ms"]["150"]["del"] == 3
    assert "speech is synthetic" in printed
