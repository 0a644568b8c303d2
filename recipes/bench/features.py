"""Speed of the features compared with other libraries, on human speech, on one thread.

    ASR_SHARED=/path/to/shared python recipes/bench/features.py

The speech is LibriSpeech as FLAC, in corpora/LibriSpeech/dev-part of that folder (by default the
folder `shared` beside the repository); without it, noise in FLAC files, as the output says. The
runners of a table take turns, and the lowest CPU time counts, because other work on the machine can
only increase it. The last table has the differences between the features and their oracles.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kaldi_native_fbank as knf
import librosa
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from asr import audio
from asr.batch import Batch, pad
from asr.errors import exit_code
from asr.features.config import FeaturesConfig
from asr.features.deltas import put_deltas
from asr.features.frames import EPSILON, INT16_SCALE
from asr.features.layer import Features
from asr.features.windows import CPU_FRAMES, Shaping, mel_power, shape_windows

TURNS = 15
FILES, BATCH = 32, 16
RATE, WINDOW, HOP, FFT = 16_000, 400, 160, 512

LOG_MEL_40 = FeaturesConfig(energy=False, deltas=0, normalization="none")
SET_OF_123 = FeaturesConfig()
LIBROSA_80 = FeaturesConfig(
    family="librosa", bins=80, energy=False, deltas=0, low_hz=0, normalization="none"
)

Runner = Callable[[], object]


def speech(folder: Path) -> list[Path]:
    """FLAC files of human speech, or of noise in `folder`."""
    shared = Path(os.environ.get("ASR_SHARED", Path(__file__).parents[3] / "shared"))
    real = sorted((shared / "corpora" / "LibriSpeech" / "dev-part").rglob("*.flac"))
    if real:
        return real[:: max(1, len(real) // FILES)][:FILES]
    print(f"no speech in {shared} (set ASR_SHARED): noise with a slow envelope instead")
    rng = np.random.default_rng(0)
    for number in range(FILES):
        samples = rng.integers(2 * RATE, 12 * RATE)
        noise = 0.05 * rng.standard_normal(samples) * np.sin(np.arange(samples) / 4000) ** 2
        soundfile.write(folder / f"{number:02d}.flac", noise, RATE)
    return sorted(folder.glob("*.flac"))


def race(title: str, audio_s: float, peer: str, runners: dict[str, Runner]) -> None:
    """Print × real time, and the ratio to the runner named `peer`."""
    best = {name: float("inf") for name in runners}
    for _ in range(TURNS):
        for name, run in runners.items():
            best[name] = min(best[name], cpu_time(run))
    print(f"\n{title} (× real time; × {peer})")
    for name, seconds in best.items():
        print(f"  {name:<52} {audio_s / seconds:8,.0f}  {best[peer] / seconds:6.2f}")


def cpu_time(run: Runner) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def torchaudio_fbank(waveform: Tensor, bins: int = 40) -> Tensor:
    return torchaudio.compliance.kaldi.fbank(waveform.unsqueeze(0) * INT16_SCALE, num_mel_bins=bins)


def torchaudio_mfcc(waveform: Tensor) -> Tensor:
    return torchaudio.compliance.kaldi.mfcc(waveform.unsqueeze(0) * INT16_SCALE)


def native(waveform: Tensor, bins: int = 40, mfcc: bool = False) -> np.ndarray:
    options = knf.MfccOptions() if mfcc else knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bins
    if mfcc:
        options.use_energy = False
    online = knf.OnlineMfcc(options) if mfcc else knf.OnlineFbank(options)
    online.accept_waveform(RATE, (waveform * INT16_SCALE).tolist())
    online.input_finished()
    return np.array([online.get_frame(t) for t in range(online.num_frames_ready)])


def librosa_log_mel(waveform: Tensor, bins: int = 80) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=waveform.numpy(), sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=bins
    )
    return np.log(np.maximum(mel, 1e-10)).T


def librosa_mfcc(waveform: Tensor) -> np.ndarray:
    return librosa.feature.mfcc(
        y=waveform.numpy(), sr=RATE, n_mfcc=13, n_fft=WINDOW, hop_length=HOP, n_mels=40
    ).T


def fft_and_mel(waveform: Tensor, bank: Tensor) -> list[Tensor]:
    """The minimum of work: no edges, no window, no pre-emphasis."""
    return [
        (torch.fft.rfft(windows, n=FFT).abs().square() @ bank).log_()
        for windows in waveform.unfold(0, WINDOW, HOP).split(CPU_FRAMES)
    ]


def speed(files: list[Path]) -> None:
    waveforms = [torch.from_numpy(audio.load(file)) for file in files]
    waveforms.sort(key=len)
    audio_s = sum(map(len, waveforms)) / RATE
    print(f"{len(files)} utterances, {audio_s:.0f} s, {torch.get_num_threads()} thread")
    single = [Batch.of([one]) for one in waveforms]
    batches = [Batch.of(waveforms[n : n + BATCH]) for n in range(0, len(waveforms), BATCH)]
    mixed = [Batch.of(waveforms[n :: len(batches)]) for n in range(len(batches))]
    plain, full, centred = Features(LOG_MEL_40), Features(SET_OF_123), Features(LIBROSA_80)
    bank = plain.frontend.bank(None, torch.device("cpu"))
    peer = "torchaudio kaldi.fbank, 40"

    def each(function: Callable[..., object], of: list) -> Runner:  # type: ignore[type-arg]
        return lambda: [function(one) for one in of]

    race(
        "Features of waveforms",
        audio_s,
        peer,
        {
            "ours, 40 log-mel, one by one": each(plain, single),
            f"ours, 40 log-mel, batches of {BATCH}": each(plain, batches),
            f"ours, 40 log-mel, batches of {BATCH} of any lengths": each(plain, mixed),
            "ours, 123 with Δ and ΔΔ, one by one": each(full, single),
            f"ours, 123 with Δ and ΔΔ, batches of {BATCH}": each(full, batches),
            f"ours, 80 as librosa, batches of {BATCH}": each(centred, batches),
            peer: each(torchaudio_fbank, waveforms),
            "kaldi-native-fbank, 40": each(native, waveforms),
            "librosa log-mel, 80": each(librosa_log_mel, waveforms),
            "FFT, mel and logarithm alone": each(lambda one: fft_and_mel(one, bank), waveforms),
        },
    )

    groups = [files[n : n + BATCH] for n in range(0, len(files), BATCH)]

    def from_file(features: Features) -> Runner:
        def batch_of(group: list[Path]) -> object:
            return features(Batch.of([torch.from_numpy(audio.load(file)) for file in group]))

        return each(batch_of, groups)

    race(
        f"From FLAC file to features, batches of {BATCH}",
        audio_s,
        "decoding alone",
        {
            "decoding alone": each(lambda file: soundfile.read(file, dtype="float32"), files),
            "audio.load, which checks the file": each(audio.load, files),
            "40 log-mel": from_file(plain),
            "123 with Δ and ΔΔ": from_file(full),
        },
    )
    race(
        f"123 normalised, batches of {BATCH}",
        audio_s,
        "none",
        {
            name: each(Features(FeaturesConfig(normalization=name)), batches)
            for name in ("none", "global", "utterance", "sliding")
        },
    )


def where_time_goes(waveform: Tensor) -> None:
    """Time of each step for the 123 features of a long utterance, in µs per frame."""
    features = Features(SET_OF_123)
    frontend = features.frontend
    bank = frontend.frames.bank
    lengths = torch.tensor([len(waveform)])
    batch = waveform.unsqueeze(0)
    signal = frontend.extended(batch, lengths)[0].numpy()
    scale, preemphasis = np.float32(frontend.scale), np.float32(frontend.preemphasis)
    how = Shaping(HOP, frontend.taper.numpy(), scale, preemphasis, True, True)
    energy, shaped = np.ones((CPU_FRAMES, 1), np.float32), np.zeros((CPU_FRAMES, FFT))
    spectrum, mel = np.fft.rfft(shaped), np.ones((CPU_FRAMES, bank.shape[1]), np.float32)
    has_weight = bank != 0
    support = has_weight.argmax(axis=0), len(bank) - has_weight[::-1].argmax(axis=0)
    filters = np.ascontiguousarray(bank.T)
    wide, all_frames = features.dynamic(*features.static(batch, lengths))

    def windows() -> None:
        shape_windows(signal, 0, CPU_FRAMES, how, shaped, energy)

    total = int(all_frames)
    chunk = {
        "windows: DC, energy, pre-emphasis, taper": windows,
        "FFT": lambda: np.fft.rfft(shaped, out=spectrum),
        "power in mel filters": lambda: mel_power(spectrum, filters, *support, mel),
        "logarithm": lambda: np.log(np.maximum(mel, EPSILON)),
    }
    whole = {
        "static": lambda: features.static(batch, lengths),
        "Δ and ΔΔ": lambda: put_deltas(wide, all_frames, 41, 2),
        "all": lambda: features(Batch.of([waveform])),
    }
    seconds = {name: float("inf") for name in (*chunk, *whole)}
    for _ in range(10 * TURNS):
        for name, run in (chunk | whole).items():
            frames = 10 * (CPU_FRAMES if name in chunk else total)
            taken = cpu_time(lambda run=run: [run() for _ in range(10)]) / frames
            seconds[name] = min(seconds[name], taken)
    static = seconds.pop("static")
    everything = seconds.pop("all")
    seconds["cache misses, Python, collecting"] = static - sum(seconds[name] for name in chunk)
    seconds["normalisation"] = everything - static - seconds["Δ and ΔΔ"]
    print("\nWhere the time goes in the 123 (µs per frame; share)")
    for name, taken in (seconds | {"all": everything}).items():
        print(f"  {name:<52} {1e6 * taken:8.3f}  {taken / everything:6.0%}")


def agreement(files: list[Path]) -> None:
    """The largest difference from each oracle, and between the two Kaldi oracles."""
    waveforms = [torch.from_numpy(audio.load(file)) for file in files[:20]]
    fbank_80 = FeaturesConfig(bins=80, energy=False, deltas=0)
    mfcc_13 = FeaturesConfig(kind="mfcc", bins=23, energy=False, deltas=0)
    librosa_13 = FeaturesConfig(family="librosa", kind="mfcc", energy=False, deltas=0, low_hz=0)

    def ours(config: FeaturesConfig) -> Tensor:
        features = Features(config)
        return torch.cat(
            [features.dynamic(*features.static(*pad([one])))[0][0] for one in waveforms]
        )

    def theirs(function: Callable[..., object], *options: object) -> Tensor:
        return torch.cat([torch.as_tensor(function(one, *options)) for one in waveforms])

    print(f"\nLargest difference, {len(waveforms)} utterances")
    for name, config, oracle, other in (
        ("40 log-mel", LOG_MEL_40, theirs(torchaudio_fbank), theirs(native)),
        ("80 log-mel", fbank_80, theirs(torchaudio_fbank, 80), theirs(native, 80)),
        ("13 cepstra", mfcc_13, theirs(torchaudio_mfcc), theirs(native, 23, True)),
    ):
        features = ours(config)
        print(
            f"  {name}: torchaudio {(features - oracle).abs().max():.0e}, kaldi-native-fbank "
            f"{(features - other).abs().max():.0e}, those two {(oracle - other).abs().max():.0e}; "
            f"within 1e-3 of kaldi-native-fbank "
            f"{((features - other).abs() <= 1e-3).double().mean():.4%}"
        )
    for name, config, oracle in (
        ("80 log-mel", LIBROSA_80, theirs(librosa_log_mel)),
        ("13 cepstra", librosa_13, theirs(librosa_mfcc)),
    ):
        print(f"  {name}: librosa {(ours(config) - oracle).abs().max():.0e}")


@exit_code
def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        files = speech(Path(name))
        speed(files)
        where_time_goes(torch.from_numpy(audio.load(max(files, key=os.path.getsize))))
        agreement(files)


if __name__ == "__main__":
    sys.exit(main())
