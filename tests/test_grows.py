"""What grows with the data grows in proportion: operations and bytes are counted, not seconds."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.corpora import manifests
from asr.corpora.recording import Recording
from asr.dataset import Batches
from asr.phones import Vocabulary
from asr.records import Utterance
from asr.scoring import intervals, read_transcripts
from asr.scoring.transcripts import Phones
from asr.training import initialization

VOCABULARY = Vocabulary(("aa", "iy", "m", "s"))


class Counted(list[Any]):
    """A list that counts how often an element is read."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("splits", [("train",), ("train", "dev", "test")])
def test_copies_of_one_recording_are_found_in_one_pass(
    splits: tuple[str, ...],
) -> None:
    reads = []
    for number in (100, 1000):
        members = Counted(
            (split, Recording(f"{split}{n}", f"{split}{n}.wav", "s"))
            for split in splits
            for n in range(number)
        )
        contents = np.ones(len(members), np.uint64)
        leaks, duplicates = manifests._duplicate_audio(members, contents)
        of_last = number - 1  # in the last split they are duplicates, in the others leaks
        assert (len(leaks), len(duplicates)) == (number * (len(splits) - 1), of_last)
        assert duplicates[0] == f"{splits[-1]}1.wav: the same samples as {splits[-1]}0.wav"
        assert all("samples as dev0.wav in dev" in leaks[n] for n in leaks if n < number)
        reads.append(members.reads)
    assert reads[1] == 10 * reads[0]


def test_draws_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [(n % 7 + 1, n % 3, 1 + n % 2) for n in range(50)]
    whole = intervals.drawn(units, 100, seed=3)
    monkeypatch.setattr(intervals, "DRAWS", 350)
    parts = intervals.drawn(units, 100, seed=3)
    assert whole is not None
    assert parts is not None
    assert whole[0] == parts[0]
    assert np.array_equal(whole[1], parts[1])


def test_a_transcript_takes_two_bytes_at_most_for_a_phone(tmp_path: Path) -> None:
    """And its file is read as a stream."""
    path, sizes = tmp_path / "hyp.jsonl", []
    for phones in (100, 1100):
        with open(path, "w") as file:
            for n in range(500):
                one = {"id": f"s-{n}", "phones": ["aa", "b"] * (phones // 2)}
                file.write(json.dumps({**one, "times_s": [0.5] * phones}) + "\n")
        tracemalloc.start()
        transcripts = read_transcripts(path)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(transcripts.items) == 500
        assert peak < 0.5 * path.stat().st_size + 2_000_000
        sizes.append(kept)
    assert sizes[1] - sizes[0] < 2.2 * 500 * 1000


def test_phones_are_a_sequence_of_strings() -> None:
    phones = Phones.of(["aa", "ɔː", "aa"])
    assert phones == ("aa", "ɔː", "aa")
    assert (phones[1], phones[-1], phones[1:], len(phones)) == ("ɔː", "aa", ("ɔː", "aa"), 3)
    assert hash(phones) == hash(Phones.of(tuple(phones)))
    assert Phones.of(phones) is phones


def test_normalisation_of_a_large_set_is_of_a_sample_of_all_lengths(
    tones: list[Utterance],
) -> None:
    batches = Batches(tones, VOCABULARY, 16_000, 1)
    assert initialization.sample(batches, large=len(tones)) is batches
    every = [batch.ids for batch in batches]
    assert chosen(tones, 1) == [every[n] for n in (0, 4, 8)]
    assert sorted(chosen(tones, 2) + chosen(tones, 2, rank=1)) == sorted(chosen(tones, 1))


def test_normalisation_by_speaker_is_of_some_utterances_of_each(tones: list[Utterance]) -> None:
    def heard(ranks: int, rank: int, each: int) -> set[str]:
        batches = Batches(tones, VOCABULARY, 16_000, 2, rank=rank, ranks=ranks)
        assert initialization.sample_by_speaker(batches, large=len(tones)) is batches
        sample = initialization.sample_by_speaker(batches, large=3, each=each)
        return {id for batch in sample for id in batch.ids}

    assert heard(1, 0, each=1) == {one.id for one in tones[:3]}  # three speakers, by turns
    assert heard(1, 0, each=2) == {one.id for one in [*tones[:3], *tones[6:]]}
    assert heard(1, 0, each=9) == {one.id for one in tones}
    assert heard(2, 0, each=2) | heard(2, 1, each=2) == heard(1, 0, each=2)
    assert not heard(2, 0, each=2) & heard(2, 1, each=2)


def chosen(tones: list[Utterance], ranks: int, rank: int = 0) -> list[tuple[str, ...]]:
    batches = Batches(tones, VOCABULARY, 16_000, 1, rank=rank, ranks=ranks)
    return [batch.ids for batch in initialization.sample(batches, large=3, some=3)]
