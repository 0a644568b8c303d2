"""Door: a corpus on disk → manifests and vocabulary of a run.

python -m asr.prepare experiment=timit corpus.root=/path/to/TIMIT
"""

import logging
from pathlib import Path

from asr import corpora
from asr.config import RunConfig, door
from asr.phones import Vocabulary, phone_set
from asr.records import DataError, Utterance, read_jsonl, write_jsonl

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Write `manifests/{train,dev,test}.jsonl`, then `vocabulary.txt`, into the run directory.

    Raises `DataError`, with nothing written, where the corpus is not as it should be, or where
    the run directory holds a model of other data.
    """
    splits = corpora.read(config.corpus)
    run_dir = Path(config.run_dir)
    manifests = {run_dir / "manifests" / f"{split}.jsonl": splits[split] for split in splits}
    _require_same_data(run_dir, manifests)
    for path, utterances in manifests.items():
        write_jsonl(path, utterances)
        log.info("%s", summary(path.stem, utterances))
    Vocabulary(phone_set(config.corpus.phone_set)).save(run_dir / "vocabulary.txt")


def summary(split: str, utterances: list[Utterance]) -> str:
    """One line: what a split holds."""
    minutes = sum(utterance.duration_s for utterance in utterances) / 60
    return (
        f"{utterances[0].corpus} {split:<5} {len(utterances):5d} utterances, "
        f"{len({utterance.speaker for utterance in utterances}):3d} speakers, "
        f"{minutes:6.1f} minutes, {sum(len(u.phones) for u in utterances):6d} phones"
    )


def _require_same_data(run_dir: Path, manifests: dict[Path, list[Utterance]]) -> None:
    if not (run_dir / "checkpoint-last.safetensors").exists():
        return
    for path, utterances in manifests.items():
        if path.exists() and read_jsonl(path, Utterance) != utterances:
            raise DataError(
                f"{run_dir}: holds a model trained on other data than {path.stem} now has; "
                f"give another run_dir (make: NAME=), or remove the folder"
            )


main = door(run)

if __name__ == "__main__":
    main()
