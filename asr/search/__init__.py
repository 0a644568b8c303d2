"""Searches for the best labels, and the phone n-grams that weigh them."""

import math
from dataclasses import dataclass

from asr.knobs import Knobs, knob


@dataclass(frozen=True)
class SearchConfig(Knobs, group="search"):
    """How hypotheses are searched for; scores are log-probabilities, in nats."""

    beam: int = knob(1, "prefixes (HMM: tokens) kept in a frame; 1: greedy", at_least=1)
    n_best: int = knob(1, "hypotheses of each utterance", at_least=1)
    threshold: float = knob(
        15.0,
        "prefixes this many nats below the best of a frame are dropped",
        more_than=0,
        at_most=math.inf,
    )
    blank_penalty: float = knob(0.0, "nats subtracted in each frame from blank (HMM: label 0)")
    bonus: float = knob(0.0, "nats added for each phone; beam only")
    language_model: str = knob("", "ARPA file over the same phones or CMUdict's; beam only")
    words: str = knob("", "file of words, as `asr words` writes it; CTC's beam only")
    word_bonus: float = knob(0.0, "nats added for each word")
    variant: float = knob(
        0.0, "nats that a word's other pronunciations cost; inf: none", at_least=0, at_most=math.inf
    )
    unknown: float = knob(
        4.0, "nats that a word outside the lexicon costs; inf: none", at_least=0, at_most=math.inf
    )
    lm_weight: float = knob(1.0, "factor of the language model's log-probability", at_least=0)
    prior_scale: float = knob(1.0, "framewise: factor of the states' log priors", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam:
            self.refuse("n_best", f"expected at most {self.beam} (search.beam)")
        for key in ("language_model", "words", "bonus"):
            if self.beam == 1 and getattr(self, key):
                reason = "but a greedy search (search.beam is 1) has none; set search=beam"
                self.refuse(key, reason)
