"""Features and LSTM against what people would use instead, all in one run.

    python recipes/bench/speed.py

Prints medians and ratios; machines are noisy, so quote the ratios.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torchaudio
from torch import nn

from asr.batch import pad
from asr.features import INT16_SCALE, Features, FeaturesConfig
from asr.lstm import LSTMStack

REPEATS = 7


def race(title: str, unit: str, amount: float, runners: dict[str, Callable[[], object]]) -> None:
    """Time the runners in turn; the last one named is the peer that ratios refer to."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(REPEATS + 1):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            if turn:  # the first is to warm up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    peer = medians[list(runners)[-1]]
    print(f"{title} ({torch.get_num_threads()} threads)")
    for name, median in medians.items():
        print(f"  {name:<46} {amount / median:12,.0f} {unit}   {peer / median:5.2f} ×")


def features() -> None:
    waveforms = [0.1 * torch.randn(16_000 * 3 + 997 * n) for n in range(16)]
    batch, lengths = pad(waveforms)
    audio_s = float(lengths.sum()) / 16_000
    plain = Features(FeaturesConfig(deltas=0))
    full = Features(FeaturesConfig())

    def kaldi() -> None:
        for waveform in waveforms:
            torchaudio.compliance.kaldi.fbank(
                waveform.unsqueeze(0) * INT16_SCALE, num_mel_bins=40, use_energy=True
            )

    race(
        "Log-mel features, 16 utterances of 3 to 4 s",
        "× real time",
        audio_s,
        {
            "40 log-mel + energy, padded batch": lambda: plain(batch, lengths),
            "123 = with Δ and ΔΔ, padded batch": lambda: full(batch, lengths),
            "torchaudio.compliance.kaldi.fbank, one by one": kaldi,
        },
    )


def lstm() -> None:
    torch.manual_seed(0)
    frames, lengths = pad([torch.randn(300 - 7 * n, 123) for n in range(16)])
    ours = LSTMStack(123, 250, 3, bidirectional=True, dropout=0.0)
    theirs = nn.LSTM(123, 250, 3, batch_first=True, bidirectional=True)

    def packed() -> torch.Tensor:
        sequence = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(theirs(sequence)[0], batch_first=True)[0]

    race(
        "3 × 250 × 2 LSTM, forward and backward, 16 utterances of 195 to 300 frames",
        "frames/s",
        float(lengths.sum()),
        {
            "LSTMStack, exact for any lengths": lambda: ours(frames, lengths).sum().backward(),
            "nn.LSTM, padded: not exact": lambda: theirs(frames)[0].sum().backward(),
            "nn.LSTM, pack_padded_sequence": lambda: packed().sum().backward(),
        },
    )


if __name__ == "__main__":
    features()
    lstm()
