"""A checkpoint and a manifest → hypotheses.

asr decode experiment=timit split=test
asr decode experiment=timit split=test tuned=true
"""

import json
import logging

from asr.commands.configured import command
from asr.config import RunConfig
from asr.files.outputs import atomic_open
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
    utterances = run_dir.utterances(config.split, config.corpus.root)
    recognizer = run_dir.recognizer(device)
    search = run_dir.tuned_search() if config.tuned else config.search
    n_best: dict[str, list[Hypothesis]] = {}
    batches = split_batches(config, utterances, recognizer)
    for batch, encoded, lengths in encode_all(recognizer, batches):
        hypotheses = recognizer.search(encoded, lengths, batch.ids, search)
        n_best |= zip(batch.ids, hypotheses, strict=True)
    ids = [utterance.id for utterance in utterances]
    if search.n_best > 1:
        with atomic_open(run_dir.n_best(config.split)) as file:
            for id in ids:
                record = {"id": id, "n_best": [one.to_dict() for one in n_best[id]]}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    path = run_dir.hypotheses(config.split)
    write_jsonl(path, (n_best[id][0] for id in ids))
    log.info("%s: %d hypotheses", path, len(ids))


main = command(run, __doc__)
