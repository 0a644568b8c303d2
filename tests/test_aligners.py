"""`make peers ALIGN=1`: aligners on the same files, their boundaries against hand-made ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import commands_of

from asr.errors import DataError
from asr.labels import textgrid
from asr.records import Segment, Utterance

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "recipes" / "peers"))

import aligners  # noqa: E402

LABELS = ["h#", "hh", "iy", "dcl", "d", "ae", "tcl", "t", "h#"]
EDGES = np.arange(len(LABELS) + 1) * 800  # samples
PHONES = {"hh": (1, 2), "iy": (2, 3), "d": (3, 5), "ae": (5, 6), "t": (6, 8)}
WORDS = {"he'd": (1, 5), "at": (5, 8)}
ALIGNED = {"phones": PHONES, "words": WORDS}
SPEAKERS = ("fapb0", "madc0")  # dev of NLTK's sample


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "sample"
    for speaker in SPEAKERS:
        folder = root / f"dr1-{speaker}"
        folder.mkdir(parents=True)
        sound = np.random.default_rng(0).normal(0, 0.01, EDGES[-1])
        soundfile.write(folder / "si1.wav", sound, 16_000)
        rows = zip(EDGES[:-1], EDGES[1:], LABELS, strict=True)
        (folder / "si1.phn").write_text("".join(f"{a} {b} {c}\n" for a, b, c in rows))
        rows = ((EDGES[a], EDGES[b], word) for word, (a, b) in WORDS.items())
        (folder / "si1.wrd").write_text("".join(f"{a} {b} {c}\n" for a, b, c in rows))
        (folder / "si1.txt").write_text(f"0 {EDGES[-1]} He'd at.\n")
    return root


class Copy(aligners.System):
    """TextGrids that are given, instead of an aligner."""

    def __init__(self, folder: Path, late_s: float) -> None:
        self.name = self.distribution = folder.name
        self.folder = folder
        tiers = {
            name: [
                Segment(label, EDGES[a] / 16_000 + late_s, EDGES[b] / 16_000 + late_s)
                for label, (a, b) in tier.items()
            ]
            for name, tier in ALIGNED.items()
        }
        for speaker in SPEAKERS:
            place = folder / speaker / f"{speaker}_si1.TextGrid"
            place.parent.mkdir(parents=True)
            place.write_text(textgrid.text_of(tiers, EDGES[-1] / 16_000))

    def command(self, source: Path, dictionary: Path, output: Path) -> list[str]:
        assert {path.stem for path in source.rglob("*.wav")} == {f"{s}_si1" for s in SPEAKERS}
        known = {line.split()[0] for line in dictionary.read_text().splitlines()}
        for path in source.rglob("*.txt"):
            assert known.issuperset(path.read_text().split())
        return ["cp", "-r", str(self.folder), str(output)]

    def one(self, recording: Path, text: str, dictionary: Path, output: Path) -> list[str]:
        return ["cp", str(recording), str(dictionary)]


def test_the_table_has_every_input_and_who_is_ahead(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, other = Copy(tmp_path / "ours", 0.015), Copy(tmp_path / "other", -0.025)
    monkeypatch.setattr(aligners, "Ours", lambda _: ours)
    monkeypatch.setattr(aligners, "Viter", lambda _: other)
    output = tmp_path / "out"
    overrides = ["experiment=timit-sample", f"corpus.root={corpus}", "--split", "dev"]
    given = [*overrides, "--viter", "model", "--output", str(output)]
    assert aligners.main(given) == 0
    printed = capsys.readouterr().out
    assert (output / "table.md").read_text() == printed
    text, within, alone = printed.split("## Given ")[1:]
    row = "0.0 | 100.0 | 100.0 | 100.0 | 15.0 | 15.0 | +15.0 | 12 | 100.0 |"
    worse = "0.0 | 0.0 | 100.0 | 100.0 | 25.0 | 25.0 | -25.0 | 12 | 100.0 |"
    assert f"| ours | {row} 100.0 | 100.0 |" in text
    assert f"| other | {worse} 0.0 | 100.0 |" in text
    for table in (text, within, alone):
        assert f"| ours | {row}" in table
        assert "| ours − other | > 20 ms, points | 12 | -100.00 |" in table
        assert "| ours − other | mean error, ms | 12 | -10.00 |" in table
        assert "| stop → vowel | 2 | 100.0 | 15.0 | +15.0 | 2 | 0.0 | 25.0 | -25.0 |" in table
        assert "| fapb0 | 6 | 100.0 | 15.0 | +15.0 | 6 | 0.0 | 25.0 | -25.0 |" in table


def test_phones_are_given_as_words() -> None:
    segments = [Segment(p, n / 20, (n + 1) / 20) for n, p in enumerate(LABELS)]
    one = Utterance("a", "a.wav", 0.45, "s", tuple(LABELS), tuple(segments))
    words = [Segment(word, a / 20, b / 20) for word, (a, b) in WORDS.items()]
    said = aligners.by_phones([one], {"a": words})
    spoken = [said.dictionary[name] for name in said.texts["a"].split()]
    assert spoken == [(("hh", "iy", "d"),), (("ae", "t"),)]
    said = aligners.by_phones([one], {"a": words[:1]})
    assert len(said.texts["a"].split()) == 3  # a phone outside words is a word
    said = aligners.by_phones([one], {})
    assert [said.dictionary[name][0][0] for name in said.texts["a"].split()] == list(PHONES)
    names = [aligners.letters(n) for n in range(2000)]
    assert len({*names}) == 2000
    assert all(name.isalpha() for name in names)


def test_sound_before_the_speech_is_taken_off(tmp_path: Path) -> None:
    Copy(tmp_path / "late", 0.02)
    one = Utterance("fapb0_si1", "", 1.0, "fapb0", ())
    first, *_ = aligners.tier(tmp_path / "late", one, "phones", 0.02)
    assert first.start_s == pytest.approx(0.05)
    assert aligners.tier(tmp_path / "none", one, "phones", 0.02) == []


def test_a_command_that_fails_is_a_sentence_with_its_output() -> None:
    with pytest.raises(DataError, match="exit code 3: no model"):
        aligners.run([sys.executable, "-c", "print('no model'); raise SystemExit(3)"])
    cost = aligners.run([sys.executable, "-c", "sum(range(1_000_000))"])
    assert 0 < cost.cpu_s < 5


def test_make_compares_alignments(tmp_path: Path) -> None:
    (tmp_path / "sample" / "dr1-fvmh0").mkdir(parents=True)
    options = ("ALIGN=1", "ROOT=sample", "TRAIN=books/a books/b", "MODEL=a", "ZEROS=10")
    printed = commands_of(tmp_path, "peers/Makefile", *options)
    printed = " ".join(printed.replace("\\\n", "").split())
    assert "recipes/peers/aligners.py experiment=timit-sample corpus.root='sample'" in printed
    assert "--split all --train 'books/a' --train 'books/b' --checkpoint 'a' --around 10" in printed
    assert "--output 'exp/peers/align-timit-sample'" in printed
