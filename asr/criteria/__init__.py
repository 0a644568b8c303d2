"""Criteria: each method's head, loss, search and alignment in one module."""

from asr.architecture import (
    CriterionConfig,
    CTCConfig,
    FrameTimes,
    FramewiseConfig,
    GMMConfig,
    TransducerConfig,
)
from asr.criteria.base import Criterion, Split
from asr.criteria.ctc import CTC
from asr.criteria.framewise import Framewise
from asr.criteria.gmm import GMM, Estimated
from asr.criteria.hmm import HMM
from asr.criteria.transducer import Transducer
from asr.search.paths import Path, Span

__all__ = [
    "CTC",
    "GMM",
    "HMM",
    "CTCConfig",
    "Criterion",
    "CriterionConfig",
    "Estimated",
    "FrameTimes",
    "Framewise",
    "FramewiseConfig",
    "GMMConfig",
    "Path",
    "Span",
    "Split",
    "Transducer",
    "TransducerConfig",
    "build",
]


def build(
    config: CriterionConfig, input_size: int, vocabulary_size: int, times: FrameTimes
) -> Criterion:
    """The criterion that `config` describes, over encoded frames of width `input_size`."""
    match config:
        case CTCConfig():
            return CTC(config, input_size, vocabulary_size)
        case FramewiseConfig():
            return Framewise(config, input_size, vocabulary_size, times)
        case GMMConfig():
            return GMM(config, input_size, vocabulary_size, times)
        case TransducerConfig():
            return Transducer(config, input_size, vocabulary_size)
    raise TypeError(f"no criterion is built from {type(config).__name__}")
