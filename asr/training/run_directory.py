"""The directory of a run: where every file lies, and whether a run may be continued in it.

exp/EXPERIMENT/SEED/
  manifests/            {train,dev,test}.jsonl, corpus.txt, corpus.png       asr prepare
                        digests.json, which shows whether they were edited
  audio/                with corpus.resample: the recordings of other rates, converted
  warnings.txt          if there are any; skipped.txt with skip_bad
  vocabulary.txt        written last: the manifests are complete
  config.yaml           the configuration                                    asr train
  provenance.json       command, code, packages, data, machine; of each continuation too
  train.jsonl           one record for each epoch
  learning-curve.png
  tensorboard/          events, with training.tensorboard
  checkpoint-*.safetensors   best; last and previous, the last two states of the training; and
                             phase1 with weight noise
  training.json         written last: the training is complete
  lm.arpa               phone n-gram                                         asr ngram
  dev.emissions.safetensors  what the search reads of dev                    asr tune
  search.json           the search with the lowest dev PER
  SPLIT.hyp.jsonl       hypotheses, and all of them in SPLIT.n-best.jsonl    asr decode
  test.per.txt          their score                                          asr score
  report.html           and utterance.png                                    asr report
  settings.txt          the last values of Make variables; .lock is held while training
"""

import fcntl
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from asr import __version__, checkpoint
from asr.checkpoint import Checkpoint, TrainingState
from asr.config import RunConfig, leaves
from asr.errors import DataError
from asr.files import read_lines
from asr.files.decoding import decode, impossible
from asr.files.outputs import atomic_open
from asr.files.shards import file_of
from asr.phones import Vocabulary
from asr.processor import ranks
from asr.processor.device import choose_device
from asr.recognizer import Recognizer
from asr.records import Manifest
from asr.search import SearchConfig
from asr.training import curve, provenance
from asr.training.events import Events, require_tensorboard
from asr.training.learner import Learner
from asr.training.progress import warn_of_waiting
from asr.training.provenance import Start
from asr.training.schedule import History, Phase, best, last_phase

log = logging.getLogger(__name__)

LOCK_WAIT_S = 10  # in a restart, for the readers of audio that the killed process leaves
CURVE_AFTER_S = 10.0  # the learning curve is drawn after epochs this long, and at the end
EPOCH = ("epoch", "phase", "train_loss", "dev_loss", "dev_per", "learning_rate", "seconds")
PARTS = ("features", "augment", "encoder", "criterion", "optimizer", "training")


class Summary(TypedDict):
    """The result of a complete training, in training.json."""

    experiment: str
    corpus: str
    seed: int
    epochs: int
    best_epoch: int
    dev_per: float
    parameters: int
    seconds: float
    device: str
    machine: str
    torch: str
    version: str


@dataclass(frozen=True)
class _Tuned:
    """What is read of search.json."""

    search: SearchConfig
    checkpoint: str


class RunDirectory:
    """The paths of a run, and what training reads and writes there."""

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        self.manifests = path / "manifests"
        self.digests = path / "manifests" / "digests.json"
        self.audio = path / "audio"
        self.warnings = path / "warnings.txt"
        self.skipped = path / "skipped.txt"
        self.vocabulary = path / "vocabulary.txt"
        self.config = path / "config.yaml"
        self.provenance = path / "provenance.json"
        self.history = path / "train.jsonl"
        self.curve = path / "learning-curve.png"
        self.best = self.checkpoint("best")
        self.last = self.checkpoint("last")
        self.previous = self.checkpoint("previous")
        self.training = path / "training.json"
        self.language_model = path / "lm.arpa"
        self.emissions = path / "dev.emissions.safetensors"
        self.search = path / "search.json"
        self.score = path / "test.per.txt"
        self.picture = path / "utterance.png"
        self.report = path / "report.html"
        self.events = Events(path / "tensorboard")

    def __str__(self) -> str:
        return str(self.path)

    def manifest(self, split: str) -> Path:
        """The utterances of a split."""
        return self.manifests / f"{split}.jsonl"

    def checkpoint(self, name: str) -> Path:
        """A checkpoint: "best", "last", "previous", or what a phase of training keeps."""
        return self.path / f"checkpoint-{name}.safetensors"

    def hypotheses(self, split: str, search: str = "") -> Path:
        """The best hypothesis of each utterance; `search` names one of several searches."""
        return self.path / f"{split}{search and f'.{search}'}.hyp.jsonl"

    def n_best(self, split: str) -> Path:
        """All hypotheses of each utterance."""
        return self.path / f"{split}.n-best.jsonl"

    # ── what the commands read ───────────────────────────────────────────────────────────────

    def utterances(self, split: str, root: str | None = None) -> Manifest:
        """The manifest of a split; `DataError` where the run is not prepared.

        With `root`, audio must be at hand; that of a corpus that has moved is read from there.
        """
        path = self.manifest(split)
        if not path.exists():
            raise self._missing(path, "manifest; run `asr prepare` with the same overrides")
        manifest = Manifest(path, root or "")
        audio = file_of(manifest[0].audio) if root is not None and len(manifest) else path
        if not os.path.exists(audio):
            raise DataError(
                f"{path}:1: {audio} does not exist{root and f', nor in {root}'}; if it has moved, "
                f"set corpus.root (asr report and ship: --root) to where it is now"
            )
        return manifest

    def _missing(self, path: Path, what: str) -> DataError:
        if self.path.exists() and not self.path.is_dir():
            return DataError(f"{self}: a file, expected the folder of a run; set another run_dir")
        return DataError(f"{path}: no {what}")

    def phones(self) -> Vocabulary:
        """The vocabulary of the run."""
        return Vocabulary.load(self.vocabulary)

    def recognizer(self, device: torch.device | str = "cpu") -> Recognizer:
        """The recogniser of the best checkpoint, in evaluation mode."""
        return checkpoint.load(self.best, device).recognizer

    def digest(self) -> str:
        """SHA-256 of the best checkpoint, by which results of it are recognised."""
        with open(self.best, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def summary(self) -> Summary:
        """The result of the training; `DataError` where it is not complete."""
        if not self.training.exists():
            raise self._missing(self.training, "such file; train the run to the end first")
        return decode(self.training.read_bytes(), Summary, f"{self.training}")

    def epochs(self) -> History:
        """The records of the epochs so far; `DataError` where train.jsonl is damaged."""
        history: History = []
        for n, line in enumerate(filter(None, read_lines(self.history)), start=1):
            with suppress(ValueError, AttributeError, RecursionError):
                record = json.loads(line)  # of a diverged run with NaN, which `decode` refuses
                if all(isinstance(record.get(key), int | float) for key in EPOCH):
                    history.append(record)
            if len(history) < n:
                raise DataError(f"{self.history}:{n}: damaged, expected the record of an epoch")
        return history

    def starts(self) -> list[Start]:
        """What the run was made from, at its start and at each continuation.

        Empty for runs of before this was kept; `DataError` where the file is damaged.
        """
        if not self.provenance.exists():
            return []
        return decode(self.provenance.read_bytes(), list[Start], f"{self.provenance}")

    def tuned_search(self) -> SearchConfig:
        """The search that `asr tune` chose; `DataError` where it is of another best checkpoint."""
        if not self.search.exists():
            raise self._missing(self.search, "such file; run `asr tune` with the same overrides")
        try:
            tuned = decode(self.search.read_bytes(), _Tuned, f"{self.search}", other_keys=True)
        except DataError as error:
            raise DataError(f"{error}; run `asr tune` again") from None
        if tuned.checkpoint != self.digest():
            raise DataError(
                f"{self.search}: tuned for another checkpoint than {self.best}; run `asr tune`"
            )
        return tuned.search

    # ── training ─────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse a second training in the directory, until the end or the death of the process."""
        if not ranks.is_main():
            yield
            return
        with open(self.path / ".lock", "a") as lock:
            for left_s in range(LOCK_WAIT_S if ranks.is_restart() else 0, -1, -1):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not left_s:
                        reason = "in use by another run; set another run_dir"
                        raise DataError(f"{self}: {reason}") from None
                    time.sleep(1)
            yield

    def resume(self, config: RunConfig, recognizer: Recognizer, utterances: int) -> TrainingState:
        """The state of the last checkpoint, with its weights loaded; without one, a new state.

        With resume=previous, that of the checkpoint before. `utterances` is the size of the
        training set. Raises `DataError` where the checkpoint may not be continued: it is damaged,
        `resume` is never, or what decides the weights has changed.
        """
        if config.training.tensorboard:
            require_tensorboard()
        unchanging = _unchanging(config, utterances)
        chosen = [self.last, self.previous]
        resume = self._resume(config)
        if resume == "previous":
            chosen.reverse()
        path = next((path for path in chosen if path.exists()), None)
        if path is None or (resume == "never" and not self.last.exists()):
            return TrainingState(unchanging, [], {})
        if resume == "never":
            raise DataError(
                f"{self}: holds a run already; set resume=auto to continue it, or another run_dir"
            )
        try:
            last = checkpoint.load(path)
        except DataError as error:
            if path == self.last and (there := self._place_of_previous()):
                raise DataError(
                    f"{error}; set resume=previous to continue from {self.previous}, {there}"
                ) from error
            raise
        if last.training is None:
            raise DataError(f"{path}: has no state of a training; set another run_dir")
        for n, record in enumerate(last.training.history):
            for key in EPOCH:
                if not isinstance(value := record.get(key), int | float):
                    where = f"training.history[{n}].{key}"
                    raise impossible(f"{path}", where, value, "a number")
        defaults = {part: asdict(type(getattr(config, part))()) for part in PARTS}
        begun = leaves(defaults) | leaves(last.training.run)  # an older run lacks newer keys
        for key, value in leaves(unchanging).items():
            if (before := begun.get(key)) != value:
                raise DataError(
                    f"{self}: cannot be continued, it was begun with {key}={before} and now has "
                    f"{value}; restore that to continue it, or set another run_dir (make: NAME=)"
                )
        recognizer.load_state_dict(last.recognizer.state_dict())
        return TrainingState(unchanging, last.training.history, last.training.learner)

    def _place_of_previous(self) -> str:
        """Where in the training the previous checkpoint is, "" if it is of no use."""
        try:
            state = checkpoint.load(self.previous).training
        except DataError:
            return ""
        if state is None:
            return ""
        return place(len(state.history), state.learner.get("progress", [[0]])[0][0])

    def _resume(self, config: RunConfig) -> str:
        """The configured `resume`; auto where an earlier attempt of the same torchrun began."""
        lock = self.path / ".lock"
        begun = ranks.is_restart() and lock.exists() and lock.read_text() == ranks.launch()
        return "auto" if begun else config.resume

    def begin(self, config: RunConfig, epochs: int = 0, steps: int = 0) -> None:
        """Write configuration and provenance; the state to continue from becomes the last one.

        `epochs` are finished, `steps` of the next. Provenance of earlier starts is kept where the
        run continues from a checkpoint. `.lock` names the torchrun. `DataError` where machines do
        not share the directory.
        """
        if len(set(ranks.gather(self.last.exists() and self.last.stat().st_size))) > 1:
            raise DataError(f"{self}: differs between machines, expected a file system they share")
        if not ranks.is_main():
            return
        if (resume := self._resume(config)) == "previous" and self.previous.exists():
            os.replace(self.previous, self.last)
        if resume == "never":
            self.previous.unlink(missing_ok=True)
        (self.path / ".lock").write_text(ranks.launch())
        with atomic_open(self.config) as file:
            file.write(config.to_yaml())
        try:
            before = self.starts() if self.last.exists() else []
        except DataError as error:
            log.warning("%s; what it said of earlier starts is lost", error)
            before = []
        data = [*sorted(self.manifests.glob("*.jsonl")), self.vocabulary]
        now = provenance.start(self.path, data, epochs, steps, choose_device(config.device))
        provenance.write(self.provenance, [*before, now])

    def keep(self, config: RunConfig, learner: Learner, state: TrainingState, phase: Phase) -> None:
        """Write the result of an epoch, the last checkpoint last.

        `state.history` ends with the epoch's record.
        """
        history = state.history
        if ranks.is_main():
            if phase.is_best(history):
                best = Checkpoint(learner.result, self._about(config, history))
                checkpoint.save(self.checkpoint(phase.keeps), best)
            with atomic_open(self.history) as file:
                file.writelines(json.dumps(record) + "\n" for record in history)
            cacheable = not (config.cache or config.augment.needs_waveforms)
            warn_of_waiting(history, config.training.workers, cacheable)
        self.keep_state(config, learner, state)
        if ranks.is_main() and config.training.tensorboard:
            self.events.write(history)
        if ranks.is_main() and history[-1]["seconds"] > CURVE_AFTER_S:
            curve.draw(self.curve, history, f"{config.corpus.name} dev")

    def keep_state(self, config: RunConfig, learner: Learner, state: TrainingState) -> None:
        """Write the last checkpoint, with the learner's present state; the one before is kept.

        Every rank must call it.
        """
        now = TrainingState(state.run, state.history, learner.state_dict())
        if ranks.is_main():
            last = Checkpoint(learner.recognizer, self._about(config, state.history), now)
            checkpoint.save(self.last, last, previous=self.previous)

    def _about(self, config: RunConfig, history: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "version": __version__,
            "experiment": config.name,
            "corpus": config.corpus.name,
            "protocol": config.corpus.protocol,
            "seed": config.seed,
            **(history[-1] if history else {}),
        }

    def finish(
        self, config: RunConfig, recognizer: Recognizer, history: list[dict[str, Any]]
    ) -> Summary:
        """Draw the learning curve, then write and return the summary of a complete training."""
        chosen, device = best(last_phase(history)), recognizer.device
        summary: Summary = {
            "experiment": config.name,
            "corpus": config.corpus.name,
            "seed": config.seed,
            "epochs": len(history),
            "best_epoch": chosen["epoch"],
            "dev_per": chosen["dev_per"],
            "parameters": recognizer.parameter_count,
            "seconds": sum(record["seconds"] for record in history),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "version": __version__,
        }
        if ranks.is_main():
            self.events.close()
            curve.draw(self.curve, history, f"{config.corpus.name} dev")
            with atomic_open(self.training) as file:
                file.write(json.dumps(summary, indent=2) + "\n")
        return summary


def place(epochs: int, steps: int) -> str:
    """Where a training is, in words."""
    return f"after epoch {epochs}" + (f", step {steps}" if steps else "")


def _unchanging(config: RunConfig, utterances: int) -> dict[str, Any]:
    """What decides the weights, and so must be the same when a run is continued."""
    run: dict[str, Any] = {part: asdict(getattr(config, part)) for part in PARTS}
    for key in ("workers", "batch_frames", "keep_every_minutes", "tensorboard"):
        del run["training"][key]
    return {
        "seed": config.seed,
        **run,
        "utterances": utterances,
        "cache_precision": config.cache_precision if config.cache else "float32",
    }
