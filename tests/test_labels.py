"""Label files: every value is accounted for, units fit the audio, what is written can be read."""

import unicodedata
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import labels
from asr.corpora import checks
from asr.corpora.recording import Recording
from asr.errors import DataError, raise_problems
from asr.labels import lab
from asr.records import Segment
from asr.scoring import read_transcripts

RATE = 16_000
SAMPLES = 24_000  # of the audio of all inputs here: 1.5 s
HEADER = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
TIMES = [(0.0, 0.4, "t"), (0.4, 0.9, "e"), (0.9, 1.2, "s"), (1.2, 1.5, "")]
READ = (Segment("t", 0.0, 0.4), Segment("e", 0.4, 0.9), Segment("s", 0.9, 1.2))


def tier(name: str, size: Any = 4, intervals: Any = TIMES, xmax: Any = 1.5) -> str:
    rows = "".join(f'{start}\n{end}\n"{text}"\n' for start, end, text in intervals)
    return f'"IntervalTier"\n"{name}"\n0\n{xmax}\n{size}\n{rows}'


def grid(*tiers: str, size: Any = None) -> str:
    return f"{HEADER}0\n1.5\n<exists>\n{len(tiers) if size is None else size}\n{''.join(tiers)}"


def read(
    folder: Path, text: str | bytes, ending: str = "TextGrid", tier: str | None = None
) -> tuple[Segment, ...]:
    path = folder / f"one.{ending}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return labels.read_checked(path, SAMPLES, RATE, tier=tier)


# ---------------------------------------------------------------- TextGrid: all is accounted for


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_line_ends_and_comments_do_not_matter(
    tmp_path: Path, encoding: str, ends: str
) -> None:
    quoted = [(0, 0.4, 'a""b!'), (0.4, "4.0E+00 ! is 4 ", "ʃ"), (4, 5, " ")]
    text = grid(tier(" Phones ", 3, quoted, xmax="5 ! s")).replace("1.5\n<", "5 <")
    path = tmp_path / "one.TextGrid"
    path.write_bytes(("! by hand\n" + text).replace("\n", ends).encode(encoding))
    assert labels.read(path) == (Segment('a"b!', 0.0, 0.4), Segment("ʃ", 0.4, 4.0))


POINTS = '"TextTier"\n"clicks"\n0\n1.5\n1\n0.5\n"click"\n'
GOOD = tier("phones")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (grid(tier("phones", 3)), 22, r"end of the file after .* 3 of 3 \(size in line 12\)"),
        (grid(tier("phones", 3), tier("words")), 22, r"class of tier 2 of 2 .*wrong size"),
        (grid(tier("phones", 5)), 24, r"the end of the file, expected the time of interval 5"),
        (grid(tier("phones", 5), tier("words")), 25, r'"IntervalTier", expected the time of int'),
        (grid(tier("words"), GOOD, size=1), 25, r"end of the file after tier 1 of 1 .*line 7"),
        (grid(GOOD, size=2), 24, "the end of the file, expected .* the class of tier 2"),
        (grid(POINTS.replace("\n1\n", "\n2\n"), GOOD), 15, "the time of point 2 of 2"),
        (grid(POINTS, GOOD).replace("0.5\n", '"x"\n'), 13, "the time of point 1"),
        (grid(GOOD) + "\n0.5 ! more", 26, "found 0.5, expected the end of the file"),
        (grid(GOOD) + "more", 25, "found more, expected the end of the file"),
        *(
            (grid(tier("phones", size)), 12, "size")
            for size in ("-1", "4.0", "1e999", "²", "9" * 40)
        ),
        *((grid(GOOD, size=size), 7, "size") for size in ("-1", "1.5", "1e999", "one", '"1"')),
        (grid(tier("phones", 1, [(0, "nan", "a")])), 14, "found nan, expected the end of int"),
        (grid(tier("phones", 1, [(0, "0,4", "a")])), 14, "found 0,4"),
        (grid(tier("phones", 1, [(0, "٣", "a")])), 14, "found ٣"),
        (grid(tier("phones", 1, [(0, "1e999", "a")])), 14, "found 1e999"),
        (grid(tier("phones", 1, [(0.5, 0.4, "a")])), 13, "0.5 to 0.4 s .*after the start"),
        (grid(tier("phones", 1, [(-1, 0.4, "a")])), 13, "-1 to 0.4 s .*xmin 0"),
        (grid(tier("phones", 1, [(0, 1.6, "a")])), 13, r"0 to 1.6 s .*xmax 1\.5"),
        (grid(tier("phones", 1, [(0, 1.4, "a")], xmax=1)), 13, r"0 to 1.4 s .*xmax 1 "),
        (grid(tier("phones", 2, [(0, 1, "a"), (0.9, 1.4, "")])), 16, "no overlap"),
        (grid(tier("phones", 1, [(0.4, 0.4, "a")])), 15, "starts at 0.4 and ends at 0.4"),
        (grid(tier("phones", 1, [(0, 1, 'a"')])), 15, 'found ", expected'),
        (grid(tier("phones", 1, [(0, 1, "t s")])), 15, r"label 't s' has white space"),
        (grid(tier("phones", 1, [(0, 1, "t\ns")])), 15, r"label 't\\ns' has a control character"),
        (grid(tier("phones", 1, [(0, 1, "t\u200b")])), 15, "invisible"),
        (grid(GOOD).replace("<exists>", "<absent>"), 6, "found <absent>, expected '<exists>'"),
        (grid(GOOD).replace('"TextGrid"', '"Collection"'), 2, 'found "Collection"'),
        (grid(GOOD).replace("ooTextFile", "Praat chronological TextGrid text file"), 1, "chrono"),
        (grid(tier("phones", 1, [(0, 1, "ü")])).encode("latin-1"), 15, "iconv -f latin1 -t utf-8"),
    ],
)
def test_what_does_not_add_up_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, line: int, says: str
) -> None:
    with pytest.raises(DataError, match=says) as error:
        read(tmp_path, text)
    assert f"one.TextGrid:{line}: " in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("names", "key", "is_read"),
    [
        (["phones"], None, True),
        (["anything"], None, True),
        (["words"], None, False),
        (["ORT", "MAU"], None, False),
        (["ORT", "MAU"], " mau ", True),
        (["ORT", "MAU"], "phones", False),
        (["words", "PHONES  "], None, True),
        (["b - phones", "a - phones"], None, False),
        (["b - phones", "a - phones"], "a - phones", True),
        (["b - phones", "a - phones"], "phones", False),
        (["b - phones", "phones"], None, True),
        (["phones", "phones"], None, False),
        (["ä", "b"], "A\u0308", True),
        ([], None, False),
        (["words"], "clicks", False),
    ],
)
def test_a_key_names_the_tier(
    tmp_path: Path, names: list[str], key: str | None, is_read: bool
) -> None:
    right = (key or "phones").strip().casefold().replace("a\u0308", "ä")
    rest = [(0.0, 1.5, "x")]
    tiers = [
        GOOD.replace("phones", name)
        if name.strip().casefold() == right or len(names) == 1
        else tier(name, 1, rest)
        for name in names
    ]
    text = grid(POINTS, *tiers)
    if is_read:
        assert read(tmp_path, text, tier=key) == READ
        return
    with pytest.raises(DataError, match=r"corpus\.tier=NAME") as error:
        read(tmp_path, text, tier=key)
    assert all(repr(name) in str(error.value) for name in [*names, "clicks"])


def test_scoring_reads_the_tier_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "u.TextGrid").write_text(grid(tier("a - phones", 1, [(0, 1, "x")]), tier("MAU")))
    for name, phones in {"mau": ("t", "e", "s"), "a - phones": ("x",), None: ("x",)}.items():
        assert read_transcripts(tmp_path, tier=name).items["u"].phones == phones


# ---------------------------------------------------------------- .lab: the unit by the audio


@pytest.mark.parametrize("per_second", [1.0, 1000, RATE, 10_000_000])
@pytest.mark.parametrize("end_s", [1.5, 1.51, 1.2])
def test_the_unit_of_a_lab_file_is_that_in_which_it_fits_the_audio(
    tmp_path: Path, per_second: float, end_s: float
) -> None:
    times = [0, 0.4, 0.9, end_s]
    unit = (lambda s: s) if per_second == 1 else (lambda s: round(s * per_second))
    rows = [f"{unit(a)} {unit(b)} p\n" for a, b in pairwise(times)]
    result = read(tmp_path, "".join(rows), "lab")
    assert [one.end_s for one in result] == pytest.approx([0.4, 0.9, min(end_s, 1.5)])


def test_whole_seconds_are_seconds_where_the_audio_says_so(tmp_path: Path) -> None:
    (tmp_path / "one.lab").write_text("0 1 t\n1 2 e\n")
    read_ = labels.read_checked(tmp_path / "one.lab", 2 * RATE, RATE)
    assert read_ == (Segment("t", 0.0, 1.0), Segment("e", 1.0, 2.0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 1 t\n1 2 e\n", r"one\.lab:2: label ends at 2, the audio at 1.5 s: .* do not fit"),
        ("0 100 t\n", "do not fit"),
        ("0 7000 t\n", "do not fit"),
        ("0 16000000 t\n", "do not fit"),
        ("0.0 1600.0 t\n", "do not fit"),
        ("0 0 t\n", "do not fit"),
        ("0 4000000 t\n4000000 nan e\n", r":2: found '4000000 nan e'.*a number from 0"),
        ("0 4000000 t\n4000000 inf e\n", ":2: .*a number from 0"),
        ("0 1e999 e\n", ":1: .*a number from 0"),
        ("0 ² e\n", ":1: "),
        ("0 ٣ e\n", ":1: "),
        (f"0 {'9' * 5000} e\n", ":1: .*a number from 0"),
        ("-1 4000000 e\n", ":1: .*a number from 0"),
        ("0,0 0,4 t\n", ":1: .*a decimal point, not a comma"),
        ("0 4000000 t s\n", ":1: .*no space inside"),
        ("0 4000000 t -3.2 word\n", ":1: .*no other levels"),
        ("0 4000000\n", ":1: .*a field is missing"),
        ("0 4000000 t\u200b\n", ":1: label 't\\\\u200b' has an invisible character"),
        ("0 9000000 t\n4000000 15000000 e\n", ":2: .*before the previous label's end 0.9"),
        ("0 4000000 t\nwords\n", ":2: found 'words'"),
        ("this is a transcript\n", "words without times.*corpus.lexicon"),
        ("", "no labels"),
    ],
)
def test_lab_files_that_are_none_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(tmp_path, text, "lab")


def test_an_unknown_phone_does_not_hide_the_unit(tmp_path: Path) -> None:
    (tmp_path / "a.lab").write_text("0 5000000 x\n5000000 10000000 aa\n")
    with pytest.raises(DataError) as error:
        labels.read_checked(tmp_path / "a.lab", 16_000, 16_000, {"aa"}, "mine")
    assert len(error.value.problems) == 1


def test_lab_files_of_words_are_told_from_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.lab"
    known = {
        "this is\nit": True,
        "0 1 aa": False,
        "0,0 1,0 aa": False,
        "0.0 aa": False,
        "-hello .there": True,
        "2 hello": True,
        "": False,
    }
    for text, is_text in known.items():
        for encoding in ("utf-8", "utf-16"):
            path.write_text(text, encoding)
            assert lab.is_text(path) == is_text


def test_lab_scores_are_not_labels_and_utf_16_is_read(tmp_path: Path) -> None:
    text = "0 4000000 t -12.5\n4000000 9000000 e 0\n9000000 12000000 s 1e-3\n"
    assert read(tmp_path, text.encode("utf-16"), "lab") == READ


@pytest.mark.parametrize("text", ["0 400 t\n400 900 e\n", "0 6400 t\n", "0.0 400.0 t\n", "0 1 t"])
def test_without_audio_no_unit_is_made_up(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.lab").write_text(text)
    with pytest.raises(DataError, match="on average: another unit"):
        labels.read(tmp_path / "one.lab")


# ---------------------------------------------------------------- .phn


@pytest.mark.parametrize(
    "line",
    ["0 ² aa", "0 ٣ aa", "-1 100 aa", "0 nan aa", f"0 {'9' * 5000} aa", "0 1e3 aa", "5 5 aa"],
)
@pytest.mark.parametrize("checked", [True, False])
def test_phn_lines_that_are_no_labels_are_named(tmp_path: Path, line: str, checked: bool) -> None:
    path = tmp_path / "one.phn"
    path.write_text(f"0 4 h#\n{line}\n")
    with pytest.raises(DataError, match=r"one\.phn:2: "):
        labels.read_checked(path, SAMPLES, RATE) if checked else labels.read(path)


# ---------------------------------------------------------------- one sound is one phone


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("phn", "0 9000 {0}\n9000 24000 {1}\n"),
        ("lab", "0 9000000 {0}\n9000000 15000000 {1}\n"),
        ("TextGrid", grid(tier("phones", 2, [(0, 1, "{0}"), (1, 1.5, "{1}")]))),
    ],
)
def test_two_unicode_forms_are_one_phone(tmp_path: Path, ending: str, text: str) -> None:
    one, other = read(tmp_path, text.format("ã", "a\u0303"), ending)
    assert one.phone == other.phone == "ã"
    with pytest.raises(DataError, match=r"one\.\w+:\d+: .*U\+200D"):
        read(tmp_path, text.format("a", "a\u200d"), ending)


# ---------------------------------------------------------------- unlabelled parts


@pytest.mark.parametrize(
    ("spans", "is_warned", "in_phn"),
    [
        ([(0.0, 1.5)], False, False),
        ([(0.0, 0.1), (0.1, 0.2)], True, True),  # ends long before the audio
        ([(1.0, 1.5)], True, True),
        ([(0.3, 1.2)], False, True),  # silence at the edges
        ([(0.0, 0.5), (0.6, 1.5)], False, True),  # a pause
        ([(0.0, 0.5), (0.9, 1.5)], True, True),
        ([(0.0, 1.495)], False, False),
    ],
)
@pytest.mark.parametrize("ending", ["phn", "lab", "TextGrid"])
def test_what_is_not_labelled_is_a_warning_with_its_seconds(
    ending: str, spans: list[tuple[float, float]], is_warned: bool, in_phn: bool
) -> None:
    recording = Recording("a", "a.wav", "s", labels=f"a.{ending}")
    segments = tuple(Segment("x", *span) for span in spans)
    header: Any = SimpleNamespace(samples=SAMPLES, sample_rate=RATE, duration_s=1.5)
    warnings = list(checks._gaps(recording, segments, header))
    assert len(warnings) == (in_phn if ending == "phn" else is_warned)
    if is_warned:
        missing = 1.5 - sum(end - start for start, end in spans)
        assert f"{missing:.2f} of 1.50 s" in warnings[0]


# ---------------------------------------------------------------- equal causes


def test_a_cause_of_many_files_is_said_once_with_its_count() -> None:
    same = [f"/c/{n}.lab:{n}: label ends at {n}.5, expected 'aa1'" for n in range(40)]
    other = ["/c/x.lab:1: label ends at 3, expected 'aa2'", "a sentence without a place"]
    with pytest.raises(DataError, match=r"^42 problems:") as error:
        raise_problems([other[0], *same, other[1]])
    assert error.value.problems == (other[0], *same, other[1])
    said = str(error.value).splitlines()[1:]
    assert [said[0], said[1], said[-1]] == [other[0], same[0], other[1]]
    assert len(said) == 4
    assert "39 times more: /c/1.lab:1, /c/2.lab:2" in said[2]


# ---------------------------------------------------------------- what we write, we read

characters = st.characters(exclude_categories=("Z", "C"))
phones = st.text(characters, min_size=1, max_size=4)
edges = st.lists(st.integers(0, 5 * RATE), min_size=2, max_size=12, unique=True).map(sorted)


@settings(max_examples=40)
@given(
    edges=edges,
    listed=st.lists(phones, min_size=6, max_size=6),
    rate=st.sampled_from([8000, RATE, 44_100]),
)
@pytest.mark.parametrize("ending", ["phn", "TextGrid"])
def test_what_is_written_is_read_to_the_sample(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    edges: list[int],
    listed: list[str],
    rate: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"written.{ending}"
    pairs = zip(edges[::2], edges[1::2], listed, strict=False)
    segments = [Segment(p, a / rate, b / rate) for a, b, p in pairs]
    labels.write(path, segments, edges[-1], rate)
    result = labels.read(path, rate)
    assert [one.phone for one in result] == [
        unicodedata.normalize("NFC", s.phone) for s in segments
    ]
    for one, segment in zip(result, segments, strict=True):
        assert round(one.start_s * rate) == round(segment.start_s * rate)
        assert round(one.end_s * rate) == round(segment.end_s * rate)


@given(
    times=st.lists(st.tuples(st.floats(-0.1, 1.6), st.floats(-0.1, 1.6)), min_size=1, max_size=4),
    phone=st.text(max_size=2),
)
@pytest.mark.parametrize("ending", ["phn", "TextGrid"])
def test_what_could_not_be_read_is_not_written(
    tmp_path_factory: pytest.TempPathFactory,
    ending: str,
    times: list[tuple[float, float]],
    phone: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"doubtful.{ending}"
    path.unlink(missing_ok=True)
    try:
        labels.write(path, [Segment(phone, *both) for both in times], SAMPLES, RATE)
    except DataError:
        assert not path.exists()
    else:
        assert len(labels.read(path)) == len(times)
        with suppress(DataError):
            labels.read_checked(path, SAMPLES, RATE)


# ---------------------------------------------------------------- the inputs that users reported


@pytest.mark.parametrize(
    ("name", "key", "outcome"),
    [
        (
            "textgrid/intervals_announced_3_of_4.TextGrid",
            None,
            r":28: .*3 of 3 \(size in line 14\)",
        ),
        ("textgrid/tiers_announced_1_of_2.TextGrid", None, r":24: .*1 of 1 \(size in line 7\)"),
        ("textgrid/tier_named_MAU.TextGrid", None, r"'ORT', 'MAU'.*corpus\.tier"),
        ("textgrid/tier_named_MAU.TextGrid", "MAU", READ),
        ("textgrid/tier_named_with_trailing_blank.TextGrid", None, READ),
        ("textgrid/two_speakers.TextGrid", None, r"'a - phones', 'b - phones'.*corpus\.tier"),
        ("textgrid/two_speakers.TextGrid", "b - phones", READ),
        ("textgrid/label_with_a_space.TextGrid", None, ":18: label 't s'"),
        ("textgrid/label_with_a_line_break.TextGrid", None, r":18: label 't\\ns'"),
        ("textgrid/times_with_exponents.TextGrid", None, READ),
        ("textgrid/latin1.TextGrid", None, ":18: byte 0xe9 is not UTF-8.*iconv"),
        ("lab/unit_milliseconds.lab", None, (*READ, Segment("sil", 1.2, 1.5))),
        ("lab/unit_samples.lab", None, (*READ, Segment("sil", 1.2, 1.5))),
        ("lab/unit_whole_seconds.lab", None, "do not fit the audio"),
        ("lab/time_nan.lab", None, r"\.lab:2: "),
        ("lab/decimal_commas.lab", None, r"\.lab:1: .*comma"),
        ("lab/label_with_a_space.lab", None, r"\.lab:1: .*no space"),
        ("lab/words_only.lab", None, r"corpus\.lexicon"),
        ("lab/utf16.lab", None, (*READ[:2], Segment("s", 0.9, 1.5))),
    ],
)
def test_inputs_that_users_reported(
    shared: Path, name: str, key: str | None, outcome: str | tuple[Segment, ...]
) -> None:
    path = shared / "conformance" / "reports" / name
    if isinstance(outcome, tuple):
        assert labels.read_checked(path, SAMPLES, RATE, tier=key) == outcome
    else:
        with pytest.raises(DataError, match=outcome):
            labels.read_checked(path, SAMPLES, RATE, tier=key)
