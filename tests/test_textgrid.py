"""Label files: TextGrids against praatio, `.lab` in its units, the label file beside audio."""

from pathlib import Path

import pytest

from asr import labels
from asr.errors import DataError
from asr.labels import textgrid
from asr.records import Segment

PHONES = [(0.0, 0.5, "HH"), (0.5, 0.75, "AH0"), (0.75, 1.25, ""), (1.25, 1.5, 'a"b')]


@pytest.mark.parametrize("format_name", ["long_textgrid", "short_textgrid"])
def test_what_praatio_writes_is_read(tmp_path: Path, format_name: str) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    grid = praatio.Textgrid()
    grid.addTier(praatio.IntervalTier("words", [(0.0, 0.75, "huh")], 0.0, 1.5))
    grid.addTier(praatio.PointTier("points", [(0.2, "click")], 0.0, 1.5))
    grid.addTier(praatio.IntervalTier("speaker - phones", PHONES, 0.0, 1.5))
    path = tmp_path / "one.TextGrid"
    grid.save(str(path), format=format_name, includeBlankSpaces=True)
    assert [name for name, rows in textgrid.read_tiers(path) if rows is not None] == [
        "words",
        "speaker - phones",
    ]
    assert labels.read(path) == tuple(Segment(p, start, end) for start, end, p in PHONES if p)


def test_a_textgrid_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 1')
    with pytest.raises(DataError, match="not a complete TextGrid"):
        labels.read(path)
    path.write_bytes(b"ooBinaryFile\x08TextGrid\xff")
    with pytest.raises(DataError, match=r"binary TextGrid; .* save it as text"):
        labels.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        labels.read(tmp_path / "absent.TextGrid")


@pytest.mark.parametrize(
    "text",
    [
        "0 5000000 aa\n5000000 12000000 b\n",
        "0.0 0.5 aa\r\n0.5 1.2 b",
        "\ufeff0 0.5 aa\n0.5 1.2 b -3.5\n",
    ],
)
def test_lab_times_are_100_ns_or_seconds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.lab"
    path.write_text(text, encoding="utf-8")
    first, second = labels.read(path)
    assert first == Segment("aa", 0.0, 0.5)
    assert (second.phone, second.start_s, second.end_s) == ("b", 0.5, pytest.approx(1.2))


def test_a_bad_lab_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.lab"
    path.write_text("0 5000000 aa\n5000000 b\n")
    with pytest.raises(
        DataError, match=r"one\.lab:2: found '5000000 b', expected `start end label`"
    ):
        labels.read(path)


@pytest.mark.parametrize(
    ("audio", "name"),
    [("a.wav", "a.phn"), ("SA1.WAV.wav", "SA1.PHN"), ("SA1.WAV", "sa1.TextGrid"), ("b.flac", None)],
)
def test_the_label_file_is_beside_the_audio(tmp_path: Path, audio: str, name: str | None) -> None:
    for other in (audio, name or "c.lab", "a.txt", "ab.phn"):
        (tmp_path / other).touch()
    assert labels.beside(tmp_path / audio) == (tmp_path / name if name else None)
    if name:
        (tmp_path / f"{Path(name).stem}.lab").touch()
        with pytest.raises(DataError, match=f"{name}, .*lab|lab, .*{name}"):
            labels.beside(tmp_path / audio)
    with pytest.raises(DataError, match=r"a\.txt: .*\.phn, \.textgrid, \.lab"):
        labels.read(tmp_path / "a.txt")
