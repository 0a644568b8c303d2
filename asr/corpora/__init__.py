"""Corpora: a tree on disk becomes utterances per split; one module is one corpus."""

from asr.corpora import folder, librispeech, synthetic, timit
from asr.corpora.base import SPLITS, CorpusConfig, Found, examine
from asr.corpora.folder import FolderConfig
from asr.corpora.librispeech import LibriSpeechConfig
from asr.corpora.synthetic import SyntheticConfig
from asr.corpora.timit import TimitConfig
from asr.errors import DataError, raise_problems
from asr.records import Utterance

CONFIGS: dict[str, type[CorpusConfig]] = {
    "folder": FolderConfig,
    "librispeech": LibriSpeechConfig,
    "synthetic": SyntheticConfig,
    "timit": TimitConfig,
}

__all__ = [
    "CONFIGS",
    "CorpusConfig",
    "FolderConfig",
    "Found",
    "LibriSpeechConfig",
    "SyntheticConfig",
    "TimitConfig",
    "examine",
    "find",
    "read",
]


def find(config: CorpusConfig) -> Found:
    """Walk the corpus that `config` describes; no audio is opened."""
    match config:
        case TimitConfig():
            return timit.find(config)
        case SyntheticConfig():
            return synthetic.find(config)
        case FolderConfig():
            return folder.find(config)
        case LibriSpeechConfig():
            return librispeech.find(config)
    raise TypeError(f"no corpus is found by {type(config).__name__}")


def read(config: CorpusConfig, found: Found | None = None) -> dict[str, list[Utterance]]:
    """Find and examine everything, one after the other; every bad file in one `DataError`."""
    found = found or find(config)
    problems: list[str] = []
    splits: dict[str, list[Utterance]] = {split: [] for split in SPLITS}
    for split, recordings in found.splits.items():
        splits.setdefault(split, [])
        for recording in recordings:
            try:
                splits[split].append(examine(recording, split, found))
            except DataError as error:
                problems.append(str(error))
    raise_problems(problems)
    for split in SPLITS:
        if not splits[split]:
            raise DataError(f"{config.root}: the split {split!r} is empty")
    return splits
