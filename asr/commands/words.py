"""A lexicon and a word n-gram → one file of words, for `asr transcribe --words` and `asr decode`.

asr words cmudict.dict words.arpa --output words.safetensors
asr words cmudict.dict words.arpa --search exp/librispeech/1/search.json --output …
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr.corpora import lexicon
from asr.errors import exit_code
from asr.files.decoding import decode
from asr.files.outputs import require_new
from asr.search import SearchConfig
from asr.search.arpa import read_arpa
from asr.search.word_model import save_words, word_model


@dataclass(frozen=True)
class _Tuned:
    search: SearchConfig


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr words",
        description="Write a lexicon and a word n-gram into one file, for asr transcribe --words.",
    )
    add = parser.add_argument
    add("lexicon", help="pronunciations in CMUdict's format")
    add("ngram", help="ARPA file over words in lower case")
    outside = "phones of words outside the lexicon; default: none, they are left out"
    add("--g2p", default="none", choices=("none", "espeak"), help=outside)
    add("--output", required=True, metavar="FILE", help="FILE.safetensors")
    add("--search", metavar="FILE", help="search.json of `asr tune`; default: that of search=words")
    add("--overwrite", action="store_true", help="replace the file if it is already there")
    options = parser.parse_args(arguments)
    inputs = options.lexicon, options.ngram, options.search
    require_new([options.output], options.overwrite, inputs)
    search: SearchConfig | None = None
    if options.search:
        tuned = decode(Path(options.search).read_bytes(), _Tuned, options.search, other_keys=True)
        search = replace(tuned.search, words="", language_model="")
    ngram = read_arpa(options.ngram)
    words = dict.fromkeys(ngram.phones, 1)
    spoken = lexicon.pronounce(words, [lexicon.read(options.lexicon)], options.g2p)
    model = word_model(spoken.pronunciations, ngram, search)
    save_words(options.output, model)
    size = Path(options.output).stat().st_size / 1e6
    print(
        f"{options.output}: {len(set(model.word.tolist()))} of the {len(model.words)} words of the "
        f"n-gram, {len(model.word)} pronunciations, {size:.1f} MB; {model.ngram.about}"
    )
