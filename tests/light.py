"""`make test-light`: the wheel in an environment of its own, without torch and what else trains.

    python tests/light.py [--lowest] [--keep FOLDER]

It builds the wheel, installs it from nothing, and uses it as a user would, on a sentence that
espeak-ng speaks: transcribe, with words, align, assess, score, n-gram, and the interface in Python.
What it finds is compared with what this environment finds with torch's network. Prints sizes,
CPU seconds and memory; exit code 1 where a law does not hold.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[1]
TEXT = "she had your dark suit in greasy wash water all year"
MOST_MB, MOST_WHEEL_MB = 400, 70
TRAINS = ("torch", "torchaudio", "librosa", "hydra", "scipy", "matplotlib")
IN_PYTHON = """
import asr, json, sys
recognizer = asr.load(symbols="ipa")
phones = [one.phone for one in recognizer.transcribe(sys.argv[1]).phones]
words = [one.word for one in asr.align(sys.argv[1], sys.argv[2]).words]
score = asr.score({"a": ["m", "iy"]}, {"a": ["m", "ih"]}).total.per
print(json.dumps([phones, words, asr.assess(sys.argv[1], sys.argv[2]).completeness, score]))
"""


def spoken(path: Path) -> Path:
    """The sentence, spoken by espeak-ng, 16 kHz."""
    import espeakng_loader
    import soundfile
    import soxr

    from asr.corpora.synthetic.espeak import SPEAK_RATE, Espeak

    voice = Espeak(Path(espeakng_loader.get_data_path()), "en-us", 0)
    wave, _ = voice.speak(TEXT.split(), 170, 50, 50)
    soundfile.write(path, soxr.resample(wave, SPEAK_RATE, 16_000), 16_000)
    return path


def by_torch(path: Path) -> list[str]:
    """The phones that torch's network finds here."""
    from asr import audio, model_file
    from asr.by_torch import load
    from asr.transcriber import MODEL, load_model

    model, network = load_model(MODEL), load(model_file.read(MODEL), "cpu")
    emissions = network.emissions(network.frames.static(audio.load(path)))
    best, *_ = network.decoder.search(emissions, model.search, model.graph)
    return [*network.vocabulary.decode(best.labels)]


def megabytes(path: Path) -> float:
    files = (one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    return sum(one.stat().st_blocks * 512 for one in files) / 1e6


def dependencies() -> str:
    """What pyproject.toml says that a wheel needs."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return text.partition("\ndependencies = [")[2].partition("\n]")[0]


class Light:
    """The environment, and what was measured in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "env" / "bin" / "python"
        self.env = {"PATH": os.environ["PATH"], "ASR_CACHE": str(folder / "cache")}
        self.env |= {"HOME": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba")}

    def install(self, lowest: bool) -> Path:
        """Build the wheel and install it, perhaps with the lowest versions that it allows."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
        subprocess.run([*pip, "--no-deps", "-w", self.folder, REPOSITORY], check=True)
        (wheel,) = self.folder.glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", self.folder / "env"], check=True)
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        versions = re.findall(r'^    "(\S+?)>=([\d.]+)', dependencies(), re.M)
        bounds = [f"{name}=={least}" for name, least in versions] if lowest else []
        subprocess.run([*pip, "--no-compile", wheel, *bounds], check=True)  # as README says
        return wheel

    def run(self, *arguments: object) -> str:
        """What `python -m asr` prints, or `python` with a first argument -c."""
        command = [str(self.python), *map(str, arguments)]
        if arguments[0] != "-c":
            command[1:1] = ["-m", "asr"]
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu_s = usage.ru_utime + usage.ru_stime
        said = " ".join(str(one) for one in arguments[:3] if len(str(one)) < 40)
        print(
            f"{said:40} {time.monotonic() - started:6.2f} s, CPU {cpu_s:6.2f} s, "
            f"{usage.ru_maxrss / 1e3:5.0f} MB"
        )
        if process.returncode:
            sys.exit(f"error: {said}: exit code {process.returncode}")
        return printed


def phones_of(printed: str) -> list[str]:
    return [one["phone"] for one in json.loads(printed)["phones"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of the environment, kept afterwards")
    lowest = "install the lowest versions that pyproject.toml allows"
    parser.add_argument("--lowest", action="store_true", help=lowest)
    parser.add_argument("--speak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.speak:
        spoken(options.speak)
        return
    with TemporaryDirectory() as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        light = Light(folder)
        wheel = light.install(options.lowest)
        installed_mb = megabytes(folder / "env")
        sound = folder / "sentence.wav"
        # In a process of its own: a process begins with the memory of the one that starts it.
        subprocess.run([sys.executable, __file__, "--speak", sound], check=True)
        laws = check(light, sound)
        wheel_mb, used_mb = wheel.stat().st_size / 1e6, megabytes(folder / "env")
        print(f"wheel {wheel_mb:.1f} MB, environment {installed_mb:.0f} MB on disk, ", end="")
        print(f"{used_mb:.0f} MB with what its use compiles there")
        laws[f"the wheel has at most {MOST_WHEEL_MB} MB"] = wheel_mb <= MOST_WHEEL_MB
        laws[f"the environment has at most {MOST_MB} MB"] = used_mb <= MOST_MB
        for law, holds in laws.items():
            print(f"{'ok' if holds else 'NO':3} {law}")
        if not all(laws.values()):
            sys.exit(1)


def check(light: Light, sound: Path) -> dict[str, bool]:
    """Use the environment as a user would; for each law, whether it holds."""
    installed = f"import importlib.util as u; print(*[n for n in {TRAINS} if u.find_spec(n)])"
    laws = {"nothing that trains is there": light.run("-c", installed).strip() == ""}
    light.run("--help")
    light.run("transcribe", sound)  # compiles and unpacks
    heard = phones_of(light.run("transcribe", sound, "--format", "json"))
    said = json.loads(light.run("transcribe", sound, "--words", "--format", "json"))["words"]
    light.run("transcribe", sound, "--words")
    laws["words are found"] = len(said) > 3
    aligned = json.loads(light.run("align", sound, TEXT, "--format", "json"))["words"]
    laws["every word is aligned"] = [one["word"] for one in aligned] == TEXT.split()
    light.run("align", sound, TEXT, "--output", "a.TextGrid", "--overwrite")
    laws["a TextGrid"] = "IntervalTier" in (light.folder / "a.TextGrid").read_text()
    assessed = json.loads(light.run("assess", sound, TEXT, "--format", "json"))
    laws["every word is assessed"] = len(assessed["words"]) == len(TEXT.split())
    (light.folder / "ref.trn").write_text("m iy (a)\n")
    (light.folder / "hyp.trn").write_text("m ih (a)\n")
    scored = "--html", "page.html", "--overwrite"
    laws["a score"] = "50.00" in light.run("score", "ref.trn", "hyp.trn", *scored)
    (light.folder / "text.txt").write_text(f"{TEXT}\n" * 3)
    dictionary = "".join(f"{word}  AA1 B\n" for word in sorted(set(TEXT.split())))
    (light.folder / "dictionary.txt").write_text(dictionary)
    estimated = "--text", "text.txt", "--lexicon", "dictionary.txt", "--order", 2
    light.run("ngram", *estimated, "--output", "phones.arpa", "--overwrite")
    laws["an n-gram"] = "\\2-grams:" in (light.folder / "phones.arpa").read_text()
    symbols, words, complete, per = json.loads(light.run("-c", IN_PYTHON, sound, TEXT))
    laws["the interface in Python"] = (
        len(symbols) == len(heard) and words == TEXT.split() and complete > 50 and per == 50.0
    )
    laws["its phones are those of torch's network"] = heard == by_torch(sound)
    return laws


if __name__ == "__main__":
    main()
