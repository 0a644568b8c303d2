"""A run's network and dev → the search with the lowest dev PER.

    asr tune experiment=timit search=beam-lm
    asr decode experiment=timit tuned=true

The network reads dev once: its emissions, which the search reads, are kept in
`dev.emissions.safetensors` until the checkpoint changes. Other splits than dev are never opened.
"""

import itertools
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor
from tqdm import tqdm

from asr import scoring
from asr.batch import cut, pad
from asr.commands.configured import command
from asr.config import RunConfig, TuneConfig
from asr.dataset import MOST_FRAMES
from asr.errors import DataError
from asr.files.outputs import atomic_open
from asr.processor.device import choose_device
from asr.recognizer import Recognizer, encode_all
from asr.records import Manifest, Utterance
from asr.search import SearchConfig
from asr.search.word_model import graph_for
from asr.training.batches import most_frames, split_batches
from asr.training.run_directory import RunDirectory

log = logging.getLogger(__name__)

AT_ONCE = 64  # utterances that are padded and searched together

Trial = dict[str, Any]  # values by key of SearchConfig, and the dev_per that they gave


def run(config: RunConfig) -> None:
    """Write `search.json`: the search chosen, its dev PER, and all that was tried."""
    run_dir = RunDirectory(config.run_dir)
    device = choose_device(config.device, config.threads)
    dev = run_dir.utterances("dev", config.corpus.root)
    recognizer, digest = run_dir.recognizer(device), run_dir.digest()
    trials = combinations(recognizer, config.search, config.tune, config.seed)
    metadata = {"checkpoint": digest}
    emissions = _kept_emissions(run_dir.emissions, metadata, dev)
    if emissions is None:
        emissions = _emissions(config, recognizer, dev)
        with atomic_open(run_dir.emissions, "wb") as file:
            file.write(to_bytes(emissions, metadata))
    protocol = config.corpus.protocol
    most = most_frames(config.training)
    tried = tune(recognizer, emissions, dev, config.search, trials, protocol, most)
    best = min(tried, key=lambda trial: trial["dev_per"])  # the first of equals
    chosen = {key: value for key, value in best.items() if key != "dev_per"}
    result = {
        "search": asdict(replace(config.search, **chosen)),
        "dev_per": best["dev_per"],
        "protocol": protocol,
        "checkpoint": digest,
        "tried": tried,
    }
    with atomic_open(run_dir.search) as file:
        file.write(json.dumps(result, indent=2) + "\n")
    values = ", ".join(f"{key} {value:g}" for key, value in chosen.items())
    log.info("best dev %%PER %.2f of %d searches: %s", best["dev_per"], len(tried), values)
    for key, value in chosen.items():
        ends = {"highest": max, "lowest": min} if key == "bonus" else {"highest": max}
        for edge, end_of in ends.items():  # the others have their lower end at 0
            if value == end_of(getattr(config.tune, key)):
                log.info("%s=%g is the %s that was tried; give tune.%s more", key, value, edge, key)


def combinations(
    recognizer: Recognizer, search: SearchConfig, tune: TuneConfig, seed: int
) -> list[Trial]:
    """The trials: values by key, for the keys that the criterion's search takes."""
    keys = recognizer.criterion.tunable(search)
    if not keys:
        name = recognizer.config.criterion.name
        raise DataError(f"the search of the criterion {name} has nothing to tune")
    values = itertools.product(*(getattr(tune, key) for key in keys))
    trials = [dict(zip(keys, one, strict=True)) for one in values]
    if 0 < tune.trials < len(trials):
        trials = random.Random(seed).sample(trials, tune.trials)
    return trials


def tune(
    recognizer: Recognizer,
    emissions: Mapping[str, Tensor],
    dev: Sequence[Utterance],
    search: SearchConfig,
    trials: Sequence[Trial],
    protocol: str,
    most: int = MOST_FRAMES,
) -> list[Trial]:
    """Each trial with its `dev_per`, in percent, on emissions by id, each (T', E).

    At most `most` padded frames are searched together.
    """
    graph = graph_for(search, recognizer.vocabulary.phones)
    ids = sorted(emissions, key=lambda id: len(emissions[id]))
    groups = [range(n, min(n + AT_ONCE, len(ids))) for n in range(0, len(ids), AT_ONCE)]
    parts = [
        [ids[n] for n in part]
        for group in groups
        for part in cut(group, lambda n: len(emissions[ids[n]]), most)
    ]
    padded = [(part, *pad([emissions[id] for id in part])) for part in parts]
    references = {utterance.id: utterance.phones for utterance in dev}
    tried = []
    for trial in tqdm(trials, "searches", leave=False, disable=None):
        hypotheses = {}
        for part, batch, lengths in padded:
            n_best = recognizer.criterion.search(batch, lengths, replace(search, **trial), graph)
            for id, paths in zip(part, n_best, strict=True):
                hypotheses[id] = recognizer.vocabulary.decode(paths[0].labels)
        score = scoring.score(references, hypotheses, protocol=protocol)
        tried.append({**trial, "dev_per": score.total.per})
    return tried


def _emissions(
    config: RunConfig, recognizer: Recognizer, dev: Sequence[Utterance]
) -> dict[str, Tensor]:
    by_id: dict[str, Tensor] = {}
    for batch, encoded, lengths in encode_all(recognizer, split_batches(config, dev, recognizer)):
        emissions = recognizer.criterion.emissions(encoded).detach().cpu()
        for id, one, length in zip(batch.ids, emissions, lengths.tolist(), strict=True):
            by_id[id] = one[:length].contiguous()
    return by_id


def _kept_emissions(
    path: Path, metadata: Mapping[str, str], dev: Manifest
) -> dict[str, Tensor] | None:
    """The emissions with this metadata and of these utterances, if they are in the file."""
    try:
        with safe_open(path, framework="pt") as file:
            if file.metadata() == metadata and set(file.keys()) == {one.id for one in dev}:
                return {id: file.get_tensor(id) for id in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        pass
    return None


main = command(run, __doc__)
