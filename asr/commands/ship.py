"""A finished run → one small model file to give away, and its card.

    asr ship exp/librispeech/1 asr/pretrained/librispeech.safetensors

The best checkpoint in half precision, with the search that `asr tune` chose, if it did, and the
language model of that search. The card's numbers are those of the file as written, on the run's dev
and test manifests, whose audio must be at hand. It trains and tunes nothing.
"""

import argparse
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

from asr import __version__, checkpoint, scoring
from asr.checkpoint import Checkpoint
from asr.commands.configured import overrides, saved
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.files import atomic_open
from asr.phones import TABLES
from asr.recognizer import Recognizer
from asr.records import Manifest, write_jsonl
from asr.scoring import Score
from asr.search import SearchConfig
from asr.search.arpa import read_arpa
from asr.search.graph import graph_of
from asr.training.run_directory import RunDirectory
from asr.transcriber import transcribe_all

# What may be done with a model that was trained on a corpus.
LICENCES = {
    "librispeech": (
        "Trained on LibriSpeech (Panayotov, Chen, Povey & Khudanpur 2015, openslr.org/12): read "
        "English from LibriVox, CC BY 4.0. The weights may be used and given on under the same "
        "licence, with the name of the corpus."
    ),
    "synthetic": "Trained on speech that espeak-ng spoke; no person was recorded.",
}
HELD_OUT = re.compile(r"\b(?:dev|test)-(?:clean|other)\b(?!-)")  # LibriSpeech's subsets for scores
UNKNOWN_LICENCE = (
    "Trained on the corpus `{}`: whether the weights may be given on, its licence decides. Those "
    "of TIMIT (LDC) and of NLTK's sample (CC BY-NC-SA) do not allow a free use."
)


def run(run_dir: str | Path, output: str | Path) -> Path:
    """Write the model file and its card, which ends in `.md`; returns the card's path.

    Leaves the hypotheses of the model in `dev.shipped.hyp.jsonl` and `test.shipped.hyp.jsonl` of
    the run.
    """
    run, output = RunDirectory(run_dir), Path(output)
    if output.suffix != ".safetensors":
        raise DataError(f"{output}: expected a name that ends in .safetensors")
    training = run.summary()
    config = saved(run.config)
    command = " ".join(["asr train", *overrides(config)])
    speech = training_set(run.manifest("train"))
    checkpoint.save(output, reduced(run), half=True)
    shipped = checkpoint.load(output)
    protocol = config["corpus"]["protocol"]
    scores = {split: score(run, shipped, split, protocol) for split in ("dev", "test")}
    card = output.with_suffix(".md")
    with atomic_open(card) as file:
        file.write(described(output, shipped, training, speech, command, scores))
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


def score(run_dir: RunDirectory, shipped: Checkpoint, split: str, protocol: str) -> Score:
    """The score of a shipped model on a split of the run, with intervals."""
    recognizer = shipped.recognizer
    manifest = run_dir.utterances(split)
    batches = Batches(manifest, recognizer.vocabulary, recognizer.config.features.sample_rate, 16)
    n_gram = None
    if shipped.language_model is not None:
        n_gram = graph_of(shipped.language_model, recognizer.vocabulary.phones)
    best = transcribe_all(recognizer, batches, shipped.search or SearchConfig(), n_gram)
    path = run_dir.hypotheses(split, "shipped")
    write_jsonl(path, (best[utterance.id] for utterance in manifest))
    references, hypotheses = (scoring.read_transcripts(side) for side in (manifest.path, path))
    scored = scoring.score_transcripts(references, hypotheses, scoring.protocol(protocol))
    return scoring.with_intervals(scored)


def described(
    path: Path,
    shipped: Checkpoint,
    training: dict[str, Any],
    speech: str,
    command: str,
    scores: dict[str, Score],
) -> str:
    """The card of a model file, as Markdown."""
    recognizer = shipped.recognizer
    corpus = str(training["corpus"])
    test = scores["test"]
    return Template((TABLES / "model-card.md").read_text(encoding="utf-8")).substitute(
        name=path.stem,
        option="" if path.parent.name == "pretrained" else f" --checkpoint {path.name}",
        phones=" ".join(recognizer.vocabulary.phones),
        size=f"{path.stat().st_size / 1e6:.1f}",
        parameters=f"{recognizer.parameter_count:,}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        description=_description(recognizer),
        search=_search(shipped),
        version=__version__,
        licence=LICENCES.get(corpus, UNKNOWN_LICENCE.format(corpus)),
        training_set=speech,
        training_speech="English that was read aloud" if corpus == "librispeech" else f"`{corpus}`",
        command=command,
        seed=training["seed"],
        epoch=training["best_epoch"],
        hours=f"{training['seconds'] / 3600:.1f}",
        machine=_machine(training),
        protocol=test.protocol,
        says=test.says,
        results="\n".join(_rows(scores)),
        sexes="\n".join(_by_sex(scores)) or "| – | not known | | | |",
        speakers=sum(len(one.speakers) for one in scores.values()),
    )


def training_set(path: Path) -> str:
    """The training set in words, and which dev and test subsets of LibriSpeech are in it."""
    manifest = Manifest(path)
    corpora = sorted({utterance.corpus for utterance in manifest})
    speakers = len({utterance.speaker for utterance in manifest})
    text = (
        f"{len(manifest):,} utterances, {sum(manifest.durations) / 3600:.1f} hours, {speakers} "
        f"speakers of {', '.join(f'`{corpus}`' for corpus in corpora)}."
    )
    if any("common-voice" in corpus for corpus in corpora):
        text += (
            " Those of Common Voice v1 (Mozilla, CC0) are not known, and counted as one speaker."
        )
    if seen := sorted({part for corpus in corpora for part in HELD_OUT.findall(corpus)}):
        text += (
            f" Speech of {' and '.join(seen)} is training data of this model: a score on these "
            f"subsets is not one on unheard speech."
        )
    return text


def _description(recognizer: Recognizer) -> str:
    features, encoder = recognizer.config.features, recognizer.config.encoder
    directions = "in both directions" if encoder.bidirectional else "in one direction"
    return (
        f"{encoder.layers} layers of {encoder.hidden} cells ({encoder.cell}) {directions}, on "
        f"{features.width} values of each {features.hop_ms:g} ms ({features.kind}, "
        f"{features.family}), {encoder.subsampling} frames stacked into one; "
        f"{recognizer.config.criterion.name}, {len(recognizer.vocabulary)} labels."
    )


def _search(shipped: Checkpoint) -> str:
    search, model = shipped.search, shipped.language_model
    if search is None:
        return "greedy"
    parts = [f"a beam of {search.beam}" if search.beam > 1 else "greedy"]
    if model is not None:
        parts.append(f"a phone {model.order}-gram with the weight {search.lm_weight:g}")
    parts += [
        f"{name} {value:g}"
        for name, value in (("bonus", search.bonus), ("blank penalty", search.blank_penalty))
        if value
    ]
    return ", ".join(parts)


def _machine(training: dict[str, Any]) -> str:
    device = str(training["device"])
    return str(training["machine"]) if device == "cpu" else device


def _rows(scores: dict[str, Score]) -> Iterator[str]:
    for split, score in scores.items():
        total, interval = score.total, score.intervals.get("speaker", "–")
        errors = f"{total.ins} ins, {total.dele} del, {total.sub} sub of {total.ref}"
        yield f"| {score.corpus or split} {split} | {total.per:.2f} | {interval} | {errors} |"


def _by_sex(scores: dict[str, Score]) -> Iterator[str]:
    for split, score in scores.items():
        references = [alignment.reference for alignment in score.alignments]
        for sex, counts in scoring.Report(score).groups.get("sex", {}).items():
            speakers = len({one.speaker for one in references if one.sex == sex})
            yield f"| {split} | {sex} | {speakers} | {counts.per:.2f} | {counts.ref} |"


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ship", description="Write the model of a finished run to be given away."
    )
    parser.add_argument("run_dir", type=Path, help="exp/EXPERIMENT/SEED")
    parser.add_argument("output", type=Path, help="FILE.safetensors; its card is FILE.md")
    options = parser.parse_args(arguments)
    print(run(options.run_dir, options.output).read_text(encoding="utf-8"), end="")
