"""Static frames on disk, so that later epochs neither decode audio nor compute features.

    FOLDER/<configuration>/about.json              what the entries depend on
    FOLDER/<configuration>/frames/4f/4f6c…         an entry, named by the SHA-256 of the audio file
    FOLDER/<configuration>/frames/4f/4f6c…-110     the same, played at 110 % of its pace
    FOLDER/<configuration>/seen/b0/b07a… → 4f6c…   a link, named by path, size and times of the file

A configuration is everything besides the audio that static frames depend on: the fields of
`FeaturesConfig` up to deltas, the precision, and the source text of the code that computes them. A
link spares hashing again a file that has not changed. Each entry is a file of its own: without an
index there is nothing to hold in memory or to lock, and any number of runs may fill one cache. An
entry carries a checksum; a damaged one counts as absent and is written again. Nothing is deleted.

This file decodes no audio and computes no frames.
"""

import hashlib
import importlib.metadata
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from asr.augment.sounds import accelerate
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.layer import Features
from asr.files.kept import stamp
from asr.files.outputs import atomic_open
from asr.files.shards import file_of, opened

PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
# Fields that static frames do not depend on; another value of any other is another configuration.
AFTER_STATIC = frozenset({"deltas", "delta_window", "context", "normalization", "cmn_window"})
# The code from a file to its static frames; where its text changes all entries are stale.
SOURCES = tuple(
    path
    for code in ("audio/*.py", "augment/sounds.py", "batch.py", "features/*.py", "processor/*.py")
    for path in sorted(Path(__file__).parents[1].glob(code))
)
LIBRARIES = ("librosa", "numpy", "torch", "torchaudio")
# A file may change again within this time without a change of its time stamps.
UNSETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class CachedFrames:
    """Static frames (T, static width), float32, and how many samples they were made of."""

    frames: Tensor
    samples: int


class FrameCache:
    """The entries of one configuration in a folder that other processes may use at the same time.

    Raises `DataError` where the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, config: FeaturesConfig, precision: str = "float32"
    ) -> None:
        self.features = Features(config)
        self.dtype = PRECISIONS[precision]
        about = {
            "features": {k: v for k, v in asdict(config).items() if k not in AFTER_STATIC},
            "precision": precision,
            "code": hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest(),
            "libsndfile": soundfile.__libsndfile_version__,
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        }
        text = json.dumps(about, indent=2) + "\n"
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
        if not (self.folder / "about.json").exists():
            self._write(self.folder / "about.json", text.encode())

    def frames(
        self, path: str | Path, waveform: Callable[[], Tensor], pace: int = 100
    ) -> CachedFrames:
        """As `get`, with frames computed from the waveform (S,) played at `pace`."""

        def compute() -> CachedFrames:
            samples = torch.from_numpy(accelerate(waveform().numpy(), pace))
            lengths = torch.tensor([len(samples)])
            frames, counts = self.features.static(samples.unsqueeze(0), lengths)
            return CachedFrames(frames[0, : counts[0]], len(samples))

        return self.get(path, compute, pace)

    def get(
        self, path: str | Path, compute: Callable[[], CachedFrames], pace: int = 100
    ) -> CachedFrames:
        """The frames of an audio file from the cache, or else from `compute`, which it then keeps.

        `pace`, in percent, distinguishes the frames of one file played at several paces. Frames
        are rounded to the precision of the cache, in both cases. From the cache float32 frames are
        memory-mapped: pages of the file, which the system drops when it needs memory.
        """
        try:
            begun, variant = _stamp(path), "" if pace == 100 else f"-{pace}"
            seen = self._place("seen", hashlib.sha256(begun.encode()).hexdigest() + variant)
            if (kept := _read(seen)) is not None:
                return kept
            settled = time.time_ns() - os.stat(file_of(path)).st_ctime_ns > UNSETTLED_NS
            with opened(path) as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            entry = self._place("frames", digest + variant)
        except OSError:
            return compute()  # whose error tells what is wrong with the file
        kept = _read(entry)
        if kept is None:
            computed = compute()
            rounded = computed.frames.to(self.dtype)
            kept = CachedFrames(rounded.float(), computed.samples)
            if _stamp(path) != begun:
                return kept  # the file changed meanwhile: these may be frames of either content
            about = {"samples": kept.samples, "crc32": _checksum(rounded, kept.samples)}
            data = save({"frames": rounded.contiguous()}, {"asr": json.dumps(about)})
            self._write(entry, data)
        if settled:
            with self._writing():
                seen.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    seen.symlink_to(os.path.relpath(entry, seen.parent))
        return kept

    def _place(self, kind: str, digest: str) -> Path:
        return self.folder / kind / digest[:2] / digest

    def _write(self, path: Path, data: bytes) -> None:
        with self._writing(), atomic_open(path, "wb") as file:
            file.write(data)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.folder}: the feature cache cannot be written ({error.strerror}); free disk "
                f"space, set another folder (cache=FOLDER) or no cache (cache='')"
            ) from error


def frame_cache(folder: str, config: FeaturesConfig, precision: str) -> FrameCache | None:
    """The cache in `folder` for frames of `config`; none without a folder."""
    return FrameCache(folder, config, precision) if folder else None


def _stamp(path: str | Path) -> str:
    """What tells that a recording has changed: a file, or a member of a shard."""
    return f"{path} {stamp(file_of(path))}"


def _read(path: Path) -> CachedFrames | None:
    """None where the entry is absent or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["asr"])
            frames = file.get_tensor("frames")
        if about["crc32"] == _checksum(frames, about["samples"]):
            return CachedFrames(frames.float(), about["samples"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    return None


def _checksum(frames: Tensor, samples: int) -> int:
    return zlib.crc32(frames.numpy().data, samples)
