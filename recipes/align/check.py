"""Fit and measure `asr align --check` on transcripts that were corrupted.

    python recipes/align/check.py dev.jsonl --alone cv.jsonl [--right others.jsonl] [--copies 3]

Each utterance gets copies of its transcript with 10 % of the words changed, each in one of four
ways: another word of these texts instead; instead a word that sounds alike, one phone away in
CMUdict, of the packaged words; dropped; one word more. Whole transcripts are replaced by that of
another utterance, by the one with the closest number of phones, or in their second half. Some
utterances are also judged in white noise, in babble, through a telephone, and through a noisy one.

Prints the AUC of each kind of mistake in each condition, cross-validated by speaker (each utterance
of `--alone` counts as one of its own), the agreement of right and wrong transcripts, and the
coefficients of `asr/checker.py`, fitted on all. Utterances of `--right` are judged with their right
transcripts alone. With `--cache FOLDER` the recogniser's output is kept there, so that a run that
was stopped continues; nothing else is written.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

from asr import audio
from asr.augment import sounds
from asr.checker import PRICE, clues
from asr.corpora.lexicon import Said
from asr.corpora.spoken import Pronouncer, cmudict
from asr.errors import exit_code
from asr.records import Manifest, Utterance
from asr.search.evidence import agreement, evidence, likelihood, neighbours_of, words_of
from asr.search.word_model import load_words
from asr.transcriber import MODEL, WORDS, Transcriber, load_model

RATE = 16_000
SHARE = 0.1  # of the words that are changed
KINDS = ("random", "alike", "dropped", "inserted")
Waveform = Any


class Row(NamedTuple):
    """A word, or a place between words, of a transcript."""

    condition: str
    group: str
    kind: str  # "right", or of the mistake
    clues: Any


def conditions(waves: Sequence[Waveform]) -> dict[str, Callable[[Waveform], Waveform]]:
    draw = np.random.default_rng(2)

    def white(wave: Waveform, colour: float = 0.0, snr_db: float = 10) -> Waveform:
        return sounds.add_at(snr_db, wave, sounds.coloured_noise(draw, len(wave), RATE, colour))

    def babble(wave: Waveform) -> Waveform:
        voices = [waves[n] for n in draw.choice(len(waves), 4)]
        return sounds.add_at(10, wave, sounds.babble(draw, voices, len(wave)))

    def telephone(wave: Waveform) -> Waveform:
        return sounds.telephone(wave, RATE)

    return {
        "white noise at 10 dB": white,
        "babble at 10 dB": babble,
        "telephone": telephone,
        "telephone, pink noise at 15 dB": lambda wave: white(telephone(wave), 1.0, 15),
    }


def alike() -> Callable[[str], list[str]]:
    """For a word all packaged words of which the first pronunciation is one phone away."""
    ways = cmudict()
    known = [word for word in load_words(WORDS).words if word in ways]
    near = defaultdict(list)

    def keys(way: Sequence[str]) -> set[tuple[str, ...]]:
        way = tuple(way)
        return {(*way[:n], "*", *way[n + skip :]) for skip in (0, 1) for n in range(len(way) + 1)}

    for word in known:
        for key in keys(ways[word][0]):
            near[key].append(word)

    def of(word: str) -> list[str]:
        own = set(ways[word]) if word in ways else set()
        close = {one for key in keys(next(iter(own), ())) for one in near.get(key, ())}
        return sorted(one for one in close if own and own.isdisjoint(ways[one]))

    return of


def corrupted(
    draw: Any, said: Sequence[Said], tokens: Sequence[Said], near: Any, pronouncer: Pronouncer
) -> tuple[list[Said], list[str], list[str]]:
    """A transcript with mistakes, and what its words and the places between them are."""
    words, kinds, places = list[Said](), list[str](), ["right"]

    def other(one: Said) -> Said:
        while True:
            new = tokens[draw.integers(len(tokens))]
            if set(new.pronunciations).isdisjoint(one.pronunciations):
                return new

    def add(one: Said, kind: str) -> None:
        words.append(one)
        kinds.append(kind)
        places.append("right")

    for one in said:
        kind = KINDS[draw.integers(4)] if draw.random() < SHARE else "right"
        close = near(one.word) if kind == "alike" else ()
        if kind == "random" or (kind == "alike" and not close):
            add(other(one), "random")
        elif kind == "alike":
            add(pronouncer.said(close[draw.integers(len(close))])[0], "alike")
        elif kind == "dropped":
            places[-1] = "dropped"
        else:
            if kind == "inserted":
                add(other(one), kind)
            add(one, "right")
    return words, kinds, places


def whole(
    draw: Any, number: int, texts: Sequence[Sequence[Said]]
) -> Iterator[tuple[str, Sequence[Said]]]:
    """The transcripts of an utterance as wholes: right, and wrong ones."""

    def size(text: Sequence[Said]) -> int:
        return sum(len(one.pronunciations[0]) for one in text)

    own = texts[number]
    others = [text for text in texts if text != own]
    near = min(others, key=lambda text: abs(size(text) - size(own)))
    yield "right", own
    yield "of another", others[draw.integers(len(others))]
    yield "of another, as long", near
    yield "second half of another", [*own[: len(own) // 2], *near[len(near) // 2 :]]
    yield "first half only", own[: max(1, len(own) // 2)]


def auc(scores: Any, kinds: Any, kind: str | None = None) -> str:
    """The AUC of mistakes of a kind against what is right."""
    chosen = (kinds == "right") | (kinds != "right" if kind is None else kinds == kind)
    is_wrong = kinds[chosen] != "right"
    return f"{roc_auc_score(is_wrong, scores[chosen]):.3f}" if is_wrong.any() else "-"


def fit(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Print the AUC of each kind, cross-validated, and the coefficients of all."""
    values = np.stack([row.clues for row in rows])
    kinds, where, groups = (
        np.array([getattr(row, key) for row in rows]) for key in ("kind", "condition", "group")
    )
    right = kinds == "right"
    probability = np.zeros(len(rows))
    model = LogisticRegression(C=100.0, max_iter=5000)
    for train, test in GroupKFold(10).split(values, right, groups):
        probability[test] = model.fit(values[train], right[train]).predict_proba(values[test])[:, 1]
    for condition in dict.fromkeys(where):
        own = where == condition
        by_kind = [f"{name} {auc(-probability[own], kinds[own], name)}" for name in names]
        print(f"{condition}: {', '.join(by_kind)}; all {auc(-probability[own], kinds[own])}")
    edges = [0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0001]
    for low, high in pairwise(edges):
        own = (probability >= low) & (probability < high)
        print(f"  p {low}…{high:.2f}: {own.sum()}, mean {probability[own].mean():.3f}", end="")
        print(f", right {right[own].mean():.3f}")
    print(f"log loss {log_loss(right, probability):.4f}")
    model.fit(values, right)
    numbers = ", ".join(f"{x:.3f}" for x in (*model.intercept_, *model.coef_[0]))
    print(f"coefficients: ({numbers})\n")


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--alone", type=Path, help="a manifest of unknown speakers")
    parser.add_argument("--right", type=Path, help="a manifest for right transcripts alone")
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="a folder for what the recogniser finds")
    parser.add_argument("--noisy", type=int, default=50, help="utterances in each condition")
    options = parser.parse_args(arguments)
    draw = np.random.default_rng(1)
    if options.cache:
        options.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    recogniser = Transcriber(load_model(MODEL, language_model=False))
    encode, pronouncer, near = recogniser.network.vocabulary.encode, Pronouncer(), alike()
    places, words, wholes = list[Row](), list[Row](), defaultdict[Any, Any](list)

    def labels(text: Sequence[Said]) -> Any:
        return [[encode(way) for way in one.pronunciations] for one in text]

    def scores(what: str, one: Utterance, change: Callable[[Waveform], Waveform]) -> Any:
        kept = options.cache and options.cache / f"{what}-{one.id}.npy".replace(" ", "-")
        if kept and kept.is_file():
            return np.load(kept)
        log_probs = recogniser.log_probs([change(audio.load(one.audio, RATE))])
        if kept:
            np.save(kept, log_probs)
        return log_probs

    def judge(
        what: str, group: str, log_probs: Any, number: int, texts: Any, only: bool = False
    ) -> None:
        path = log_probs.argmax(axis=1)
        changes = np.append(-1, path[:-1]) != path
        best = likelihood(log_probs, words_of([[[int(one)]] for one in path[changes] if one]))
        for kind, text in whole(draw, number, texts):
            if only and kind != "right":
                break
            wanted = labels(text)
            chance = max(likelihood(log_probs, words_of(one)) for one in neighbours_of(wanted))
            phones = sum(len(one[0]) for one in wanted)
            given = likelihood(log_probs, words_of(wanted))
            wholes[what, kind].append((*agreement(given, best, chance, phones), number))
        tokens = [one for text in texts for one in text]
        for copy in range(0 if only else options.copies):
            text, kinds, gaps = texts[number], ["right"] * len(texts[number]), None
            if copy:
                text, kinds, gaps = corrupted(draw, texts[number], tokens, near, pronouncer)
            gaps = gaps or ["right"] * (len(text) + 1)
            if not text:
                continue
            wanted = labels(text)
            of_words, of_gaps = clues(evidence(log_probs, words_of(wanted), PRICE), wanted)
            words.extend(Row(what, group, *one) for one in zip(kinds, of_words, strict=True))
            places.extend(Row(what, group, *one) for one in zip(gaps, of_gaps, strict=True))

    def read(path: Path) -> tuple[list[Utterance], list[Any]]:
        chosen = list(Manifest(path))
        pronouncer.prepare(one.words or "" for one in chosen)
        return chosen, [pronouncer.said(one.words or "") for one in chosen]

    def unchanged(wave: Waveform) -> Waveform:
        return wave

    chosen, texts = read(options.manifest)
    for n, one in enumerate(chosen):
        judge("as recorded", one.speaker, scores("as recorded", one, unchanged), n, texts)
    some = draw.choice(len(chosen), min(options.noisy, len(chosen)), replace=False)
    voices = [audio.load(chosen[n].audio, RATE) for n in some]
    for name, change in conditions(voices).items():
        for n in some:
            judge(name, chosen[n].speaker, scores(name, chosen[n], change), n, texts)
    for path, only in ((options.alone, False), (options.right, True)):
        if path:
            chosen, texts = read(path)
            for n, one in enumerate(chosen):
                log_probs = scores(path.stem, one, unchanged)
                judge(path.stem, one.id, log_probs, n, texts, only)
    for (what, kind), judged in wholes.items():
        shares = [share for share, *_ in judged]
        named = sum(is_other for _, is_other, _ in judged)
        print(f"{what}, {kind}: agreement {min(shares):.2f} to {max(shares):.2f}", end="")
        print(f", median {np.median(shares):.2f}; named {named} of {len(judged)}")
    print("\nwords")
    fit(words, ("random", "alike", "inserted"))
    print("missing words")
    fit(places, ("dropped",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
