"""Files to waveforms and back, through soundfile.

Reads whatever libsndfile reads: RIFF, NIST SPHERE (also inside `.wav`), FLAC, Ogg/Opus. It never
resamples and never mixes channels down: a file that is not what was asked for is an error.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from asr.records import DataError

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: samples per channel, samples per second, channels."""

    samples: int
    sample_rate: int
    channels: int

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate


def info(path: str | Path) -> AudioInfo:
    """Read the header only; `DataError` if there is no readable, non-empty audio."""
    with _open(path) as file:
        found = AudioInfo(file.frames, file.samplerate, file.channels)
    if found.samples < 1:
        raise DataError(f"{path}: no audio, the file holds zero samples")
    return found


def load(path: str | Path, sample_rate: int = 16_000) -> Waveform:
    """The waveform (S,) as float32 in [-1, 1].

    Raises `DataError` for a file that is unreadable, empty, not mono, not at `sample_rate`, or
    that holds a sample which is no number.
    """
    with _open(path) as file:
        require_mono(path, file.channels)
        require_rate(path, file.samplerate, sample_rate)
        waveform: Waveform = file.read(dtype="float32")
    if waveform.size < 1:
        raise DataError(f"{path}: no audio, the file holds zero samples")
    if not np.isfinite(waveform).all():
        first = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise DataError(f"{path}: sample {first} is {waveform[first]}, expected a finite number")
    return waveform


def require_mono(path: str | Path, channels: int) -> None:
    if channels != 1:
        raise DataError(
            f"{path}: {channels} channels, expected 1; choose or mix one yourself, for example "
            f"with `sox IN OUT remix 1`"
        )


def require_rate(path: str | Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"{path}: sampled at {found} Hz, expected {expected} Hz; resample it, for example "
            f"with `sox IN -r {expected} OUT`"
        )


def _open(path: str | Path) -> soundfile.SoundFile:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        with open(path, "rb") as file:
            header = file.read(1024)
        if header.startswith(b"NIST_1A") and b"shorten" in header:
            raise DataError(
                f"{path}: SPHERE compressed with shorten, which no library here reads; expand it "
                f"with `sph2pipe -f wav IN OUT` or `sox IN OUT`"
            ) from error
        raise DataError(f"{path}: not a readable audio file ({error})") from error
