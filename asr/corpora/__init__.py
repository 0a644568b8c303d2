"""Corpora: a tree on disk becomes utterances per split; one module is one corpus."""

from pathlib import Path

from asr.corpora import synthetic, timit
from asr.corpora.base import CorpusConfig, Splits, find_recordings, read_utterances, split_by_speaker
from asr.corpora.synthetic import SyntheticConfig
from asr.corpora.timit import TimitConfig

CONFIGS: dict[str, type[CorpusConfig]] = {"synthetic": SyntheticConfig, "timit": TimitConfig}

__all__ = ["CONFIGS", "CorpusConfig", "Splits", "SyntheticConfig", "TimitConfig", "read"]


def read(config: CorpusConfig) -> Splits:
    """Read the corpus that `config` describes; a synthetic one that is absent is spoken first."""
    match config:
        case TimitConfig():
            return timit.read(config)
        case SyntheticConfig():
            root = Path(config.root)
            synthetic.generate(root, config)
            return read_utterances(split_by_speaker(find_recordings(root), root / "speakers.txt"), config)
    raise TypeError(f"no corpus reads {type(config).__name__}")
