"""What a request may ask of this machine, and how many of them at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from asr.errors import DataError

OF_FORM = 1 << 16  # bytes around the audio: the other fields, and what separates them
SHARE = 4  # uploads of the largest size that may be in memory together


@dataclass(frozen=True)
class Limits:
    """Of one upload, and of all together."""

    seconds: float = 600.0  # of audio
    bytes: int = 100_000_000  # of a file
    waiting: int = 64  # requests
    text: int = 20_000  # characters
    pause_s: float = 30.0  # between two parts of an upload


class TooMuchError(DataError):
    """An upload is larger or longer than the limits."""


class BusyError(DataError):
    """Too many requests wait, or their uploads fill the memory that they may have."""


@dataclass
class Admission:
    """Counts the requests that are here, and the bytes of their uploads."""

    limits: Limits
    requests: int = 0
    held: int = field(default=0, init=False)

    @contextmanager
    def admitted(self) -> Iterator["Upload"]:
        """A place for a request and its upload; `BusyError` where there is none."""
        if self.requests >= self.limits.waiting:
            raise BusyError(f"{self.requests} requests are waiting already; try again soon")
        self.requests += 1
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.requests -= 1
            self.held -= upload.held


@dataclass
class Upload:
    """The bytes of one request that are in memory."""

    admission: Admission
    held: int = 0

    def add(self, count: int) -> None:
        """Count more bytes; `TooMuchError` and `BusyError` where there is no room for them."""
        limits = self.admission.limits
        require_size(self.held + count, limits)
        if self.admission.held + count > SHARE * (limits.bytes + OF_FORM):
            raise BusyError("other uploads fill the memory; try again soon")
        self.held += count
        self.admission.held += count


def require_size(count: int, limits: Limits) -> None:
    """Raise `TooMuchError` for a form with a file of more bytes than the limit."""
    if count > limits.bytes + OF_FORM:
        raise TooMuchError(
            f"the upload has more than {limits.bytes / 1e6:g} MB, the limit of this server; send "
            f"a shorter recording, or FLAC or Opus instead of WAV"
        )
