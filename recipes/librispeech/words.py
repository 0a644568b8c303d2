"""PER and WER on dev for settings of the word search, also at words outside the lexicon.

python recipes/librispeech/words.py RUN words.safetensors variant=0 variant=3 unknown=4,variant=3
python recipes/librispeech/words.py RUN words.safetensors --outside 120 unknown=4

RUN has the emissions of dev, which `asr tune` keeps. With `--outside N` the N rarest words of dev
are taken from the lexicon, and PER is also that of their phones, in the utterances that have one.
"""

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from safetensors.torch import load_file

from asr import checkpoint, scoring
from asr.errors import exit_code
from asr.records import Utterance
from asr.scoring.alignment import Alignment
from asr.search.graph import graph_of
from asr.search.word_model import load_words, word_graph
from asr.training.run_directory import RunDirectory


def words_of(utterance: Utterance) -> list[str]:
    return (utterance.words or "").lower().split()


def split(utterance: Utterance, first: Mapping[str, Sequence[str]]) -> bool:
    """Whether the utterance has exactly the first pronunciations of its words."""
    phones = [phone for word in words_of(utterance) for phone in first.get(word, ())]
    return phones == list(utterance.phones)


def places(
    dev: Collection[Utterance],
    alignments: Iterable[Alignment],
    first: Mapping[str, Sequence[str]],
    outside: Collection[str],
) -> float:
    """PER of the phones of the words outside; an insertion belongs to the phone before it."""
    errors = phones = 0
    aligned = {alignment.reference.id: alignment for alignment in alignments}
    for one in dev:
        is_inside = [word in outside for word in words_of(one) for _ in first[word]]
        phones += sum(is_inside)
        n = 0
        for _, said, recognised in aligned[one.id].phones():
            n += said is not None
            errors += said != recognised and is_inside[max(n - 1, 0)]
    return 100 * errors / phones


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("words")
    parser.add_argument("settings", nargs="+", help="keys of search: unknown=4,variant=3")
    parser.add_argument("--outside", type=int, default=0, metavar="N")
    parser.add_argument("--phones", metavar="MODEL", help="phone n-gram of unknown words")
    options = parser.parse_args()
    run = RunDirectory(options.run)
    recognizer, dev = run.recognizer(), list(run.utterances("dev", "."))
    emissions, model = load_file(run.emissions), load_words(options.words)
    names = recognizer.vocabulary.phones
    ngram = checkpoint.load(options.phones).language_model if options.phones else None
    first: dict[str, tuple[str, ...]] = {}
    for row, label in zip(model.pronunciations, model.word, strict=True):
        phones = tuple(model.phones[phone - 1] for phone in row[row > 0])
        first.setdefault(model.words[label - 1], phones)
    outside: set[str] = set()
    if options.outside:
        likely = dict(zip(model.words, model.graph.arcs["log_prob"], strict=False))
        spoken = {word for one in dev for word in words_of(one) if word in likely}
        outside = set(sorted(spoken, key=lambda word: (likely[word], word))[: options.outside])
        dev = [one for one in dev if split(one, first) and outside & set(words_of(one))]
        keep = np.array([model.words[label - 1] not in outside for label in model.word])
        model = replace(model, pronunciations=model.pronunciations[keep], word=model.word[keep])
    graph = word_graph(model, names, graph_of(ngram, names) if ngram else None)
    for text in options.settings:
        keys = dict(one.split("=") for one in text.split(","))
        search = replace(model.search, **{key: float(value) for key, value in keys.items()})
        phones_of, words = {}, {}
        for one in dev:
            log_probs = emissions[one.id][None]
            lengths = log_probs.new_tensor([log_probs.shape[1]]).long()
            path = recognizer.criterion.search(log_probs, lengths, search, graph)[0][0]
            phones_of[one.id] = recognizer.vocabulary.decode(path.labels)
            words[one.id] = [word for word, _ in path.words or ()]
        references = {one.id: one.phones for one in dev}
        score = scoring.score(references, phones_of, protocol="arpabet")
        said = {one.id: words_of(one) for one in dev}
        wer = scoring.score(said, words, protocol="none").total.per
        line = f"{text}: {len(dev)} utterances, PER {score.total.per:.2f}, WER {wer:.2f}"
        if outside:
            of_outside = places(dev, score.alignments, first, outside)
            line += f", words outside the lexicon {of_outside:.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
