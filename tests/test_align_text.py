"""Recordings and texts on the command line, and what is written of them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tones_of

import asr
from asr import alignment, audio, labels
from asr.commands import align, texts
from asr.errors import DataError
from asr.records import Segment, Utterance, read_jsonl, write_jsonl

RATE = 16_000
SAID = "Ma, see me!"  # in phones that the model of tones knows
PHONES = "m aa s iy m iy"

Align = Callable[..., int]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """`SAID` in tones, with a pause behind the first word, and at both ends."""
    quiet = 0.001 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    first, others = tones_of(["m", "aa"]), tones_of(["s", "iy", "m", "iy"])
    path = tmp_path / "in" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.concatenate([quiet, first, quiet, others, quiet]), RATE)
    return path


@pytest.fixture
def command(tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Align:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: align.main([*map(str, arguments), "--checkpoint", str(tone_model)])


def test_a_textgrid_of_words_and_phones_is_one_for_praat(
    command: Align, recording: Path, tmp_path: Path
) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    parselmouth = pytest.importorskip("parselmouth")
    assert command(recording, SAID, "--output", "a.TextGrid") == 0
    grid = praatio.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    assert grid.tierNames == ("words", "phones")
    words, phones = (grid.getTier(name).entries for name in grid.tierNames)
    assert [entry.label for entry in words] == ["", "ma", "", "see", "me", ""]
    assert " ".join(e.label for e in phones if e.label) == PHONES
    assert grid.maxTimestamp == pytest.approx(audio.info(recording).duration_s)
    edges = {entry.start for entry in phones} | {entry.end for entry in phones}
    assert all(entry.start in edges and entry.end in edges for entry in words)
    call = parselmouth.praat.call
    opened = parselmouth.read(str(tmp_path / "a.TextGrid"))
    for number, tier in enumerate((words, phones), start=1):
        for place, entry in enumerate(tier, start=1):
            assert call(opened, "Get label of interval", number, place) == entry.label
            assert call(opened, "Get start time of interval", number, place) == entry.start
            assert call(opened, "Get end time of interval", number, place) == entry.end


def test_names_of_tiers_are_chosen(
    command: Align, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = "phones=MAU,words=ORT"
    assert command(recording, SAID, "--tiers", named, "--output", "a.TextGrid") == 0
    text = Path("a.TextGrid").read_text()
    assert re.findall(r'name = "(\w+)"', text) == ["ORT", "MAU"]
    for wrong in ("phone=x", "words=x,phones=x"):
        with pytest.raises(SystemExit):
            command(recording, SAID, "--tiers", wrong)
    assert "expected LEVEL=NAME" in capsys.readouterr().err


def test_phn_and_wrd_are_in_samples_of_the_file_and_complete_with_symbols_of_timit(
    command: Align, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = np.stack([soundfile.read(recording)[0]] * 2, axis=1)
    soundfile.write("b.wav", samples[np.arange(0, len(samples), 0.5).astype(int)], 2 * RATE)
    assert command("b.wav", SAID, "--output", "b.phn") == 0
    assert "resampled" in capsys.readouterr().err
    assert command("b.wav", SAID, "--output", "timit.phn", "--symbols", "timit") == 0
    header = audio.info("b.wav")
    gaps = labels.read_checked("b.phn", header.samples, header.sample_rate)
    complete = labels.read_checked("timit.phn", header.samples, header.sample_rate)
    assert " ".join(one.phone for one in complete) == "h# m aa pau s iy m iy h#"
    assert [one for one in complete if one.phone not in ("h#", "pau")] == list(gaps)
    assert all(one.end_s == other.start_s for one, other in pairwise(complete))
    assert (complete[0].start_s, complete[-1].end_s) == (0, header.samples / header.sample_rate)
    rows = [line.split() for line in Path("timit.wrd").read_text().splitlines()]
    assert [row[2] for row in rows] == ["ma", "see", "me"]
    phones = [line.split() for line in Path("b.phn").read_text().splitlines()]
    assert rows[0][0] == phones[0][0]
    assert rows[0][1] == phones[1][1]


def test_ctm_json_and_manifest_have_the_same_times(
    command: Align, recording: Path, tone_model: Path
) -> None:
    whole = ("--ctm", "p.ctm", "--words-ctm", "w.ctm", "--output")
    assert command(recording, SAID, *whole, "out.jsonl") == 0
    assert command(recording, SAID, "--output", "out.json") == 0
    record = json.loads(Path("out.json").read_text())
    assert record["file"] == str(recording)
    for name, level, key in (("p", "phones", "phone"), ("w", "words", "word")):
        rows = [line.split() for line in Path(f"{name}.ctm").read_text().splitlines()]
        assert [row[0] for row in rows] == ["a"] * len(rows)
        for row, one in zip(rows, record[level], strict=True):
            assert row[4] == one[key]
            times = one["start_s"], one["end_s"] - one["start_s"], one["confidence"]
            assert [float(row[n]) for n in (2, 3, 5)] == pytest.approx(times, abs=1e-4)
    (utterance,) = read_jsonl("out.jsonl", Utterance)
    assert utterance.words == "ma see me"
    assert utterance.pronunciation == "aligned"
    assert [(s.phone, s.start_s) for s in utterance.segments or ()] == [
        (one["phone"], one["start_s"]) for one in record["phones"]
    ]
    transcript = asr.align(recording, SAID, checkpoint=tone_model)
    assert json.loads(json.dumps(vars(transcript)))["words"] == [
        list(one.values()) for one in record["words"]
    ]
    Path("said.txt").write_text(SAID)
    assert asr.align(recording, Path("said.txt"), checkpoint=tone_model) == transcript
    assert asr.align(recording, PHONES.split(), checkpoint=tone_model) == transcript.phones


def test_a_folder_keeps_its_tree_and_a_bad_pair_gets_one_line(
    command: Align, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recording.parent
    for name in ("inner/B.WAV", "inner/c.wav", "alone.wav", "d.wav", "e.wav", "timed.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(recording.read_bytes())
    texts_of = {
        "A.TXT": f"0 {RATE} {SAID}\n",  # as TIMIT's
        "inner/b.lab": SAID.upper(),
        "inner/c.txt": "see <unk> me",
        "d.txt": "see " * 200,
        "e.lab": "0 1000000 s\n1000000 2000000 aa\n",
        "e.txt": SAID,
        "lost.txt": SAID,
        "timed.lab": "0 1000000 s\n1000000 2000000 aa\n",
    }
    for name, text in texts_of.items():
        (folder / name).write_text(text)
    assert command(folder, "--output", "out") == 1
    written = sorted(str(path) for path in Path("out").rglob("*.*"))
    assert written == ["out/a.TextGrid", "out/e.TextGrid", "out/inner/B.TextGrid"]
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    for name, says in (
        ("alone.wav", "has no text"),
        ("inner/c.txt", "'<unk>' stands for speech"),
        ("d.wav", "is this the transcript of the recording?"),
        ("timed.lab", "expected words without times"),
    ):
        (line,) = [line for line in lines if line.startswith(f"error: {folder / name}: ")]
        assert says in line
    assert f"warning: {folder / 'lost.txt'}: has no recording beside it" in lines
    assert "4 of 7 utterances not aligned" in lines
    assert command(folder, "--output", "out") == 1
    assert capsys.readouterr().err.count("already exists") == 3
    assert command(folder, "--output", "phn", "--format", "phn") == 1
    assert len(list(Path("phn").rglob("*.*"))) == 6


def test_tables_name_recordings_and_texts(
    command: Align, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = recording.parent / "validated.tsv"
    table.write_text(f'client\tpath\tsentence\nx\ta.wav\t"{SAID}\nx\tz.wav\tsee\nx\ta.wav\t\n')
    assert command(table, "--output", "out.jsonl") == 1
    (utterance,) = read_jsonl("out.jsonl", Utterance)
    assert (utterance.id, utterance.audio) == ("a", str(recording.absolute()))
    shown = capsys.readouterr().err
    assert f"{table}:3: z.wav: no such file" in shown
    assert f"{table}:4: expected a recording and its text" in shown
    csv = recording.parent / "t.csv"
    csv.write_text(f'audio,text\n{recording},"{SAID}"\n')
    assert texts.pairs([csv]).pairs[0].text == SAID
    csv.write_text("a.wav,see me\n")
    with pytest.raises(DataError, match=r"t\.csv:1: expected the names of columns"):
        texts.pairs([csv])


@pytest.mark.parametrize("ending", ["csv", "tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_separated_as_its_first_line_says(
    recording: Path, separator: str, ending: str
) -> None:
    table = recording.parent / f"t.{ending}"
    said = "see, me; ma"
    quoted = said if separator == "\t" else f'"{said}"'
    table.write_text("\ufeff" + separator.join(["id", "Audio", "Text"]) + "\n")
    with table.open("a") as file:
        file.write(separator.join(["1", recording.name, quoted]) + "\n")
    (pair,) = texts.pairs([table]).pairs
    assert (pair.text, pair.audio) == (said, str(recording))
    table.write_text("id|Audio|Text\n")
    with pytest.raises(
        DataError, match=r"semicolons or tabs between them; found 'id\|Audio\|Text'"
    ):
        texts.pairs([table])


def test_a_text_that_is_the_name_of_a_file_is_not_read_in_python(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recording.parent)
    Path("u").mkdir()
    for name in ("u/e.txt", "u/ma", "e.text"):
        Path(name).write_text(SAID)
        for function in (asr.align, asr.assess):
            with pytest.raises(DataError, match=f"give pathlib\\.Path\\('{name}'\\)"):
                function(recording, name)
        assert alignment.text_of(Path(name)) == SAID
    with pytest.raises(DataError, match=r"u/f\.txt: no such file"):
        asr.align(recording, "u/f.txt")
    Path("ma").touch()
    assert alignment.text_of("ma") == "ma"
    Path("a.phn").write_text("0 10 aa\n")
    with pytest.raises(DataError, match="expected words without times"):
        asr.align(recording, Path("a.phn"))


def test_a_manifest_with_words_and_no_phones_and_one_without_times(
    command: Align, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Utterance("one", str(recording), 1.65, "x", (), words=SAID)
    two = Utterance("two", str(recording), 1.65, "x", tuple(PHONES.split()))
    write_jsonl("in.jsonl", [one, two])
    assert command("in.jsonl", "--output", "out.jsonl") == 0
    of_words, of_phones = read_jsonl("out.jsonl", Utterance)
    assert of_words.phones == of_phones.phones == two.phones
    assert of_words.segments == of_phones.segments
    assert (of_words.pronunciation, of_phones.pronunciation) == ("aligned", None)
    write_jsonl(
        "in.jsonl",
        [replace(of_phones, id="timed"), two],
    )
    capsys.readouterr()
    assert command("in.jsonl", "--compare") == 0
    shown = capsys.readouterr().out
    assert "mean absolute error 0.0 ms" in shown
    assert "1 of 2 utterances have no times: not compared" in shown


def test_a_line_of_a_manifest_needs_no_phones(recording: Path, tmp_path: Path) -> None:
    record = {"id": "a", "audio": str(recording), "duration_s": 1.65, "speaker": "x", "words": SAID}
    (tmp_path / "in.jsonl").write_text(json.dumps(record))
    (pair,) = texts.pairs([tmp_path / "in.jsonl"]).pairs
    assert (pair.text, pair.phones, pair.id) == (SAID, (), "a")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in"], "has no text"),
        (["empty"], "no recordings, expected audio"),
        (["in", SAID], "is a folder, expected a recording"),
        (["in/a.wav", "b.txt"], "b.txt: no such file"),
        (["in/a.wav"], "write what is said into a.txt beside it"),
        (["b.wav"], "no such file or folder"),
        (["in/a.wav", "empty.txt"], "no words"),
        (["in/a.wav", SAID, "--output", "out.doc"], "expected a name that ends in"),
        (["in/a.wav", SAID, "--output", "there.TextGrid"], "already exists"),
        (["in/a.wav", SAID, "--output", "there.TextGrid/x"], "is a file, expected a folder"),
        (["in/a.wav", SAID, "--compare"], "--compare needs `segments`"),
        (["table.csv", "--output", "out"], "would be written to out/a.TextGrid, and so would"),
        (["table.csv", "--ctm", "out.ctm"], "'a': is the id of 2 recordings"),
        (["in/a.wav", "hello blorpy", "--g2p", "none"], "'blorpy' is not in the lexicon"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(alignment, "load", None)
    Path("empty").mkdir()
    Path("empty.txt").touch()
    Path("there.TextGrid").touch()
    Path("other").mkdir()
    Path("other/a.wav").write_bytes(recording.read_bytes())
    Path("table.csv").write_text(
        f"file,text\n{recording},see\n{Path('other/a.wav').absolute()},me\n"
    )
    assert align.main(arguments) == 1
    shown = capsys.readouterr().err
    assert says in shown
    assert sum(line.startswith("error: ") for line in shown.splitlines()) == 1
    assert not Path("out").exists()


def test_without_a_packaged_model_it_says_what_to_do(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "MODEL", tmp_path / "absent.safetensors")
    with pytest.raises(DataError, match="name the file of a model"):
        asr.align(recording, SAID)


def test_pauses_are_segments_of_timit_only(recording: Path) -> None:
    from asr.labels.formats import with_silence

    phones = [Segment("s", 0.0, 0.5), Segment("iy", 0.5, 1.0), Segment("m", 1.5, 2.0)]
    complete = [(one.phone, one.start_s) for one in with_silence(phones, 2.0)]
    assert complete == [("s", 0.0), ("iy", 0.5), ("pau", 1.0), ("m", 1.5)]
    with pytest.raises(DataError, match="'u:'"):
        list(with_silence([Segment("u:", 0.0, 0.5)], 2.0))


def test_texts_beside_recordings_are_never_overwritten(
    command: Align, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = recording.with_suffix(".txt")
    beside.write_text(SAID)
    for source in (recording, recording.parent):
        arguments = ("--output", recording.parent, "--format", "text", "--overwrite")
        assert command(source, *arguments) == 1
        assert f"{beside}: is one of the inputs" in capsys.readouterr().err
    assert beside.read_text() == SAID


def test_a_field_of_a_table_may_have_several_lines(recording: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('audio,text\nin/a.wav,"ma, see\nme"\n')
    (pair,) = texts.pairs([table]).pairs
    assert (pair.text or "").split() == ["ma,", "see", "me"]
