"""A finished run → one small model file to give away, and its card.

    asr ship exp/librispeech/1 asr/pretrained/librispeech.safetensors

The best checkpoint in half precision, with the search that `asr tune` chose, if it did, the
language model of that search, and a calibration of its confidences, which is fitted on dev, as
recorded, in noise and through a telephone. The card's numbers are those of the file as written, on
the run's dev and test manifests, whose audio must be at hand. It trains and tunes nothing.

    python recipes/librispeech/conditions.py FILE.safetensors --manifest … --output FILE.json
    asr ship exp/librispeech/1 FILE.safetensors --conditions FILE.json --overwrite

adds to the card what `conditions.py` measured with the file, which stays as it is.
"""

import argparse
import hashlib
import json
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr import __version__, checkpoint, scoring, templates
from asr.augment import Augment, AugmentConfig
from asr.checkpoint import Checkpoint
from asr.commands.configured import overrides, saved
from asr.commands.recordings import add_root
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open, require_new
from asr.recognizer import transcribe_all
from asr.records import Hypothesis, Manifest, Utterance, write_jsonl
from asr.scoring import ErrorCounts, Report, Score, Transcript, Transcripts
from asr.scoring.alignment import Alignment
from asr.scoring.reliability import Judged, calibrated, held_out
from asr.search import SearchConfig
from asr.search.arpa import read_arpa
from asr.search.graph import graph_of
from asr.training.run_directory import RunDirectory
from asr.transcriber import MODEL

HELD_OUT = re.compile(r"\b(?:dev|test)-(?:clean|other)\b(?!-)")  # LibriSpeech's subsets for scores
CALIBRATED_ON = {
    "as recorded": None,
    "noise at 10 dB": AugmentConfig(noise=1.0, snr_min_db=10.0, snr_max_db=10.0),
    "telephone": AugmentConfig(telephone=1.0),
}
LENGTHS_S = (3, 6, 12)  # between the classes of length
CLASSES = ("below 3 s", "3 to 6 s", "6 to 12 s", "12 s and more")
GROUPS = ("length, ", "sex, ", "speaker, ")  # rows of conditions.py that the card has itself
HARD = 1.5  # times the errors of recordings as they are
MOST_FREQUENT = 10


def run(
    run_dir: str | Path,
    output: str | Path,
    overwrite: bool = False,
    root: str = "",
    conditions: str | Path | None = None,
) -> Path:
    """Write the model file and its card, which ends in `.md`; returns the card's path.

    With `conditions`, the rows of recipes/librispeech/conditions.py about the file that is already
    there, only the card is written. Raises `DataError` where a file is already there, unless
    `overwrite`, or where the rows are about another file.

    Leaves the hypotheses of the model in `dev.shipped.hyp.jsonl` and `test.shipped.hyp.jsonl` of
    the run.
    """
    run, output = RunDirectory(run_dir), Path(output)
    if output.suffix != ".safetensors":
        raise DataError(f"{output}: expected a name that ends in .safetensors")
    card = output.with_suffix(".md")
    inputs = conditions, *run.path.glob("checkpoint-*")
    require_new([card] if conditions else [output, card], overwrite, inputs)
    measured = _measured(conditions, output) if conditions else []
    manifests = {split: run.utterances(split, root) for split in ("dev", "test")}
    training, config = run.summary(), saved(run.config)
    command = " ".join(["asr train", *overrides(config)])
    train = Manifest(run.manifest("train"))
    corpora = sorted({utterance.corpus for utterance in train})
    protocol = config["corpus"]["protocol"]
    if not conditions:
        checkpoint.save(output, reduced(run), half=True)
    model = checkpoint.load(output)
    judged = judge(model, manifests["dev"], protocol)
    if not conditions:
        model = replace(model, calibration=calibrated(judged.values()))
        checkpoint.save(output, model, half=True)
        model = checkpoint.load(output)
    scores = {
        split: score(run, model, split, manifest, protocol) for split, manifest in manifests.items()
    }
    size, network = output.stat().st_size, 2 * model.recognizer.parameter_count
    text = templates.render(
        "model-card.md",
        path=output,
        size=size,
        network=network,
        sha256=_sha256(output),
        version=__version__,
        model=model,
        recognizer=model.recognizer,
        command=command,
        start=_start(config),
        training=training,
        train=train,
        subsets=list(_subsets(train)),
        speakers=len({utterance.speaker for utterance in train}),
        corpora=corpora,
        held_out=sorted({part for corpus in corpora for part in HELD_OUT.findall(corpus)}),
        scores=scores,
        groups=list(_groups(scores, manifests)),
        reliability=[
            (name, one, held)
            for (name, one), held in zip(judged.items(), held_out(judged), strict=True)
            if len(one.right)
        ],
        conditions=[one for one in measured if not one["condition"].startswith(GROUPS)],
        harder=_harder(measured),
        frequent=Report(scores["dev"]).frequent[:MOST_FREQUENT],
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


def judge(model: Checkpoint, dev: Manifest, protocol: str) -> dict[str, Judged]:
    """The phones of dev as recorded and changed, with the confidences of the search itself."""
    return {
        name: Judged.of(*_decoded(replace(model, calibration=None), dev, protocol, change))
        for name, change in CALIBRATED_ON.items()
    }


def score(
    run_dir: RunDirectory, shipped: Checkpoint, split: str, manifest: Manifest, protocol: str
) -> Score:
    """The score of a shipped model on a split of the run, with intervals."""
    scored, hypotheses = _decoded(shipped, manifest, protocol)
    write_jsonl(run_dir.hypotheses(split, "shipped"), hypotheses.values())
    return scoring.with_intervals(scored)


def _decoded(
    shipped: Checkpoint, manifest: Manifest, protocol: str, change: AugmentConfig | None = None
) -> tuple[Score, dict[str, Hypothesis]]:
    """The hypotheses of a manifest, whose recordings are perhaps changed, and their score."""
    recognizer, phones = shipped.recognizer, shipped.recognizer.vocabulary.phones
    rate, ngram = recognizer.config.features.sample_rate, shipped.language_model
    augment = Augment(change, rate, ()) if change else None
    batches = Batches(manifest, recognizer.vocabulary, rate, 16, augment=augment)
    graph = None if ngram is None else graph_of(ngram, phones)
    best = transcribe_all(recognizer, batches, shipped.search or SearchConfig(), graph)
    if shipped.calibration is not None:
        best = {id: shipped.calibration.of(one) for id, one in best.items()}
    best = {utterance.id: best[utterance.id] for utterance in manifest}
    references = scoring.read_transcripts(manifest.path)
    items = {id: Transcript(id, one.phones) for id, one in best.items()}
    hypotheses = Transcripts("hypotheses", items, in_memory=True)
    return scoring.score_transcripts(references, hypotheses, scoring.protocol(protocol)), best


def _start(config: Mapping[str, Any]) -> str:
    """The model whose weights training began with: "packaged", a file, or ""."""
    start: str = config["training"]["start_from"]
    is_packaged = Path(start).is_file() and Path(start).samefile(MODEL)
    return "packaged" if is_packaged else start


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _measured(path: str | Path, output: Path) -> list[dict[str, Any]]:
    """The rows of a file of conditions.py, which must be about the model file `output`."""
    if not output.is_file():
        raise DataError(f"{output}: no such file, which {path} is about; ship it first")
    sha256 = _sha256(output)
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        own = [one for one in rows if one["sha256"] == sha256 and not one["greedy"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: expected what conditions.py --output writes ({error})") from None
    if not own:
        raise DataError(
            f"{path}: measured with another file than {output}, or with --greedy; measure it again"
        )
    return own


def _harder(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Conditions with the most errors for each of the manifest as recorded, and how many times."""
    clean = {
        one["manifest"]: one["per"] for one in rows if one["condition"].startswith("as recorded")
    }
    times = [
        (one, one["per"] / clean[one["manifest"]])
        for one in rows
        if one.get("per") and clean.get(one["manifest"])
    ]
    return sorted((one for one in times if one[1] >= HARD), key=lambda one: -one[1])


def _subsets(train: Manifest) -> Iterator[tuple[str, int, int, float, str]]:
    """Subset, utterances, speakers, hours and licence of LibriSpeech's training speech."""
    by_name: dict[str, list[Utterance]] = {}
    for one in train:
        names = (n.removeprefix("part-of-") for n in re.split(r"[+/]", one.corpus))
        name = next((name for name in names if name in Path(one.audio).parts), one.corpus)
        by_name.setdefault(name, []).append(one)
    for name, some in sorted(by_name.items(), key=lambda one: -len(one[1])):
        licence = "CC0" if "common-voice" in name else "CC BY 4.0"
        hours = sum(one.duration_s for one in some) / 3600
        yield name, len(some), len({one.speaker for one in some}), hours, licence


def _groups(
    scores: Mapping[str, Score], manifests: Mapping[str, Manifest]
) -> Iterator[tuple[str, str, int, ErrorCounts]]:
    """Split, group, number of speakers and counts, by sex where it is known, and by length."""
    for split, score in scores.items():
        durations_s = {one.id: one.duration_s for one in manifests[split]}
        groups: dict[str, list[Alignment]] = {}
        for one in sorted(score.alignments, key=lambda one: durations_s[one.reference.id]):
            n = bisect(LENGTHS_S, durations_s[one.reference.id])
            groups.setdefault(CLASSES[n], []).append(one)
        for one in score.alignments:
            if one.reference.sex:
                groups.setdefault({"f": "women", "m": "men"}[one.reference.sex], []).append(one)
        for name, some in groups.items():
            speakers = {one.reference.speaker for one in some}
            yield split, name, len(speakers), ErrorCounts.of(*(one.ops for one in some))


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr ship", description="Write the model of a finished run to be given away."
    )
    parser.add_argument("run_dir", type=Path, help="exp/EXPERIMENT/SEED")
    parser.add_argument("output", type=Path, help="FILE.safetensors; its card is FILE.md")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    add_root(parser, "a corpus")
    rows = "of recipes/librispeech/conditions.py --output; writes only the card"
    parser.add_argument("--conditions", type=Path, metavar="FILE.json", help=rows)
    card = run(**vars(parser.parse_args(arguments)))
    print(card.read_text(encoding="utf-8"), end="")
