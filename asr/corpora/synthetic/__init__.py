"""Synthetic speech by espeak-ng: a corpus for the pipeline where no recordings are at hand."""

from asr.corpora.synthetic.corpus import find, generate
from asr.corpora.synthetic.speakers import SyntheticConfig

__all__ = ["SyntheticConfig", "find", "generate"]
