"""Door: a checkpoint and a manifest → hypotheses.

python -m asr.decode experiment=timit split=test
"""

import logging
from pathlib import Path

from asr import checkpoint
from asr.config import RunConfig, choose_device, door
from asr.dataset import Batches
from asr.recognizer import transcribe_all
from asr.records import Manifest, write_jsonl

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Write `<split>.hyp.jsonl` of the run's best checkpoint, in the order of the manifest."""
    device = choose_device(config)
    run_dir = Path(config.run_dir)
    utterances = Manifest(run_dir / "manifests" / f"{config.split}.jsonl")
    found = checkpoint.load(run_dir / "checkpoint-best.safetensors", device)
    batches = Batches(
        utterances,
        found.recognizer.vocabulary,
        found.recognizer.config.features.sample_rate,
        config.training.batch_size,
    )
    hypotheses = transcribe_all(found.recognizer, batches, config.search)
    path = run_dir / f"{config.split}.hyp.jsonl"
    write_jsonl(path, (hypotheses[utterance.id] for utterance in utterances))
    log.info("%s: %d hypotheses", path, len(hypotheses))


main = door(run)

if __name__ == "__main__":
    main()
