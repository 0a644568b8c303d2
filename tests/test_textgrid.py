"""TextGrids against praatio as an oracle, and the three units of `.lab` files."""

from pathlib import Path

import pytest

from asr.errors import DataError
from asr.labels import textgrid

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
    assert [name for name, _ in textgrid.read_tiers(path)] == ["words", "speaker - phones"]
    assert list(textgrid.read_phones(path)) == [row for row in PHONES if row[2]]


def test_a_textgrid_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.TextGrid"
    path.write_text('File type = "ooTextFile"\nObject class = "TextGrid"\n0 1 <exists> 1')
    with pytest.raises(DataError, match="not a complete TextGrid"):
        list(textgrid.read_phones(path))
    path.write_bytes(b"ooBinaryFile\x08TextGrid\xff")
    with pytest.raises(DataError, match="neither UTF-8 nor UTF-16"):
        list(textgrid.read_phones(path))
    with pytest.raises(DataError, match="cannot be read"):
        list(textgrid.read_phones(tmp_path / "absent.TextGrid"))


@pytest.mark.parametrize(
    "text",
    [
        "0 5000000 aa\n5000000 12000000 b\n",
        "0.0 0.5 aa\r\n0.5 1.2 b",
        "\ufeff0 0.5 aa\n0.5 1.2 b x\n",
    ],
)
def test_lab_times_are_100_ns_or_seconds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.lab"
    path.write_text(text, encoding="utf-8")
    assert list(textgrid.read_lab(path)) == [(0.0, 0.5, "aa"), (0.5, pytest.approx(1.2), "b")]


def test_a_bad_lab_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.lab"
    path.write_text("0 5000000 aa\n5000000 b\n")
    with pytest.raises(
        DataError, match=r"one\.lab:2: found '5000000 b', expected `start end label`"
    ):
        list(textgrid.read_lab(path))
