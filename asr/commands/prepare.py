"""A corpus on disk → checked manifests and the vocabulary of a run.

    asr prepare experiment=timit corpus.root=/path/to/TIMIT [--skip-bad] [--overwrite]

All files are opened and checked before anything is written; docs/data.md lists the checks. This
file knows no corpus and no file format.
"""

import filecmp
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path

from asr import corpora
from asr.commands.configured import command
from asr.config import RunConfig
from asr.corpora import manifests, summary
from asr.corpora.manifests import Outcome
from asr.errors import DataError, grouped, raise_problems, said_by_system
from asr.files.decoding import decode
from asr.files.outputs import temporary_folder
from asr.phones import Vocabulary, phone_set
from asr.records import Utterance, stream_jsonl
from asr.training.batches import too_few_frames
from asr.training.run_directory import RunDirectory

SHOWN = 10  # lines of warnings that are printed; the file has all

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Write `manifests/{train,dev,test}.jsonl`, then `vocabulary.txt`, into the run directory.

    Beside the manifests go `corpus.txt` and `corpus.png`, their contents in numbers; if there are
    warnings, `warnings.txt`; with `skip_bad`, `skipped.txt`.

    Raises `DataError`, with nothing written, where the corpus has problems, or where the run
    directory holds edited manifests (unless `overwrite`) or a model trained on other data.
    """
    run_dir = RunDirectory(config.run_dir)
    if not config.overwrite:
        _require_unedited(run_dir)
    with staging_for(run_dir.path) as folder:
        staging = RunDirectory(folder)
        # ── find and check ────────────────────────────────────────────────────────────────────
        corpus = corpora.find(config.corpus)
        corpus = replace(corpus, window_s=config.features.window_ms / 1000)
        staging.manifests.mkdir()
        if config.corpus.resample:
            staging.audio.mkdir()
            folders = staging.audio, run_dir.audio.absolute()
            corpus = replace(corpus, converted=folders, channel=config.corpus.channel)
        require = partial(too_few_frames, config)
        outcome = manifests.write(
            corpus, staging.manifests, staging.warnings, config.jobs, require=require
        )
        if not config.corpus.shared_speakers:
            outcome.wrong.extend(manifests.speakers_in_two_splits(corpus))
        without = "without what is bad, " if config.skip_bad and outcome.bad else ""
        remedy = "repair recordings of it, or" if without else "add recordings to it, or"
        remedy += " choose other splits (docs/corpora.md)"
        empty = [
            f"{config.corpus.root}: {without}the split {split!r} is empty; {remedy}"
            for split, recordings in corpus.splits.items()
            if not (staging.manifest(split).stat().st_size if without else recordings)
        ]
        warnings = staging.warnings.read_text("utf-8").splitlines()
        try:
            _judge(config, staging, outcome, empty)
            _require_same_data(run_dir, [staging.manifest(split) for split in corpus.splits])
        except DataError:
            _warn(warnings)
            raise
        if not warnings:
            staging.warnings.unlink()
        # ── describe ──────────────────────────────────────────────────────────────────────────
        phones = corpus.phones or phone_set(config.corpus.phone_set)
        paths = [staging.manifest(split) for split in corpus.splits]
        summaries = [summary.summarise(path) for path in paths]
        in_words = summary.in_words(summaries, phones)
        in_words += "".join(f"{note}\n" for note in corpus.notes)
        for name, text in {"corpus.txt": in_words, **corpus.report}.items():
            (staging.manifests / name).write_text(text, encoding="utf-8")
        summary.draw(staging.manifests / "corpus.png", summaries, phones)
        count = sum(1 for _ in staging.audio.glob("*"))
        digests = {path.name: _digest(path) for path in paths}
        staging.digests.write_text(json.dumps(digests), encoding="utf-8")
        # ── publish ───────────────────────────────────────────────────────────────────────────
        _publish(folder, run_dir)
        Vocabulary(phones).save(run_dir.vocabulary)
    _warn(warnings, run_dir.warnings)
    if outcome.bad:
        said = "%d problems, %d recordings left out: see %s"
        log.warning(said, len(outcome.bad), outcome.left_out, run_dir.skipped)
    if count:
        converted = "%d recordings converted to %d Hz, one channel: %s"
        log.warning(converted, count, config.corpus.sample_rate, run_dir.audio)
    log.info("%s", in_words.rstrip())


def _judge(
    config: RunConfig, staging: RunDirectory, outcome: Outcome, empty: Sequence[str]
) -> None:
    """Refuse the corpus with all its problems, or with `skip_bad` list them in a file.

    The problem that a split is `empty` comes last, after those of the recordings that it lacks.
    """
    if outcome.wrong or empty or not config.skip_bad:
        raise_problems([*outcome.wrong, *outcome.bad, *empty])
    if outcome.bad:
        staging.skipped.write_text("".join(f"{one}\n" for one in outcome.bad), encoding="utf-8")


def _warn(warnings: Sequence[str], written: Path | None = None) -> None:
    """Log the first warnings, and the file, if one was `written`, that has all of them."""
    if warnings:
        listed = list(grouped(warnings))
        text = "\n".join(listed[:SHOWN] + ["…"] * (len(listed) > SHOWN))
        where = "" if written is None else f" ({written})"
        log.warning("warnings: %d%s:\n%s", len(warnings), where, text)


@contextmanager
def staging_for(run_dir: Path) -> Iterator[Path]:
    """A folder on the disk of `run_dir` that is removed at the end, also after an error.

    Raises `DataError` at once where nothing can be written.
    """
    place = next(folder for folder in (run_dir, *run_dir.absolute().parents) if folder.exists())
    with ExitStack() as stack:
        try:
            staging = stack.enter_context(temporary_folder(place, ".prepare."))
        except OSError as error:
            raise DataError(
                f"{run_dir}: cannot be written ({place}: {error.strerror}); give another run_dir"
            ) from None
        try:
            yield staging
        except OSError as error:
            raise DataError(said_by_system(error, run_dir)) from error


def _require_unedited(run_dir: RunDirectory) -> None:
    """Raise `DataError` where a manifest is not as an earlier `asr prepare` wrote it."""
    if not (run_dir.vocabulary.exists() and run_dir.digests.exists()):
        return
    digests = decode(run_dir.digests.read_bytes(), dict[str, str], str(run_dir.digests))
    raise_problems(
        f"{run_dir.manifests / name}: was edited, and would be overwritten; move it away, or set "
        f"--overwrite"
        for name, digest in digests.items()
        if (run_dir.manifests / name).exists() and _digest(run_dir.manifests / name) != digest
    )


def _digest(manifest: Path) -> str:
    """SHA-256 of a manifest without `segments`, which `asr align` adds to it."""
    digest = hashlib.sha256()
    with open(manifest, "rb") as lines:
        for line in lines:
            digest.update(re.sub(rb', "segments": \[\[.*?[0-9]\]\]', b"", line))
    return digest.hexdigest()


def _require_same_data(run_dir: RunDirectory, paths: list[Path]) -> None:
    """Raise `DataError` where a model was trained on other utterances; audio may have moved."""
    for path in paths if run_dir.last.exists() else ():
        earlier = run_dir.manifest(path.stem)
        if not earlier.exists() or filecmp.cmp(path, earlier, shallow=False):
            continue
        pairs = zip_longest(stream_jsonl(path, Utterance), stream_jsonl(earlier, Utterance))
        for line, (now, before) in enumerate(pairs, start=1):
            if now and before:
                was = vars(before)
                keys = [key for key in was if vars(now)[key] != was[key] and key != "audio"]
                differing = f"{before.id} has another {', '.join(keys)}" if keys else ""
            elif before:
                differing = f"{before.id} is no longer there"
            else:
                differing = f"{now and now.id} is new"
            if differing:
                raise DataError(
                    f"{run_dir}: holds a model trained on other data than {path.stem} now has "
                    f"({earlier}:{line}: {differing}); restore the data to continue it, or set "
                    f"another run_dir (make: NAME=)"
                )


def _publish(staging: Path, run_dir: RunDirectory) -> None:
    """Give every staged file its final name; without `vocabulary.txt` they are not complete."""
    for folder in filter(Path.is_dir, staging.iterdir()):  # manifests, and audio where it converts
        (run_dir.path / folder.name).mkdir(parents=True, exist_ok=True)
    run_dir.vocabulary.unlink(missing_ok=True)
    staged = [path.relative_to(staging) for path in staging.rglob("*") if path.is_file()]
    earlier = [*run_dir.manifests.glob("*.jsonl"), *run_dir.audio.glob("*.flac")]
    for path in [*earlier, run_dir.warnings, run_dir.skipped]:
        if path.relative_to(run_dir.path) not in staged:
            path.unlink(missing_ok=True)
    for name in sorted(staged):
        with open(staging / name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(staging / name, run_dir.path / name)


def main() -> int:
    """The command; `--skip-bad` is the same as skip_bad=true, `--overwrite` as overwrite=true."""
    flags = {"--skip-bad": "skip_bad=true", "--overwrite": "overwrite=true"}
    sys.argv = [flags.get(argument, argument) for argument in sys.argv]
    return command(run, __doc__, opens_corpus=True)()
