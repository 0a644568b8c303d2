"""`make peers`: every system on the same sound, scored alike, and a table that says so."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import commands_of, normalized, tones_of

from asr import checkpoint
from asr import transcriber as transcriber_module
from asr.checkpoint import Checkpoint
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "recipes" / "peers"))

import peers  # noqa: E402

PHONES = ("aa", "s", "m", "iy")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A tree in the layout of NLTK's sample, in which everybody says the same tones."""
    root = tmp_path / "sample"
    speakers = (REPOSITORY / "asr/tables/timit-sample-speakers.txt").read_text().splitlines()
    rows = [line.split() for line in speakers if line.strip() and not line.startswith("#")]
    names = {split: [row[0] for row in rows if row[-1] == split] for split in ("dev", "test")}
    samples = (tones_of(PHONES) * 32767).astype(np.int16)
    edges = np.linspace(0, len(samples), len(PHONES) + 1, dtype=int)
    rng = np.random.default_rng(0)
    for name in [*names["dev"], *names["test"], "mxyz0"]:
        folder = root / f"dr1-{name}"
        folder.mkdir(parents=True)
        for sentence in ("si1", "sx2"):
            noise = rng.integers(-20, 20, len(samples))
            soundfile.write(folder / f"{sentence}.wav", samples + noise.astype(np.int16), 16_000)
            lines = [f"{a} {b} {p}" for a, b, p in zip(edges[:-1], edges[1:], PHONES, strict=True)]
            (folder / f"{sentence}.phn").write_text("\n".join(lines) + "\n")
    return root


def test_cmudict_s_phones_become_timit_s() -> None:
    said = ("sil", "hh", "ae", "d", "sil", "jh")
    plain = ("sil", "hh", "ae", "d", "sil", "jh", "sil")
    assert peers.in_timit(said, closures=False) == plain
    closed = ("sil", "hh", "ae", "sil", "d", "sil", "jh", "sil")
    assert peers.in_timit(said, closures=True) == closed
    timit = ("h#", "hv", "ae", "dcl", "d", "h#")
    assert peers.in_timit(timit, closures=True) == timit
    assert peers.in_timit((), closures=True) == ("sil",)


def test_noise_has_its_ratio_and_its_seed(tmp_path: Path) -> None:
    utterances = []
    for n in range(6):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, tones_of(PHONES[n % 2 :]), 16_000)
        utterances.append(Utterance(f"u{n}", str(path), 0.6, f"s{n}", PHONES))
    clean = tones_of(PHONES)
    for kind in ("white", "babble"):
        noisy = peers.noisy(clean, utterances[0], utterances, kind, 10.0)
        again = peers.noisy(clean, utterances[0], utterances, kind, 10.0)
        np.testing.assert_array_equal(noisy, again)
        ratio = clean.var() / (noisy - clean).var()
        assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.01)


def test_speaker_by_speaker_is_asr_transcribe_of_their_files(
    tmp_path: Path, tone_model: Path
) -> None:
    model = tmp_path / "by-utterance.safetensors"
    checkpoint.save(model, Checkpoint(normalized(tone_model, "utterance")))
    utterances = []
    for n, (speaker, loudness) in enumerate((("a", 0.1), ("b", 1.0), ("a", 3.0), ("b", 0.3))):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, loudness * tones_of(PHONES), 16_000, subtype="FLOAT")
        utterances.append(Utterance(f"u{n}", str(path), 0.6, speaker, PHONES))
    models = [peers.Ours(model, by_speaker=True), peers.Ours(model)]
    together, alone = (tally.phones for tally in peers.decode_all(models, utterances))
    assert together != alone
    for speaker in ("a", "b"):
        transcriber = transcriber_module.load(model)
        said = [one for one in utterances if one.speaker == speaker]
        moments = transcriber.one_speaker(
            transcriber.blocks(one.audio, pytest.fail) for one in said
        )
        for one in said:
            heard = transcriber.transcribe_file(one.audio, pytest.fail, moments).phones
            assert together[one.id] == tuple(phone.phone for phone in heard)


def test_the_table_is_what_asr_score_says(
    corpus: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pocketsphinx", reason="needs the extra `peers`")
    output = tmp_path / "out"
    overrides = ["experiment=timit-sample", f"corpus.root={corpus}"]
    arguments = [
        *overrides,
        "--checkpoint",
        str(tone_model),
        "--snr",
        "10",
        "--output",
        str(output),
    ]
    assert peers.main([*arguments, "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert printed == (output / "table.md").read_text()
    assert "## As recorded" in printed
    assert "## white noise at 10 dB" in printed
    references = read_jsonl(output / "references.jsonl", Utterance)
    for n, name in enumerate(("asr, tones", "pocketsphinx allphone", "pocketsphinx words")):
        heard = read_jsonl(output / f"clean-{n}.hyp.jsonl", Hypothesis)
        assert {one.id for one in heard} == {one.id for one in references}
        phones = {one.id: one.phones for one in heard}
        (line,) = [x for x in printed.splitlines()[:9] if x.startswith(f"| {name}")]
        for column in ("strict", "strict, closures", "arpabet"):
            assert f"**{peers.scored(references, phones, column).total.per:.2f}**" in line
    ours = read_jsonl(output / "clean-0.hyp.jsonl", Hypothesis)
    assert {one.phones for one in ours} == {PHONES}
    compared = [x for x in printed.splitlines() if x.startswith("| asr, tones − ")]
    assert len(compared) == 2 * 2 * 3
    # What was heard before is a line without times, with the same figures.
    before = output / "before.jsonl"
    write_jsonl(before, ours)
    given = [*overrides, "--checkpoint", str(tone_model), "--heard", str(before), "--output"]
    assert peers.main([*given, str(tmp_path / "again")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("| asr, out/before |")]
    (same,) = [x for x in lines if x.startswith("| asr, tones |")]
    assert line.split("|")[2:4] == [" – ", " – "]
    assert line.split("|")[4:] == same.split("|")[4:]
    write_jsonl(before, ours[:1])
    assert peers.main([*given, str(tmp_path / "never")]) == 1
    assert f"{len(ours) - 1} of {len(ours)} utterances are not in it" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--split", "test"], "no utterance is in test"), (["--split", "tset"], "expected one of")],
)
def test_speakers_outside_the_table_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    pytest.importorskip("pocketsphinx", reason="needs the extra `peers`")
    folder = tmp_path / "sample" / "dr1-mxyz0"
    folder.mkdir(parents=True)
    soundfile.write(folder / "si1.wav", tones_of(PHONES), 16_000)
    (folder / "si1.phn").write_text("0 6400 aa\n")
    corpus = ["experiment=timit-sample", f"corpus.root={folder.parent}"]
    assert peers.main([*corpus, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_without_pocketsphinx_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    assert peers.main(["experiment=timit-sample", "corpus.root=nowhere"]) == 1
    assert "pip install 'asr-phones[peers]'" in capsys.readouterr().err


def test_make_tells_the_corpus_by_its_layout(tmp_path: Path) -> None:
    (tmp_path / "sample" / "dr1-fvmh0").mkdir(parents=True)
    (tmp_path / "LibriSpeech").mkdir()
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").touch()

    def dry(*options: str) -> str:
        printed = commands_of(tmp_path, "peers/Makefile", *options)
        return " ".join(printed.replace("\\\n", "").split())

    printed = dry("ROOT=sample", "TUNE=1")
    assert "experiment=timit-sample corpus.root='sample' --split all --tune" in printed
    printed = dry("ROOT=LibriSpeech", "TEST=test-part", "SNR=20 10", "MODEL=a.safetensors")
    assert "experiment=librispeech corpus.root='LibriSpeech' corpus.test='test-part'" in printed
    assert "--split test --checkpoint 'a.safetensors' --snr 20 10 --noise white" in printed
    assert "experiment=timit corpus.root='elsewhere'" in dry("ROOT=elsewhere")
