"""A checkpoint and a manifest → hypotheses.

asr decode experiment=timit split=test
asr decode experiment=timit split=test tuned=true
"""

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from asr.commands.configured import command
from asr.config import RunConfig
from asr.files import atomic_open
from asr.processor.device import choose_device
from asr.recognizer import encode_all
from asr.records import Hypothesis, write_jsonl
from asr.training.batches import split_batches
from asr.training.run_directory import RunDirectory

log = logging.getLogger(__name__)


def run(config: RunConfig) -> None:
    """Write `<split>.hyp.jsonl` of the run's best checkpoint, in the order of the manifest.

    With `search.n_best` above 1 all hypotheses go to `<split>.n-best.jsonl`, best first.
    """
    device = choose_device(config.device, config.threads)
    run_dir = RunDirectory(config.run_dir)
    utterances = run_dir.utterances(config.split)
    recognizer = run_dir.recognizer(device)
    search = run_dir.tuned_search() if config.tuned else config.search
    n_best: dict[str, list[Hypothesis]] = {}
    batches = split_batches(config, utterances, recognizer)
    for batch, encoded, lengths in encode_all(recognizer, batches):
        hypotheses = recognizer.search(encoded, lengths, batch.ids, search)
        n_best |= zip(batch.ids, hypotheses, strict=True)
    ids = [utterance.id for utterance in utterances]
    if search.n_best > 1:
        write_n_best(run_dir.n_best(config.split), (n_best[id] for id in ids))
    path = run_dir.hypotheses(config.split)
    write_jsonl(path, (n_best[id][0] for id in ids))
    log.info("%s: %d hypotheses", path, len(ids))


def write_n_best(path: Path, utterances: Iterable[list[Hypothesis]]) -> None:
    """Write one utterance a line: its id, and its hypotheses under `n_best`."""
    with atomic_open(path) as file:
        for hypotheses in utterances:
            record = {"id": hypotheses[0].id, "n_best": [one.to_dict() for one in hypotheses]}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


main = command(run, __doc__)
