"""Folding 61 labels to 39 before or after the search, compared on networks trained with CTC.

    python recipes/timit/fold.py exp/timit-sample/1 exp/timit-sample/2 exp/timit-sample/3

After: the search has 61 labels, and scoring folds its result, as in `asr decode` and `asr score`.
Before: in each frame the probabilities of labels that fold together are added, those of labels that
are deleted (q) to the blank, and the search has 39 labels. For each, the blank penalty is chosen on
dev, and test is searched once. PER is under the protocol strict.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from asr import scoring
from asr.batch import pad
from asr.criteria import CTC, CTCConfig
from asr.dataset import Batches
from asr.errors import exit_code
from asr.phones import Vocabulary, fold_to_39, phone_set
from asr.recognizer import Recognizer, encode_all
from asr.records import Manifest
from asr.search import SearchConfig
from asr.training.run_directory import RunDirectory

BLANK = 0
PENALTIES = tuple(n / 2 for n in range(11))  # nats
BEAMS = (1, 100)
BATCH_SIZE = 16

Emissions = Mapping[str, Tensor]  # log-probabilities (T', V) by id


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, nargs="+", help="run directory of a CTC network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    protocol = scoring.protocol("strict")
    print(f"{'run':<24} {'beam':>4}  {'fold':<6} {'penalty':>7} {'dev':>6} {'test':>6}")
    for run in map(RunDirectory, arguments.run):
        recognizer = run.recognizer()
        splits = {name: run.utterances(name) for name in ("dev", "test")}
        full = {name: emissions_of(recognizer, split) for name, split in splits.items()}
        few = Vocabulary(phone_set("timit39"))
        folded = {
            name: {id: fold(one, recognizer.vocabulary, few) for id, one in of_split.items()}
            for name, of_split in full.items()
        }
        for beam in BEAMS:
            on_test = {}
            for name, emissions, vocabulary in (
                ("after", full, recognizer.vocabulary),
                ("before", folded, few),
            ):
                tried = {
                    penalty: per(splits["dev"], emissions["dev"], vocabulary, beam, penalty)
                    for penalty in PENALTIES
                }
                best = min(PENALTIES, key=lambda one: tried[one].total.per)
                on_test[name] = per(splits["test"], emissions["test"], vocabulary, beam, best)
                print(
                    f"{run!s:<24} {beam:>4}  {name:<6} {best:>7} {tried[best].total.per:>6.2f} "
                    f"{on_test[name].total.per:>6.2f}"
                )
            comparison = scoring.compare(on_test["after"], on_test["before"], protocol)
            p = comparison.mapsswe.p
            print(f"  A after, B before: p {p:.3f} (MAPSSWE). {comparison.verdict()}")


def emissions_of(recognizer: Recognizer, split: Manifest) -> Emissions:
    sample_rate = recognizer.config.features.sample_rate
    batches = Batches(split, recognizer.vocabulary, sample_rate, BATCH_SIZE)
    by_id = {}
    for batch, encoded, lengths in encode_all(recognizer, batches):
        log_probs = recognizer.criterion.emissions(encoded).detach()
        for id, one, length in zip(batch.ids, log_probs, lengths.tolist(), strict=True):
            by_id[id] = one[:length]
    return by_id


def fold(log_probs: Tensor, many: Vocabulary, few: Vocabulary) -> Tensor:
    """Log-probabilities of the labels of `few` and the blank: (T', V) → (T', fewer)."""
    target = fold_to_39().target
    into = [BLANK]
    for phone in many.phones:
        coarser = target[phone]
        into.append(BLANK if coarser is None else few.encode([coarser])[0])
    sums = log_probs.new_zeros(len(log_probs), len(few), dtype=torch.float64)
    return sums.index_add(1, torch.tensor(into), log_probs.double().exp()).log().float()


def per(
    split: Manifest, emissions: Emissions, vocabulary: Vocabulary, beam: int, penalty: float
) -> scoring.Score:
    padded, lengths = pad(list(emissions.values()))
    search = SearchConfig(beam=beam, blank_penalty=penalty)
    paths = CTC(CTCConfig(), 1, len(vocabulary)).search(padded, lengths, search)
    hypotheses = {
        id: vocabulary.decode(best.labels) for id, (best, *_) in zip(emissions, paths, strict=True)
    }
    references = {utterance.id: utterance.phones for utterance in split}
    return scoring.score(references, {id: hypotheses[id] for id in references})


if __name__ == "__main__":
    sys.exit(main())
