"""Criteria: a head, its loss and its search; one module is one method."""

from collections.abc import Iterable, Sequence

from asr.criteria.base import Criterion, CriterionConfig, Path, SearchConfig, Span
from asr.criteria.ctc import CTC, CTCConfig
from asr.criteria.transducer import Transducer, TransducerConfig

CONFIGS: dict[str, type[CriterionConfig]] = {"ctc": CTCConfig, "transducer": TransducerConfig}

__all__ = [
    "CONFIGS",
    "CTC",
    "CTCConfig",
    "Criterion",
    "CriterionConfig",
    "Path",
    "SearchConfig",
    "Span",
    "Transducer",
    "TransducerConfig",
    "build",
    "pretrain",
]


def build(config: CriterionConfig, input_size: int, vocabulary_size: int) -> Criterion:
    """The criterion that `config` describes, over encoded frames of width `input_size`."""
    match config:
        case CTCConfig():
            return CTC(config, input_size, vocabulary_size)
        case TransducerConfig():
            return Transducer(config, input_size, vocabulary_size)
    raise TypeError(f"no criterion is built from {type(config).__name__}")


def pretrain(
    criterion: Criterion, train: Iterable[Sequence[int]], dev: Iterable[Sequence[int]]
) -> None:
    """Let a criterion learn what transcripts alone, as labels, can teach: a transducer, if told."""
    if isinstance(criterion, Transducer) and criterion.config.pretraining:
        criterion.pretrain(list(train), list(dev))
