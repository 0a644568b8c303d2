"""Speakers left out in turn: who is tested by whom, what Make runs, and the joined transcript."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import commands_of, recipe, utterances_of

from asr.corpora import TimitConfig
from asr.errors import DataError
from asr.records import Hypothesis, Manifest, Utterance, read_jsonl, write_jsonl

REPOSITORY = Path(__file__).parents[1]
SPEAKERS = ("1-faaa0", "1-maab0", "2-faac0", "3-maad0", "3-faae0", "4-maaf0", "8-faag0")

left_out = recipe("timit/left_out")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for speaker in SPEAKERS:
        place = tmp_path / "sample" / f"dr{speaker}"
        place.mkdir(parents=True)
        soundfile.write(place / "sx1.wav", 0.1 * np.sin(np.arange(4000)), 16_000)
        (place / "sx1.phn").write_text("0 1000 h#\n1000 2000 aa\n2000 4000 h#\n")
    return tmp_path / "sample"


@pytest.mark.parametrize("folds", [3, 5, 7])
def test_every_speaker_is_tested_once_by_those_who_never_heard_them(
    corpus: Path, folds: int, tmp_path: Path
) -> None:
    left_out.split(corpus, folds, tmp_path / "lists")
    tested: Counter[str] = Counter()
    for fold in range(1, folds + 1):
        speakers = str(tmp_path / "lists" / f"fold-{fold}.txt")
        splits = utterances_of(TimitConfig(root=str(corpus), speakers=speakers))
        members = {name: {one.speaker for one in split} for name, split in splits.items()}
        assert all(members.values())
        assert sum(map(len, members.values())) == len(set.union(*members.values())) == len(SPEAKERS)
        tested.update(members["test"])
    assert tested == Counter(speaker[2:] for speaker in SPEAKERS)


@pytest.mark.parametrize("folds", [2, 8])
def test_folds_without_speakers_are_refused(corpus: Path, folds: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{folds} folds, expected 3 to 7: .* has 7 speakers"):
        left_out.split(corpus, folds, tmp_path)
    assert not list(tmp_path.glob("fold-*"))
    assert left_out.main(["split", str(corpus), str(folds), str(tmp_path)]) == 1


def test_the_transcript_has_every_fold_once(tmp_path: Path) -> None:
    for fold in (1, 2, 10):
        (tmp_path / f"fold-{fold}.txt").touch()
        for seed in (1, 2):
            run_dir = tmp_path / f"fold-{fold}" / str(seed)
            said = Utterance(f"u{fold}", "a.wav", 1.0, f"s{fold}", ("aa",))
            write_jsonl(run_dir / "manifests" / "test.jsonl", [said])
            write_jsonl(run_dir / "test.hyp.jsonl", [Hypothesis(said.id, ("iy",) * seed)])
    assert left_out.main(["join", str(tmp_path), "--seeds", "1", "2"]) == 0
    assert [one.id for one in Manifest(tmp_path / "references.jsonl")] == ["u1", "u2", "u10"]
    for seed in (1, 2):
        heard = list(read_jsonl(tmp_path / f"heard-{seed}.jsonl", Hypothesis))
        assert [(one.id, len(one.phones)) for one in heard] == [(f"u{n}", seed) for n in (1, 2, 10)]


def test_make_trains_every_fold_and_scores_them_together(tmp_path: Path) -> None:
    options = ("ROOT=/sample", "FOLDS=3", "SEEDS=1 2")
    printed = commands_of(tmp_path, "timit/left-out.mk", *options)
    assert printed.count("left_out.py split '/sample' 3 'exp/timit-sample-3-folds'") == 1
    for fold in (1, 2, 3):
        for seed in (1, 2):
            assert (
                f"-m asr train experiment=timit-sample seed={seed} "
                f"run_dir='exp/timit-sample-3-folds/fold-{fold}/{seed}' corpus.root='/sample' "
                f"corpus.speakers='exp/timit-sample-3-folds/fold-{fold}.txt'"
            ) in printed
    assert printed.count("-m asr train") == 6
    assert printed.index("join") > printed.rindex("-m asr decode")
