"""The LibriSpeech reader on small trees, on their faults, and on the real parts."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import complete, utterances_of

from asr import corpora
from asr.corpora import LibriSpeechConfig
from asr.corpora.librispeech import published, read_utterance_list
from asr.errors import DataError
from asr.records import Segment

LISTS = Path(__file__).parents[1] / "recipes" / "librispeech"
LEXICON = "the DH AH0\nthe(2) DH IY0\ncat K AE1 T\nsat S AE1 T\n"
SPEAKERS = (
    "; comment | with | bars\n84   | F | mine-train | 8.0 | A Name\n26 | M | mine-dev | 1 | B\n"
)
SECOND = 16_000
GRID = """File type = "ooTextFile"
Object class = "TextGrid"
0
1
<exists>
2
"IntervalTier"
"words"
0
1
1
0
1
"the cat"
"IntervalTier"
"phones"
0
1
{count}
{intervals}
"""


def grid(*phones: str) -> str:
    """A TextGrid of one second in which all intervals are equally long."""
    edges = np.linspace(0, 1, len(phones) + 1)
    rows = [f'{a}\n{b}\n"{p}"' for a, b, p in zip(edges[:-1], edges[1:], phones, strict=True)]
    return GRID.format(count=len(rows), intervals="\n".join(rows))


def chapter(root: Path, subset: str, speaker: str, lines: list[str], ending: str = "flac") -> Path:
    folder = root / subset / speaker / "7"
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{speaker}-7-{number:04d}" for number in range(len(lines))]
    text = "".join(f"{id_} {line}\n" for id_, line in zip(ids, lines, strict=True))
    (folder / f"{speaker}-7.trans.txt").write_text(text)
    for seed, id_ in enumerate(ids):
        noise = np.random.default_rng([seed, int(speaker)]).uniform(-0.5, 0.5, SECOND)
        soundfile.write(folder / f"{id_}.{ending}", noise, 16_000)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> LibriSpeechConfig:
    root = tmp_path / "corpora" / "LibriSpeech"
    chapter(root, "mine-train", "84", ["THE CAT SAT", "THE CAT"])
    chapter(root, "mine-more", "19", ["SAT THE CAT"], "wav")
    chapter(root, "mine-dev", "26", ["SAT"], "ogg")
    chapter(root, "mine-test", "7", ["CAT SAT"])
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (tmp_path / "words.dict").write_text(LEXICON)
    return LibriSpeechConfig(
        root=str(root),
        train="mine-train+mine-more",
        dev="mine-dev",
        test="mine-test",
        lexicon=str(tmp_path / "words.dict"),
        g2p="none",
    )


def folder_of(config: LibriSpeechConfig, subset: str = "mine-train/84/7") -> Path:
    return Path(config.root, subset)


@pytest.mark.parametrize("above", [False, True])
def test_the_tree_is_read_from_its_root_or_the_folder_above(
    config: LibriSpeechConfig, above: bool
) -> None:
    if above:
        config = replace(config, root=str(Path(config.root).parent))
    splits = utterances_of(config)
    assert {s: [u.id for u in us] for s, us in splits.items()} == {
        "train": ["19-7-0000", "84-7-0000", "84-7-0001"],
        "dev": ["26-7-0000"],
        "test": ["7-7-0000"],
    }
    utterance = splits["train"][1]
    assert " ".join(utterance.phones) == "dh ah k ae t s ae t"
    assert (utterance.words, utterance.pronunciation) == ("THE CAT SAT", "first")
    assert (utterance.speaker, utterance.sex, utterance.segments) == ("84", "f", None)
    assert [splits[s][0].sex for s in ("train", "dev", "test")] == [None, "m", None]


def test_a_result_is_named_by_its_subset(config: LibriSpeechConfig) -> None:
    splits = utterances_of(config)
    names = {split: f"{us[0].corpus} {us[0].split}" for split, us in splits.items()}
    assert names == {
        "train": "librispeech/mine-train+mine-more train",
        "dev": "librispeech/mine-dev dev",
        "test": "librispeech/mine-test test",
    }


def test_a_part_of_a_published_subset_is_refused_unless_meant(config: LibriSpeechConfig) -> None:
    folder_of(config, "mine-test").rename(folder_of(config, "test-clean"))
    whole = replace(config, test="test-clean")
    with pytest.raises(DataError, match=r"1 utterances, expected the 2620 .*complete=false"):
        utterances_of(whole)
    splits = utterances_of(replace(whole, complete=False))
    assert splits["test"][0].corpus == "librispeech/part-of-test-clean"


def listing(config: LibriSpeechConfig, *texts: str) -> LibriSpeechConfig:
    """The configuration with lists of these lines."""
    paths = [Path(config.root, f"list-{number}.txt") for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return replace(config, utterance_list="+".join(map(str, paths)))


def ids_of(config: LibriSpeechConfig) -> dict[str, list[str]]:
    return {split: [r.id for r in rs] for split, rs in complete(config).splits.items()}


def test_a_list_selects_from_the_subsets_that_it_names(config: LibriSpeechConfig) -> None:
    chapter(Path(config.root), "mine-train", "84", ["THE QWRTX SAT", "THE CAT", "SAT"])
    chosen = listing(config, "# of two\n\nmine-train 84-7-0002\nmine-train 84-7-0001\n")
    expected = {
        "train": ["19-7-0000", "84-7-0001", "84-7-0002"],  # mine-more is not named: all of it
        "dev": ["26-7-0000"],
        "test": ["7-7-0000"],
    }
    assert ids_of(chosen) == expected
    both = listing(config, "mine-train 84-7-0001\n", "mine-dev 26-7-0000\nmine-train 84-7-0002\n")
    assert ids_of(both) == expected


def test_a_list_decides_between_copies_of_an_utterance(config: LibriSpeechConfig) -> None:
    chapter(Path(config.root), "mine-more", "84", ["THE CAT SAT", "THE CAT"])  # as in mine-train
    with pytest.raises(DataError, match="84-7-0000 is also"):
        complete(config)
    result = complete(listing(config, "mine-more 84-7-0000\nmine-train 84-7-0001\n"))
    assert [Path(r.audio).parts[-4] for r in result.splits["train"]] == ["mine-more", "mine-train"]


def test_splits_can_share_a_tree_when_a_list_parts_them(config: LibriSpeechConfig) -> None:
    folder_of(config, "mine-held").symlink_to("mine-train")
    lists = listing(config, "mine-train 84-7-0000\nmine-held 84-7-0001\n")
    ids = ids_of(replace(lists, dev="mine-dev+mine-held"))
    assert ids["train"] == ["19-7-0000", "84-7-0000"]
    assert ids["dev"] == ["26-7-0000", "84-7-0001"]


def test_what_a_list_names_need_not_be_a_whole_subset(config: LibriSpeechConfig) -> None:
    folder_of(config, "mine-train").rename(folder_of(config, "dev-other"))
    config = replace(config, train="dev-other")
    with pytest.raises(DataError, match="expected the 2864"):
        complete(config)
    result = complete(listing(config, "dev-other 84-7-0001\n"))
    assert result.named["train"] == "librispeech/part-of-dev-other"


def test_listed_utterances_that_are_absent_are_one_error(config: LibriSpeechConfig) -> None:
    folder_of(config, "mine-more").rename(folder_of(config, "dev-other"))
    config = replace(config, train="mine-train+dev-other")
    absent = [f"dev-other 1-2-{number:04d}\n" for number in range(1200)]
    lines = ["mine-train 84-7-0009\n", "mine-train 84-7-0000\n", *absent]
    corpus = corpora.find(listing(config, "".join(lines)))
    mine, other = corpus.wrong
    assert "mine-train: 1 of the 2 utterances" in mine
    assert "(84-7-0009)" in mine
    assert "asr download" not in mine
    assert "dev-other: 1200 of the 1200 utterances" in other
    assert "(1-2-0000, 1-2-0001, 1-2-0002, …)" in other
    assert "`python -m asr download dev-other`" in other
    assert not corpus.bad


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mine-train 84-7-0000\nmine-more 84-7-0000\n", r":2: 84-7-0000 is a duplicate of line 1"),
        ("# a comment\n84-7-0000\n", r":2: found '84-7-0000', expected `SUBSET ID`"),
        ("# nothing\n", "lists no utterance"),
        ("mine-old 3-7-0000\n", r"lists 1 utterances of mine-old, which is in no split"),
    ],
)
def test_a_list_that_is_wrong_is_refused(config: LibriSpeechConfig, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        complete(listing(config, text))
    with pytest.raises(DataError, match=r"list-0\.txt: cannot be read"):
        complete(replace(config, utterance_list="list-0.txt"))


def test_the_lists_of_the_package_keep_train_dev_and_test_apart() -> None:
    train = read_utterance_list(LISTS / "train-18h.txt")
    held = read_utterance_list(LISTS / "dev-and-test.txt")
    held |= read_utterance_list(LISTS / "dev-common-voice.txt")
    assert {subset: len(ids) for subset, ids in (train | held).items()} == {
        "train-clean-5": 1519,
        "train-clean-100": 1041,
        "dev-clean": 2012,
        "dev-other": 1045,
        "common-voice-v1": 2768,
        "dev-part": 121,
        "dev-clean-10": 80,
        "common-voice-v1-dev": 110,
        "test-part": 115,
    }
    assert len(train["train-clean-5"]) == published()["train-clean-5"]
    parts = [train, {"dev": held.pop("test-part")}, held]
    speakers = [{id_.split("-")[0] for ids in part.values() for id_ in ids} for part in parts]
    assert not set.intersection(speakers[0], speakers[1] | speakers[2])
    assert not speakers[1] & speakers[2]
    clips = [
        {tuple(id_.split("-")[1:]) for id_ in ids}
        for ids in (train["common-voice-v1"], held["common-voice-v1-dev"])
    ]
    assert not clips[0] & clips[1]


def test_the_lists_of_the_package_are_the_speech_at_hand(shared: Path) -> None:
    root = shared / "corpora" / "LibriSpeech"
    for name in ("train-18h.txt", "dev-and-test.txt", "dev-common-voice.txt"):
        for subset, ids in read_utterance_list(LISTS / name).items():
            assert ids == {path.stem for path in (root / subset).glob("*/*/*-*-*.[of]*")}


def test_all_pronunciations_stand_beside_the_manifests(config: LibriSpeechConfig) -> None:
    result = complete(replace(config, pronunciation="all"))
    assert result.report["lexicon.txt"] == "cat k ae t\nsat s ae t\nthe dh ah\nthe(2) dh iy\n"
    assert result.pronunciation == "all"
    assert "the(2)" not in complete(config).report["lexicon.txt"]


def test_the_labeller_travels_to_other_processes(config: LibriSpeechConfig) -> None:
    result = complete(config)
    assert pickle.loads(pickle.dumps(result)).splits == result.splits


def test_every_unknown_word_is_one_problem(config: LibriSpeechConfig, tmp_path: Path) -> None:
    chapter(Path(config.root), "mine-train", "84", ["THE QWRTX SAT", "QWRTX", "THE GNU"])
    corpus = corpora.find(config)
    first, second = corpus.bad
    assert "84-7.trans.txt:1: 84-7-0000: 'QWRTX' (2×, here first) is in no lexicon" in first
    assert "corpus.oov_lexicon=" in first
    assert "corpus.g2p=espeak" in first
    assert "84-7.trans.txt:3: 84-7-0002: 'GNU' (1×" in second
    assert [r.id for r in corpus.splits["train"]] == ["19-7-0000"]
    own = tmp_path / "own.dict"
    own.write_text("QWRTX  K W ER1 T\nGNU  N UW1\n")
    splits = utterances_of(replace(config, oov_lexicon=str(own)))
    assert splits["train"][2].phones == ("k", "w", "er", "t")


def test_unknown_words_are_spoken_by_espeak_and_listed(
    config: LibriSpeechConfig, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("phonemizer")
    chapter(Path(config.root), "mine-train", "84", ["THE BLACKMAILERS", "THE CAT"])
    with caplog.at_level(logging.INFO):
        result = complete(replace(config, g2p="espeak"))
    assert "words.dict does not have 1 of 10 running words (10.00 %)" in caplog.text
    assert (
        result.report["oov.txt"].splitlines()[1] == "BLACKMAILERS 1 espeak-ng b l ae k m ey l er z"
    )


def test_faults_of_a_tree_are_listed_at_once(config: LibriSpeechConfig) -> None:
    folder = chapter(Path(config.root), "mine-train", "84", ["THE", "CAT", "", "SAT", "SAT", "SAT"])
    (folder / "84-7-0000.flac").unlink()
    (folder / "84-7-0001.wav").write_bytes(b"a second one")
    with open(folder / "84-7.trans.txt", "a") as file:
        file.write("84-7-0003 SAT AGAIN\n")
    soundfile.write(folder / "84-7-0099.flac", np.ones(SECOND) / 2, 16_000)
    other = chapter(Path(config.root), "mine-train", "85", ["THE CAT"])
    (other / "85-7.trans.txt").unlink()
    twice = folder_of(config, "mine-more/84/7")
    twice.mkdir(parents=True)
    (twice / "84-7.trans.txt").write_text("84-7-0004 SAT\n")
    (twice / "84-7-0004.flac").write_bytes((folder / "84-7-0004.flac").read_bytes())
    corpus = corpora.find(config)
    report = "\n".join(corpus.bad)
    assert "trans.txt:1: no audio file" in report
    assert "trans.txt:2: ambiguous, keep one of" in report
    assert "trans.txt:3: 84-7-0002 has no words" in report
    assert "trans.txt:7: 84-7-0003 is a duplicate of line 4" in report
    assert "84-7-0099.flac: has no line in" in report
    assert f"{other}: no 85-7.trans.txt" in report
    assert "84-7-0004 is also" in report
    assert len(corpus.bad) == 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"train": "train-clean-960"},
            "train-clean-960: no such subset; there are mine-dev, mine-",
        ),
        ({"lexicon": "absent.dict"}, "absent.dict: no such lexicon; set corpus.lexicon="),
        ({"root": "absent"}, "no such folder"),
        ({"alignments": "absent"}, "absent: no such folder"),
    ],
)
def test_what_is_not_there_gets_one_sentence(
    config: LibriSpeechConfig, change: dict[str, str], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        complete(replace(config, **change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test": "mine-dev"}, "mine-dev is already in corpus.dev"),
        ({"g2p": "magic"}, "corpus.g2p is 'magic', expected espeak or none"),
        ({"pronunciation": "last"}, "corpus.pronunciation is 'last', expected first or all"),
        ({"dev": " "}, "corpus.dev is ' ', expected"),
        ({"phone_set": "timit61"}, "lexicon's phones are arpabet39"),
    ],
)
def test_values_that_contradict_are_refused(
    config: LibriSpeechConfig, change: dict[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        replace(config, **change)


def test_an_alignment_gives_times_and_the_phones_that_it_chose(
    config: LibriSpeechConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "aligned" / "84"
    folder.mkdir(parents=True)
    (folder / "84-7-0000.TextGrid").write_text(
        grid("sil", "DH", "IY0", "K", "AE1", "", "T", "S", "AE1", "T")
    )
    (folder / "84-7-0001.TextGrid").write_text(grid("DH", "AH0", "spn"))
    with caplog.at_level(logging.WARNING):
        result = complete(replace(config, alignments=str(tmp_path / "aligned")))
    assert "4 of 5 utterances keep the lexicon's phones" in caplog.text
    assert "84-7-0001 has a word that the aligner did not know" in result.report["not-aligned.txt"]
    assert "19-7-0000 has no TextGrid" in result.report["not-aligned.txt"]
    splits = utterances_of(replace(config, alignments=str(tmp_path / "aligned")))
    by_id = {utterance.id: utterance for utterance in splits["train"]}
    aligned, kept = by_id["84-7-0000"], by_id["84-7-0001"]
    assert " ".join(aligned.phones) == "dh iy k ae t s ae t"
    assert aligned.segments is not None
    assert aligned.segments[0] == Segment("dh", 0.1, 0.2)
    assert (aligned.pronunciation, kept.pronunciation) == ("aligned", "first")
    assert kept.segments is None


def test_a_bad_alignment_is_named(config: LibriSpeechConfig, tmp_path: Path) -> None:
    path = tmp_path / "84-7-0000.TextGrid"
    path.write_text(grid("ð", "K"))
    with pytest.raises(DataError, match=r"TextGrid: 'ð' at 0 s: phone 'ð' is not in arpabet39"):
        utterances_of(replace(config, alignments=str(tmp_path)))
    path.unlink()
    with pytest.raises(DataError, match="no TextGrid of any of the 5 utterances"):
        utterances_of(replace(config, alignments=str(tmp_path)))


def test_the_real_parts(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Counts of utterances, and of words out of vocabulary, that another count found too."""
    pytest.importorskip("phonemizer")
    corpora = shared / "corpora"
    config = LibriSpeechConfig(
        root=str(corpora / "LibriSpeech"),
        dev="dev-part",
        test="test-part",
        lexicon=str(corpora / "cmudict" / "cmudict.dict"),
    )
    with caplog.at_level(logging.INFO):
        result = complete(config)
    assert {s: len(r) for s, r in result.splits.items()} == {"train": 1519, "dev": 121, "test": 115}
    assert "919 of 56115 running words (1.64 %), 599 of 7601 different ones" in caplog.text
    assert len(result.report["oov.txt"].splitlines()) == 1 + 599
    assert all(r.sex in ("m", "f") for split in result.splits.values() for r in split)
