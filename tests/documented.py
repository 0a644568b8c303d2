"""The commands in README, CONTRIBUTING and docs: found in their indented lines, and run.

    python tests/documented.py SANDBOX [--guide] [--only README.md docs/] [--log FILE]

runs each of them, with --guide those of the manual's guide, in SANDBOX, a copy of the tracked files
with small experiments and a little speech, without a network, and prints a line for each: what
became of it, its exit code and seconds. The speech is from ASR_SHARED/corpora, or else espeak-ng's.
SANDBOX may be used again.
"""

import argparse
import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile
import stand_ins

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = re.compile(
    r"((\.venv|light)/bin/)?(make|asr|python3?|pipx?|torchrun|sox|sh|tensorboard|source"
    r"|sbatch|scancel|scontrol) |for \w+ in .*; do "
)


@dataclass(frozen=True)
class Command:
    """A command with its place; `words` are its arguments as a shell would give them."""

    place: str  # file:line
    text: str
    is_refused: bool  # the line below it is the error

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def guide() -> list[str]:
    """The pages of the manual's guide."""
    text = (REPOSITORY / "recipes/docs/mkdocs.yml").read_text(encoding="utf-8")
    part = text.partition("- Guide:")[2].partition("- Reference:")[0]
    pages = re.findall(r": (\S+\.md)$", part, re.MULTILINE)
    return ["README.md" if page == "index.md" else f"docs/{page}" for page in pages]


def pages() -> list[str]:
    """The tracked Markdown files."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split() if not name.startswith("asr/templates/")]


def commands() -> Iterator[Command]:
    """Every command of these files, without prompts, comments and explanations."""
    for name in pages():
        yield from _commands_of(name, (REPOSITORY / name).read_text(encoding="utf-8"))


def _commands_of(name: str, text: str) -> Iterator[Command]:
    whole, begun = "", 0
    lines = text.splitlines()

    def refused(number: int) -> bool:
        return number < len(lines) and lines[number].strip().startswith("error:")

    for number, line in enumerate(lines, start=1):
        if not line.startswith("    ") and not whole:
            continue
        begun = begun if whole else number
        # An explanation stands after two blanks, or after a #.
        part = re.split(r"\s{2,}|\s#\s", line.strip().removeprefix("$ "), maxsplit=1)[0]
        whole += part.removesuffix("\\")
        if part.endswith("\\"):
            continue
        for one in re.split(r"\s*&&\s*", whole):
            if PROGRAMS.match(one):
                optional = re.sub(r"(?<= )\[([^\]]*)\](?= |$)", r"\1", one)
                yield Command(f"{name}:{begun}", optional.strip(), refused(number))
        whole = ""


# ---------------------------------------------------------------- running them

SKIPPED = {
    r"python3 -m venv|pipx? install": "installs",
    r"make test$": "the tests",
    r"cluster=|submitit_slurm|sbatch|^scontrol|^scancel": "needs a cluster; tests/test_cluster.py",
    r"--nnodes=2": "needs two machines; recipes/cluster/simulated.py",
    r"^tensorboard": "serves pages; tests/test_runs.py reads its events",
    r"recipes/bench/": "measures speed for minutes: make bench",
    r"cv_corpus_v1": "needs 12 GB of Common Voice; tests/test_common_voice.py",
    r"synthetic/pictures.py": "needs the whole synthetic corpus and LibriSpeech's dev-part",
    r"make peers": "needs pocketsphinx; tests/test_peers.py",
    r"make methods": "minutes even when small; tests/test_methods.py",
    r"make page": "needs npm; tests/test_browser_page.py",
    r"http\.server": "serves pages; tests/test_browser_page.py",
    r"\| curl ": "needs a server; tests/test_serve.py",
    r"recipes/(serve|streaming)/": "measures for minutes",
}
NEEDS_NETWORK = "asr download"  # without one, a sentence is expected
# Stand-ins for what a reader replaces, one after the other.
REPLACED = {
    r"light/bin/asr": "asr",
    r"(?<=/1 )my.safetensors$": "my.safetensors --overwrite",
    r"asr/pretrained/librispeech.safetensors --overwrite": "shipped.safetensors",
    r"sox in.wav -t wav -": "cat my.wav",
    r"^(asr serve.*)$": r"timeout -s INT 20 \1 || test $? = 124",  # what it ends with on time
    r"^asr listen$": "asr listen < my.wav",
    r"sox my.wav -t raw -e signed -b 16 -": "tail -c +45 my.wav",
    r"asr (prepare|train|decode) \$RUN": r"asr \1 experiment=timit-sample run_dir=exp/speed/1"
    " corpus.root=timit-sample",
    r"asr tune \$run": "asr tune experiment=timit",
    r"RUN/checkpoint": "exp/librispeech/1/checkpoint",
    r"decode … run_dir": "decode experiment=librispeech run_dir",
    r"make librispeech (.*)ROOT=…": r"make librispeech \1ROOT=LibriSpeech",
    r"make folder ROOT=/path LEXICON": "make folder ROOT=worded LEXICON",
    r"ROOT=(…|/path)(?= |$)": "ROOT=timit-sample",
    r"(LEXICON|lexicon)=(\S*/cmudict.dict|…)": r"\1=cmudict.dict",
    r"normalization=…": "normalization=active",
    r"/path/to/TIMIT": "TIMIT",
    r"(…|/path/to)/(timit-sample|labelled/speech|speech)": "timit-sample",
    r"(/path/to|/corpora)/LibriSpeech|LIBRISPEECH|(?<=corpus.root=)ROOT": "LibriSpeech",
    r"\bRUN\b": "exp/librispeech-18h/1",
    r"asr align FOLDER": "asr align LibriSpeech/dev-part",
    r"asr align (--check )?manifest.jsonl": r"asr align \1dev.jsonl",
    r"CHECKPOINT manifest.jsonl(?= --compare)": "exp/timit/1/checkpoint-best.safetensors"
    " exp/timit/1/manifests/test.jsonl",
    r"--timit FOLDER": "--timit timit-sample",
    r"\$run": "exp/timit/1",
    r"asr tune experiment=timit-sample-finetuned": "asr tune experiment=timit",
    r"SEEDS=\"[\d ]*\"": "SEEDS=1",
    r"FOLDS=6": "FOLDS=3",
    r"^make graves2013(?!.*NETWORKS)": "make graves2013 NETWORKS=ctc-1l-250h",
    r"NETWORKS=\"ctc-1l.*?\"": "NETWORKS=ctc-1l-250h",
    r"=ID\b": "=$(ls data/synthetic/TEST/*/ | head -1)",
    r"REF\b": "ref.trn",
    r"SEED(\d)": r"seed\1.trn",
    r"HYP\b|OURS|THEIRS": "hyp.trn",
}
SIZES = "\ntrain_speakers: 2\ndev_speakers: 2\ntest_speakers: 2\ntrain_utterances: 4\n"
SUBSETS = {"train-clean-360": "train-clean-100", "dev-clean-2": "dev-clean"} | dict.fromkeys(
    ["test-clean", "test-other"], "test-part"
)
# The runs that the pages have, for commands that come later.
BEFORE = """make demo
make timit ROOT=TIMIT
make timit ROOT=timit-sample
make librispeech ROOT=LibriSpeech DEV=dev-part TEST=test-part LEXICON=cmudict.dict
asr prepare experiment=librispeech-18h corpus.root=LibriSpeech corpus.lexicon=cmudict.dict
asr align exp/librispeech-18h/1/manifests/train.jsonl --output timed.jsonl
mv timed.jsonl exp/librispeech-18h/1/manifests/train.jsonl
asr decode experiment=librispeech split=dev
cd exp/timit/1 && asr ngram manifests/train.jsonl --vocabulary vocabulary.txt --output lm.arpa
asr tune experiment=timit search=beam-lm tune.trials=2
asr decode experiment=timit-sample split=dev
cd exp/timit-sample && cp -r 1 2 && cp -r 1 3 && cd .. && cp -r timit-sample speed
cd exp && cp -r timit-sample none && cp -r timit-sample timit-sample-finetuned
mkdir exp/graves2013 && cp -r exp/timit exp/graves2013/ctc-3l-500h-tanh
cp exp/librispeech/1/manifests/dev.jsonl . && cp dev.jsonl home.jsonl
cp dev.jsonl common-voice.jsonl && cp dev.jsonl common-voice-dev.jsonl
asr ship exp/librispeech/1 my.safetensors
cp exp/librispeech/1/dev.hyp.jsonl tuned.jsonl && cp tuned.jsonl greedy.jsonl
sed '/^#/d; s/ [0-9]* espeak-ng / /' exp/librispeech/1/manifests/oov.txt > oov.dict
mkdir exp/explain && cp -r exp/demo exp/explain/lstm && cat cmudict.dict oov.dict > whole.dict
cp -r exp ready"""


def shell(text: str, sandbox: Path, timeout: float) -> tuple[int, str]:
    """The exit code and the output of a command in the sandbox; 124 when the time is up."""
    environment = os.environ | {
        "PATH": f"{sandbox}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(sandbox),
        "https_proxy": "http://127.0.0.1:9",  # no network
    }
    text = text.replace("make ", "make -o .venv/.ready ", 1) if text.startswith("make") else text
    with open(sandbox / "output", "w+") as output:
        process = subprocess.Popen(
            ["bash", "-ec", text],
            cwd=sandbox,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = 124
        output.seek(0)
        return code, output.read()


def small(size: re.Match[str]) -> str:
    """At most 8 cells, and one layer."""
    return f"{size[1]}: {8 if size[1] == 'hidden' else 1}"


def prepare(sandbox: Path, corpora: Path) -> None:
    """The tracked files, small experiments, and a little speech under the names of the pages."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    for name in listed.stdout.split():
        (sandbox / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, sandbox / name)
    (sandbox / ".venv").symlink_to((REPOSITORY / ".venv").resolve())
    for path in sandbox.glob("conf/*/**/*.yaml"):
        text = re.sub(r"(epochs|patience): \d+", r"\1: 1", path.read_text())
        if not re.search("start_from: (asr|packaged)", text):  # that has the size of the package
            text = re.sub(r"(hidden|layers): \d+", small, text)
        path.write_text(text)
    with open(sandbox / "conf/corpus/synthetic.yaml", "a") as file:
        file.write(SIZES)
    for name in "timit", "librispeech":
        path = sandbox / f"conf/corpus/{name}.yaml"
        path.write_text(path.read_text() + "complete: false\n")

    shutil.copytree(corpora / "timit-sample", sandbox / "timit-sample")
    (sandbox / "data").mkdir()
    (sandbox / "data/timit").symlink_to(sandbox / "timit-sample")
    speakers = sorted((sandbox / "timit-sample").glob("dr*"))
    for split, some in ("dev", speakers[:2]), ("core-test", speakers[2:4]), ("train", speakers[4:]):
        table = sandbox / f"asr/tables/timit-{split}-speakers.txt"
        as_in_table = (
            table.read_text().split()[::-1] if split != "train" else [s.name[4:] for s in some]
        )
        for speaker, name in zip(some, as_in_table, strict=False):
            part = "TRAIN" if split == "train" else "TEST"
            shutil.copytree(speaker, sandbox / "TIMIT" / part / "DR1" / name)

    books = sandbox / "LibriSpeech"
    books.mkdir()
    shutil.copy(corpora / "LibriSpeech/SPEAKERS.TXT", books)
    existing = {path.name for path in (corpora / "LibriSpeech").iterdir() if path.is_dir()}
    for subset in existing | set(SUBSETS):
        readers = sorted((corpora / "LibriSpeech" / SUBSETS.get(subset, subset)).iterdir())
        for reader in readers[-2:] if subset in SUBSETS else readers[:2]:
            transcripts = next(reader.rglob("*.trans.txt"))
            target = books / subset / reader.name / transcripts.parent.name
            target.mkdir(parents=True)
            few = transcripts.read_text().splitlines()[:4]
            (target / transcripts.name).write_text("\n".join(few) + "\n")
            for line in few:
                shutil.copy(next(transcripts.parent.glob(line.split()[0] + ".*")), target)
    present = {(path.relative_to(books).parts[0], path.stem) for path in books.rglob("*.*")}
    for path in sandbox.glob("recipes/librispeech/*.txt"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(x for x in lines if x[0] == "#" or (*x.split(),) in present))
    (sandbox / "data/LibriSpeech").symlink_to(books)
    shutil.copy(corpora / "cmudict/cmudict.dict", sandbox)
    shutil.copy(corpora / "cmudict/cmudict.dict", sandbox / "data/cmudict-0.7b")

    spoken = "".join(path.read_text() for path in sorted(books.rglob("*.trans.txt"))).encode()
    for name in ("train-clean-100.txt.gz", "books.txt.xz", "prose.txt.xz"):
        (sandbox / name).write_bytes(gzip.compress(spoken))
    (sandbox / "data/librispeech-lm-norm.txt.gz").write_bytes(gzip.compress(60 * spoken))
    (sandbox / "data/fiftieth.txt.gz").write_bytes(gzip.compress(spoken))
    shutil.copy(corpora / "cmudict/cmudict.dict", sandbox / "data/librispeech-lexicon.txt")
    recordings = sorted((books / "dev-part").rglob("*.flac"))
    lines = (path.read_text().splitlines() for path in books.rglob("*.trans.txt"))
    texts = dict(line.split(maxsplit=1) for of_chapter in lines for line in of_chapter)
    for folder in "recordings", "anna":
        (sandbox / folder).mkdir()
        for recording in recordings[:2]:
            audio, rate = soundfile.read(recording)
            (sandbox / folder / f"{recording.stem}.txt").write_text(texts[recording.stem])
            for name in f"{folder}/{recording.stem}.wav", "my.wav", "sentence.wav", f"{folder}.mp3":
                soundfile.write(sandbox / name, audio, rate)
    for recording in (path for path in books.rglob("*.*") if path.stem in texts):
        speaker = sandbox / "worded" / recording.parts[-3]
        speaker.mkdir(parents=True, exist_ok=True)
        shutil.copy(recording, speaker)
        (speaker / f"{recording.stem}.txt").write_text(texts[recording.stem])
    for name in "a.wav", "sa1.wav", "in.wav":
        shutil.copy(sandbox / "my.wav", sandbox / name)
    (sandbox / "a.txt").write_text("she had your dark suit\n")
    (sandbox / "table.tsv").write_text("path\ttext\na.wav\tshe had your dark suit\n")
    for name, phones in ("ref", "sil b ae t sil"), ("hyp", "sil b ih t sil"), ("ours", "b ae t"):
        (sandbox / f"{name}.trn").write_text(f"{phones} (anna_1)\n{phones} (ben_1)\n")
    for name in "theirs", "seed1", "seed2", "seed3":
        shutil.copy(sandbox / "hyp.trn", sandbox / f"{name}.trn")
    page = (REPOSITORY / "docs/guide/per.md").read_text(encoding="utf-8")
    script = page[page.index("    import re") : page.index("</details>")]
    (sandbox / "dictionary.py").write_text(textwrap.dedent(script))
    begun = time.monotonic()
    for text in ("python dictionary.py", *BEFORE.splitlines()):
        code, output = shell(text, sandbox, timeout=600)
        print(f"before  {time.monotonic() - begun:4.0f} s  {text}", flush=True)
        if code:
            sys.exit(f"FAILED {text}\n{output[-2000:]}")
    (sandbox / "names").write_text("\n".join(path.name for path in sandbox.iterdir()))


def clean(sandbox: Path) -> None:
    """Removes what commands have written, except corpora that were generated or downloaded."""
    for path in sandbox.iterdir():
        if path.name not in (sandbox / "names").read_text().split("\n") and path.name != "names":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(sandbox / "exp", ignore_errors=True)


@dataclass(frozen=True)
class Outcome:
    """What became of a command: `result` is ok, not run or FAILED."""

    result: str
    code: int | None = None
    text: str = ""  # what ran, with its stand-ins
    why: str = ""


def run(command: Command, sandbox: Path, timeout: float) -> Outcome:
    """Run a command with its stand-ins; of a target of make that is not run, print the commands."""
    for pattern, reason in SKIPPED.items():
        if re.search(pattern, command.text):
            if not command.text.startswith("make "):
                read = "; read by tests/test_documented.py" if command.text[:4] == "asr " else ""
                return Outcome("not run", why=f"{reason}{read}")
            code, _ = shell(command.text.replace("make ", "make -n ", 1), sandbox, timeout)
            return Outcome("FAILED" if code else "not run", code, why=f"{reason}; make -n only")
    text = command.text
    for pattern, standing_in in REPLACED.items():
        text = re.sub(pattern, standing_in, text)
    if "make " in text:  # from the beginning; other commands find the runs of the pages
        shutil.rmtree(sandbox / "exp", ignore_errors=True)
    else:
        shell("mkdir -p exp && cp -rn ready/. exp", sandbox, timeout)
    if "asr train " in text:  # begins anew
        shell(
            "find exp -name 'check*' -delete; find exp -name training.json -delete",
            sandbox,
            timeout,
        )
    if "asr ngram " in text:
        shell("rm -f exp/*/*/lm.arpa", sandbox, timeout)
    code, output = shell(text, sandbox, timeout)
    expects_error = command.is_refused or NEEDS_NETWORK in text
    has_error = "error:" in output and "Traceback" not in output
    if (code != 0 and has_error) if expects_error else code == 0:
        return Outcome("ok", code, text, output.splitlines()[-1][:150] if expects_error else "")
    return Outcome("FAILED", code, text, output[-1500:])


def line(command: Command, outcome: Outcome, seconds: float) -> str:
    """The line of the log for a command."""
    code = "" if outcome.code is None else f"exit {outcome.code}"
    parts = [f"{outcome.result:8}{code:9}{seconds:4.0f} s  {command.place:32} {command.text}"]
    if outcome.text not in ("", command.text):
        parts.append(f"as: {outcome.text}")
    if outcome.why:
        parts.append(outcome.why)
    return ("\n" + 26 * " ").join(parts)


def main() -> None:
    """Runs the commands and counts what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sandbox", type=Path, help="folder; an existing one is used again")
    parser.add_argument("--only", nargs="*", default=[""], help="beginnings of FILE:LINE")
    parser.add_argument("--guide", action="store_true", help="only the pages of the guide")
    parser.add_argument("--log", type=Path, help="file for the lines that are printed")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each command")
    arguments = parser.parse_args()
    sandbox = arguments.sandbox.absolute()
    if not (sandbox / "names").exists():
        shutil.rmtree(sandbox, ignore_errors=True)
        shared = os.environ.get("ASR_SHARED")
        corpora = Path(shared, "corpora").absolute() if shared else sandbox / "corpora"
        if not shared:
            stand_ins.speak(corpora)
        prepare(sandbox, corpora)
    log: Path = arguments.log or Path(os.devnull)
    log.write_text("")

    def say(text: str) -> None:
        print(text, flush=True)
        with open(log, "a", encoding="utf-8") as file:
            print(text, file=file)

    wanted = [f"{page}:" for page in guide()] if arguments.guide else [""]
    became: Counter[str] = Counter()
    seen: set[str] = set()
    file, last = "", 0
    for command in commands():
        if not command.place.startswith(tuple(wanted)):
            continue
        if not command.place.startswith(tuple(arguments.only)):
            continue
        name, _, number = command.place.partition(":")
        if (name, int(number) // 4) != (file, last // 4) and int(number) - last > 3:
            clean(sandbox)  # another block
        file, last = name, int(number)
        if command.text in seen:
            continue
        seen.add(command.text)
        begun = time.monotonic()
        outcome = run(command, sandbox, arguments.timeout)
        became[outcome.result] += 1
        say(line(command, outcome, time.monotonic() - begun))
    say(", ".join(f"{count} {result}" for result, count in became.items()))
    sys.exit(became["FAILED"] > 0)


if __name__ == "__main__":
    main()
