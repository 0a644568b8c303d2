"""Manifests, or a model file that has one → a phone n-gram as an ARPA file, its perplexity.

    asr ngram exp/timit/1/manifests/train.jsonl --vocabulary exp/timit/1/vocabulary.txt \\
        --order 3 --output exp/timit/1/lm.arpa --perplexity exp/timit/1/manifests/dev.jsonl
    asr ngram --checkpoint asr/pretrained/librispeech.safetensors --output exp/timit/1/lm.arpa
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from asr.errors import DataError, exit_code
from asr.files.outputs import require_new
from asr.phones import Vocabulary
from asr.records import Utterance, stream_jsonl
from asr.search.arpa import write_arpa
from asr.search.ngram import ORDERS, LanguageModel, estimate


def estimated(
    manifests: Iterable[str | Path],
    order: int,
    vocabulary: str | Path | None,
    smoothing: str = "kneser-ney",
) -> LanguageModel:
    """The n-gram of all phones of the manifests, and of the vocabulary if there is one."""
    phones = Vocabulary.load(vocabulary).phones if vocabulary else ()
    model = estimate(chain.from_iterable(map(_sentences, manifests)), order, phones, smoothing)
    if vocabulary and (foreign := set(model.phones) - set(phones)):
        raise DataError(
            f"{vocabulary}: misses phones of the manifests: {', '.join(sorted(foreign))}; use the "
            f"vocabulary of the recogniser trained on them"
        )
    return model


def packaged(model_file: str | Path, vocabulary: str | Path | None) -> LanguageModel:
    """The n-gram in a model file that `asr ship` wrote.

    Raises `DataError` where there is none, or where it does not fit the phones of `vocabulary`.
    """
    from asr import checkpoint  # imports torch, which takes seconds and which estimation can spare
    from asr.search.graph import graph_of

    model = checkpoint.load(model_file).language_model
    if model is None:
        raise DataError(f"{model_file}: contains no n-gram; estimate one from manifests")
    if vocabulary:
        try:
            graph_of(model, Vocabulary.load(vocabulary).phones)
        except DataError as error:
            raise DataError(f"{model_file}: {error}") from error
    return model


def _sentences(manifest: str | Path) -> Iterable[Sequence[str]]:
    return (utterance.phones for utterance in stream_jsonl(manifest, Utterance))


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ngram",
        description="Estimate a phone n-gram from manifests, or extract that of a model file.",
        epilog="To search with it: asr decode … search=beam-lm search.language_model=FILE",
    )
    add = parser.add_argument
    add("manifest", nargs="*", help="utterances to estimate from")
    add("--checkpoint", metavar="FILE", help="extract the n-gram of this model file")
    add("--order", type=int, default=3, choices=ORDERS, help="default: 3")
    add("--output", required=True, metavar="FILE", help="the ARPA file")
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
    add("--perplexity", nargs="+", default=[], metavar="MANIFEST", help="measure it on these")
    options = parser.parse_args(arguments)
    if bool(options.manifest) == bool(options.checkpoint):
        parser.error("expected either manifests or --checkpoint FILE")
    require_new([options.output], options.overwrite)
    if options.checkpoint:
        model = packaged(options.checkpoint, options.vocabulary)
    else:
        model = estimated(options.manifest, options.order, options.vocabulary, options.smoothing)
    perplexities = [(model.perplexity(_sentences(path)), path) for path in options.perplexity]
    write_arpa(options.output, model)
    counts = ", ".join(f"{model.count(n)} {n}-grams" for n in range(1, model.order + 1))
    print(f"{options.output}: {counts}; {model.about}")
    for perplexity, path in perplexities:
        print(f"perplexity {perplexity:7.2f}  {path}")
