"""A lexicon and a word n-gram in one file, and their graph for the labels of a recogniser.

The file is safetensors with its description as JSON under `words` and a SHA-256 of all content, as
`asr.checkpoint`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from asr.errors import DataError
from asr.files import names
from asr.files.decoding import convert, require_json
from asr.files.kept import kept, stamp
from asr.files.outputs import atomic_open
from asr.phones import unknown_phone
from asr.search import SearchConfig, words
from asr.search.graph import (
    Graph,
    digest_of_code,
    graph_of,
    load_graph,
    no_language_model,
)
from asr.search.ngram import UNKNOWN, LanguageModel
from asr.search.packing import Packed, pack, unpack

FORMAT = 1
HOW = "make the file again with `asr words`"
TUNED = SearchConfig(  # as conf/search/words.yaml
    beam=300, blank_penalty=1.5, bonus=0.2, lm_weight=0.8, word_bonus=-0.5, variant=3.0
)


@dataclass(frozen=True)
class WordModel:
    """Words with their pronunciations, and their n-gram, in which word k has label k + 1.

    `pronunciations` (E, longest) are indices into `phones`, from 1, and then zeros; `word` (E,) are
    their words' labels. `search` was tuned with it.
    """

    ngram: LanguageModel
    phones: tuple[str, ...]
    pronunciations: Any
    word: Any
    search: SearchConfig

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words of the n-gram, sorted; not each of them has a pronunciation."""
        return self.ngram.phones

    @cached_property
    def graph(self) -> Graph:
        return graph_of(self.ngram, self.words)


class WordGraph(Graph):
    """The graph of a word n-gram, and the pronunciations through which labels become its words."""

    vocabulary: Any  # (words,) of text
    tuned: SearchConfig  # with these words
    tree: words.Tree
    pronunciations: Any  # (E, longest), labels of the recogniser
    unknown: Graph  # of the phones of unknown words

    def search(
        self, log_probs: Any, config: SearchConfig
    ) -> list[tuple[list[int], tuple[tuple[str, int], ...], float]]:
        """For each of the n best: labels, words with their numbers of labels, score; (T, V) → n."""
        size, result = log_probs.shape[1], []
        factors = config.lm_weight, config.bonus, config.word_bonus, config.variant, -config.unknown
        limits = config.beam, config.threshold, config.n_best
        graph = Graph(*self)
        best = words.search(log_probs, self.tree, graph, self.unknown, *factors, *limits)
        for codes, length, score in zip(*best, strict=True):
            labels: list[int] = []
            counts: list[tuple[str, int]] = []
            for code in codes[:length].tolist():
                phone, first = divmod(code - len(self.tree.word), size)[::-1]
                if code < len(self.tree.word):
                    own = self.pronunciations[self.tree.source[code]]
                    word = str(self.vocabulary[self.tree.word[code] - 1])
                    labels += own[own > 0].tolist()
                    counts.append((word, int((own > 0).sum())))
                else:
                    labels.append(phone)
                    before = 0 if first % 2 else counts.pop()[1]
                    counts.append((UNKNOWN, before + 1))
            result.append((labels, tuple(counts), float(score)))
        return result


def word_model(
    lexicon: Mapping[str, Sequence[Sequence[str]]],
    ngram: LanguageModel,
    search: SearchConfig | None = None,
) -> WordModel:
    """The words of an n-gram that the lexicon has; `DataError` where there are none."""
    known = ngram.phones  # its symbols
    rows = [(n, one) for n, word in enumerate(known, 1) for one in lexicon.get(word, ())]
    if not rows:
        raise DataError(
            f"no word of the n-gram is in the lexicon: it begins with {' '.join(known[:3])}; "
            f"expected words in lower case"
        )
    phones = tuple(sorted({phone for _, one in rows for phone in one}))
    number = {phone: n for n, phone in enumerate(phones, 1)}
    pronunciations = np.zeros((len(rows), max(len(one) for _, one in rows)), np.uint8)
    for row, (_, one) in zip(pronunciations, rows, strict=True):
        row[: len(one)] = [number[phone] for phone in one]
    word = np.array([n for n, _ in rows], np.int32)
    return WordModel(ngram, phones, pronunciations, word, search or TUNED)


def save_words(path: str | Path, model: WordModel) -> None:
    """Write the file; an earlier one is replaced only when the new one is complete."""
    packed, streams = pack(model.ngram)
    streams |= {"pronunciations": model.pronunciations, "word": model.word}
    header = {
        "format": FORMAT,
        "phones": model.phones,
        "search": asdict(model.search),
        "ngram": asdict(packed),
    }
    text = json.dumps(header)
    data = to_bytes(streams, metadata={"words": text, "sha256": _digest(text, streams)})
    with atomic_open(path, "wb") as file:
        file.write(data)


@dataclass(frozen=True)
class _Header:
    format: int
    phones: list[str]
    search: SearchConfig
    ngram: Packed


def require_words(path: str | Path) -> None:
    """Raise `DataError` where there is no file of words."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file of words; make one with `asr words`")


def load_words(path: str | Path) -> WordModel:
    """Read a file of `save_words`; `DataError` where it is absent, damaged, or something else."""
    where, path = f"{path}", Path(path)
    require_words(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged, or not a file of words ({error})") from error
    if "words" not in metadata:
        raise DataError(f"{path}: a safetensors file, but not one that `asr words` wrote")
    if _digest(metadata["words"], tensors) != metadata.get("sha256"):
        raise DataError(f"{path}: damaged, its content does not match its checksum")
    try:
        node = json.loads(metadata["words"])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: header is not JSON ({error})") from None
    if isinstance(node, dict) and node.get("format") != FORMAT:
        raise DataError(f"{path}: format {node.get('format')}, this version reads {FORMAT}; {HOW}")
    require_json(node, where, "words")
    header = convert(node, _Header, where)
    ngram = unpack(header.ngram, tensors, f"{path}: ngram")
    phones = names(header.phones, where, "phones")
    table, word = tensors.get("pronunciations", np.zeros(0)), tensors.get("word", np.zeros(0))
    if not (
        table.dtype == np.uint8
        and word.dtype == np.int32
        and word.ndim == 1
        and table.shape[:-1] == word.shape != (0,)
        and 1 <= word.min() <= word.max() <= len(ngram.phones)
        and table.max(initial=0) <= len(phones)
        and np.all((table[:, 1:] == 0) | (table[:, :-1] > 0))
        and table[:, :1].all()
    ):
        raise DataError(f"{where}: lexicon and n-gram do not fit each other; {HOW}")
    return WordModel(ngram, phones, table, word, header.search)


def word_graph(
    model: WordModel, phones: Sequence[str], unknown: Graph | None = None, where: str = ""
) -> WordGraph:
    """The words of a recogniser in which phone k has label k + 1.

    `unknown` is an n-gram of its phones, for words outside the lexicon; without one all phones are
    equally likely there. Raises `DataError`, begun with `where`, where a phone of the lexicon is
    none of the recogniser's, as of one that was trained on TIMIT's labels.
    """
    label = {phone: n for n, phone in enumerate(phones, 1)}
    if absent := [phone for phone in model.phones if phone not in label]:
        raise DataError(
            f"{where}the recogniser has other phones than the lexicon: "
            f"{unknown_phone(absent[0], phones, 'its vocabulary')}; words need a recogniser of the "
            f"lexicon's phones, {' '.join(model.phones)}"
        )
    labels = np.array([0, *(label[phone] for phone in model.phones)], np.uint8)
    result = WordGraph(*model.graph)
    result.vocabulary, result.tuned = np.array(model.words), model.search
    result.pronunciations = labels[model.pronunciations]
    likely = model.graph.arcs["log_prob"][model.word - 1]  # state 0: an arc for each word, in order
    result.tree = words.tree_of(result.pronunciations, model.word, likely, len(phones) + 1)
    result.unknown = unknown or _equally_likely(phones)
    return result


def _equally_likely(phones: Sequence[str]) -> Graph:
    return no_language_model(len(phones) + 1, -math.log(len(phones)))


def kept_word_graph(
    path: str | Path, phones: Sequence[str], unknown: Graph | None = None
) -> WordGraph:
    """The `word_graph` of a file of words, which is kept (`asr.files.kept`) at its first use.

    Only then is the file read and checked as a whole, and after a change of its place, its size,
    its times or the checksum that it states.
    """

    def make() -> dict[str, Any]:
        graph = word_graph(load_words(path), phones, where=f"{path}: ")
        tuned = np.frombuffer(json.dumps(asdict(graph.tuned)).encode(), np.uint8)
        own = {"vocabulary": graph.vocabulary, "pronunciations": graph.pronunciations}
        tree = {f"tree.{name}": array for name, array in graph.tree._asdict().items()}
        return {**graph.arrays(), **own, **tree, "tuned": tuned}

    key = [*_stated(path), *phones, digest_of_code()]
    arrays = kept("words", key, make, f"the words of {path}")
    result = WordGraph.of_arrays(arrays)
    result.vocabulary, result.pronunciations = arrays["vocabulary"], arrays["pronunciations"]
    result.tree = words.Tree(*(arrays[f"tree.{name}"] for name in words.Tree._fields))
    result.tuned = SearchConfig(**json.loads(arrays["tuned"].tobytes()))
    result.unknown = unknown or _equally_likely(phones)
    return result


def _stated(path: str | Path) -> tuple[str, ...]:
    """What tells that a file has changed; nothing of one that cannot be read."""
    unreadable = SafetensorError, OSError, ValueError, TypeError
    with suppress(*unreadable), safe_open(path, framework="np") as file:
        return (file.metadata() or {}).get("sha256", ""), stamp(path)
    return ()


def graph_for(search: SearchConfig, phones: Sequence[str]) -> Graph | None:
    """What a search of these phones reads: the words or the phone n-gram of its files, if any."""
    graph = load_graph(search.language_model, phones) if search.language_model else None
    if not search.words:
        return graph
    return kept_word_graph(search.words, phones, graph)


def _digest(text: str, tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
