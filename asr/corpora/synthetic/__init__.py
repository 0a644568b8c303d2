"""Synthetic speech by espeak-ng: a corpus for the pipeline where no recordings are at hand."""

from asr.corpora.synthetic.config import SyntheticConfig
from asr.corpora.synthetic.corpus import find, generate

__all__ = ["SyntheticConfig", "find", "generate"]
