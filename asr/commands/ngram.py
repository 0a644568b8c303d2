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
from asr.phones import Vocabulary
from asr.records import Utterance, stream_jsonl
from asr.search.language_model import ORDERS, LanguageModel, estimate, graph, write_arpa


def run(
    manifests: Iterable[str | Path],
    order: int,
    output: str | Path,
    vocabulary: str | Path | None = None,
    smoothing: str = "kneser-ney",
) -> LanguageModel:
    """Estimate the model of all phones of the manifests, and write it."""
    phones = Vocabulary.load(vocabulary).phones if vocabulary else ()
    sentences = chain.from_iterable(map(_sentences, manifests))
    model = estimate(sentences, order, phones, smoothing)
    if vocabulary and (foreign := set(model.phones) - set(phones)):
        raise DataError(
            f"{vocabulary}: lacks phones of the manifests: {', '.join(sorted(foreign))}"
        )
    write_arpa(output, model)
    return model


def extract(
    model_file: str | Path, output: str | Path, vocabulary: str | Path | None = None
) -> LanguageModel:
    """Write the n-gram that a model file has, which `asr ship` put there.

    Raises `DataError` where it has none, or one that cannot serve the phones of `vocabulary`.
    """
    from asr import checkpoint  # torch, which takes seconds to come and estimates need not

    model = checkpoint.load(model_file).language_model
    if model is None:
        raise DataError(f"{model_file}: has no n-gram; estimate one from manifests")
    if vocabulary:
        try:
            graph(model, Vocabulary.load(vocabulary).phones)
        except DataError as error:
            raise DataError(f"{model_file}: {error}") from error
    write_arpa(output, model)
    return model


def _sentences(manifest: str | Path) -> Iterable[Sequence[str]]:
    return (utterance.phones for utterance in stream_jsonl(manifest, Utterance))


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ngram",
        description="Estimate a phone n-gram from manifests, or take that of a model file.",
        epilog="To search with it: asr decode … search=beam-lm search.language_model=FILE",
    )
    parser.add_argument("manifest", nargs="*", help="what to learn from")
    parser.add_argument("--checkpoint", metavar="FILE", help="a model file; take its n-gram")
    parser.add_argument("--order", type=int, default=3, choices=ORDERS, help="default: 3")
    parser.add_argument("--output", required=True, metavar="FILE", help="the ARPA file")
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="vocabulary.txt of the recogniser, all of whose phones the model must know; "
        "without it, the phones that occur",
    )
    parser.add_argument(
        "--smoothing",
        default="kneser-ney",
        choices=("kneser-ney", "witten-bell"),
        help="default: modified Kneser-Ney, Witten-Bell where the counts give no discounts",
    )
    parser.add_argument(
        "--perplexity", nargs="+", default=[], metavar="MANIFEST", help="measure it on these"
    )
    options = parser.parse_args(arguments)
    if bool(options.manifest) == bool(options.checkpoint):
        parser.error("give manifests, or --checkpoint FILE")
    if options.checkpoint:
        model = extract(options.checkpoint, options.output, options.vocabulary)
    else:
        model = run(
            options.manifest, options.order, options.output, options.vocabulary, options.smoothing
        )
    counts = ", ".join(f"{model.count(n)} {n}-grams" for n in range(1, model.order + 1))
    print(f"{options.output}: {counts}; {model.about}")
    for manifest in options.perplexity:
        print(f"perplexity {model.perplexity(_sentences(manifest)):7.2f}  {manifest}")
