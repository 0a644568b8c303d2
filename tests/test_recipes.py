"""The stage graph under Make: what is built, what is stale, what is refused."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make

REPOSITORY = Path(__file__).parents[1]
SMALL = (
    "corpus.train_speakers=2 corpus.dev_speakers=1 corpus.test_speakers=1 "
    "corpus.train_utterances=3 corpus.dev_utterances=2 corpus.test_utterances=2 "
    "training.epochs=2 encoder.hidden=8 encoder.layers=1"
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has been made, with a corpus of a few seconds."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "recipes").symlink_to(REPOSITORY / "recipes")
    (folder / ".venv").symlink_to(sys.prefix)
    made = demo(folder)
    assert made.returncode == 0, made.stderr
    assert "%PER" in made.stdout
    assert "synthetic test" in made.stdout
    return folder


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return make(
        "-f", "recipes/demo/Makefile", "NAME=tiny", f"ARGS={SMALL}", *options, folder=folder
    )


def stages(printed: str) -> list[str]:
    """The commands that make -n prints, without the score that every make ends with."""
    commands = [part.split()[0] for part in printed.split("-m asr ")[1:]]
    assert commands.pop() == "score"
    return commands


def run_of(folder: Path) -> Path:
    (run,) = (folder / "exp").glob("tiny+*/1")
    return run


def test_every_stage_leaves_its_file(finished: Path) -> None:
    run = run_of(finished)
    for name in ("vocabulary.txt", "training.json", "test.hyp.jsonl", "learning-curve.png"):
        assert (run / name).is_file()
    line = (run / "test.per.txt").read_text().splitlines()[0]
    assert line.startswith("%PER ")
    assert "synthetic test" in line
    page = (run / "report.html").read_text()
    assert "Synthetic speech" in page
    assert page.count("data:image/png;base64,") == 2
    assert json.loads((run / "training.json").read_text())["corpus"] == "synthetic"


def test_made_again_there_is_nothing_to_do(finished: Path) -> None:
    again = demo(finished)
    assert again.returncode == 0
    assert "-m asr " not in again.stdout
    assert "%PER" in again.stdout


def test_only_what_is_stale_is_made(finished: Path) -> None:
    (run_of(finished) / "test.per.txt").touch()
    assert stages(demo(finished, "-n").stdout) == ["report"]
    os.utime(run_of(finished) / "report.html")
    assert stages(demo(finished, "-n").stdout) == []


def test_a_new_root_makes_everything_stale(finished: Path) -> None:
    commands = stages(demo(finished, "-n", "ROOT=elsewhere").stdout)
    assert commands == ["prepare", "train", "decode", "score", "report"]


def test_a_run_is_not_made_over_from_other_data(finished: Path, tmp_path: Path) -> None:
    run = run_of(finished)
    before = (run / "manifests" / "train.jsonl").read_bytes()
    refused = demo(finished, f"ROOT={tmp_path / 'new'}", "CORPUS=corpus.seed=1")
    assert refused.returncode != 0
    assert "holds a model trained on other data" in refused.stderr
    assert (run / "manifests" / "train.jsonl").read_bytes() == before


@pytest.mark.parametrize("recipe", ["demo", "timit"])
def test_make_n_prints_the_exact_commands(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    printed = make(
        "-n",
        "-f",
        f"recipes/{recipe}/Makefile",
        "ROOT=/corpora/TIMIT",
        "SEEDS=1 2",
        "ARGS=encoder.hidden=320",
        folder=tmp_path,
    ).stdout
    assert stages(printed) == 2 * ["prepare", "train", "decode", "score", "report"]
    assert (
        f"-m asr train experiment={recipe} seed=2 run_dir='exp/{recipe}+encoder.hidden-320/2' "
        "corpus.root='/corpora/TIMIT' encoder.hidden=320 resume=auto" in printed
    )


def test_a_tuned_search_takes_the_n_gram_of_the_transcripts_or_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")

    def ngram_of(*options: str, recipe: str = "Makefile") -> str:
        command = ("-n", "-f", f"recipes/timit/{recipe}", "ROOT=/c", "TUNE=1")
        printed = make(*command, *options, folder=tmp_path).stdout
        return printed.partition("-m asr ngram ")[2].partition(" \\\n")[0]

    transcripts = "'exp/timit/1/manifests/train.jsonl'"
    assert ngram_of() == f"{transcripts} --order 3"
    assert ngram_of("ORDER=2") == f"{transcripts} --order 2"
    assert ngram_of("LM=a.safetensors") == "--checkpoint 'a.safetensors'"
    assert ngram_of("LM=a.safetensors", "FOLDS=3", recipe="left-out.mk") == ngram_of(
        "LM=a.safetensors"
    )


def test_texts_go_into_the_n_gram(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")

    def made(recipe: str, *options: str) -> str:
        command = ("-n", "-f", f"recipes/{recipe}/Makefile", "ROOT=/c", "TEXT=a.gz b.xz")
        return make(*command, *options, folder=tmp_path).stdout

    printed = made("librispeech", "ORDER=6", "PRUNE=3M", "LEXICON=/my words")
    assert stages(printed)[2:5] == ["ngram", "tune", "decode"]
    assert (
        "-m asr ngram 'exp/librispeech/1/manifests/train.jsonl' --text 'a.gz' --text 'b.xz' "
        "--lexicon '/my words' --g2p espeak --order 6 --prune-to 3M \\\n" in printed
    )
    assert "printf '%s\\n' 'ngram=6 a.gz b.xz 3M'" in printed
    assert stages(made("librispeech"))[2] == "download"  # CMUdict
    alone = "-m asr ngram --text 'a.gz' --text 'b.xz' --lexicon 'l' --g2p espeak --order 3 \\\n"
    assert f"{alone}\t --output" in made("timit", "LEXICON=l")
    assert "manifests/train.jsonl' --text" in made("folder", "LEXICON=l")
    assert "--text" not in made("demo")


def test_another_n_gram_makes_the_search_stale(tmp_path: Path) -> None:
    run = tmp_path / "exp" / "timit" / "1"
    run.mkdir(parents=True)
    (run / "settings.txt").write_text("data=/c\nngram=3\n")
    for age, name in enumerate(("search.json", "training.json", "vocabulary.txt")):
        (run / name).touch()
        os.utime(run / name, (1e9 - age, 1e9 - age))
    assert stages(dry("timit", tmp_path, "ROOT=/c", "TUNE=1"))[0] == "decode"
    command = ("-n", "-f", "recipes/timit/Makefile", "ROOT=/c", "TUNE=1")
    for option in ("ORDER=2", "LM=a.safetensors"):
        assert stages(make(*command, option, folder=tmp_path).stdout)[:2] == ["ngram", "tune"]


def test_the_nltk_sample_is_told_by_its_layout(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    (tmp_path / "sample" / "dr1-fvmh0").mkdir(parents=True)
    printed = make("-n", "-f", "recipes/timit/Makefile", "ROOT=sample", folder=tmp_path).stdout
    assert "experiment=timit-sample" in printed


def dry(recipe: str, folder: Path, *options: str) -> str:
    (folder / "recipes").symlink_to(REPOSITORY / "recipes")
    return make("-n", "-f", f"recipes/{recipe}/Makefile", *options, folder=folder).stdout


def test_librispeech_without_root_fetches_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "data" / "LibriSpeech" / "dev-clean-2").mkdir(parents=True)
    printed = dry("librispeech", tmp_path, "TRAIN=train-clean-5+train-clean-100")
    fetched = [line.split()[-1] for line in printed.splitlines() if "asr download" in line]
    assert fetched == ["train-clean-5", "train-clean-100", "test-clean", "cmudict"]
    data = "corpus.root='data/LibriSpeech' corpus.train='train-clean-5+train-clean-100'"
    (training,) = [line for line in printed.splitlines() if "-m asr train" in line]
    assert training.endswith(f"{data} resume=auto")
    assert printed.count("--protocol arpabet") == 2


def test_librispeech_with_root_fetches_nothing(tmp_path: Path) -> None:
    printed = dry(
        "librispeech", tmp_path, "ROOT=/corpora", "TEST=test-part", "LEXICON=/my/words.dict"
    )
    assert "asr download" not in printed
    assert (
        "corpus.root='/corpora' corpus.test='test-part' corpus.lexicon='/my/words.dict'" in printed
    )
    (tmp_path / "exp" / "librispeech" / "1").mkdir(parents=True)
    settings = tmp_path / "exp" / "librispeech" / "1" / "settings.txt"
    settings.write_text("data=/corpora corpus.test='test-part'\n")
    (settings.parent / "vocabulary.txt").touch()
    command = ["-n", "-f", "recipes/librispeech/Makefile", "ROOT=/corpora"]
    assert "asr prepare" not in make(*command, "TEST=test-part", folder=tmp_path).stdout
    assert "asr prepare" in make(*command, "TEST=test-other", folder=tmp_path).stdout


def test_the_sample_of_timit_is_fetched(tmp_path: Path) -> None:
    printed = dry("timit", tmp_path, "ROOT=data/timit", "DOWNLOAD=data/timit")
    assert printed.startswith(".venv/bin/python -m asr download timit-sample\n")
    assert "experiment=timit-sample" in printed


def test_a_folder_is_scored_as_written_unless_said(tmp_path: Path) -> None:
    printed = dry("folder", tmp_path, "ROOT=/speech", "PROTOCOL=strict")
    assert printed.count("--protocol strict") == 2
    assert "corpus.protocol=strict" in printed
    printed = make("-n", "-f", "recipes/folder/Makefile", "ROOT=/speech", folder=tmp_path).stdout
    assert printed.count("--protocol none") == 2
    assert "make folder ROOT=/path" in make("folder").stderr


def test_timit_without_root_is_one_sentence() -> None:
    refused = make("timit")
    assert refused.returncode != 0
    assert "make timit ROOT=/path/to/TIMIT" in refused.stderr


def test_a_wrong_python_is_refused_with_a_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 2.7.18" || exit 1\n')
    old.chmod(0o755)
    venv = tmp_path / "venv"
    refused = make(f"PYTHON={old}", f"VENV={venv}", "test")
    assert refused.returncode != 0
    assert "Python 2.7.18" in refused.stderr
    assert "3.11, 3.12 or 3.13" in refused.stderr
    assert not venv.exists()
    absent = make(f"PYTHON={tmp_path / 'absent'}", f"VENV={venv}", "test")
    assert absent.returncode != 0
    assert f"error: {tmp_path / 'absent'}" in absent.stderr


def test_help_names_every_target_a_person_wants() -> None:
    printed = make().stdout
    for target in ("demo", "librispeech", "folder", "timit", "timit-sample", "test", "bench"):
        assert f"make {target} " in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("SEED=3", "SEED is no variable of make demo; did you mean SEEDS?"),
        ("seeds=3", "did you mean SEEDS?"),
        ("FOLDS=3", "FOLDS is no variable of make demo"),
        ("SEEDS=a", "SEEDS is 'a', expected whole numbers"),
        ("SEEDS=", "SEEDS is empty"),
        ("SEEDS=2 2", "SEEDS is '2 2', expected each seed once"),
        ("TUNE=yes", "TUNE is 'yes', expected 1"),
        ("TUNE=0", "TUNE is '0', expected 1"),
        ("ORDER=x", "ORDER is 'x', expected a whole number"),
        ("ARGS=name=it's", "ARGS is name=it's, expected overrides in quotes"),
        ("ARGS=corpus.root=/a (2)", "ARGS is corpus.root=/a (2), expected overrides in quotes"),
    ],
)
@pytest.mark.parametrize("target", [("demo",), ("-f", "recipes/demo/Makefile")])
def test_a_variable_that_no_recipe_reads_is_refused(
    options: str, says: str, target: tuple[str, ...]
) -> None:
    refused = make("-n", *target, options)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert not refused.stdout


def test_every_recipe_takes_the_variables_that_it_documents() -> None:
    every = [*(REPOSITORY / "recipes").glob("*/Makefile"), REPOSITORY / "recipes/timit/left-out.mk"]
    for makefile in every:
        header = makefile.read_text().split("\n\n")[0]
        name = makefile.parent.name
        for variable in re.findall(r"\b([A-Z_]{3,})=(?!\d\d)", header):
            value = "2" if variable in ("SEEDS", "JOBS", "FOLDS", "ORDER") else "1"
            options = ("-n", "-f", str(makefile), "ROOT=/c", "FOLDS=2", f"{variable}={value}")
            if name != "timit":
                options = tuple(one for one in options if one != "FOLDS=2")
            if name == "browser":  # which trains nothing
                options = tuple(one for one in options if one != "ROOT=/c")
            assert "is no variable" not in make(*options).stderr


STRANGE = "/data/Zoë's (2) [a], b=c $x#y:z %"


@pytest.mark.parametrize("through", [(), ("-f", "recipes/folder/Makefile")])
def test_a_path_with_any_signs_reaches_every_stage(through: tuple[str, ...]) -> None:
    target = through or ("folder",)
    paths = (f"ROOT={STRANGE}", f"LEXICON={STRANGE}/words")
    printed = make("-n", "--no-print-directory", *target, *paths).stdout
    for stage in ("prepare", "train"):
        (command,) = [
            shlex.split(line) for line in printed.splitlines() if f"-m asr {stage}" in line
        ]
        assert {f"corpus.root={STRANGE}", f"corpus.lexicon={STRANGE}/words"} <= {*command}


def test_models_of_peers_are_a_list_or_one_path_with_blanks(tmp_path: Path) -> None:
    one = tmp_path / "a model's.safetensors"
    one.touch()
    for value, options in ((one, ["--checkpoint", str(one)]), ("a b", ["a", "--checkpoint", "b"])):
        target = ("-n", "-f", "recipes/peers/Makefile", "ROOT=/c", f"MODEL={value}")
        words = shlex.split(make(*target).stdout)
        assert [one for one in options if one in words] == options


def test_variables_of_the_environment_are_named_and_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAME", "host")
    printed = make("-n", "-f", "recipes/demo/Makefile").stdout
    assert printed.startswith("From the environment: NAME=host\n")
    monkeypatch.setenv("SEEDS", "a")
    assert "SEEDS is 'a', expected" in make("-n", "-f", "recipes/demo/Makefile").stderr


def test_the_data_of_a_strange_path_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    run = tmp_path / "exp" / "folder" / "1"
    run.mkdir(parents=True)
    (run / "settings.txt").write_text(f"data={STRANGE}\n")
    (run / "vocabulary.txt").touch()
    for root, stale in ((STRANGE, False), (f"{STRANGE}2", True)):
        printed = make("-n", "-f", "recipes/folder/Makefile", f"ROOT={root}", folder=tmp_path)
        assert ("asr prepare" in printed.stdout) is stale


def test_overrides_give_a_run_a_name_of_its_own_that_fits() -> None:
    def name(arguments: str) -> str:
        command = ["sh", str(REPOSITORY / "recipes" / "run-name.sh"), arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert name("encoder.hidden=320 features=mfcc39") == "encoder.hidden-320+features-mfcc39"
    long = " ".join(f"encoder.hidden={n}" for n in range(100))
    alike = ["a=b-c", "a=b/c", "a=b,c", "a='b c'", "a='b+c'", "a=é", "a=è", long, f"{long}0"]
    names = [name(arguments) for arguments in alike]
    assert len(set(names)) == len(names)
    assert max(len(one.encode()) for one in names) < 200


def test_the_demo_ends_with_how_to_call_the_program() -> None:
    assert "source .venv/bin/activate" in make("-n", "demo").stdout.splitlines()[-1]


def test_own_speech_is_fine_tuned_by_one_word(tmp_path: Path) -> None:
    assert "experiment=folder-finetuned" in dry("folder", tmp_path, "ROOT=/c", "FINETUNE=1")


UNCHECKED = ("cluster",)  # what they read, they have written themselves


def test_every_script_ends_with_one_sentence() -> None:
    """`asr.errors.exit_code` is around the `main` of each, and its code is the script's."""
    every = sorted((REPOSITORY / "recipes").rglob("*.py"))
    unchecked = tuple(str(REPOSITORY / "recipes" / name) for name in UNCHECKED)
    scripts = [path for path in every if is_script(path) and not str(path).startswith(unchecked)]
    assert len(scripts) > 30
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert re.search(r"(?m)^@exit_code\ndef main\(", text), path
        assert text.rstrip().endswith("sys.exit(main())"), path


def is_script(path: Path) -> bool:
    return 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
