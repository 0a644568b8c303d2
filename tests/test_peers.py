"""`make peers`: every system on the same sound, scored alike, and a table that says so."""

import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import commands_of, normalized, tones_of

from asr import checkpoint
from asr import transcriber as transcriber_module
from asr.checkpoint import Checkpoint
from asr.errors import DataError
from asr.phones import phone_set
from asr.records import Hypothesis, Utterance, read_jsonl, write_jsonl

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "recipes" / "peers"))

import costs  # noqa: E402
import peers  # noqa: E402
import systems  # noqa: E402

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
    changes = peers.conditions(utterances, [20, 10], ["white", "babble"], [0.5])
    assert list(changes) == [
        "as recorded",
        *(f"{kind} noise at {snr} dB" for kind in ("white", "babble") for snr in (20, 10)),
        "0.5 s of zeros added",
    ]
    for kind in ("white", "babble"):
        change = changes[f"{kind} noise at 10 dB"]
        noisy = change(clean, utterances[0], 16_000)
        np.testing.assert_array_equal(noisy, change(clean, utterances[0], 16_000))
        ratio = clean.var() / (noisy - clean).var()
        assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.01)
    longer = changes["0.5 s of zeros added"](np.ones(100, np.float32), utterances[0], 16_000)
    assert (len(longer), longer.sum()) == (8100, 100)


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
    models = [systems.Ours(model, by_speaker=True), systems.Ours(model)]
    outputs = peers.decode_all(models, peers.by_speaker(utterances), tmp_path / "kept")
    together, alone = ({id: one.symbols for id, one in of_one.items()} for of_one in outputs)
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
    corpus: Path,
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_hama(monkeypatch, tmp_path, ["s", "m"])
    output = tmp_path / "out"
    overrides = ["experiment=timit-sample", f"corpus.root={corpus}"]
    here = ["--peers", "hama", "--checkpoint", str(tone_model)]
    arguments = [*overrides, *here, "--snr", "10", "--empty", "1", "--output", str(output)]
    assert peers.main([*arguments, "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert printed == (output / "table.md").read_text()
    _, recorded, noisy, summary = printed.split("## PER, ")
    assert recorded.startswith("as recorded")
    assert noisy.startswith("white noise at 10 dB")
    assert "| hama 1.0 | 120 | 120 |" in summary
    references = read_jsonl(output / "references.jsonl", Utterance)
    for n, name in enumerate(("asr, tones", "hama 1.0")):
        heard = read_jsonl(output / f"as-recorded-{n}.hyp.jsonl", Hypothesis)
        assert {one.id for one in heard} == {one.id for one in references}
        phones = {one.id: one.phones for one in heard}
        (line,) = [x for x in recorded.splitlines()[:9] if x.startswith(f"| {name} |")]
        for column in ("strict", "strict, closures", "arpabet"):
            assert f"**{peers.scored(references, phones, column).total.per:.2f}**" in line
    ours = read_jsonl(output / "as-recorded-0.hyp.jsonl", Hypothesis)
    assert {one.phones for one in ours} == {PHONES}
    compared = [x for x in printed.splitlines() if x.startswith("| asr, tones − hama 1.0 ")]
    assert len(compared) == 2 * 3
    # Existing hypotheses are a line with the same figures.
    before = output / "before.jsonl"
    write_jsonl(before, ours)
    given = [*overrides, *here, "--heard", str(before), "--output"]
    assert peers.main([*given, str(tmp_path / "again")]) == 0
    lines = capsys.readouterr().out.splitlines()
    line, *_ = [x for x in lines if x.startswith("| asr, out/before |")]
    same, *_ = [x for x in lines if x.startswith("| asr, tones |")]
    assert line.split("|")[2:] == same.split("|")[2:]
    write_jsonl(before, ours[:1])
    assert peers.main([*given, str(tmp_path / "never")]) == 1
    expected = f"{len(ours) - 1} of {len(ours)} utterances have no hypothesis"
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_pocketsphinx_outputs_phones_words_and_silence() -> None:
    pytest.importorskip("pocketsphinx", reason="needs the extra `pocketsphinx`")
    made, absent = systems.peers(["pocketsphinx"], None)
    assert not absent
    for system, sound in zip(made, (tones_of(PHONES), np.zeros(8000, np.float32)), strict=True):
        output = system.decode(sound)
        assert {*output.symbols} <= {*phone_set("arpabet39"), "sil"}
        assert (output.text is None) == ("allphone" in system.name)
        assert all(path.exists() for path in system.files)


def test_speakers_and_splits_that_there_are_not_are_one_sentence(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["experiment=timit-sample", f"corpus.root={corpus}", "--split"]
    assert peers.main([*given, "tset"]) == 1
    assert "expected one of train, dev, test, all" in capsys.readouterr().err
    assert peers.main([*given, "train"]) == 1
    assert "no utterance is in train" in capsys.readouterr().err


def fake(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: object) -> None:
    """A module of a peer, as if it were installed."""
    module = ModuleType(name)
    module.__dict__.update(attributes)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(metadata, "version", lambda _: "1.0")


def fake_hama(monkeypatch: pytest.MonkeyPatch, folder: Path, phonemes: list[str]) -> None:
    said = SimpleNamespace(phonemes=phonemes)
    model = SimpleNamespace(transcribe_waveform=lambda waveform, rate: said)
    fake(monkeypatch, "hama", ASRModel=lambda: model, __file__=str(folder / "hama.py"))


def test_every_symbol_of_hama_has_its_phones() -> None:
    table = systems.hama_phones()
    assert {phone for phones in table.values() for phone in phones} <= {*phone_set("arpabet39")}
    assert table["t͡ʃ"] == ("ch",)
    assert table["wʌ"] == ("w", "ah")
    assert table["\u0303"] == table[" "] == ()
    rows = [line.partition(" →") for line in systems.TABLE.read_text().splitlines()]
    symbols = [s for left, arrow, _ in rows if arrow and left[:2] != "# " for s in left.split()]
    assert len(symbols) == len({*symbols}) == len(table)
    hama = pytest.importorskip("hama", reason="needs the extra `hama`")
    assert {*table} == {*hama.ASRModel().decoder_tokens} - {"<wb>", "<blank>"}


def test_hama_s_symbols_become_phones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_hama(monkeypatch, tmp_path, ["ð", "ɪ", "s", "̪", "eə"])
    ((system,), absent) = systems.peers(["hama"], None)
    assert (system.name, absent) == ("hama 1.0", [])
    output = system.decode(np.zeros(100, np.float32))
    assert output == (("ð", "ɪ", "s", "̪", "eə"), None)
    assert system.phones(output) == ("dh", "ih", "s", "eh", "r")


def test_moonshine_s_words_get_the_first_pronunciation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [SimpleNamespace(text="Hello, 'WORLD'"), SimpleNamespace(text="hello.")]
    model = SimpleNamespace(transcribe_without_streaming=lambda *_: SimpleNamespace(lines=lines))
    fake(
        monkeypatch,
        "moonshine_voice",
        ModelArch=SimpleNamespace(TINY=0),
        Transcriber=lambda *_: model,
        get_model_path=lambda _: tmp_path,
    )
    dictionary = tmp_path / "words"
    dictionary.write_text("hello HH AH0 L OW1\nhello(2) HH EH0 L OW1\nworld W ER1 L D\n")
    ((system,), _) = systems.peers(["moonshine"], dictionary)
    output = system.decode(np.zeros(100, np.float32))
    assert output == ((), "Hello, 'WORLD' hello.")
    hello = ("hh", "ah", "l", "ow")
    assert system.phones(output) == (*hello, "w", "er", "l", "d", *hello)
    assert peers.word_error_rate({"a": "HELLO WORLD OLD"}, {"a": output}) == "33.33"
    assert peers.word_error_rate({"a": "HELLO"}, {"a": systems.Output(())}) == "–"


def test_words_are_scored_without_case_and_punctuation() -> None:
    said = "“Well-known,” he  said: don’t 'go' -- the boys' DOGS & I…"
    words = ["well", "known", "he", "said", "don't", "go", "the", "boys", "dogs", "and", "i"]
    assert systems.words_of(said) == words
    assert systems.words_of(" … ") == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("1930, no", "nineteen thirty no"),
        ("2,400", "two thousand four hundred"),
        ("$5", "five dollars"),
        ("the 21st", "the twenty first"),
        ("3.5%", "three point five percent"),
        ("3:30", "three thirty"),
        ("12", "twelve"),
    ],
)
def test_numbers_are_spelled_out(number: str, words: str) -> None:
    pytest.importorskip("num2words", reason="needs the extra `moonshine`")
    assert systems.words_of(number) == words.split()


class Counting(systems.System):
    """Outputs the number of samples, and counts how often it is asked."""

    name, asked = "Count/1", 0

    def decode(self, waveform: np.ndarray) -> systems.Output:
        self.asked += 1
        return systems.Output((str(len(waveform)),))


def test_outputs_are_kept_while_the_system_and_the_sound_are_the_same(tmp_path: Path) -> None:
    system = Counting()
    sounds = [np.full(n, 0.5, np.float32) for n in (3, 4, 3)]
    kept = peers.Kept(tmp_path, system)
    assert [kept.decode(sound).symbols for sound in sounds] == [("3",), ("4",), ("3",)]
    assert system.asked == 2
    with kept.path.open("a") as file:
        file.write('\n{"key": "a killed r')
    assert peers.Kept(tmp_path, system).decode(2 * sounds[0]).symbols == ("3",)
    kept = peers.Kept(tmp_path, system)
    assert [kept.decode(sound).symbols for sound in [*sounds, 2 * sounds[0]]][-1] == ("3",)
    assert system.asked == 3
    system.name = "Count/2"
    assert peers.Kept(tmp_path, system).decode(sounds[1]).symbols == ("4",)
    assert system.asked == 4


def test_sounds_without_speech_have_their_levels() -> None:
    sounds = peers.without_speech(1)
    assert not sounds["zeros"].any()
    levels = [20 * np.log10(sound.std()) for sound in list(sounds.values())[1:]]
    assert levels == pytest.approx([-60, -30, -40, -40], abs=0.1)


def test_the_start_of_a_process_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Counting()
    monkeypatch.setattr(costs, "TIMES", 1)
    system.arguments = ["-c", "block = b'x' * 50_000_000; sum(range(1_000_000))"]
    cpu_s, peak_mb = costs.started(system, tmp_path / "none.wav")
    assert 0 < cpu_s < 10
    assert 50 < peak_mb < 500
    system.arguments = ["-c", "raise SystemExit('no such file')"]
    with pytest.raises(DataError, match="no such file"):
        costs.started(system, tmp_path / "none.wav")
    assert {"jiwer", "rapidfuzz"} <= costs.needed("jiwer")
    assert 0 < costs.wheel("jiwer") < costs.megabytes(costs.files("jiwer"))


def test_a_peer_that_is_absent_is_one_sentence_and_the_others_run(
    corpus: Path,
    tone_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_hama(monkeypatch, tmp_path, ["s"])
    for module in ("pocketsphinx", "moonshine_voice"):
        monkeypatch.setitem(sys.modules, module, None)
    given = ["experiment=timit-sample", f"corpus.root={corpus}", "--checkpoint", str(tone_model)]
    assert peers.main([*given, "--lexicon", "words", "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for extra in ("pocketsphinx", "moonshine"):
        (line,) = [line for line in lines if line.startswith(f"{extra} is left out")]
        assert f"pip install 'asr-phones[{extra}]'" in line
    assert [line for line in lines if line.startswith("| hama 1.0 | **")]
    assert [line for line in lines if line.startswith("| asr, tones − hama 1.0 | arpabet | ")]


def test_make_tells_the_corpus_by_its_layout(tmp_path: Path) -> None:
    (tmp_path / "sample" / "dr1-fvmh0").mkdir(parents=True)
    (tmp_path / "LibriSpeech").mkdir()
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").touch()

    def dry(*options: str) -> str:
        printed = commands_of(tmp_path, "peers/Makefile", *options)
        return " ".join(printed.replace("\\\n", "").split())

    printed = dry("ROOT=sample", "TUNE=1")
    assert (
        "experiment=timit-sample corpus.root='sample' --split all --peers pocketsphinx" in printed
    )
    assert "--costs --empty 60 --tune" in printed
    printed = dry("ROOT=LibriSpeech", "TEST=test-part", "SNR=20 10", "MODEL=a.safetensors")
    assert "experiment=librispeech corpus.root='LibriSpeech' corpus.test='test-part'" in printed
    assert "--checkpoint 'a.safetensors' --snr 20 10 --noise white" in printed
    printed = dry("ROOT=sample", "PEERS=hama", "ZEROS=10 30", "EMPTY=5", "LEXICON=words")
    assert "--lexicon 'words' --split all --peers hama --costs --empty 5 --zeros 10 30" in printed
    assert "experiment=timit corpus.root='elsewhere'" in dry("ROOT=elsewhere")
