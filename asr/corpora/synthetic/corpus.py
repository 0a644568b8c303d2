"""A corpus in TIMIT's layout that espeak-ng speaks: exact labels, no licence, no download.

Sentences come from a grammar, speakers from ranges of voice parameters; the tables are in
`asr/tables/synthetic`. Each speaker is a fresh process, so the corpus is the same bytes whatever
`jobs` is, given one machine and one espeak-ng. The speech does not imitate people: a PER on it
checks a pipeline and says nothing about human speech. There is no reverberation. Only the regions
of `accents.txt` that name an accent have one. Rules, counts, limits: `docs/synthetic.md`.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from asr.corpora.recording import Corpus, CorpusConfig, PhoneSetLabeller
from asr.corpora.splits import split_by_speaker
from asr.corpora.synthetic.speakers import Speaker, SyntheticConfig, plan
from asr.corpora.timit import survey
from asr.errors import DataError, pip_install
from asr.phones import TABLES, phone_set

GENERATOR = 2  # raise it when the same configuration would give other bytes


def find(config: SyntheticConfig) -> Corpus:
    """Recordings of train, dev and test; the corpus is generated if `root` does not exist."""
    root = Path(config.root)
    generate(root, config)
    recordings, bad = survey(root)
    splits = split_by_speaker(recordings, root / "speakers.txt")
    labeller = PhoneSetLabeller(phone_set(config.phone_set), "the TIMIT labels")
    return Corpus(config.name, splits, labeller, config.sample_rate, bad=bad)


def generate(root: Path, config: SyntheticConfig) -> None:
    """Write the corpus to `root`, which appears only when it is complete.

    Does nothing if `root` holds a corpus of this configuration; `DataError` if it holds anything
    else, or if espeak-ng is not installed.
    """
    record = _record(config)
    if _is_there(root, record):
        return
    speakers = plan(config)
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        partial.chmod(0o755)
        _speak_all(partial, speakers, config.jobs or os.cpu_count() or 1)
        _describe(partial, record, speakers)
        try:
            partial.rename(root)
        except OSError:
            if not _is_there(root, record):  # made meanwhile by another process
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_there(root: Path, record: dict[str, Any]) -> bool:
    """Whether `root` holds the corpus of `record`; `DataError` where it holds anything else."""
    if not root.exists():
        return False
    try:
        existing = json.loads((root / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        existing = None
    if existing == record:
        return True
    if not isinstance(existing, dict) or "generator" not in existing:
        raise DataError(
            f"{root}: exists and is not a synthetic corpus; move it or set another corpus.root"
        )
    differ = ", ".join(
        f"{key} is {existing.get(key)}, expected {value}"
        for key, value in record.items()
        if existing.get(key) != value
    )
    raise DataError(
        f"{root}: another synthetic corpus ({differ}); remove the folder {root} and run the same "
        f"command again, which makes it in about a minute, or set another corpus.root to keep both"
    )


def _speak_all(folder: Path, speakers: list[Speaker], jobs: int) -> None:
    """Speak with `jobs` processes at a time, a new one for each speaker."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise DataError(f"the synthetic corpus needs espeak-ng; run: {pip_install('synthetic')}")
    with tempfile.TemporaryDirectory(prefix="asr-espeak-") as home:
        data = _espeak_data(Path(home), speakers)
        bar = tqdm(total=len(speakers), desc="synthetic speakers", unit="", disable=None)
        with bar, ThreadPoolExecutor(jobs) as pool:
            work = [pool.submit(_speak_in_process, folder, data, speaker) for speaker in speakers]
            try:
                for done in work:
                    done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _espeak_data(home: Path, speakers: list[Speaker]) -> Path:
    """Copy the 1 MB of espeak-ng's data that English needs, and add the speakers' voices."""
    import espeakng_loader

    source, data = Path(espeakng_loader.get_data_path()), home / "espeak-ng-data"
    languages = [f"lang/gmw/{name}" for name in ("en", "en-US", "en-US-nyc")]
    for name in ["phondata", "phonindex", "phontab", "intonations", "en_dict", *languages]:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, data / name)
    (data / "voices" / "!v").mkdir(parents=True)
    for speaker in speakers:
        (data / "voices" / "!v" / speaker.name).write_text(speaker.variant)
    return data


def _speak_in_process(folder: Path, data: Path, speaker: Speaker) -> None:
    package = str(Path(__file__).parents[3])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    task = {"folder": str(folder), "data": str(data), "speaker": asdict(speaker)}
    finished = subprocess.run(
        [sys.executable, "-m", "asr.corpora.synthetic.utterances"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
    )
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise DataError(f"speaker {speaker.name}: espeak-ng failed: {reason}")


def _record(config: SyntheticConfig) -> dict[str, Any]:
    """The settings that determine the bytes: generator, amount of speech, seed."""
    ignored = {"jobs", *(part.name for part in fields(CorpusConfig))}
    settings = {key: value for key, value in asdict(config).items() if key not in ignored}
    return {"generator": GENERATOR, **settings}


def _describe(folder: Path, record: dict[str, Any], speakers: list[Speaker]) -> None:
    """Write speakers.txt, README.txt and config.json."""
    rows = sorted(f"{s.name} {s.split} {s.sex} DR{s.dialect}" for s in speakers)
    (folder / "speakers.txt").write_text("\n".join(["# speaker split sex dialect", *rows, ""]))
    about = (TABLES / "synthetic" / "README.txt").read_text(encoding="utf-8")
    settings = ", ".join(f"{name}={value}" for name, value in record.items())
    version = importlib.metadata.version("espeakng-loader")
    (folder / "README.txt").write_text(about.format(version=version, settings=settings))
    (folder / "config.json").write_text(json.dumps(record, indent=1) + "\n")
