"""Manifests and texts, or a model file that has one → an n-gram as an ARPA file, its perplexity.

    asr ngram exp/timit/1/manifests/train.jsonl --vocabulary exp/timit/1/vocabulary.txt \\
        --order 3 --output exp/timit/1/lm.arpa --perplexity exp/timit/1/manifests/dev.jsonl
    asr ngram --text train-clean-100.txt.gz books.txt.xz --lexicon data/cmudict-0.7b --order 6 \\
        --prune-to 3M --output lm.arpa.gz
    asr ngram --words --text books.txt.xz --lexicon data/cmudict-0.7b --output words.arpa.gz
    asr ngram --checkpoint asr/pretrained/librispeech.safetensors --output exp/timit/1/lm.arpa
"""

import argparse
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from asr.corpora import lexicon
from asr.corpora.text import TextReader, joined, missing, spelled, times_read
from asr.errors import DataError, exit_code
from asr.files.outputs import require_new
from asr.phones import Vocabulary
from asr.records import Utterance, stream_jsonl
from asr.search.arpa import write_arpa
from asr.search.ngram import ORDERS, LanguageModel, Sentences, estimate
from asr.search.pruning import prune, prune_to_size

IDS = {"auto": None, "yes": True, "no": False}
say = partial(print, flush=True)


@dataclass(frozen=True)
class Source:
    """How manifests and texts become sentences of phones, or of words.

    `ids` is that of `TextReader`; `most` limits words to the most frequent ones with phones.
    """

    dictionary: lexicon.Dictionary | None = None
    g2p: str = "none"
    ids: bool | None = None
    words: bool = False
    most: int | None = None

    @property
    def phones(self) -> set[str]:
        """All phones of the lexicon; none for words."""
        spellings = self.dictionary.values() if self.dictionary and not self.words else ()
        return set(chain.from_iterable(chain.from_iterable(spellings)))

    def sentences(
        self,
        manifests: Sequence[str | Path],
        texts: Sequence[str | Path] = (),
        vocabulary: Collection[str] = (),
    ) -> Sentences:
        """All sentences; prints what was read. Texts are cut at words outside the lexicon.

        `vocabulary` replaces the words with phones that occur.
        """
        parts = [] if self.words else [Sentences.of(_phones(one)) for one in manifests]
        if self.dictionary is None:
            return joined(parts)
        reader = TextReader(self.dictionary, self.ids)
        for text in texts:
            say(reader.add(text))
        for manifest in manifests if self.words else ():
            reader.add_lines(_words(manifest))
        if reader.unread:
            times = f"{reader.unread.total()} times, {lexicon.examples(reader.unread)}"
            say(f"cut at what cannot be read as words: {times}")
        read = reader.sentences()
        counts = times_read(read)
        spellings, name = self._spellings(counts, vocabulary)
        if texts or self.words:
            say(missing(counts, spellings, name))
            parts.append(spelled(read, spellings))
        return joined(parts)

    def _spellings(
        self, counts: Counter[str], vocabulary: Collection[str]
    ) -> tuple[Mapping[str, Sequence[str]], str]:
        """The symbols of each word that has some, and the name of where they are from."""
        assert self.dictionary is not None
        if not (self.words and vocabulary):
            spoken = lexicon.pronounce(counts, [self.dictionary], self.g2p).first()
            if not self.words:
                return spoken, self.dictionary.name + " and espeak-ng" * (self.g2p != "none")
            vocabulary = [word for word in counts if word in spoken][: self.most]
        return {word: (word,) for word in vocabulary}, f"the vocabulary of {len(vocabulary)} words"


def estimated(source: Source, options: argparse.Namespace) -> LanguageModel:
    """The n-gram of all sentences, over their symbols and those of the vocabulary."""
    known = Vocabulary.load(options.vocabulary).phones if options.vocabulary else source.phones
    sentences = source.sentences(options.manifest, options.text)
    if foreign := options.vocabulary and set(sentences.symbols) - set(known):
        raise DataError(
            f"{options.vocabulary}: misses phones of the manifests: {', '.join(sorted(foreign))}; "
            f"use the vocabulary of the recogniser trained on them"
        )
    if options.text:
        size = f"{len(sentences.labels)} symbols in {len(sentences.ends)} sentences"
        say(f"estimating order {options.order} from {size} …")
    return estimate(sentences, options.order, known, options.smoothing, options.min_counts)


def packaged(path: str | Path, vocabulary: str | Path | None) -> LanguageModel:
    """The n-gram in a model file that `asr ship` wrote.

    Raises `DataError` where there is none, or where it does not fit the phones of `vocabulary`.
    """
    from asr.model_file import read
    from asr.search.graph import graph_of

    model = read(path).language_model()
    if vocabulary:
        try:
            graph_of(model, Vocabulary.load(vocabulary).phones)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    return model


def _phones(manifest: str | Path) -> Iterator[Sequence[str]]:
    return (utterance.phones for utterance in stream_jsonl(manifest, Utterance))


def _words(manifest: str | Path) -> Iterator[str]:
    for utterance in stream_jsonl(manifest, Utterance):
        if utterance.words is None:
            raise DataError(f"{manifest}: {utterance.id} has no words, which --words needs")
        yield utterance.words


def _size(text: str) -> tuple[int, str]:
    """3M, 500k, 1200000: n-grams; 12MB: bytes of the packed model."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)(B?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of n-grams or bytes: 3M, 12MB")
    return int(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]), match[3]


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ngram",
        description="Estimate an n-gram of phones or words from manifests and texts, or extract "
        "that of a model file.",
        epilog="To search with it: asr decode … search=beam-lm search.language_model=FILE",
    )
    add = parser.add_argument
    add("manifest", nargs="*", help="utterances to estimate from")
    a_text = "a sentence a line, plain, .gz, .xz or .bz2, or a folder with *.trans.txt"
    add("--text", nargs="+", action="extend", default=[], metavar="FILE", help=a_text)
    add("--lexicon", metavar="FILE", help="of the words of texts, as CMUdict: `word P1 P2` lines")
    outside = "phones of words outside the lexicon; default: none, sentences are cut there"
    add("--g2p", default="none", choices=("none", "espeak"), help=outside)
    ids = "utterance ids in front of lines; auto: if all are different and have digits"
    add("--ids", default="auto", choices=IDS, help=ids)
    add("--words", action="store_true", help="an n-gram of words instead of phones")
    add("--most-words", type=int, metavar="N", help="only the N most frequent words")
    add("--checkpoint", metavar="FILE", help="extract the n-gram of this model file")
    add("--order", type=int, default=3, choices=ORDERS, help="default: 3")
    counts = "leave out n-grams of order 1, 2, … that occur less often, as in 1 1 1 1 2 2"
    add("--min-counts", nargs="+", type=int, default=[], metavar="N", help=counts)
    size = "leave out n-grams that change the model least, to 3M n-grams or 12MB in a model file"
    add("--prune-to", type=_size, metavar="SIZE", help=size)
    add("--output", required=True, metavar="FILE", help="the ARPA file; compressed if FILE.gz")
    add("--overwrite", action="store_true", help="replace the file if it is already there")
    add(
        "--vocabulary",
        metavar="FILE",
        help="vocabulary.txt of the recogniser, whose phones the n-gram must all have; "
        "default: the phones that occur",
    )
    add(
        "--smoothing",
        default="kneser-ney",
        choices=("kneser-ney", "witten-bell"),
        help="default: modified Kneser-Ney, Witten-Bell where the counts give no discounts",
    )
    measured = "measure it on these: manifests, if they end in .jsonl, or texts"
    add("--perplexity", nargs="+", default=[], metavar="FILE", help=measured)
    options = parser.parse_args(arguments)
    if bool(options.manifest or options.text) == bool(options.checkpoint):
        parser.error("expected --text FILE and manifests or --checkpoint FILE")
    if (options.text or options.words) and not options.lexicon:
        parser.error("--text and --words need --lexicon FILE, such as CMUdict")
    if options.words and options.vocabulary:
        parser.error("--vocabulary is of phones, and not for --words; use --most-words")
    if options.most_words is not None and not (options.words and options.most_words > 0):
        parser.error("--most-words needs --words, and a number above 0")
    of_speech = *options.manifest, *options.text, *options.perplexity
    inputs = *of_speech, options.lexicon, options.checkpoint, options.vocabulary
    require_new([options.output], options.overwrite, inputs)
    source = Source(
        lexicon.read(options.lexicon, lexicon.EITHER) if options.lexicon else None,
        options.g2p,
        IDS[options.ids],
        options.words,
        options.most_words,
    )
    if options.checkpoint:
        model = packaged(options.checkpoint, options.vocabulary)
    else:
        model = estimated(source, options)
    if options.prune_to:
        number, unit = options.prune_to
        say(f"pruning {len(model.symbol) - 1} n-grams to {number}{unit or ' n-grams'} …")
        model = prune_to_size(model, number) if unit else prune(model, number)
    perplexities = []
    for path in options.perplexity:
        is_manifest = source.dictionary is None or path.endswith(".jsonl")
        held_out = source.sentences(*([path], []) if is_manifest else ([], [path]), model.phones)
        perplexities.append((model.perplexity(held_out), path))
    write_arpa(options.output, model)
    counts = ", ".join(f"{model.count(n)} {n}-grams" for n in range(1, model.order + 1))
    print(f"{options.output}: {counts}; {model.about}")
    for perplexity, path in perplexities:
        print(f"perplexity {perplexity:7.2f}  {path}")
