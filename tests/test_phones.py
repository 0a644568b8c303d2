"""Laws of the phone tables (Lee & Hon 1989) and of the vocabulary."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import DataError
from asr.phones import BLANK, Vocabulary, fold_to_39, fold_to_arpabet, phone_set


def test_the_sets_have_their_sizes() -> None:
    assert [len(phone_set(f"timit{size}")) for size in (61, 48, 39)] == [61, 48, 39]


def test_folding_is_total_and_idempotent() -> None:
    fold = fold_to_39()
    assert set(fold(phone_set("timit61"))) == set(phone_set("timit39"))
    assert set(fold(phone_set("timit48"))) == set(phone_set("timit39"))
    assert fold(phone_set("timit39")) == phone_set("timit39")


def test_only_q_is_deleted() -> None:
    fold = fold_to_39()
    assert [phone for phone in phone_set("timit61") if fold([phone]) == ()] == ["q"]


def test_every_phone_of_cmudict_is_one_of_timit_and_only_silence_is_none() -> None:
    arpabet = phone_set("arpabet39")
    assert fold_to_arpabet()(arpabet) == arpabet
    assert fold_to_arpabet()(["AH0", "ax", "ah1"]) == ("ah", "ah", "ah")
    assert set(fold_to_arpabet()(phone_set("timit61"))) == set(arpabet)
    nothing = {phone for phone in phone_set("timit61") if fold_to_arpabet()([phone]) == ()}
    assert nothing == {"h#", "pau", "epi", "q"}


def test_a_closure_is_part_of_its_release() -> None:
    fold = fold_to_arpabet()
    assert fold(["tcl", "t", "tcl", "ch", "dcl", "jh", "tcl"]) == ("t", "ch", "jh", "t")
    assert fold(["tcl", "tcl", "t", "dcl", "t", "tcl", "q"]) == ("t", "t", "d", "t", "t")
    closures = {phone for phone in phone_set("timit61") if phone.endswith("cl")}
    assert set(fold.releases) == closures
    for closure, releases in fold.releases.items():
        assert fold([closure])[0] in releases


def test_counterparts_are_the_same_phone_or_the_one_it_folds_to() -> None:
    timit = Vocabulary(["aa", "ax", "bcl", "h#", "zh"])
    arpabet = Vocabulary(["ah", "b", "aa"])
    assert timit.counterparts(arpabet) == [0, 3, 1, 2, None, None]
    assert arpabet.counterparts(timit) == [0, None, None, 1]
    assert timit.counterparts(timit) == list(range(len(timit)))


def test_an_unknown_phone_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'AXR' is not in timit39; did you mean 'axr'"):
        fold_to_39()(["AXR"])


@given(st.lists(st.sampled_from(phone_set("timit61"))))
def test_decode_undoes_encode(phones: list[str]) -> None:
    vocabulary = Vocabulary(phone_set("timit61"))
    labels = vocabulary.encode(phones)
    assert vocabulary.decode(labels) == tuple(phones)
    assert Vocabulary.blank not in labels


def test_a_vocabulary_survives_its_file(tmp_path: Path) -> None:
    vocabulary = Vocabulary(phone_set("timit61"))
    vocabulary.save(tmp_path / "vocabulary.txt")
    assert Vocabulary.load(tmp_path / "vocabulary.txt") == vocabulary
    assert (tmp_path / "vocabulary.txt").read_text().splitlines()[0] == BLANK
    assert len(vocabulary) == 62  # the outputs of Graves, Mohamed & Hinton (2013)


def test_a_vocabulary_refuses_what_it_cannot_mean(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice: aa"):
        Vocabulary(["aa", "aa"])
    with pytest.raises(DataError, match="blank"):
        Vocabulary([BLANK])
    with pytest.raises(IndexError):
        Vocabulary(["aa"]).decode([0])
    with pytest.raises(DataError, match="'zz' is not in the vocabulary"):
        Vocabulary(["aa"]).encode(["zz"])
    (tmp_path / "v.txt").write_text("aa\n")
    with pytest.raises(DataError, match=r"v\.txt:1: .*<blank>"):
        Vocabulary.load(tmp_path / "v.txt")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no phones"),
        (b"<blank>\n", "no phones"),
        (b"aa\n", ":1: found aa"),
        (b"<blank>\naa\n\nb b\n", ":4: the phone 'b b' has white space"),
        (b"<blank>\naa\nb\naa\n", ":4: 'aa' is a duplicate of line 2"),
        ("<blank>\n\u00e9\ne\u0301\n".encode(), ":3: .* is a duplicate of line 2"),
        ("<blank>\naa\n\u00e9\n".encode("latin-1"), ":3: byte 0xe9 is not UTF-8"),
        ("<blank>\na\u200b\n".encode(), ":2: the phone .*U.200B"),
        ("<blank>\naa\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_vocabulary_names_its_bad_line(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "vocabulary.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"vocabulary\.txt.*{says}"):
        Vocabulary.load(tmp_path / "vocabulary.txt")
