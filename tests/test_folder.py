"""Any folder: every kind of labels and layout, splits, round trips with Kaldi and Lhotse."""

import gzip
import json
import logging
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import complete, utterances_of

from asr import corpora
from asr.commands import exchange
from asr.corpora import FolderConfig
from asr.corpora import kaldi as kaldi_directories
from asr.errors import DataError
from asr.records import Segment, Utterance, write_jsonl

RATE = 16_000
PHN = "0 4000 h#\n4000 9000 aa\n9000 16000 h#\n"
LAB = "0 2500000 h#\n2500000 5625000 aa\n5625000 10000000 h#\n"
SECONDS_LAB = "0.0 0.25 h#\n0.25 0.5625 aa\n0.5625 1.0 h#\n"
TEXTGRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n0\n1\n<exists>\n1\n"IntervalTier"\n'
    '"phones"\n0\n1\n3\n0\n0.25\n"h#"\n0.25\n0.5625\n"aa"\n0.5625\n1\n"h#"\n'
)
KINDS = {"phn": PHN, "lab": LAB, "LAB": SECONDS_LAB, "TextGrid": TEXTGRID}
SEGMENTS = (Segment("h#", 0.0, 0.25), Segment("aa", 0.25, 0.5625), Segment("h#", 0.5625, 1.0))


def speak(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, len(path.parts)]).uniform(-0.5, 0.5, RATE)
    soundfile.write(path, noise, RATE, format="WAV" if path.suffix.lower() == ".wav" else None)


def tree(root: Path, kind: str = "phn", speakers: int = 5) -> FolderConfig:
    for number in range(speakers):
        for sentence in ("a", "b"):
            stem = root / f"Spk{number}" / sentence
            speak(stem.with_suffix(".wav"), number)
            stem.with_suffix(f".{kind}").write_text(KINDS[kind])
    return FolderConfig(root=str(root))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_labels_gives_the_same_utterances(tmp_path: Path, kind: str) -> None:
    splits = utterances_of(tree(tmp_path, kind))
    utterances = [utterance for split in splits.values() for utterance in split]
    assert len(utterances) == 10
    for utterance in utterances:
        assert utterance.phones == ("h#", "aa", "h#")
        assert utterance.segments is not None
        for result, expected in zip(utterance.segments, SEGMENTS, strict=True):
            assert (result.start_s, result.end_s) == pytest.approx(
                (expected.start_s, expected.end_s)
            )
        assert utterance.id == f"{utterance.speaker}_{Path(utterance.audio).stem}"


def test_the_vocabulary_is_that_of_the_labels_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tree(tmp_path, "lab")
    (tmp_path / "Spk0" / "a.lab").write_text("0 10000000 ɸ\n")
    with caplog.at_level(logging.INFO):
        result = complete(config)
    assert result.phones == ("aa", "h#", "ɸ")
    assert "vocabulary of 3 phones, from the labels: aa h# ɸ; rarest: ɸ 1×" in caplog.text
    assert complete(replace(config, phone_set="timit61")).phones is not None
    with pytest.raises(DataError, match=r"a\.lab:1: phone 'ɸ' is not in timit61"):
        utterances_of(replace(config, phone_set="timit61"))
    listed = tmp_path / "phones.txt"
    listed.write_text("# mine\nh#\naa\nɸ extra column\n")
    assert complete(replace(config, phone_set=str(listed))).phones == ("h#", "aa", "ɸ")
    listed.write_text("h# aa ɸ\n")
    with pytest.raises(DataError, match=r"phones\.txt:1: .*one on each line"):
        complete(replace(config, phone_set=str(listed)))
    with pytest.raises(DataError, match="unknown phone set 'timit99'"):
        complete(replace(config, phone_set="timit99"))


# ---------------------------------------------------------------- who is in which split


def test_speakers_are_split_by_chance_and_never_shared(tmp_path: Path) -> None:
    config = tree(tmp_path, speakers=9)
    result = complete(config)
    speakers = {split: {r.speaker for r in rs} for split, rs in result.splits.items()}
    assert {split: len(named) for split, named in speakers.items()} == {
        "train": 7,
        "dev": 1,
        "test": 1,
    }
    assert len(set.union(*speakers.values())) == 9
    assert complete(config).splits == result.splits
    others = [complete(replace(config, split_seed=seed)).splits for seed in range(5)]
    assert any(splits != result.splits for splits in others)
    frozen = tmp_path / "speakers.txt"
    frozen.write_text(result.report["speakers.txt"])
    assert complete(replace(config, speakers=str(frozen))).splits == result.splits


def test_folders_named_as_splits_are_the_splits(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        tree(tmp_path / split, speakers=1)
        (tmp_path / split / "Spk0").rename(tmp_path / split / f"of-{split}")
    splits = utterances_of(FolderConfig(root=str(tmp_path)))
    assert {split: {u.speaker for u in us} for split, us in splits.items()} == {
        split: {f"of-{split}"} for split in ("train", "dev", "test")
    }


@pytest.mark.parametrize(
    ("rule", "name", "speaker", "id_"),
    [
        ("folder", "spk1/one/s1.wav", "one", "one_s1"),
        ("top", "spk1/one/s1.wav", "spk1", "spk1_s1"),
        ("prefix", "spk1-s1.wav", "spk1", "spk1-s1"),
        ("prefix", "x/spk1_s1.WAV.wav", "spk1", "spk1_s1"),
    ],
)
def test_who_speaks_is_told_by_the_rule(
    tmp_path: Path, rule: str, name: str, speaker: str, id_: str
) -> None:
    path = tmp_path / name
    speak(path)
    (path.parent / f"{path.name.split('.')[0]}.phn").write_text(PHN)
    speakers = tmp_path / "list.txt"
    speakers.write_text(f"{speaker} train\n")
    config = FolderConfig(root=str(tmp_path), speaker=rule, speakers=str(speakers))
    (recording,) = complete(config).splits["train"]
    assert (recording.speaker, recording.id) == (speaker, id_)


def test_too_few_speakers_and_speakers_without_folder_are_refused(tmp_path: Path) -> None:
    config = tree(tmp_path, speakers=2)
    with pytest.raises(DataError, match=r"2 speakers \(Spk0, Spk1\), .*corpus\.shared_speakers"):
        complete(config)
    shared = complete(replace(config, shared_speakers=True, dev=0.25, test=0.25))
    assert {split: len(rs) for split, rs in shared.splits.items()} == {
        "train": 2,
        "dev": 1,
        "test": 1,
    }
    assert "speakers.txt" not in shared.report
    unknown = tmp_path / "speakers.txt"
    unknown.write_text("Spk8 train\nSpk9 dev\n")
    with pytest.raises(DataError, match=r"speakers\.txt: has none of the 2 speakers .*'spk0'"):
        complete(replace(config, speakers=str(unknown)))
    speak(tmp_path / "alone.wav")
    (tmp_path / "alone.phn").write_text(PHN)
    with pytest.raises(DataError, match=r"alone: is in no folder .*corpus\.speaker=prefix"):
        complete(config)


# ---------------------------------------------------------------- faults


def test_faults_of_a_folder_are_listed_at_once(tmp_path: Path) -> None:
    config = tree(tmp_path)
    (tmp_path / "Spk0/a.phn").unlink()
    (tmp_path / "Spk1/a.wav").unlink()
    (tmp_path / "Spk2/a.TextGrid").write_text(TEXTGRID)
    (tmp_path / "Spk3/._a.wav").write_text("left by another system")
    (tmp_path / "Spk3/loop").symlink_to(tmp_path)
    (tmp_path / "Spk4/more/Spk4").mkdir(parents=True)
    speak(tmp_path / "Spk4/more/Spk4/a.wav")
    (tmp_path / "Spk4/more/Spk4/a.phn").write_text(PHN)
    corpus = corpora.find(config)
    report = "\n".join(corpus.bad)
    assert "Spk0/a.wav: has no .phn or .textgrid or .lab file beside it" in report
    assert "Spk1/a.phn: has no audio file beside it" in report
    assert "Spk2/a: ambiguous, keep one of" in report
    assert "Spk4_a is also" in report
    assert len(corpus.bad) == 4
    assert sum(map(len, corpus.splits.values())) == 7


def test_a_cause_is_said_before_its_consequence_and_the_key_removes_it(tmp_path: Path) -> None:
    config = tree(tmp_path, "TextGrid")
    for path in tmp_path.rglob("*.TextGrid"):
        other = TEXTGRID[TEXTGRID.index('"IntervalTier"') :].replace("phones", "b - phones")
        text = TEXTGRID.replace("<exists>\n1", "<exists>\n2").replace("phones", "a - phones")
        path.write_text(text + other.replace("aa", "iy"))
    with pytest.raises(DataError, match=r"'a - phones', 'b - phones'.*corpus\.tier") as error:
        corpora.find(config)
    assert len(error.value.problems) == 11
    assert "no label in any file" in error.value.problems[-1]
    assert len(str(error.value).splitlines()) == 4
    utterances = utterances_of(replace(config, tier="B - Phones"))["train"]
    assert utterances[0].phones == ("h#", "iy", "h#")


@pytest.mark.parametrize(
    ("lab", "says"),
    [
        ("0.0 0.5 aa\n0.4 0.9 h#\n", "before the previous label's end 0.5"),
        ("0.0 1.5 aa\n", "ends at 1.5, the audio at 1 s"),
        ("0.5 0.5 aa\n", "expected an end after the start"),
        ("", "no labels"),
        ("0.0 aa\n", "expected `start end label`"),
    ],
)
def test_bad_times_are_named(tmp_path: Path, lab: str, says: str) -> None:
    config = tree(tmp_path, "lab")
    (tmp_path / "Spk0" / "a.lab").write_text(lab)
    with pytest.raises(DataError, match=says) as error:
        utterances_of(config)
    assert "Spk0/a.lab" in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"layout": "wild"},
            "corpus.layout is 'wild', expected auto, tree, kaldi, lhotse or shards",
        ),
        ({"speaker": "face"}, "corpus.speaker is 'face', expected folder, top or prefix"),
        ({"dev": 0.6, "test": 0.5}, "corpus.dev is 0.6 and corpus.test is 0.5"),
        ({"dev": 0.0}, "corpus.dev is 0.0, expected more than 0"),
        (
            {"lexicon": "x", "g2p": "espeak", "phone_set": "timit61"},
            "corpus.g2p=espeak are arpabet39",
        ),
    ],
)
def test_values_that_contradict_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FolderConfig(root="x", **change)


def test_a_folder_without_speech_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no speech")
    with pytest.raises(DataError, match=r"audio \(\.wav, .* labels \(\.phn.*: \.txt \(1\)"):
        complete(FolderConfig(root=str(tmp_path)))


def test_a_table_of_transcripts_is_named_before_the_recordings_without_labels(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.tsv").write_text("path\tsentence\nclip0.wav\thello\n")
    for number in range(3):
        speak(tmp_path / "clips" / f"clip{number}.wav", number)
    with pytest.raises(DataError) as error:
        complete(FolderConfig(root=str(tmp_path)))
    assert re.search(r"\.wav \(3\), \.tsv \(1\)", error.value.problems[0])
    assert len(error.value.problems) == 4


def test_a_tier_needs_textgrids(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"corpus\.tier is .MAU.*TextGrids"):
        complete(replace(tree(tmp_path, "lab"), tier="MAU"))


def test_names_in_two_forms_of_unicode_are_one_recording(tmp_path: Path) -> None:
    config = tree(tmp_path, "lab")
    before = complete(config).splits
    for path in list(tmp_path.rglob("*.*")):
        form = "NFD" if path.suffix == ".lab" else "NFC"
        path.rename(path.with_name(unicodedata.normalize(form, f"é{path.name}")))
    assert {s: len(of) for s, of in complete(config).splits.items()} == {
        s: len(of) for s, of in before.items()
    }


# ---------------------------------------------------------------- Kaldi and Lhotse


def manifests(folder: Path, segments: bool = True) -> Path:
    """Manifests of three splits with a speaker each."""
    for split in ("train", "dev", "test"):
        utterances = []
        for number in range(2):
            audio = folder / "audio files" / f"{split}{number}.wav"
            speak(audio, number)
            utterances.append(
                Utterance(
                    id=f"spk-{split}_{number}",
                    audio=str(audio),
                    duration_s=1.0,
                    speaker=f"spk-{split}",
                    phones=tuple(segment.phone for segment in SEGMENTS),
                    segments=SEGMENTS if segments else None,
                    corpus="folder",
                    split=split,
                    sex="f",
                )
            )
        write_jsonl(folder / "manifests" / f"{split}.jsonl", utterances)
    return folder / "manifests"


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("format_name", ["kaldi", "lhotse"])
def test_out_and_in_again_is_identity(tmp_path: Path, format_name: str, segments: bool) -> None:
    source = manifests(tmp_path, segments)
    assert exchange.main([format_name, str(source), str(tmp_path / "out")]) == 0
    splits = utterances_of(FolderConfig(root=str(tmp_path / "out")))
    write_jsonl(tmp_path / "again.jsonl", (u for us in splits.values() for u in us))
    before = "".join((source / f"{s}.jsonl").read_text() for s in ("train", "dev", "test"))
    if format_name == "kaldi":  # whose text has no times; they are in phones.ctm
        before = before.replace(
            ', "segments": [["h#", 0.0, 0.25], ["aa", 0.25, 0.5625], ["h#", 0.5625, 1.0]]', ""
        )
    assert (tmp_path / "again.jsonl").read_text() == before


def test_a_kaldi_directory_has_what_kaldi_expects(tmp_path: Path) -> None:
    exchange.run("kaldi", manifests(tmp_path) / "test.jsonl", tmp_path / "out")
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "out").iterdir()}
    assert files["wav.scp"][0] == f"spk-test_0 {tmp_path}/audio files/test0.wav"
    assert files["text"] == ["spk-test_0 h# aa h#", "spk-test_1 h# aa h#"]
    assert files["utt2spk"] == ["spk-test_0 spk-test", "spk-test_1 spk-test"]
    assert files["spk2utt"] == ["spk-test spk-test_0 spk-test_1"]
    assert files["spk2gender"] == ["spk-test f"]
    assert files["utt2dur"][0] == "spk-test_0 1.000000"
    assert files["phones.ctm"][1] == "spk-test_0 1 0.250000 0.312500 aa"
    for rows in files.values():
        assert rows == sorted(rows, key=str.encode) or rows == files["phones.ctm"]


def test_a_lhotse_manifest_has_the_fields_of_lhotse_and_is_reproducible(tmp_path: Path) -> None:
    source = manifests(tmp_path) / "test.jsonl"
    exchange.run("lhotse", source, tmp_path / "out")
    with gzip.open(tmp_path / "out" / "recordings.jsonl.gz", "rt") as file:
        recording = json.loads(file.readline())
    assert recording == {
        "id": "spk-test_0",
        "sources": [
            {"type": "file", "channels": [0], "source": f"{tmp_path}/audio files/test0.wav"}
        ],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
        "channel_ids": [0],
    }
    with gzip.open(tmp_path / "out" / "supervisions.jsonl.gz", "rt") as file:
        supervision = json.loads(file.readline())
    assert (supervision["text"], supervision["speaker"]) == ("h# aa h#", "spk-test")
    assert supervision["alignment"]["phone"][1] == ["aa", 0.25, 0.3125, None]
    before = (tmp_path / "out" / "supervisions.jsonl.gz").read_bytes()
    exchange.run("lhotse", source, tmp_path / "again")
    assert (tmp_path / "again" / "supervisions.jsonl.gz").read_bytes() == before


def kaldi(folder: Path, text: str = "h# aa") -> FolderConfig:
    for number in range(4):
        speak(folder / "wav" / f"u{number}.wav", number)
    rows = range(4)
    (folder / "wav.scp").write_text("".join(f"u{n} wav/u{n}.wav\n" for n in rows))
    (folder / "text").write_text("".join(f"u{n} {text}\n" for n in rows))
    (folder / "utt2spk").write_text("".join(f"u{n} s{n}\n" for n in rows))
    return FolderConfig(root=str(folder))


def test_one_kaldi_directory_is_split_by_chance_and_may_hold_words(tmp_path: Path) -> None:
    config = kaldi(tmp_path, "the CAT")
    assert complete(config).phones == ("CAT", "the")  # taken for phones, as nobody said otherwise
    (tmp_path / "words.dict").write_text("the DH AH0\ncat K AE1 T\n")
    splits = utterances_of(replace(config, lexicon=str(tmp_path / "words.dict")))
    assert splits["dev"][0].phones == ("dh", "ah", "k", "ae", "t")
    assert (splits["dev"][0].words, splits["dev"][0].pronunciation) == ("the CAT", "first")
    (tmp_path / "words.dict").write_text("the DH AH0\n")
    with pytest.raises(DataError, match=r"u\d: 'CAT' \(4×.*words\.dict"):
        complete(replace(config, lexicon=str(tmp_path / "words.dict")))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("wav.scp", "u0 sph2pipe -f wav a.sph |\n", "is a command, expected a file"),
        ("wav.scp", "u0 raw.ark:17\n", "is in an archive, expected a file"),
        ("text", "u0 h# aa\nu0 h#\n", r"text:2: u0 is a duplicate of line 1"),
        ("text", "u0\nu1 aa\nu2 aa\nu3 aa\n", r"text:1: u0 has no phones"),
        ("text", "u0 aa\nu1 aa\nu2 aa\nu3 aa\nu9 aa\n", r"text:5: u9 has no line in .*wav\.scp"),
        ("utt2spk", "u0 s0\nu1 s1\nu2 s2\n", r"wav\.scp:4: u3 has no line in .*utt2spk"),
        ("segments", "u0 rec 0.0 1.0\n", "utterances inside longer recordings are not read"),
    ],
)
def test_what_kaldi_takes_and_we_do_not_is_refused(
    tmp_path: Path, file: str, content: str, says: str
) -> None:
    config = kaldi(tmp_path)
    (tmp_path / "speakers").write_text("s0 train\ns1 dev\ns2 test\ns3 test\n")
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=says):
        complete(replace(config, speakers=str(tmp_path / "speakers")))


@pytest.mark.parametrize("separator", [" ", "\t", " \t  "])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
def test_kaldi_files_are_separated_by_any_white_space(
    tmp_path: Path, separator: str, end: str
) -> None:
    config = kaldi(tmp_path)
    for file in ("wav.scp", "text", "utt2spk"):
        rows = (tmp_path / file).read_text().splitlines()
        content = "".join(separator.join(row.split()) + end for row in rows)
        (tmp_path / file).write_bytes(content.encode())
    utterances = utterances_of(config)["dev"]
    assert [(u.id[1:], u.phones) for u in utterances] == [(utterances[0].speaker[1:], ("h#", "aa"))]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("wav.scp", "u0 wav/absent.wav\n", r"wav\.scp:1: 'wav/absent\.wav' .*tried /.* and /"),
        ("wav.scp", "u0\n", r"wav\.scp:1: u0 has no file"),
        ("utt2spk", "u0 s0\u200b\n", r"utt2spk:1: a speaker 's0\\u200b' has an invisible"),
        ("text", "u0 h\u200b# aa\n", r"text:1: a phone or word 'h\\u200b#' has an invisible"),
        ("spk2gender", "s0 x\n", r"spk2gender:1: speaker s0 has the sex 'x'"),
    ],
)
def test_faults_of_kaldi_files_have_their_line(
    tmp_path: Path, file: str, content: str, says: str
) -> None:
    config = kaldi(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match=says):
        complete(config)


def test_reported_kaldi_directory_with_tabs(shared: Path, tmp_path: Path) -> None:
    source = shared / "conformance" / "reports" / "kaldi-tabs"
    for file in ("wav.scp", "text", "utt2spk"):
        (tmp_path / file).write_bytes((source / file).read_bytes())
    for id_ in ("u1", "u2"):
        speak(tmp_path / "a" / f"{id_}.wav")
    problems: list[str] = []
    recordings = kaldi_directories.read(tmp_path, problems)
    assert not problems
    assert {r.id: (r.speaker, " ".join(r.phones)) for r in recordings} == {
        "u1": ("s1", "THIS IS A TEST"),
        "u2": ("s1", "HELLO THERE"),
    }


# ---------------------------------------------------------------- words and a lexicon


def spoken_tree(
    root: Path, ending: str = "lab", text: str = "Hello [noise]\nthere!"
) -> FolderConfig:
    """Four speakers with one file of words each, and a lexicon."""
    for number in range(4):
        speak(root / f"s{number}" / "one.wav", number)
        (root / f"s{number}" / f"one.{ending}").write_text(text, encoding="utf-8")
    (root / "words.dict").write_text("hello\tHH AH0 L OW1\nthere\tDH EH1 R\n!SIL SIL\n")
    return FolderConfig(root=str(root), lexicon=str(root / "words.dict"))


@pytest.mark.parametrize("ending", ["lab", "LAB", "txt"])
def test_words_beside_audio_get_phones_of_the_lexicon(tmp_path: Path, ending: str) -> None:
    config = spoken_tree(tmp_path, ending)
    (tmp_path / "s0" / "readme.txt").write_text("no transcript")
    utterance = utterances_of(config)["train"][0]
    assert " ".join(utterance.phones) == "hh ah l ow dh eh r"
    assert (utterance.words, utterance.pronunciation) == ("Hello there", "first")
    assert utterance.segments is None
    assert complete(config).notes == [
        "markup left out: 4 times, [noise] 4×",
        "punctuation stripped: 4 times, ! 4×",
        "words.dict: 1 entries of silence and unknown words skipped: !sil 1×",
    ]
    with pytest.raises(DataError, match=r"one\.\w+: .*: 4\).*corpus\.lexicon=FILE") as error:
        complete(replace(config, lexicon=None))
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" \n", r"one\.txt: no words"),
        ("0.000000\t0.500000\tHH\n", r"one\.txt: begins with the times .*one\.lab"),
        ("hello th\u200bere", r"U\+200B.*remove it"),
        ("hello 2", "digits"),
        ("0 16000 hello there.", None),  # as TIMIT writes it
        ("-Hello, there", None),
    ],
)
def test_texts_that_are_no_words_are_refused(tmp_path: Path, text: str, says: str | None) -> None:
    config = spoken_tree(tmp_path, "txt", text)
    if says is None:
        assert utterances_of(config)["train"][0].words.lower() == "hello there"
    else:
        with pytest.raises(DataError, match=says):
            complete(config)


def test_labels_with_times_stay_labels_beside_a_lexicon(tmp_path: Path) -> None:
    config = spoken_tree(tmp_path)
    (tmp_path / "s0" / "one.lab").write_text("0.0 0.5 hh\n0.5 1.0 ow\n")
    (tmp_path / "s0" / "one.txt").write_text("not read")
    utterances = [u for us in utterances_of(config).values() for u in us]
    timed = next(u for u in utterances if u.speaker == "s0")
    assert (timed.phones, timed.words) == (("hh", "ow"), None)
    assert timed.segments is not None


def test_speech_that_nobody_wrote_leaves_its_utterance_out(tmp_path: Path) -> None:
    config = spoken_tree(tmp_path)
    (tmp_path / "s1" / "one.lab").write_text("hello <unk> there")
    (tmp_path / "s2" / "one.lab").write_text("hello 你好")
    corpus = corpora.find(config)
    assert sorted(r.speaker for rs in corpus.splits.values() for r in rs) == ["s0", "s3"]
    assert [
        bool(re.search(r"s[12]/one\.lab: s[12]_one: '(<unk>|你好)'", p)) for p in corpus.bad
    ] == [
        True,
        True,
    ]


def test_a_lexicon_of_another_language_has_its_own_phones(tmp_path: Path) -> None:
    config = spoken_tree(tmp_path, text="Hallo Wélt")
    (tmp_path / "words.dict").write_text("hallo h a l o\nwélt v e l t\nja j a:\n", "utf-8")
    with pytest.raises(DataError, match=r"words\.dict:1: phone 'h' .*corpus\.phone_set"):
        complete(config)
    used = complete(replace(config, phone_set="from-labels"))
    assert used.phones == tuple("aehlotv")
    listed = tmp_path / "phones"
    listed.write_text("\n".join([*"aehlotvj", "a:"]))
    chosen = replace(config, phone_set=str(listed))
    assert utterances_of(chosen)["dev"][0].phones == tuple("halovelt")
    listed.write_text("\n".join("aehlotv"))
    with pytest.raises(DataError, match=r"words\.dict:3: phone 'j' is not in phones"):
        complete(chosen)


def test_a_kaldi_directory_without_text_says_what_it_should_have(tmp_path: Path) -> None:
    config = kaldi(tmp_path)
    (tmp_path / "text").unlink()
    with pytest.raises(DataError, match=r"has wav\.scp, text, utt2spk"):
        complete(config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"start": 0.5, "duration": 0.5}, "is a part of its recording, which is not read"),
        ({"duration": 0.5}, "is a part of its recording, which is not read"),
        ({"recording_id": "absent"}, "no recording 'absent' for spk-train_0"),
        ({"speaker": None}, "has no speaker"),
        ({"text": "", "alignment": None}, "has no text and no alignment of phones"),
    ],
)
def test_what_lhotse_takes_and_we_do_not_is_refused(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    exchange.run("lhotse", manifests(tmp_path), tmp_path / "out")
    path = tmp_path / "out" / "train" / "supervisions.jsonl.gz"
    with gzip.open(path, "rt") as file:
        rows = [json.loads(line) for line in file]
    path.unlink()
    plain = path.with_suffix("")  # JSONL without gzip is read as well
    plain.write_text("\n".join(json.dumps(row) for row in [rows[0] | change, rows[1]]))
    with pytest.raises(DataError, match=says) as error:
        complete(FolderConfig(root=str(tmp_path / "out")))
    assert "supervisions.jsonl:1" in str(error.value)
    plain.write_text("[1, 2]\n")
    with pytest.raises(DataError, match=r"jsonl:1: found \[1, 2\]"):
        complete(FolderConfig(root=str(tmp_path / "out")))
    plain.write_text("{broken\n")
    with pytest.raises(DataError, match=r"jsonl:1: found {broken"):
        complete(FolderConfig(root=str(tmp_path / "out")))


def test_exchange_says_what_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert exchange.main(["kaldi", str(tmp_path / "empty"), str(tmp_path / "out")]) == 1
    assert "no manifests (*.jsonl)" in capsys.readouterr().err
    write_jsonl(tmp_path / "one.jsonl", [Utterance("a b", "x.wav", 1.0, "s", ("aa",))])
    assert exchange.main(["kaldi", str(tmp_path / "one.jsonl"), str(tmp_path / "out")]) == 1
    assert "one.jsonl:1: id 'a b' has white space" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_real_sample_as_a_folder(shared: Path) -> None:
    result = complete(FolderConfig(root=str(shared / "corpora" / "timit-sample"), speaker="folder"))
    assert sum(map(len, result.splits.values())) == 120
    assert {len({r.speaker for r in rs}) for rs in result.splits.values()} == {10, 1}
    assert result.phones is not None
    assert 55 < len(result.phones) <= 61
