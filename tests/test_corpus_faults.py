"""What a corpus says of itself is compared with its files, and each fault has place and remedy."""

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.commands import exchange
from asr.corpora import folder
from asr.corpora.checks import check
from asr.corpora.folder import FolderConfig
from asr.errors import DataError
from asr.records import Segment, Utterance, write_jsonl

RATE = 16_000
FORMATS = ("kaldi", "lhotse", "shards")
TIMES = (Segment("h#", 0.0, 0.25), Segment("aa", 0.25, 0.75), Segment("h#", 0.75, 1.0))
Rows = list[dict[str, Any]]


def speak(path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    seed = sum(map(ord, path.stem))
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, shape), rate)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A manifest of three utterances by three speakers."""
    utterances = []
    for n in range(3):
        speak(tmp_path / "audio" / f"u{n}.wav")
        audio = str(tmp_path / "audio" / f"u{n}.wav")
        phones = tuple(one.phone for one in TIMES)
        utterances.append(Utterance(f"u{n}", audio, 1.0, f"s{n}", phones, TIMES))
    write_jsonl(tmp_path / "all.jsonl", utterances)
    return tmp_path / "all.jsonl"


def exported(source: Path, format_name: str) -> Path:
    root = source.parent / format_name
    assert exchange.main([format_name, str(source), str(root)]) == 0
    return root


def problems_of(root: Path, **options: Any) -> list[str]:
    """All that is wrong with a corpus, as `asr prepare` collects it."""
    try:
        corpus = folder.find(FolderConfig(root=str(root), **options))
    except DataError as error:
        return list(error.problems)
    if options.get("resample"):
        (root / "converted").mkdir()
        corpus = replace(corpus, converted=(root / "converted",) * 2, channel=options["channel"])
    problems = list(corpus.bad)
    for split, recordings in corpus.splits.items():
        for recording in recordings:
            problems.extend(check(recording, split, corpus).problems)
    return problems


def edit(root: Path, kind: str, change: Callable[[Rows], object]) -> None:
    """Change the rows of a manifest; a `kind` of Lhotse's, or `manifest` of shards."""
    packed = root / f"{kind}.jsonl.gz"
    if packed.exists():
        text = gzip.decompress(packed.read_bytes()).decode()
        packed.unlink()
    else:
        text = (root / f"{kind}.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    change(rows)
    (root / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def has_place_and_remedy(problem: str, root: Path) -> bool:
    """Whether a problem begins with a file that exists, mostly with a line, and ends with help."""
    place = re.match(r"(/[^:]*)(:\d+)?[ :]", problem)
    helps = re.search(r"; (?!tried)|, expected ", problem)
    return place is not None and Path(place[1]).exists() and helps is not None


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_is_exported_is_sound(source: Path, format_name: str) -> None:
    assert problems_of(exported(source, format_name)) == []


@pytest.mark.parametrize(
    ("format_name", "says"),
    [
        ("kaldi", r"/utt2dur:2 \(u1\): says 1 s, the audio has 1\.5 s; "),
        ("lhotse", r"/recordings\.jsonl\.gz:2 \(u1\): says 16000 samples, the audio has 24000; "),
        ("shards", r"/manifest\.jsonl:2 \(u1\): says 1\.5 s, the audio has 1 s; "),
    ],
)
def test_audio_of_another_length_than_its_corpus_says(
    source: Path, format_name: str, says: str
) -> None:
    root = exported(source, format_name)
    if format_name == "shards":
        edit(root, "manifest", lambda rows: rows[1].update(duration_s=1.5))
    else:
        speak(source.parent / "audio" / "u1.wav", 1.5)
    problems = problems_of(root)
    assert re.search(says, problems[0]), problems
    assert all(has_place_and_remedy(one, root) for one in problems)


def of(**change: Any) -> Callable[[Rows], None]:
    """Values of the second row; None removes the key."""

    def update(rows: Rows) -> None:
        rows[1].update(change)
        for key in [key for key, value in rows[1].items() if value is None]:
            del rows[1][key]

    return update


def phones(*items: list[Any]) -> dict[str, Any]:
    return {"phone": list(items)}


BACKWARDS = phones(["h#", 0, -1], ["aa", 0.25, 0.5], ["h#", 0.75, 0.25])
ELSE = {"type": "file", "channels": [0, 1], "source": "audio/u1.wav"}


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("supervisions", lambda rows: rows.pop(1), r"recordings.*:2 \(u1\): has no supervision"),
        ("recordings", lambda rows: rows.pop(1), r"supervisions.*:2: no recording 'u1' for u1"),
        ("recordings", of(sampling_rate=8000), r"recordings.*:2 \(u1\): says 8000 Hz.*16000 Hz"),
        ("recordings", of(num_samples=100), r"recordings.*:2 \(u1\): says 100 samples.*16000"),
        ("recordings", of(duration=0.5), "is a part of its recording"),
        ("recordings", of(sources=[ELSE]), r"says channels \[0, 1\], the audio has \[0\]"),
        ("recordings", of(transforms=[{"name": "Speed"}]), "transforms, which are not applied"),
        ("recordings", of(sources=[ELSE | {"source": "no.wav"}]), r":2: 'no\.wav' does not exist"),
        ("recordings", of(sources=[{"type": "command", "source": "x"}]), "save_audios"),
        ("supervisions", of(channel=1), r"supervisions.*:2 \(u1\): is of channel 1, the audio has"),
        ("supervisions", of(text="h# ae h#"), "phone 2 is 'ae' in text, and 'aa' in its alignment"),
        ("supervisions", of(text="h# aa"), "2 phones in text, and 3 in its alignment"),
        ("supervisions", of(alignment=BACKWARDS), r"supervisions.*:2 \(u1\): 'h#' at 0 s: label"),
        ("supervisions", of(speaker=None), "has no speaker"),
        ("supervisions", of(id="u0", text=None), r"supervisions.*:2: u0 is also .*jsonl:1; keep"),
        ("supervisions", of(text=None, alignment=None), "has no text and no alignment"),
    ],
)
def test_faults_of_lhotse(
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    change: Callable[[Rows], object],
    says: str,
) -> None:
    monkeypatch.chdir(source.parent)
    root = exported(source, "lhotse")
    edit(root, kind, change)
    (source.parent / "speakers").write_text("s0 train\ns1 dev\ns2 test\n")
    problems = problems_of(root, speakers=str(source.parent / "speakers"))
    assert any(re.search(says, one) for one in problems), problems
    assert all(has_place_and_remedy(one, root) for one in problems), problems


def test_words_beside_an_alignment_are_no_contradiction(source: Path) -> None:
    root = exported(source, "lhotse")
    edit(root, "supervisions", lambda rows: [row.update(text="a odd ah") for row in rows])
    assert problems_of(root) == []


@pytest.mark.parametrize(
    ("channel", "of_supervision", "is_sound"),
    [(2, 1, True), (1, 1, False), (None, 1, False), (None, [0, 1], True)],
)
def test_the_channel_that_is_read_is_that_of_the_supervision(
    source: Path, channel: int | None, of_supervision: Any, is_sound: bool
) -> None:
    for n in range(3):
        speak(source.parent / "audio" / f"u{n}.wav", channels=2)
    root = exported(source, "lhotse")
    edit(
        root,
        "recordings",
        lambda rows: [
            row.update(sources=[{**row["sources"][0], "channels": [0, 1]}]) for row in rows
        ],
    )
    edit(root, "supervisions", lambda rows: [row.update(channel=of_supervision) for row in rows])
    problems = problems_of(root, resample=True, channel=channel)
    assert len(problems) == (0 if is_sound else 3)
    assert all("set corpus.channel=2" in one for one in problems)


@pytest.mark.parametrize(
    ("file", "row", "says"),
    [
        (
            "wav.scp",
            "u1 raw_wav.1.ark:1234",
            r"wav\.scp:2: .*archive.*wav-copy raw_wav\.1\.ark:1234",
        ),
        ("wav.scp", "u1 x.wav:1234", r"wav\.scp:2: .*archive.*wav-copy x\.wav:1234 OUT\.wav"),
        ("wav.scp", "u1 x.ark:12[0:99]", r"archive.*wav-copy 'x\.ark:12\[0:99\]' OUT\.wav"),
        ("wav.scp", "u1 sph2pipe -f wav a.sph |", r"wav\.scp:2: .*is a command"),
        (
            "wav.scp",
            "u1 absent.wav",
            r"wav\.scp:2: 'absent\.wav' does not exist; tried .*; correct",
        ),
        ("wav.scp", "u1", r"wav\.scp:2: u1 has no file"),
        ("wav.scp", "", r"text:2: u1 has no line in .*wav\.scp"),
        ("text", "", r"wav\.scp:2: u1 has no line in .*text"),
        ("text", "u1", r"text:2: u1 has no phones"),
        ("utt2spk", "", r"wav\.scp:2: u1 has no line in .*utt2spk"),
        ("utt2spk", "u1 s1\nu7 s1", r"utt2spk:3: u7 has no line in .*wav\.scp"),
        ("utt2dur", "u1 long", r"utt2dur:2: found 'long', expected seconds"),
        ("utt2dur", "u1 2.5", r"utt2dur:2 \(u1\): says 2\.5 s, the audio has 1 s"),
        ("spk2gender", "s1 x", r"spk2gender:2: speaker s1 has the sex 'x'"),
    ],
)
def test_faults_of_kaldi(source: Path, file: str, row: str, says: str) -> None:
    root = exported(source, "kaldi")
    if file == "spk2gender":
        (root / file).write_text("s0 f\ns1 m\ns2 m\n")
    rows = (root / file).read_text().splitlines()
    (root / file).write_text("\n".join([rows[0], *[row] * bool(row), *rows[2:]]) + "\n")
    (source.parent / "speakers").write_text("s0 train\ns1 dev\ns2 test\n")
    problems = problems_of(root, speakers=str(source.parent / "speakers"))
    assert any(re.search(says, one) for one in problems), problems
    assert all(has_place_and_remedy(one, root) for one in problems), problems


def test_faults_of_listed_phones_have_file_and_line(source: Path) -> None:
    for format_name in FORMATS:
        root = exported(source, format_name)
        problems = problems_of(root, phone_set="arpabet39")  # which has no h#
        places = {problem.partition(" (u")[0].rpartition("/")[2] for problem in problems}
        file = {"kaldi": "text", "lhotse": "supervisions.jsonl.gz", "shards": "manifest.jsonl"}
        assert places == {f"{file[format_name]}:{n}" for n in (1, 2, 3)}
