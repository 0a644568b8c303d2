"""Overrides as people type them: text is taken as it stands, and a mistake gets one sentence."""

import pickle
import re
from pathlib import Path

import pytest

from asr.commands.configured import Task, command, compose, saved
from asr.commands.overrides import owners, read, read_arguments, run_name
from asr.config import RunConfig
from asr.errors import DataError
from asr.train import run as train
from asr.training.run_directory import RunDirectory

# What only a library says of a mistake.
FOREIGN = re.compile(r"omegaconf|hydra|Config[A-Z]|Traceback|primitive|Optional|<class", re.ASCII)

PATHS = (
    "/data/Zoë (2) [a], b=c",
    "it's",
    "two 'quotes' \"here\"",
    "back\\slash",
    "ends\\",
    "a#b:c$d e%f&g;h|i?j*k~l!m{n}",
    "1e3",
    "007",
    "true",
    "range(3)",
    "a,b",
    " blank ",
    "a@b",
    "+x",
)


@pytest.mark.parametrize("path", PATHS)
def test_text_is_taken_as_it_stands(path: str) -> None:
    config = compose(["experiment=timit", f"corpus.root={path}", f"run_dir={path}/x"])
    assert (config.corpus.root, config.run_dir) == (path, f"{path}/x")


@pytest.mark.parametrize("written", ["'a, b'", '"a, b"', "a\\,\\ b"])
def test_text_may_also_be_written_as_hydra_reads_it(written: str) -> None:
    assert compose(["experiment=timit", f"corpus.root={written}"]).corpus.root == "a, b"


def test_text_may_refer_to_the_home_folder_and_to_other_keys() -> None:
    home = compose(["experiment=timit", "corpus.root=~/a b"]).corpus.root
    assert home == str(Path.home() / "a b")
    config = compose(["experiment=demo", "run_dir=my runs, all/${name}/${seed}", "seed=3"])
    assert config.run_dir == "my runs, all/demo/3"
    assert compose(["experiment=demo", "search=beam-lm"]).search.language_model == (
        "exp/demo/1/lm.arpa"
    )


def test_with_m_commas_separate_values_unless_the_text_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    roots = ["-m", "corpus.root=a b,c=d", "seed=1,2", "encoder.hidden=8"]
    flags, done, swept = read_arguments(roots)
    assert (flags, swept) == (["-m"], {"corpus.root", "seed"})
    assert done == ["corpus.root='a b','c=d'", "seed=1,2", "encoder.hidden=8"]
    Path("a b,c=d").mkdir()
    assert read_arguments(roots)[1][0] == "corpus.root='a b,c=d'"
    quoted = ["run_dir='a,b'", "corpus.root=choice(a,b)"]
    assert read_arguments([*quoted, "-m"]) == (["-m"], quoted, {"corpus.root"})


def test_only_a_command_that_opens_the_corpus_needs_its_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[RunConfig] = []
    monkeypatch.setattr("sys.argv", ["asr train", "corpus=timit", "run_dir=somewhere"])
    command(given.append, "")()
    assert given[0].corpus.root == "somewhere"


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("encoder", "blstm, lstm"),
        ("seed", "a whole number"),
        ("encoder.hidden=abc", "a whole number, at least 1"),
        ("encoder.hidden=", "a whole number, at least 1"),
        ("encoder.hidden=8.5", "a whole number"),
        ("encoder.hidden=true", "a whole number"),
        ("encoder.hidden=8 9", "a whole number"),
        ("encoder.hidden=[8,9]", "a whole number"),
        ("encoder.hidden={a:1}", "a whole number"),
        ("encoder.hidden=(", "a whole number"),
        ("encoder.hidden==3", "a whole number"),
        ("encoder.hidden=${name}", "a whole number"),
        ("encoder.hidden=8,9", "-m"),
        ("encoder.hidden.x=3", "encoder.hidden"),
        ("encoder.bidirectional=2", "true or false"),
        ("encoder.dropout=nan", "less than 1"),
        ("encoder={hiden:3}", "'hidden'"),
        ("encoder={hidden:a}", "a whole number"),
        ("encoder=3", "blstm"),
        ("encoder=null", "blstm"),
        ("encoder=", "blstm"),
        ("encoder@x=lstm", "'encoder'"),
        ("encoder.hidden=???", "set encoder.hidden="),
        ("=3", "KEY=VALUE"),
        ("training=3", "training.epochs"),
        ("training.seed=3", "'seed'"),
        ("training.hidden=3", "'encoder.hidden'"),
        ("hidden=3", "'encoder.hidden'"),
        ("ENCODER.HIDDEN=3", "'encoder.hidden'"),
        ("+x=1", "encoder"),
        ("~x", "encoder"),
        ("~encoder", "blstm"),
        ("~encoder.hidden", "a whole number"),
        ("a b=3", "encoder"),
        ("experiment=nope", "timit"),
        ("experiment=ctc-3l-250h", "'graves2013/ctc-3l-250h'"),
        ("experiment=demo=3", "demo"),
        ("corpus=timit", "corpus.root"),
        ("corpus.dev=x", "corpus=folder"),
        ("corpus.protocol=per", "strict"),
        ("tune.bonus=1", "list of numbers"),
        ("tune.bonus=[a]", "list of numbers"),
        ("tune.bonus=[nan]", "a finite number"),
        ("search.lm_weight=inf", "a finite number"),
        ("encoder.hidden=9999999999", "a whole number below 2^31"),
        ("threads=100000", "0…1024"),
        ("optimizer.learning_rate=inf", "finite"),
        ("seed=99999999999999999999", "less than"),
        ("run_dir=", "not empty"),
        ("run_dir=${", "${KEY}"),
        ("run_dir=${nam}", "${KEY}"),
        ("device=gpu", "cpu"),
        ("device=cuda:99", "cpu"),
        ("--seed=3", "seed="),
        ("--epochs", "seed=1"),
    ],
)
def test_a_mistake_names_the_key_and_what_is_expected(
    override: str,
    names: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["asr prepare", override])
    with pytest.raises(SystemExit, match=r"^2$"):
        command(lambda config: None, "", opens_corpus=True)()
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert not out
    assert line.startswith("error: ")
    assert not FOREIGN.search(line)
    assert override.lstrip("+~-").partition("=")[0].partition("@")[0] in line
    assert names in line.partition(": ")[2]


def test_what_is_wrong_in_a_sweep_is_one_value_or_a_flag() -> None:
    for flags in (["--cfg", "job"], ["--cfg=job"], ["--info"]):
        with pytest.raises(DataError, match=r"^--(cfg|info): is for one run; leave out -m"):
            read_arguments(["seed=1,2", "-m", *flags])
    with pytest.raises(DataError, match=r"^seed is 'x', expected a whole number"):
        read_arguments(["-m", "seed=1,x"])


def test_every_key_can_be_typed_with_a_plus_and_with_blanks() -> None:
    assert read(["+seed=3", "++ encoder.hidden =3"]) == ["seed=3", "encoder.hidden=3"]
    assert "corpus.root" in owners()


def test_jobs_have_names_of_their_own() -> None:
    rates = [run_name([f"optimizer.learning_rate={rate}"], ()) for rate in ("0.001", "0.0003")]
    assert rates == ["+optimizer.learning_rate-0.001", "+optimizer.learning_rate-0.0003"]
    assert run_name(["experiment=demo", "seed=2", "corpus.root='/a'", "search=beam"], ()) == ""
    assert run_name(["search.beam=10"], {"search.beam"}) == "+search.beam-10"
    alike = [["corpus.root=a/b"], ["corpus.root=a-b"], [f"name={'x' * 300}"], [f"name={'x' * 301}"]]
    names = {run_name(overrides, {"corpus.root"}) for overrides in alike}
    assert len(names) == len(alike)
    assert max(map(len, names)) < 200


def test_a_job_can_be_sent_to_another_process() -> None:
    task = Task(train, frozenset({"seed"}))
    assert pickle.loads(pickle.dumps(task)) == task


def test_jobs_do_not_share_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places: list[str] = []

    def note(config: RunConfig) -> None:
        places.append(config.run_dir)
        assert config.search.language_model.startswith(config.run_dir)

    swept = ["seed=1,2", "optimizer.learning_rate=1e-3,3e-4", "encoder.hidden=8"]
    monkeypatch.setattr("sys.argv", ["asr train", "search=beam-lm", "-m", *swept])
    assert command(note, "")() == 0
    assert len(set(places)) == 4
    assert places[0] == "exp/default+optimizer.learning_rate-0.001+encoder.hidden-8/1"
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    run = RunDirectory(tmp_path / "run")
    for read_run in (lambda: run.utterances("dev"), run.summary, run.tuned_search):
        with pytest.raises(DataError, match="run: a file, expected the folder of a run"):
            read_run()


@pytest.mark.parametrize(
    "content", [b"\xff", b"a: [", b"a: ${", b"- 1", b"", b"name: demo", b"a: 1\na: 2"]
)
def test_a_damaged_configuration_of_a_run_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"config\.yaml: (damaged|found|no key)"):
        saved(path)
