"""What one command writes `asr score` reads; ids, phones, channels and parts mean what they say."""

import json
import os
import subprocess
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.commands import score as command
from asr.errors import DataError
from asr.labels.formats import in_format
from asr.records import Hypothesis, Segment, Utterance, write_jsonl
from asr.records import Transcript as Transcribed
from asr.scoring import protocol, read_transcripts, score, score_transcripts

SHARED = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[1] / ".." / "shared"))
SCLITE = Path("/usr/lib/sctk/bin/sclite")
Side = Mapping[str, Sequence[str]]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def counts(reference: Path, hypotheses: Path, missing: str = "error") -> tuple[int, ...]:
    """Utterances, reference phones, correct, substituted, deleted, inserted."""
    sides = read_transcripts(reference), read_transcripts(hypotheses)
    total = score_transcripts(*sides, protocol("none"), "sclite", missing).total
    return tuple(vars(total).values())


# ── every writer into every reader ───────────────────────────────────────────────────────────


def segments_of(phones: Sequence[str]) -> tuple[Segment, ...]:
    return tuple(Segment(p, n / 10, (n + 1) / 10, 0.5) for n, p in enumerate(phones))


def as_jsonl(folder: Path, side: Side) -> Path:
    write_jsonl(folder / "side.jsonl", [Hypothesis(id, tuple(p)) for id, p in side.items()])
    return folder / "side.jsonl"


def as_manifest(folder: Path, side: Side) -> Path:
    every = [
        Utterance(id, f"{id}.wav", 9.0, "s", tuple(p), segments_of(p)) for id, p in side.items()
    ]
    write_jsonl(folder / "test.jsonl", every)
    return folder / "test.jsonl"


def as_trn(folder: Path, side: Side) -> Path:
    return put(folder / "trn", "".join(f"{' '.join(p)} ({id})\n" for id, p in side.items()))


def as_text(folder: Path, side: Side) -> Path:
    return put(folder / "text", "".join(f"{id} {' '.join(p)}\n" for id, p in side.items()))


def as_mlf(folder: Path, side: Side) -> Path:
    blocks = (f'"*/{id}.rec"\n' + "".join(f"{p}\n" for p in phones) for id, phones in side.items())
    return put(folder / "mlf", "#!MLF!#\n" + "".join(f"{block}.\n" for block in blocks))


def transcribed(side: Side) -> list[Transcribed]:
    return [Transcribed(f"x/{id}.wav", 9.0, segments_of(p)) for id, p in side.items()]


def as_transcribed(format: str) -> Callable[[Path, Side], Path]:
    def write(folder: Path, side: Side) -> Path:
        return put(folder / "out", "".join(in_format(one, format) for one in transcribed(side)))

    return write


def as_files(ending: str) -> Callable[[Path, Side], Path]:
    def write(folder: Path, side: Side) -> Path:
        for one in transcribed(side):
            path = folder / "files" / f"{Path(one.file).stem}{ending}"
            path.parent.mkdir(exist_ok=True)
            if ending in (".json", ".txt"):
                put(path, in_format(one, ending.replace(".txt", "text").strip(".")))
            elif ending == ".phn":
                ticks = [(round(16_000 * t) for t in (p.start_s, p.end_s)) for p in one.phones]
                named = zip(ticks, one.phones, strict=True)
                put(path, "".join(f"{a} {b} {p.phone}\n" for (a, b), p in named))
            else:
                put(path, in_format(one, "textgrid"))
        return folder / "files"

    return write


WRITERS = {
    "jsonl": as_jsonl,
    "manifest": as_manifest,
    "trn": as_trn,
    "text": as_text,
    "mlf": as_mlf,
    **{f"transcribe {name}": as_transcribed(name) for name in ("json", "text")},
    **{f"files {ending}": as_files(ending) for ending in (".json", ".txt", ".TextGrid", ".phn")},
}
# In a .phn file names are in lower case; in a text line nothing may begin with what trn ends with.
WORDS = st.text(st.sampled_from("aɑé̃ʰ:12_'ñ"), min_size=1, max_size=3).map(lambda p: f"x{p}")


@given(
    st.dictionaries(
        st.text(st.sampled_from("bcé12"), min_size=1, max_size=3).map(lambda id: f"u{id}"),
        st.lists(WORDS, max_size=4),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=12)
def test_every_reader_has_what_every_writer_wrote(side: Side) -> None:
    expected = {
        unicodedata.normalize("NFC", id): tuple(unicodedata.normalize("NFC", p) for p in phones)
        for id, phones in side.items()
    }
    if len(expected) < len(side):
        return
    for form in ("NFC", "NFD"):
        written = {
            unicodedata.normalize(form, id): [unicodedata.normalize(form, p) for p in phones]
            for id, phones in side.items()
        }
        for name, write in WRITERS.items():
            with TemporaryDirectory() as folder:
                result = read_transcripts(write(Path(folder), written)).items
            assert {id: one.phones for id, one in result.items()} == expected, (name, form)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("written", ["transcribed", "hypotheses", "manifest"])
def test_json_over_several_lines(tmp_path: Path, written: str, indent: int | None) -> None:
    side = {"a": ["s", "iy"], "b": []}
    objects = [json.loads(in_format(one, "json")) for one in transcribed(side)]
    if written != "transcribed":
        lines = (as_jsonl if written == "hypotheses" else as_manifest)(tmp_path, side)
        objects = [json.loads(line) for line in lines.read_text().splitlines()]
    every = put(tmp_path / "list.json", json.dumps(objects, indent=indent))
    stream = put(tmp_path / "stream", "\n".join(json.dumps(o, indent=indent) for o in objects))
    blank = put(tmp_path / "blank", "\n\n".join(json.dumps(o, indent=indent) for o in objects))
    expected = {"a": ("s", "iy"), "b": ()}
    for path in (every, stream, blank):
        assert {i: t.phones for i, t in read_transcripts(path).items.items()} == expected


# ── ids of files ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        (["a", "b"], ["a.wav", "b.mp3"]),
        (["fcjf0_sa1", "mdab0_sa1"], ["TEST/FCJF0/SA1.WAV", "TEST/MDAB0/SA1.WAV"]),
        (["fcjf0_si1", "mdab0_si2"], ["SI1.WAV", "out/SI2.WAV"]),
        (["anna-x-1", "anna-x-2"], ["x-1.wav", "x-2.wav"]),
        (["1", "a_1"], ["1.wav", "a/1.flac"]),
    ],
)
def test_files_are_the_utterances_with_their_names(
    tmp_path: Path, ids: list[str], files: list[str]
) -> None:
    reference = as_trn(tmp_path, {id: ["s", id] for id in ids})
    heard = [
        Transcribed(file, 1.0, segments_of(["s", id])) for file, id in zip(files, ids, strict=True)
    ]
    output = put(tmp_path / "out.json", "".join(in_format(one, "json") for one in heard))
    assert counts(reference, output) == (2, 4, 4, 0, 0, 0)


@pytest.mark.parametrize(
    ("ids", "files", "message"),
    [
        (["f_sa1", "m_sa1"], ["SA1.WAV", "x/f/SA1.WAV"], "'f_sa1' or 'm_sa1'"),
        (["a", "b"], ["a.wav", "a.mp3"], "duplicate"),
        (["f_a", "f_b"], ["x/A.wav", "y/f/a.wav", "b.wav"], "duplicate of 'f_a'"),
        (["a", "b"], ["a.wav", "c.wav"], "'c' is not in"),
    ],
)
def test_files_that_may_be_several_utterances_are_refused(
    tmp_path: Path, ids: list[str], files: list[str], message: str
) -> None:
    reference = as_trn(tmp_path, {id: ["s"] for id in ids})
    heard = (Transcribed(file, 1.0, segments_of(["s"])) for file in files)
    output = put(tmp_path / "out.json", "".join(in_format(one, "json") for one in heard))
    with pytest.raises(DataError, match=message):
        counts(reference, output)


# ── channels and parts of recordings ─────────────────────────────────────────────────────────

TWO = "rec A 0.0 0.5 t\nrec A 0.5 0.5 e\nrec B 0.2 0.5 s\nrec B 0.7 0.5 o\n"
ONE = TWO[: TWO.index("rec B")]
STM = "rec A s1 0.0 1.0 <o,f0,male> t e\nrec B s2 0.2 1.2 <o,f0,male> s o\n"


def test_reported_channels_and_stm_have_no_errors() -> None:
    reports = SHARED / "conformance" / "reports"
    if not reports.exists():
        pytest.skip("the reports are not here")
    for reference in ("channels.ref.ctm", "score.ref.stm"):
        assert counts(reports / reference, reports / "channels.hyp.ctm") == (2, 4, 4, 0, 0, 0)


@pytest.mark.parametrize(
    ("reference", "hypotheses", "expected"),
    [
        (TWO, TWO, (2, 4, 4, 0, 0, 0)),
        (STM, TWO, (2, 4, 4, 0, 0, 0)),
        (STM, TWO.replace("A", "1").replace("B", "2"), (2, 4, 4, 0, 0, 0)),
        (STM, TWO.lower().replace("\n", " <NA>\n"), (2, 4, 4, 0, 0, 0)),
        (STM.replace(",", ", "), TWO, (2, 4, 4, 0, 0, 0)),
        ("rec A 3 0.0 1.0 t e\nrec B 4 0.2 1.2 s o\n", TWO, (2, 4, 4, 0, 0, 0)),
        (TWO, TWO.replace("rec", "Rec"), "has 'rec-A': fix the letter case"),
        (TWO, "s o (rec-B)\nt e (rec-A)\n", (2, 4, 4, 0, 0, 0)),
        (ONE, "t e (rec)\n", (1, 2, 2, 0, 0, 0)),
        (STM[: STM.index("rec B")], ONE, (1, 2, 2, 0, 0, 0)),
        (TWO, ONE, "no hypothesis for 1 of 2"),
        (ONE, TWO, "'rec-B' is not in"),
        (ONE, TWO.removeprefix(ONE), "channel"),
        ("rec 0 0.0 0.5 t\n", "rec 1 0.0 0.5 t\n", (1, 1, 1, 0, 0, 0)),
    ],
)
def test_a_channel_is_an_utterance(
    tmp_path: Path, reference: str, hypotheses: str, expected: tuple[int, ...] | str
) -> None:
    sides = put(tmp_path / "ref", reference), put(tmp_path / "hyp", hypotheses)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            counts(*sides)
    else:
        assert counts(*sides) == expected


PARTS = """;; CATEGORY "0" "" ""
rec A s1 2.0 3.0 <o> s o
rec A s1 0.0 1.0 <o> t e
rec A s1 3.0 4.0 <o> IGNORE_TIME_SEGMENT_IN_SCORING
rec B s2 0.2 1.2 <o> s o
rec B s2 1.2 2.2 <o>
"""
TIMED = """rec A 0.0 0.5 t
rec A 0.4 1.0 e
rec A 1.4 0.1 z
rec A 1.9 0.3 s
rec A 2.5 1.0 m
rec A 2.9 0.4 o
rec A 3.2 0.4 q
rec A 4.2 0.4 w
rec B 0.05 0.1 y
rec B 0.2 0.5 s
rec B 0.7 0.5 o
rec B 2.1 0.5 o
"""


def test_parts_get_the_phones_of_their_time(tmp_path: Path) -> None:
    reference, output = put(tmp_path / "r.stm", PARTS), put(tmp_path / "h.ctm", TIMED)
    assert counts(reference, output) == (4, 6, 5, 0, 1, 3)
    with pytest.raises(DataError, match="no times"):
        counts(reference, put(tmp_path / "h.trn", "t e s o (rec-A)\ns o (rec-B)\n"))
    whole = put(tmp_path / "r", PARTS.replace("IGNORE_TIME_SEGMENT_IN_SCORING", ""))
    untimed = put(tmp_path / "h", "t e s o (rec-A)\ns (rec-B)\n")
    assert counts(whole, untimed) == (2, 6, 5, 0, 1, 0)


@pytest.mark.skipif(not SCLITE.exists(), reason="needs sclite")
@pytest.mark.parametrize("seed", range(3))
def test_parts_are_those_of_sclite(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    stm, ctm = [], []
    for recording in ("r1", "r2"):
        for channel in "AB":
            ends = np.cumsum(draw.integers(3, 12, 5)) / 10
            for begin, end in zip([0.0, *ends[:-1]], ends, strict=True):
                said = " ".join(draw.choice(list("abc"), draw.integers(0, 4)))
                said = "IGNORE_TIME_SEGMENT_IN_SCORING" if draw.random() < 0.2 else said
                stm.append(f"{recording} {channel} s {begin + 0.1:.2f} {end:.2f} <o> {said}\n")
            for start in np.sort(draw.uniform(0, ends[-1] + 0.3, 12)):
                ctm.append(f"{recording} {channel} {start:.2f} 0.21 {draw.choice(list('abc'))}\n")
    sides = put(tmp_path / "r.stm", "".join(stm)), put(tmp_path / "h.ctm", "".join(ctm))
    arguments = ["-r", sides[0], "stm", "-h", sides[1], "ctm", "-s", "-o", "rsum", "stdout"]
    printed = subprocess.run([SCLITE, *arguments], capture_output=True, text=True, check=True)
    (total,) = (line for line in printed.stdout.splitlines() if line.strip().startswith("| Sum"))
    utterances, words, corr, sub, dele, ins = map(int, total.replace("|", " ").split()[1:7])
    assert counts(*sides)[1:] == (words, corr, sub, dele, ins), utterances


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x", "a 1 nan 0.1 s\n", "x:1: expected a start in seconds.*'nan'"),
        ("x", "a 1 0.0 inf s\n", "x:1: expected a duration.*'inf'"),
        ("x.ctm", "a 1 0.0 0.1 s\n\na 1 -0.5 0.1 s\n", "x.ctm:3: expected a start.*'-0.5'"),
        ("x.ctm", "a 1 0.0 0.1 s 0.9 lex\n", "x.ctm:1: expected `utterance-id channel"),
        ("x.ctm", "a 1 0.0 0.1 s high\n", "x.ctm:1: expected a confidence.*'high'"),
        ("x.ctm", "a 1 0_0 0.1 s\n", "x.ctm:1: .*'0_0'"),
        ("x.ctm", "a 1 * * <ALT_BEGIN>\n", "x.ctm:1: alternatives"),
        ("x.stm", "a 1 s 0.0\n", "x.stm:1: expected `recording"),
        ("x.stm", "a 1 s 0.0 x <o> s\n", "x.stm:1: expected an end.*'x'"),
        ("x.stm", "a 1 s 1.0 0.5 <o> s\n", "x.stm:1: expected an end that.* 1.0 0.5"),
        ("x.stm", "a 1 s 0 2 <o> s\na 1 s 1 3 <o> s\n", "x.stm:2: .*line 1"),
        ("x.stm", "a 1 s 0 2 <o> { s / t }\n", "x.stm:1: alternatives"),
        ("x", '#!MLF!#\n"*/a.lab"\ns\n', "x:2: .* has no end"),
        ("x", "#!MLF!#\ns\n.\n", "x:2: expected"),
        ("x", '#!MLF!#\n"*/a.lab"\n0.0 0.1 s\n.\n', "x:3: .*100 ns.*'0.0'"),
        ("x", '#!MLF!#\n"*/a.lab"\n9 1 s\n.\n', "x:3: expected an end that"),
        ("x", '#!MLF!#\n"*/a.lab"\ns\n///\nt\n.\n', "x:4: alternatives"),
        (
            "x.json",
            '[\n{"id": "a", "phones": []},\n{"id": "b", "phones": "s"}]',
            "x.json:3: .*list",
        ),
        ("x.json", '[\n{"id": "a", "phones": []},\n', "x.json:1: "),
        ("x.rttm", "", "rttm"),
        ("x.lab", "0 1 s\n", "master label file"),
        ("x.json", '{"file": 1, "phones": []}', "x.json:1: file is 1"),
        ("x.json", '{"file": "a", "phones": [{"phone": "s"}]}', "x.json:1: .*start_s"),
        (
            "x.json",
            '{"file": "a", "phones": [{"phone": "s", "start_s": 2, "end_s": 1}]}',
            "x.json:1: .*at 2 s",
        ),
        ("x", "s t (a b)\n", "x:1: id 'a b' has white space"),
        ("x.trn", "s t\u200b (a)\n", "x.trn:1: phones: .*invisible character"),
        ("x.trn", "s (e\u0301)\ns (\u00e9)\n", "x.trn:2: duplicate"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_transcripts(put(tmp_path / name, text))


def test_mlf_has_times(tmp_path: Path) -> None:
    path = put(tmp_path / "a", '#!MLF!#\n"*/a.lab"\n0 1000000 s -9.5\n1000000 2500000 "iy"\n.\n')
    one = read_transcripts(path).items["a"]
    assert (one.phones, one.times_s) == (("s", "iy"), ((0.0, 0.1), (0.1, pytest.approx(0.25))))


# ── from Python ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({1: ["s"]}, {1: ["s"]}, "id is 1"),
        ({"a": None}, {"a": ["s"]}, "reference 'a': .*None"),
        ({"a": ["s"]}, {"a": "s t"}, "hypothesis 'a': .*'s t'"),
        ({"a": ["s"]}, {"a": {"s": 1}}, "dict"),
        ({"a": ["s"]}, {"a": {"s"}}, "set"),
        ({"a": ["s"]}, {"a": [None]}, "NoneType"),
        ({"a": ["s"]}, {"a": [["s"]]}, "list"),
        ({"a": ["s"]}, {"a": [b"s"]}, "bytes"),
        ({"a": ["s"]}, {"a": 3}, "int"),
        ({"a": ["s"]}, {"a": np.array(["s"])[0]}, "str"),
        ({"a": ["s"]}, {"a": np.array([1, 2])}, "int64"),
        ({"a": ["s"]}, {"a": [Segment("s", 0.0, 1.0)]}, "Segment.*'s'"),
        ({"a": ["s"]}, {"a": ["s t"]}, "white space"),
        ({"a b": ["s"]}, {"a b": ["s"]}, "white space"),
        ([["s"]], {"a": ["s"]}, "reference: found list"),
        ({}, {}, "reference: no utterance"),
        ({"a": ["s"]}, {}, "hypothesis: no utterance"),
        ({"a": ["s"], "b": ["s"]}, {"a": ["s"]}, 'missing="delete"'),
        ({"a": ["s"]}, {"a": ["zz"]}, 'protocol="none"'),
        ({"a": ["s"], "b": ["s"]}, {"c": ["s"], "d": ["s"]}, "no id in common.*'c'.*'a'"),
    ],
)
def test_what_is_no_phone_is_one_sentence(references: Any, hypotheses: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        asr.score(references, hypotheses)
    assert "--" not in str(error.value)
    assert "\n" not in str(error.value)


def test_any_sequence_of_strings_is_phones() -> None:
    said = {np.str_("a"): np.array(["s", "iy"]), "e\u0301": (p for p in ("s", "iy"))}
    result = asr.score(said, {"a": ["s", "iy"], "\u00e9": ("s", "iy")})
    assert result.total.err == 0
    assert {type(p) for one in result.alignments for p in one.reference.phones} == {str}
    assert asr.score({"a": ["s"], "b": ["s"]}, {"a": ["s"]}, missing="delete").total.dele == 1


@pytest.mark.parametrize("options", [{"protocol": ["strict"]}, {"missing": []}, {"speakers": 3}])
def test_wrong_options_are_one_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(options))):
        score({"a": ["s"]}, {"a": ["s"]}, **options)


def test_two_unicode_forms_are_one_phone() -> None:
    assert asr.score({"a": ["e\u0303"]}, {"a": ["\u1ebd"]}, protocol="none").total.err == 0


# ── the command ──────────────────────────────────────────────────────────────────────────────


def config(run: Path, name: str) -> None:
    put(run / "config.yaml", f"corpus:\n  protocol: {name}\n")


def test_the_protocol_is_that_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for seed, name in (("1", "arpabet"), ("2", "arpabet"), ("3", "none")):
        run = tmp_path / seed
        put(run / "manifests" / "test.trn", "s iy (a-1)\n")
        paths.append(put(run / "test.hyp.trn", "s (a-1)\n"))
        config(run, name)
    reference = tmp_path / "1" / "manifests" / "test.trn"

    def scored(*arguments: object) -> Any:
        assert command.main([*map(str, arguments), "--json", "-"]) == 0
        return json.loads(capsys.readouterr().out)

    assert scored(reference, paths[0])["protocol"] == "arpabet"
    assert scored(reference, paths[2], "--protocol", "strict")["protocol"] == "strict"
    every = scored(reference, *paths[:2])
    assert {one["protocol"] for one in every} == {"arpabet"}
    assert {next(iter(one)) for one in every} == {"runs"}
    away = put(tmp_path / "away" / "deep" / "h.trn", "s (a-1)\n")
    assert scored(reference, away)["protocol"] == "arpabet"
    monkeypatch.chdir(paths[0].parent / "manifests")
    assert scored("test.trn", "../../1/test.hyp.trn")["protocol"] == "arpabet"
    assert scored("test.trn", "test.trn")["protocol"] == "arpabet"
    assert command.main(["test.trn", str(paths[0]), "../test.hyp.trn"]) == 1
    assert "twice" in capsys.readouterr().err
    alone = put(tmp_path / "away" / "deep" / "r.trn", "s (a-1)\n")
    assert scored(alone, away)["protocol"] == "strict"
    config(paths[1].parent, "kaldi")
    for wrong in (paths, [paths[1]]):
        assert command.main([str(reference), *map(str, wrong)]) == 1
        assert "config.yaml: corpus.protocol is" in (error := capsys.readouterr().err)
        assert "--protocol" in error


@pytest.mark.parametrize("heard", ["aa b", "aa sil"])
def test_phones_that_are_never_recognised_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], heard: str
) -> None:
    reference = put(tmp_path / "r.trn", "h# aa b h# (a-1)\n")
    output = put(tmp_path / "h.trn", f"{heard} (a-1)\n")
    assert command.main([str(reference), str(output), "--protocol", "strict", "--json", "-"]) == 0
    printed = capsys.readouterr()
    never = "sil (2×)" if heard == "aa b" else "b (1×)"
    assert never in " ".join(json.loads(printed.out)["notes"])
    assert printed.err.count("\n") == 1
    assert never in printed.err
    assert command.main([str(reference), str(output), "--protocol", "sil-optional"]) == 0
    assert "sil (" not in capsys.readouterr().out


def test_one_file_on_both_sides_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / "r.trn", "aa (a-1)\n")
    assert command.main([str(path), str(tmp_path / "." / "r.trn")]) == 0
    assert "the same file" in capsys.readouterr().out


@pytest.mark.parametrize(("reference", "output"), [("", "aa (a)\n"), ("aa (a)\n", "")])
def test_an_empty_file_is_the_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reference: str, output: str
) -> None:
    sides = put(tmp_path / "r.trn", reference), put(tmp_path / "h.trn", output)
    assert command.main([*map(str, sides)]) == 1
    empty = sides[0] if not reference else sides[1]
    assert capsys.readouterr().err.startswith(f"error: {empty}: no utterance in it")
