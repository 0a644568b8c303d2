"""Sentences of the synthetic corpus: a grammar over a lexicon, drawn to favour unused words."""

import random
from collections import Counter

from asr.phones import table_lines

CANDIDATES = 8  # sentences drawn for each one kept


def words_of(sentence: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation."""
    return [word.strip(".,?").lower() for word in sentence.split()]


class Sentences:
    """Draws sentences of `grammar.txt` over `lexicon.txt` that are not in `said`, and adds them.

    Each is the one of CANDIDATES whose words have been used least: a short list of sentences then
    covers most of the lexicon, and with it the rare phones.
    """

    def __init__(self, rng: random.Random, said: set[str]) -> None:
        self.rng, self.said = rng, said
        self.used: Counter[str] = Counter()
        self.rules: dict[str, list[list[str]]] = {}
        for line in table_lines("synthetic/grammar.txt"):
            name, alternatives = line.split(":", 1)
            self.rules.setdefault(name, []).extend(a.split() for a in alternatives.split("|"))
        self.words: dict[str, list[str]] = {}
        forms: list[str] = []
        for line in table_lines("synthetic/lexicon.txt"):
            if line.startswith("["):
                name, *forms = line.strip("[]").split()
                continue
            for entry in line.split(";"):
                spoken = entry.split() if len(forms) > 1 else [entry.strip()]
                for form, word in zip(forms, spoken, strict=True):
                    self.words.setdefault(f"{name}.{form}", []).append(word)
        self.takes_an = {word for alternative in self.rules["AN"] for word in alternative}

    def __call__(self, unspoken: frozenset[str]) -> str:
        """The next sentence, which has none of the words `unspoken`."""
        while True:
            sentence = max((self._draw() for _ in range(CANDIDATES)), key=self._freshness)
            words = words_of(sentence)
            if sentence not in self.said and unspoken.isdisjoint(words):
                self.said.add(sentence)
                self.used.update(words)
                return sentence

    def _draw(self) -> str:
        """A sentence of 4 to 12 words, with its capital and its full stop."""
        while True:
            tokens = self._expand("SENTENCE")
            for here, after in enumerate(tokens[1:]):
                if tokens[here] == "a" and (after[0] in "aeio" or after in self.takes_an):
                    tokens[here] = "an"
            text = " ".join(tokens)
            for mark in ".?,":
                text = text.replace(f" {mark}", mark)
            if 4 <= len(text.split()) <= 12:
                return text[0].upper() + text[1:]

    def _expand(self, symbol: str) -> list[str]:
        if symbol in self.rules:
            parts = self.rng.choice(self.rules[symbol])
            return [token for part in parts for token in self._expand(part)]
        return self.rng.choice(self.words[symbol]).split() if symbol in self.words else [symbol]

    def _freshness(self, sentence: str) -> float:
        return sum(1 / (1 + self.used[word]) for word in words_of(sentence))
