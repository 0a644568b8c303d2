"""Speed of the transducer: its loss against CTC's, its beam search against torchaudio's.

    python recipes/bench/transducer.py

The searches need a trained network: a head of the size of Trans-3l-250h, trained here for a minute
on noisy vectors, one for each of 61 phones, instead of an encoder's output. Prints medians of CPU
seconds on one thread, and ratios; machines are noisy, so quote the ratios.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchaudio.models import RNNTBeamSearch

from asr.architecture import EncoderConfig
from asr.batch import Batch, pad
from asr.criteria import CTC, CTCConfig, Transducer, TransducerConfig
from asr.encoder import Encoder
from asr.errors import exit_code
from asr.lstm.cell import State
from asr.search import SearchConfig

ENCODED, LABELS = 500, 62
FRAME_S = 0.01
REPEATS = 3
UPDATES, NOISE = 300, 0.15  # in the training of the head


def timed(runners: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Median CPU seconds of each, run in turn after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(repeats + 1):
        for name, run in runners.items():
            started = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def batch_of(targets: Sequence[Tensor]) -> Batch:
    labels, lengths = pad(targets)
    ids = tuple(map(str, range(len(targets))))
    return Batch(torch.zeros(len(ids), 1), torch.ones(len(ids)), labels, lengths, None, ids)


def losses() -> None:
    torch.manual_seed(0)
    targets = [torch.randint(1, LABELS, (37 - n,)) for n in range(16)]
    frames, lengths = pad([torch.randn(8 * len(target), 123) for target in targets])
    batch = batch_of(targets)
    encoder = Encoder(EncoderConfig(hidden=250, layers=3), 123)
    criteria = {
        "CTC": CTC(CTCConfig(), ENCODED, LABELS),
        "transducer": Transducer(TransducerConfig(), ENCODED, LABELS),
        "transducer, whole batch at once": Transducer(
            TransducerConfig(lattice=10**9), ENCODED, LABELS
        ),
        "transducer, one utterance at a time": Transducer(
            TransducerConfig(lattice=1), ENCODED, LABELS
        ),
    }
    encoded = encoder(frames, lengths)[0].detach().requires_grad_()
    heads = timed(
        {
            name: lambda c=criterion: c.loss(encoded, lengths, batch).sum().backward()
            for name, criterion in criteria.items()
        }
    )
    steps = timed(
        {
            name: lambda c=criterion: c.loss(*encoder(frames, lengths), batch).sum().backward()
            for name, criterion in criteria.items()
        }
    )
    print(f"Forward and backward, 16 utterances, {lengths.tolist()[0]} frames at most, 62 labels")
    print(f"  {'':38}{'criterion':>12}{'with 3 × 250 × 2 encoder':>30}")
    for name in criteria:
        print(
            f"  {name:38}{1e3 * heads[name]:9.0f} ms{1e3 * steps[name]:20.0f} ms"
            f"{steps[name] / steps['CTC']:6.2f} ×"
        )


def utterances(counts: Sequence[int], phone: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Noisy frames (N, T, D) of `counts` random phones, 2 to 14 frames each; lengths; targets."""
    targets = [torch.randint(1, LABELS, (count,)) for count in counts]
    frames = []
    for target in targets:
        durations = torch.randint(2, 15, target.shape)
        clean = phone[target - 1].repeat_interleave(durations, dim=0)
        frames.append(clean + NOISE * torch.randn_like(clean))
    return *pad(frames), targets


def trained(phone: Tensor) -> Transducer:
    criterion = Transducer(TransducerConfig(), ENCODED, LABELS)
    optimizer = torch.optim.Adam(criterion.parameters(), lr=1e-2)
    for _ in range(UPDATES):
        counts = torch.randint(2, 20, (8,)).tolist()
        frames, lengths, targets = utterances(counts, phone)
        optimizer.zero_grad()
        losses = criterion.loss(frames, lengths, batch_of(targets))
        losses.mean().backward()
        nn.utils.clip_grad_norm_(criterion.parameters(), 5.0)
        optimizer.step()
    print(f"Searches: training ended at {losses.sum().item() / sum(counts):.2f} nats/phone")
    return criterion.eval()


class ForTorchaudio(nn.Module):
    """Our networks for torchaudio's RNNTBeamSearch, whose blank is the last label."""

    def __init__(self, criterion: Transducer) -> None:
        super().__init__()
        self.criterion = criterion

    def transcribe(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.criterion.joint.of_frames(frames), lengths

    def predict(
        self, labels: Tensor, lengths: Tensor, state: list[list[Tensor]] | None
    ) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        if state is None:
            after = self.criterion.prediction.start(len(labels))
        else:
            after = self.criterion.prediction.step(labels[:, 0] + 1, State(*state[0]))
        prefixes = self.criterion.joint.of_prefixes(after.hidden)
        return prefixes.unsqueeze(1), lengths, [list(after)]

    def join(
        self, frames: Tensor, lengths: Tensor, prefixes: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.criterion.joint(frames.unsqueeze(2), prefixes.unsqueeze(1))
        return logits.roll(-1, dims=3), lengths, target_lengths


@torch.no_grad()
def searches() -> None:
    torch.manual_seed(0)
    phone = 0.05 * torch.randn(LABELS - 1, ENCODED)
    with torch.enable_grad():
        criterion = trained(phone)
    frames, lengths, _ = utterances([37] * 8, phone)
    audio_s = FRAME_S * float(lengths.sum())
    encoder = Encoder(EncoderConfig(hidden=250, layers=3), 123).eval()
    inputs = torch.randn(*frames.shape[:2], 123)
    peer = RNNTBeamSearch(
        ForTorchaudio(criterion), LABELS - 1, 1.0, lambda hypothesis: hypothesis[3], 4
    )
    scores: dict[str, list[float]] = {}

    def ours(name: str, beam: int) -> None:
        paths = criterion.decode(frames, lengths, SearchConfig(beam=beam))
        scores[name] = [path.score for (path, *_) in paths]

    def theirs(name: str, beam: int) -> None:
        results = [
            peer(one[:length], torch.tensor(length), beam)[0]
            for one, length in zip(frames, lengths.tolist(), strict=True)
        ]
        scores[name] = [score for *_, score in results]

    runs: dict[str, Callable[[], object]] = {
        "encoder alone, 3 × 250 × 2": lambda: encoder(inputs, lengths)
    }
    for name, run, beam in (
        ("greedy", ours, 1),
        ("beam 10", ours, 10),
        ("beam 100", ours, 100),
        ("torchaudio RNNTBeamSearch 10", theirs, 10),
    ):
        runs[name] = lambda name=name, run=run, beam=beam: run(name, beam)
    seconds = timed(runs, repeats=1)
    print(f"8 utterances, {audio_s:.0f} s at {1e3 * FRAME_S:.0f} ms a frame, 37 phones each")
    print(f"  {'':32}{'× real time':>12}   mean log-probability")
    for name, taken in seconds.items():
        mean = f"{statistics.mean(scores[name]):12.3f}" if name in scores else ""
        print(f"  {name:32}{audio_s / taken:12.1f}   {mean}")


@exit_code
def main() -> None:
    torch.set_num_threads(1)
    losses()
    searches()


if __name__ == "__main__":
    sys.exit(main())
