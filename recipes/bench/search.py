"""Speed of CTC's beam search compared with torchaudio's `ctc_decoder`, at equal or better scores.

    python recipes/bench/search.py
    python recipes/bench/search.py --run exp/timit/1      with its network on dev

Both search the same log-probabilities on one thread, without language model and with a bigram, the
peer with a beam of 100. Our beam holds prefixes; the peer's holds pairs of a prefix and "ends in
blank or not", and joins those in one state of the language model. The widths are therefore not
comparable, and ours is also run with wider beams. The score of the best hypothesis is its exact
log-probability, summed over all alignments by `ctc_loss`, plus the weighted log-probability of the
language model.

The peer is flashlight's decoder: pip install flashlight-text, up to Python 3.12. Without it only
ours is timed.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from asr.batch import pad
from asr.criteria import CTC, CTCConfig
from asr.errors import exit_code
from asr.phones import Vocabulary, phone_set
from asr.search import SearchConfig
from asr.search.arpa import write_arpa
from asr.search.graph import graph_of
from asr.search.ngram import LN10, LanguageModel, estimate
from asr.training.run_directory import RunDirectory

BEAM = 100
BEAMS = (100, 200, 400)  # of ours
THRESHOLDS = (15.0, 50.0)  # of the peer; ours has its default
LM_WEIGHT = 0.6
UTTERANCES = 16
REPEATS = 3
TIMES_PEER = 4  # the promise

Labels = list[list[int]]


@dataclass(frozen=True)
class Task:
    """Input of the searches: log-probabilities (T, V) of utterances, and text for a bigram."""

    log_probs: list[Tensor]
    vocabulary: Vocabulary
    text: list[tuple[str, ...]]


@exit_code
def main() -> int:
    """Exit code 1 with --check if the promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="run directory after asr tune; default: random")
    parser.add_argument("--check", action="store_true", help="fail if the promise is broken")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = drawn() if arguments.run is None else of_run(arguments.run)
    frames = sum(map(len, task.log_probs)) / len(task.log_probs)
    print(
        f"{len(task.log_probs)} utterances of {frames:.0f} frames on average, "
        f"{len(task.vocabulary)} labels, 1 thread\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        bigram = estimate(task.text, 2, task.vocabulary.phones)
        kept = [compare(task, model, Path(folder)) for model in (None, bigram)]
    return int(arguments.check and not all(kept))


def drawn() -> Task:
    """Random peaky log-probabilities, as of a network trained with CTC, equal on all machines.

    A phone lasts 4 to 12 frames; in the middle is a spike of 1 or 2 frames, in which three other
    phones compete; elsewhere the blank is nearly certain. The blank is best in 0.8 to 0.9 of the
    frames, the best label has 0.94 on average, and about 20 labels are within 15 nats of it.
    """
    rng = np.random.default_rng(1)
    vocabulary = Vocabulary(phone_set("timit61"))
    size = len(vocabulary)
    successors = rng.dirichlet(np.full(size - 1, 0.3), size=size)
    log_probs, text = [], []
    for _ in range(UTTERANCES):
        label, labels, blocks = 0, [], []
        for _ in range(rng.integers(28, 47)):
            label = 1 + int(rng.choice(size - 1, p=successors[label]))
            labels.append(label)
            logits = rng.normal(-11, 5, (rng.integers(4, 13), size))
            logits[:, 0] = rng.normal(7, 2, len(logits))
            begin, width = len(logits) // 2 - 1, rng.integers(1, 3)
            spike = slice(begin, begin + width)
            logits[spike, 0] -= rng.normal(3, 3)
            logits[spike, rng.integers(1, size, 3)] = rng.normal(2, 2, (width, 3))
            logits[spike, label] = rng.normal(8, 3)
            blocks.append(logits)
        log_probs.append(torch.from_numpy(np.concatenate(blocks)).float().log_softmax(dim=1))
        text.append(vocabulary.decode(labels))
    return Task(log_probs, vocabulary, text)


def of_run(run_dir: Path) -> Task:
    run = RunDirectory(run_dir)
    emissions = load_file(run.emissions)
    text = [utterance.phones for utterance in run.utterances("train")]
    return Task(list(emissions.values())[:UTTERANCES], run.phones(), text)


def compare(task: Task, model: LanguageModel | None, folder: Path) -> bool:
    """Time all searches in turn, print a table, and return whether the promise is kept."""
    mine = {
        f"ours, beam {beam}": ours(task, model, SearchConfig(beam=beam, lm_weight=LM_WEIGHT))
        for beam in BEAMS
    }
    peers = dict(flashlight(task, model, folder))
    runners = mine | peers
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    results: dict[str, Labels] = {}
    for turn in range(REPEATS + 1):
        for name, run in runners.items():
            started = time.perf_counter()
            results[name] = run()
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - started)
    speed = {name: len(task.log_probs) / statistics.median(s) for name, s in seconds.items()}
    scores = {name: exact_scores(task, model, labels) for name, labels in results.items()}
    means = {name: float(each.mean()) for name, each in scores.items()}
    title = "no language model" if model is None else f"bigram × {LM_WEIGHT}"
    print(f"{title:42}{'utterances/s':>13}{'mean score':>12}")
    for name in runners:
        print(f"  {name:40}{speed[name]:13.1f}{means[name]:12.4f}")
    if not peers:
        print("  torchaudio's ctc_decoder is not installed: pip install flashlight-text\n")
        return True
    fastest, best = (max(values[name] for name in peers) for values in (speed, means))
    enough = max((speed[name] for name in mine if means[name] >= best - 1e-4), default=0.0)
    is_kept = enough >= TIMES_PEER * fastest
    print(
        f"{'yes' if is_kept else 'NO '}  at least {TIMES_PEER}× the peer's best speed at no lower "
        f"score: {enough / fastest:.1f}×\n"
    )
    return is_kept


def ours(task: Task, model: LanguageModel | None, search: SearchConfig) -> Callable[[], Labels]:
    criterion = CTC(CTCConfig(), 1, len(task.vocabulary))
    padded, lengths = pad(task.log_probs)
    compiled = None if model is None else graph_of(model, task.vocabulary.phones)
    return lambda: [
        list(paths[0].labels) for paths in criterion.search(padded, lengths, search, compiled)
    ]


def flashlight(
    task: Task, model: LanguageModel | None, folder: Path
) -> Iterator[tuple[str, Callable[[], Labels]]]:
    """The peer at two thresholds; its language model is KenLM, with logarithms of base 10."""
    try:
        from torchaudio.models.decoder import ctc_decoder
    except (ImportError, RuntimeError):  # RuntimeError: torchaudio without flashlight
        return
    tokens = ["<blank>", *task.vocabulary.phones]
    language_model: dict[str, object] = {}
    if model is not None:
        write_arpa(folder / "lm.arpa", model)
        # Without a dictionary the words of the language model are numbered in hash order.
        (folder / "words.txt").write_text("".join(f"{token}\n" for token in tokens))
        language_model = {
            "lm": str(folder / "lm.arpa"),
            "lm_dict": str(folder / "words.txt"),
            "lm_weight": LM_WEIGHT * LN10,
        }
    for threshold in THRESHOLDS:
        with silence():
            decoder = ctc_decoder(
                lexicon=None,
                tokens=tokens,
                beam_size=BEAM,
                beam_threshold=threshold,
                log_add=True,
                blank_token=tokens[0],
                sil_token=tokens[0],
                **language_model,
            )

        def run(decoder: Callable[[Tensor], object] = decoder) -> Labels:
            return [
                [label for label in decoder(one.unsqueeze(0))[0][0].tokens.tolist() if label]  # type: ignore[index]
                for one in task.log_probs
            ]

        yield f"ctc_decoder, beam {BEAM}, threshold {threshold:g}", run


def exact_scores(task: Task, model: LanguageModel | None, results: Labels) -> np.ndarray:
    """The scores that both maximise: log P of the labels, plus that of the language model."""
    scores = []
    for log_probs, labels in zip(task.log_probs, results, strict=True):
        loss = torch.nn.functional.ctc_loss(
            log_probs.double().unsqueeze(1),
            torch.tensor([labels]),
            torch.tensor([len(log_probs)]),
            torch.tensor([len(labels)]),
            reduction="sum",
        )
        prior = 0.0 if model is None else model.log_prob_of(task.vocabulary.decode(labels))
        scores.append(-loss.item() + LM_WEIGHT * prior)
    return np.array(scores)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Discard KenLM's messages on the file descriptor of stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
