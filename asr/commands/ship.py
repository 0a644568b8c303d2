"""A finished run → one small model file to give away, and its card.

    asr ship exp/librispeech/1 asr/pretrained/librispeech.safetensors

The best checkpoint in half precision, with the search that `asr tune` chose, if it did, and the
language model of that search. The card's numbers are those of the file as written, on the run's dev
and test manifests, whose audio must be at hand. It trains and tunes nothing.
"""

import argparse
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr import __version__, checkpoint, scoring, templates
from asr.checkpoint import Checkpoint
from asr.commands.configured import overrides, saved
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open, require_new
from asr.records import Manifest, write_jsonl
from asr.scoring import ErrorCounts, Score
from asr.search.arpa import read_arpa
from asr.training.run_directory import RunDirectory
from asr.transcriber import Transcriber, transcribe_all

HELD_OUT = re.compile(r"\b(?:dev|test)-(?:clean|other)\b(?!-)")  # LibriSpeech's subsets for scores


def run(run_dir: str | Path, output: str | Path, overwrite: bool = False, root: str = "") -> Path:
    """Write the model file and its card, which ends in `.md`; returns the card's path.

    Raises `DataError` where one of them is already there, unless `overwrite`.

    Leaves the hypotheses of the model in `dev.shipped.hyp.jsonl` and `test.shipped.hyp.jsonl` of
    the run.
    """
    run, output = RunDirectory(run_dir), Path(output)
    if output.suffix != ".safetensors":
        raise DataError(f"{output}: expected a name that ends in .safetensors")
    card = output.with_suffix(".md")
    require_new([output, card], overwrite)
    manifests = {split: run.utterances(split, root) for split in ("dev", "test")}
    training, config = run.summary(), saved(run.config)
    command = " ".join(["asr train", *overrides(config)])
    train = Manifest(run.manifest("train"))
    corpora = sorted({utterance.corpus for utterance in train})
    checkpoint.save(output, reduced(run), half=True)
    model = checkpoint.load(output)
    protocol = config["corpus"]["protocol"]
    scores = {
        split: score(run, model, split, manifest, protocol) for split, manifest in manifests.items()
    }
    text = templates.render(
        "model-card.md",
        path=output,
        size=output.stat().st_size,
        sha256=hashlib.sha256(output.read_bytes()).hexdigest(),
        version=__version__,
        model=model,
        recognizer=model.recognizer,
        command=command,
        training=training,
        train=train,
        speakers=len({utterance.speaker for utterance in train}),
        corpora=corpora,
        held_out=sorted({part for corpus in corpora for part in HELD_OUT.findall(corpus)}),
        scores=scores,
        by_sex=list(_by_sex(scores)),
    )
    with atomic_open(card) as file:
        file.write(text)
    return card


def reduced(run_dir: RunDirectory) -> Checkpoint:
    """The best checkpoint of a run without training state, with its tuned search, if it has one."""
    best = replace(checkpoint.load(run_dir.best), training=None)
    if not run_dir.search.exists():
        return best
    search = replace(run_dir.tuned_search(), n_best=1)
    if not search.language_model:
        return replace(best, search=search)
    named = Path(search.language_model)
    model = read_arpa(named if named.exists() else run_dir.path / named.name)
    return replace(best, search=replace(search, language_model=""), language_model=model)


def score(
    run_dir: RunDirectory, shipped: Checkpoint, split: str, manifest: Manifest, protocol: str
) -> Score:
    """The score of a shipped model on a split of the run, with intervals."""
    model = Transcriber(shipped)
    recognizer = model.recognizer
    batches = Batches(manifest, recognizer.vocabulary, model.sample_rate, 16)
    best = transcribe_all(recognizer, batches, model.search, model.graph)
    path = run_dir.hypotheses(split, "shipped")
    write_jsonl(path, (best[utterance.id] for utterance in manifest))
    references, hypotheses = (scoring.read_transcripts(side) for side in (manifest.path, path))
    scored = scoring.score_transcripts(references, hypotheses, scoring.protocol(protocol))
    return scoring.with_intervals(scored)


def _by_sex(scores: Mapping[str, Score]) -> Iterator[tuple[str, str, int, ErrorCounts]]:
    """Split, sex, number of speakers and counts, where the corpus has the sex of its speakers."""
    for split, score in scores.items():
        references = [alignment.reference for alignment in score.alignments]
        for sex, counts in scoring.Report(score).groups.get("sex", {}).items():
            yield split, sex, len({one.speaker for one in references if one.sex == sex}), counts


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ship", description="Write the model of a finished run to be given away."
    )
    parser.add_argument("run_dir", type=Path, help="exp/EXPERIMENT/SEED")
    parser.add_argument("output", type=Path, help="FILE.safetensors; its card is FILE.md")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--root", default="", metavar="FOLDER", help="of a corpus that has moved")
    card = run(**vars(parser.parse_args(arguments)))
    print(card.read_text(encoding="utf-8"), end="")
