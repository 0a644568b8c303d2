"""Rules for boundaries between the peaks of a CTC network, compared with hand-made labels.

    python recipes/timit/boundaries.py exp/timit-sample/1 exp/timit-sample/2 exp/timit-sample/3

Blank frames lie between the frames of two phones. The boundary is the end of the first phone, the
start of the second, the middle, the crossing of the two phones' posteriors (without blank), the
middle with a constant shift chosen on dev, or the largest change of the speech, as in `asr align`.
Each rule is tried with and without a penalty on blanks in the alignment. The numbers are shares of
boundaries within 20 ms, in percent, over all runs.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asr.aligner import Aligner
from asr.by_torch import TorchNetwork
from asr.criteria import Span, ctc
from asr.dataset import Batches
from asr.errors import exit_code
from asr.recognizer import Recognizer, encode_all
from asr.records import Manifest, Segment
from asr.training.run_directory import RunDirectory

PENALTIES = (0.0, 2.0, 4.0, 6.0)  # nats
SHIFTS_S = np.arange(-24, 25) * 0.0025
WITHIN_S = 0.02 + 1e-9
BATCH_SIZE = 16

Rule = Callable[[Tensor, Span, Span, int, int], float]  # → boundary in encoded frames


def crossing(log_probs: Tensor, left: Span, right: Span, first: int, second: int) -> float:
    """The frame that maximises the summed lead of each phone over the other on its side."""
    between = log_probs[left.end : right.start]
    gain = (between[:, first] - between[:, second]).cumsum(0)
    return left.end + int(torch.cat([gain.new_zeros(1), gain]).argmax())


RULES: dict[str, Rule] = {
    "end of the first": lambda _, left, *__: left.end,
    "start of the second": lambda _, __, right, *___: right.start,
    "middle": lambda _, left, right, *__: (left.end + right.start) / 2,
    "posteriors cross": crossing,
}


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, nargs="+", help="run directory of a CTC network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'penalty':>7}  {'boundary':<22} {'dev':>6} {'test':>6}")
    for penalty in PENALTIES:
        ctc.ALIGNMENT_PENALTY = penalty
        errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for run_dir in map(RunDirectory, arguments.run):
            recognizer = run_dir.recognizer()
            for split in ("dev", "test"):
                measure(recognizer, run_dir.utterances(split), split, errors)
        shift = max(SHIFTS_S, key=lambda s: share(np.array(errors["middle"]["dev"]) + s))
        errors[f"middle {1000 * shift:+.1f} ms"] = {
            split: (np.array(middles) + shift).tolist()
            for split, middles in errors["middle"].items()
        }
        for name, errors_s in errors.items():
            dev, test = (share(np.array(errors_s[split])) for split in ("dev", "test"))
            print(f"{penalty:>7}  {name:<22} {dev:>6.1f} {test:>6.1f}")


def measure(
    recognizer: Recognizer,
    utterances: Manifest,
    split: str,
    errors: dict[str, dict[str, list[float]]],
) -> None:
    """Add the errors of each rule, in seconds, to `errors`."""
    aligner = Aligner(TorchNetwork(recognizer))
    labelled: dict[str, tuple[Segment, ...]] = {u.id: u.segments or () for u in utterances}
    sample_rate = recognizer.config.features.sample_rate
    batches = Batches(utterances, recognizer.vocabulary, sample_rate, BATCH_SIZE)
    for batch, encoded, lengths in encode_all(recognizer, batches):
        spans = recognizer.criterion.align(encoded, lengths, batch.targets, batch.target_lengths)
        log_probs = recognizer.criterion.emissions(encoded)
        for n, id in enumerate(batch.ids):
            labelled_s = [segment.start_s for segment in labelled[id]][1:]
            targets = pairwise(batch.targets[n].tolist())
            for known, (left, right), (first, second) in zip(
                labelled_s, pairwise(spans[n]), targets, strict=False
            ):
                for name, rule in RULES.items():
                    frame = rule(log_probs[n], left, right, first, second)
                    errors[name][split].append(recognizer.config.time_s(frame - 0.5) - known)
            phones = recognizer.vocabulary.decode(
                batch.targets[n, : int(batch.target_lengths[n])].tolist()
            )
            waveform = batch.waveforms[n, : int(batch.waveform_lengths[n])].cpu().numpy()
            emissions = log_probs[n, : int(lengths[n])].cpu().numpy()
            changes = aligner(waveform, emissions, phones)
            aligned = [segment.start_s for segment in changes][1:]
            errors["change of the speech"][split] += [
                a - b for a, b in zip(aligned, labelled_s, strict=True)
            ]


def share(errors_s: np.ndarray) -> float:
    return 100.0 * float((np.abs(errors_s) <= WITHIN_S).mean())


if __name__ == "__main__":
    sys.exit(main())
