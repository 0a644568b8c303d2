"""A corpus as its tree shows it: recordings by split, before any audio is opened."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr import labels
from asr.audio import AudioInfo
from asr.errors import raise_problems
from asr.knobs import REQUIRED, Knobs, knob
from asr.labels.checks import checked
from asr.phones import unknown_phone
from asr.records import Segment
from asr.scoring.protocols import protocol_names

Labels = tuple[tuple[str, ...], tuple[Segment, ...] | None]  # phones, and with times where known


@dataclass(frozen=True)
class CorpusConfig(Knobs, group="corpus"):
    """Where a corpus is and what its labels are."""

    root: str = knob(REQUIRED, "folder of the corpus", filled=True)
    name: str = knob(REQUIRED, "printed with every result")
    phone_set: str = knob("timit61", "of the labels")
    sample_rate: int = knob(16_000, "Hz; features.sample_rate must be the same")
    resample: bool = knob(False, "convert other rates and several channels to files of the run")
    channel: int | None = knob(None, "with resample: the one to use, from 1; none: mixed")
    protocol: str = knob("strict", "of scoring dev PER (docs/scoring.md)", one_of=protocol_names())
    shared_speakers: bool = knob(False, "allow a speaker in several splits")


@dataclass(frozen=True, slots=True)
class Stated:
    """What a corpus says of the audio of a recording, for `check` to compare; None: nothing."""

    place: str  # file and line
    duration_s: float | None = None
    sample_rate: int | None = None
    samples: int | None = None
    channels: tuple[int, ...] | None = None  # of the file, from 0
    used: tuple[int, ...] | None = None  # those of them that are the utterance


@dataclass(frozen=True, slots=True)
class Recording:
    """One utterance, and the files that belong to it."""

    id: str
    audio: str
    speaker: str
    labels: str | None = None  # file of phones with times
    words: str | None = None  # transcript, where the phones come from a lexicon
    sex: str | None = None
    dialect: str | None = None
    part: str | None = None  # "train" or "test", in a TIMIT tree
    text: str | None = None  # file with the words, read to find sentences that two splits share
    phones: tuple[str, ...] = ()  # where the corpus lists them, and no file has times of them
    segments: tuple[Segment, ...] = ()  # likewise, with times
    place: str = ""  # file and line of the words or phones
    stated: Stated | None = None  # of the audio, where the corpus says so

    @property
    def named(self) -> str:
        """The beginning of a message: file and line where there is one, and the id."""
        return f"{self.place} ({self.id})" if self.place else self.id

    @property
    def source(self) -> str:
        """File and line of a recording that a list names, or else its audio."""
        return self.place if self.place and not self.labels else self.audio


Labeller = Callable[[Recording, AudioInfo], Labels]  # pickled for worker processes


@dataclass(frozen=True)
class PhoneSetLabeller:
    """Phones of a phone set, from the label file of a recording or as its corpus lists them."""

    phones: Collection[str]
    name: str  # of the set, in messages
    tier: str | None = None  # of TextGrids; None: the one that is called as phones are

    def __call__(self, recording: Recording, header: AudioInfo) -> Labels:
        known = self.phones, self.name
        if recording.labels is not None:
            path, samples, rate = recording.labels, header.samples, header.sample_rate
            return with_times(labels.read_checked(path, samples, rate, *known, self.tier))
        if recording.segments:
            named, segments = recording.named, recording.segments
            return with_times(checked(named, segments, header.duration_s, *known))
        raise_problems(
            f"{recording.named}: {unknown_phone(phone, *known)}"
            for phone in sorted(set(recording.phones).difference(self.phones))
        )
        return recording.phones, None


@dataclass(frozen=True)
class Corpus:
    """The recordings of each split, what gives their phones, and all problems."""

    name: str  # printed with every result
    splits: dict[str, list[Recording]]
    labeller: Labeller
    sample_rate: int
    named: dict[str, str] = field(default_factory=dict)  # split → name, where it is another
    phones: tuple[str, ...] | None = None  # vocabulary; None: the phone set of the configuration
    pronunciation: str | None = None  # `Utterance.pronunciation`, where a lexicon gives the phones
    window_s: float = 0.025  # shortest recording
    # folders of recordings that are resampled or mixed (`check`): while it is prepared, and later
    converted: tuple[Path, Path] | None = None
    channel: int | None = None  # of these; None: mixed
    report: dict[str, str] = field(default_factory=dict)  # file beside the manifests → its text
    notes: Sequence[str] = ()  # what was left out of transcripts and lexica, printed at the end
    bad: Sequence[str] = ()  # problems of single recordings, which are in no split
    wrong: Sequence[str] = ()  # problems of the corpus as a whole


def with_times(segments: tuple[Segment, ...]) -> Labels:
    """Labels that have times."""
    return tuple(segment.phone for segment in segments), segments
