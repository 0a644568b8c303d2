"""The LSTM family against torch's recurrent networks, and against the matrix products in them.

    python recipes/bench/lstm.py [turns] [sizes]

3 layers × 250 cells × 2 directions on 16 utterances: the network of CTC-3l-250h (Graves et al.
2013). Runners take turns. Machines are noisy: quote the ratios, medians of those within a turn.
With `sizes`: only the two forms of a plain LSTM, at several sizes, to choose the size from which
ours is used. With OMP_NUM_THREADS=1 seconds are CPU time, which other work hardly changes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr.batch import pad, reverse
from asr.errors import exit_code
from asr.lstm.cell import TorchCell
from asr.lstm.cells import CELLS
from asr.lstm.fast import recurrence
from asr.lstm.fast.kernels import KERNELS
from asr.lstm.fast.products import linear, onednn_multiplies, packed
from asr.lstm.fast.recurrence import side_by_side
from asr.lstm.layer import RecurrentLayer, RecurrentStack

COUNT, STEPS, INPUT, HIDDEN, LAYERS = 16, 300, 123, 250, 3

Runner = tuple[nn.Module, Callable[[], Tensor]]


def timed(runners: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Seconds of each runner in each turn, after a warm-up turn."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(turns + 1):
        for name, run in runners.items():
            started = clock()
            run()
            if turn:
                seconds[name].append(clock() - started)
    return seconds


def limits(turns: int) -> tuple[float, float]:
    """FLOP/s of the products with U, step after step, and of those with W, all at once.

    For the products with U each direction has its own core, as in the stack.
    """
    rows = 4 * HIDDEN
    hidden, matrix = torch.randn(COUNT, HIDDEN), torch.randn(rows, HIDDEN)
    frames, weight = torch.randn(COUNT * STEPS, 2 * HIDDEN), torch.randn(rows, 2 * HIDDEN)
    ordered = packed(matrix, COUNT)

    def steps(_: object) -> None:
        for _ in range(STEPS):
            linear(hidden, ordered)

    seconds = timed(
        {
            "steps": lambda: side_by_side(steps, [0, 1]),
            "frames": lambda: linear(frames, weight),
            "mm": lambda: torch.mm(frames, weight.t()),
        },
        turns,
    )
    flop = 4.0 * frames.numel() * HIDDEN * 2  # as many in both directions of the steps
    rates = {name: flop / statistics.median(times) for name, times in seconds.items()}
    print(
        f"products: {rates['steps'] / 1e9:.0f} GFLOP/s with U, step after step; "
        f"{rates['frames'] / 1e9:.0f} with W, all at once ({rates['mm'] / 1e9:.0f} by torch.mm)"
    )
    return rates["steps"], rates["frames"]


def race(title: str, lengths: Tensor, runners: dict[str, Runner], turns: int) -> None:
    """Time forward alone, then forward and backward; ratios are to the first runner."""
    print(f"\n{title}; {torch.get_num_threads()} threads, {turns} turns")
    step_rate, frame_rate = limits(turns)
    with torch.no_grad():
        forward = timed({name: run for name, (_, run) in runners.items()}, turns)
    both = timed(
        {name: lambda run=run: run().sum().backward() for name, (_, run) in runners.items()},
        turns,
    )
    print(
        f"{'frames/s:':>32}{'forward':>8}{'and backward':>14}{'GFLOP/s':>10}{'limit':>7}{'time':>9}"
    )
    frames = float(lengths.sum())
    peer = next(iter(runners))
    for name, (module, _) in runners.items():
        sizes = {key: 2 * w.numel() for key, w in module.named_parameters() if w.dim() == 2}
        flop = 3 * frames * sum(sizes.values())
        # U is in every step, forward and backward; the gradient of U is one product.
        recurrent = [size for key, size in sizes.items() if "recurrent" in key or "_hh" in key]
        with_u = 2 * frames * sum(recurrent)
        limit = with_u / step_rate + (flop - with_u) / frame_rate
        seconds = statistics.median(both[name])
        ratio = statistics.median(a / b for a, b in zip(both[name], both[peer], strict=True))
        ahead = statistics.median(forward[name])
        print(
            f"  {name:30}{frames / ahead:8,.0f}{frames / seconds:14,.0f}"
            f"{flop / seconds / 1e9:10.0f}{limit / seconds:7.0%}{ratio:7.2f} ×"
        )


def ours(cell: str) -> RecurrentStack:
    projection = HIDDEN // 2 if cell == "projected" else 0
    return RecurrentStack(cell, INPUT, HIDDEN, LAYERS, True, 0.0, projection)


def theirs(kind: type[nn.RNNBase]) -> nn.RNNBase:
    return kind(INPUT, HIDDEN, LAYERS, batch_first=True, bidirectional=True)


def by_torch(stack: RecurrentStack, frames: Tensor, lengths: Tensor) -> Tensor:
    """The stack with torch's kernels, one direction after the other."""
    for layer in stack.layers:
        assert isinstance(layer, RecurrentLayer)
        ahead, behind = (cell.fused for cell in layer.cells if isinstance(cell, TorchCell))
        back = reverse(behind(reverse(frames, lengths)), lengths)
        frames = torch.cat([ahead(frames), back], 2)
    return frames


def in_16_bits(stack: RecurrentStack, frames: Tensor, lengths: Tensor) -> Tensor:
    """As with `training.precision=bfloat16`."""
    with torch.autocast("cpu", torch.bfloat16):
        return stack(frames, lengths)  # type: ignore[no-any-return]


def readable(stack: RecurrentStack, frames: Tensor, lengths: Tensor) -> Tensor:
    return torch.cat([trace.hidden for trace in stack.trace(frames, lengths)[-1]], 2)


def packed_lstm(lstm: nn.LSTM, frames: Tensor, lengths: Tensor) -> Tensor:
    sequence = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(lstm(sequence)[0], batch_first=True)[0]


def sizes(turns: int) -> None:
    """Time of the two forms of a plain LSTM, for both directions of one layer."""
    print(f"\ntorch.lstm, time against our form; {torch.get_num_threads()} threads, {turns} turns")
    print("cells × utterances       forward and backward   forward")
    for hidden in (64, 128, 250, 320):
        for count in (1, 4, 8, 16, 32):
            cells = RecurrentLayer("lstm", 2 * hidden, hidden, True).cells
            frames = [torch.randn(count, 200, 2 * hidden, requires_grad=True)] * 2
            forms = {
                "own": lambda cells=cells, frames=frames: recurrence.unroll(
                    KERNELS["lstm"], cells, frames
                ),
                "torch": lambda cells=cells, frames=frames: [
                    cell.fused(frames) for cell, frames in zip(cells, frames, strict=True)
                ],
            }
            with torch.no_grad():
                forward = timed(forms, turns)
            both = timed(
                {
                    name: lambda run=run: torch.cat(run(), 2).sum().backward()
                    for name, run in forms.items()
                },
                turns,
            )
            ratios = [
                statistics.median(a / b for a, b in zip(one["torch"], one["own"], strict=True))
                for one in (both, forward)
            ]
            print(
                f"{hidden:5} × {count:<3} {hidden * count:9,} {ratios[0]:19.2f} {ratios[1]:11.2f}"
            )


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("turns", nargs="?", type=int, default=5)
    parser.add_argument("only", nargs="?", choices=["sizes"], help="the forms of a plain LSTM")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.only:
        sizes(options.turns)
        return
    stacks = {cell: ours(cell) for cell in CELLS}
    peers = {kind.__name__: theirs(kind) for kind in (nn.LSTM, nn.GRU, nn.RNN)}
    lstm = peers["LSTM"]
    assert isinstance(lstm, nn.LSTM)

    frames, lengths = torch.randn(COUNT, STEPS, INPUT), torch.full((COUNT,), STEPS)
    runners: dict[str, Runner] = {
        f"nn.{name}, padded": (peer, lambda peer=peer: peer(frames)[0])
        for name, peer in peers.items()
    }
    runners["lstm by torch.lstm"] = (lstm, lambda: by_torch(stacks["lstm"], frames, lengths))
    runners |= {
        cell: (stack, lambda stack=stack: stack(frames, lengths)) for cell, stack in stacks.items()
    }
    if onednn_multiplies(torch.bfloat16):
        runners["lstm, bfloat16"] = (
            stacks["lstm"],
            lambda: in_16_bits(stacks["lstm"], frames, lengths),
        )
    runners["peephole, readable"] = (
        stacks["peephole"],
        lambda: readable(stacks["peephole"], frames, lengths),
    )
    race(f"{COUNT} utterances of {STEPS} frames", lengths, runners, options.turns)

    ragged, many = pad([torch.randn(STEPS - 7 * n, INPUT) for n in range(COUNT)])
    race(
        f"{COUNT} utterances of {min(many)} to {STEPS} frames",
        many,
        {
            "nn.LSTM, pack_padded_sequence": (lstm, lambda: packed_lstm(lstm, ragged, many)),
            "lstm": (stacks["lstm"], lambda: stacks["lstm"](ragged, many)),
            "peephole": (stacks["peephole"], lambda: stacks["peephole"](ragged, many)),
        },
        options.turns,
    )


if __name__ == "__main__":
    sys.exit(main())
