"""Size and seed of a synthetic corpus."""

from dataclasses import dataclass

from asr.corpora.recording import CorpusConfig
from asr.corpora.splits import SPLITS

RATE = 16_000  # samples per second


@dataclass(frozen=True)
class SyntheticConfig(CorpusConfig):
    """Amount of synthetic speech; its bytes do not depend on `jobs`.

    The defaults give about 0.9 h of train, 4 min of dev and 5 min of test.
    """

    name: str = "synthetic"
    root: str = "data/synthetic"
    train_speakers: int = 64
    dev_speakers: int = 8
    test_speakers: int = 12
    train_utterances: int = 18  # of each speaker
    dev_utterances: int = 9
    test_utterances: int = 9
    seed: int = 0
    jobs: int = 0  # processes at a time; 0 = one for each core

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in SPLITS:
            for field in (f"{split}_speakers", f"{split}_utterances"):
                if (value := getattr(self, field)) < 1:
                    raise ValueError(f"corpus.{field} is {value}, expected at least 1")
        for field in ("seed", "jobs"):
            if (value := getattr(self, field)) < 0:
                raise ValueError(f"corpus.{field} is {value}, expected at least 0")
        for field, only in (("sample_rate", RATE), ("phone_set", "timit61")):
            if (value := getattr(self, field)) != only:
                raise ValueError(f"corpus.{field} is {value}, the synthetic corpus has {only}")
