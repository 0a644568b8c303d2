"""Size and seed of a synthetic corpus."""

from dataclasses import dataclass

from asr.corpora.recording import CorpusConfig
from asr.knobs import knob

RATE = 16_000  # samples per second


@dataclass(frozen=True)
class SyntheticConfig(CorpusConfig):
    """Amount of synthetic speech; its bytes do not depend on `jobs`.

    The defaults give about 0.9 h of train, 4 min of dev and 5 min of test.
    """

    name: str = "synthetic"
    root: str = "data/synthetic"
    phone_set: str = knob("timit61", one_of=("timit61",))
    sample_rate: int = knob(RATE, one_of=(RATE,))
    train_speakers: int = knob(64, "speakers of the training set", at_least=1)
    dev_speakers: int = knob(8, "speakers of dev", at_least=1)
    test_speakers: int = knob(12, "speakers of the test set", at_least=1)
    train_utterances: int = knob(18, "of each speaker", at_least=1)
    dev_utterances: int = knob(9, "of each speaker", at_least=1)
    test_utterances: int = knob(9, "of each speaker", at_least=1)
    seed: int = knob(0, "of the generated speech", at_least=0)
    jobs: int = knob(0, "processes that generate speech; 0: one for each core", at_least=0)
