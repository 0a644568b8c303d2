"""Searches for the best labels, and the phone n-grams that weigh them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchConfig:
    """How hypotheses are searched for. All that is added to log-probabilities is in nats."""

    beam: int = 1  # prefixes (HMM: tokens) kept in each frame; 1: greedy, the best alignment
    n_best: int = 1  # hypotheses returned for each utterance
    threshold: float = 15.0  # hypotheses this far below the best one of a frame are dropped
    blank_penalty: float = 0.0  # subtracted from the blank, or the HMM's label 0, in each frame
    bonus: float = 0.0  # added for each phone
    language_model: str = ""  # ARPA file over the same phones, or CMUdict's; "": none
    lm_weight: float = 1.0  # factor on its log-probability
    prior_scale: float = 1.0  # framewise: share of each state's log prior that is subtracted

    def __post_init__(self) -> None:
        for key in ("beam", "n_best"):
            if getattr(self, key) < 1:
                raise ValueError(f"search.{key} is {getattr(self, key)}, expected at least 1")
        if self.n_best > self.beam:
            raise ValueError(
                f"search.n_best is {self.n_best}, expected at most {self.beam} (search.beam)"
            )
        if not self.threshold > 0:
            raise ValueError(f"search.threshold is {self.threshold}, expected more than 0")
        for key in ("lm_weight", "prior_scale"):
            if not getattr(self, key) >= 0:
                raise ValueError(f"search.{key} is {getattr(self, key)}, expected at least 0")
        for key in ("language_model", "bonus"):
            if self.beam == 1 and getattr(self, key):
                raise ValueError(
                    f"search.{key} is {getattr(self, key)}, which a greedy search (search.beam is "
                    f"1) cannot use; set search=beam"
                )
