"""Criteria: a head, its loss and its search; one module is one method."""

from asr.criteria.base import Criterion, CriterionConfig, Path, SearchConfig
from asr.criteria.ctc import CTC, CTCConfig

CONFIGS: dict[str, type[CriterionConfig]] = {"ctc": CTCConfig}

__all__ = [
    "CONFIGS",
    "CTC",
    "CTCConfig",
    "Criterion",
    "CriterionConfig",
    "Path",
    "SearchConfig",
    "build",
]


def build(config: CriterionConfig, input_size: int, vocabulary_size: int) -> Criterion:
    """The criterion that `config` describes, over encoded frames of width `input_size`."""
    match config:
        case CTCConfig():
            return CTC(config, input_size, vocabulary_size)
    raise TypeError(f"no criterion is built from {type(config).__name__}")
