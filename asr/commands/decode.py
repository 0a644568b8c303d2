"""A checkpoint and a manifest → hypotheses.

python -m asr decode experiment=timit split=test
python -m asr decode experiment=timit split=test tuned=true
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from asr import checkpoint
from asr.commands.configured import command
from asr.config import RunConfig
from asr.dataset import Batches
from asr.features.cache import frame_cache
from asr.files import atomic_open
from asr.processor.device import choose_device
from asr.recognizer import encode_all
from asr.records import Hypothesis, Manifest, write_jsonl

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Write `<split>.hyp.jsonl` of the run's best checkpoint, in the order of the manifest.

    With `search.n_best` above 1 all hypotheses go to `<split>.n-best.jsonl`, best first.
    """
    device = choose_device(config.device, config.threads)
    run_dir = Path(config.run_dir)
    utterances = Manifest(run_dir / "manifests" / f"{config.split}.jsonl")
    best = run_dir / "checkpoint-best.safetensors"
    recognizer = checkpoint.load(best, device).recognizer
    search = config.search
    if config.tuned:
        search = checkpoint.tuned_search(run_dir / "search.json", best)
    found: dict[str, list[Hypothesis]] = {}
    features = recognizer.config.features
    batches = Batches(
        utterances,
        recognizer.vocabulary,
        features.sample_rate,
        config.training.batch_size,
        cache=frame_cache(config.cache, features, config.cache_precision),
    )
    for batch, encoded, lengths in encode_all(recognizer, batches):
        hypotheses = recognizer.search(encoded, lengths, batch.ids, search)
        found |= zip(batch.ids, hypotheses, strict=True)
    ids = [utterance.id for utterance in utterances]
    if search.n_best > 1:
        write_n_best(run_dir / f"{config.split}.n-best.jsonl", (found[id] for id in ids))
    path = run_dir / f"{config.split}.hyp.jsonl"
    write_jsonl(path, (found[id][0] for id in ids))
    log.info("%s: %d hypotheses", path, len(ids))


def write_n_best(path: Path, utterances: Iterable[list[Hypothesis]]) -> None:
    """Write one utterance a line: its id, and its hypotheses under `n_best`."""
    with atomic_open(path) as file:
        for hypotheses in utterances:
            record = {"id": hypotheses[0].id, "n_best": [found.to_dict() for found in hypotheses]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


main = command(run, __doc__)
