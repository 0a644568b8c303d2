"""Criteria: each method's head, loss, search and alignment in one module."""

from asr.criteria.base import Criterion, CriterionConfig, FrameTimes, Path, Span, Split
from asr.criteria.ctc import CTC, CTCConfig
from asr.criteria.framewise import Framewise, FramewiseConfig
from asr.criteria.gmm import GMM, Estimated, GMMConfig
from asr.criteria.hmm import HMM
from asr.criteria.transducer import Transducer, TransducerConfig

CONFIGS: dict[str, type[CriterionConfig]] = {
    config.name: config for config in (CTCConfig, FramewiseConfig, GMMConfig, TransducerConfig)
}

__all__ = [
    "CONFIGS",
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
