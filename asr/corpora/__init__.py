"""Corpora: a tree on disk becomes utterances per split; one module is one corpus."""

from asr.corpora import synthetic, timit
from asr.corpora.base import CorpusConfig, Splits
from asr.corpora.synthetic import SyntheticConfig
from asr.corpora.timit import TimitConfig

CONFIGS: dict[str, type[CorpusConfig]] = {"synthetic": SyntheticConfig, "timit": TimitConfig}

__all__ = ["CONFIGS", "CorpusConfig", "Splits", "SyntheticConfig", "TimitConfig", "read"]


def read(config: CorpusConfig) -> Splits:
    """Read the corpus that `config` describes, every bad file listed in one `DataError`."""
    match config:
        case TimitConfig():
            return timit.read(config)
        case SyntheticConfig():
            return synthetic.read(config)
    raise TypeError(f"no corpus reads {type(config).__name__}")
