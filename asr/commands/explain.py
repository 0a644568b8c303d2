"""One sentence and one network → a page that shows what an LSTM is.

    asr explain sentence.wav --checkpoint exp/timit/1/checkpoint-best.safetensors

Sound, phones, equations with this sentence's numbers, gates over time, the memory of one cell, and
how far back memory reaches. Labels come from a manifest, or from a .phn, TextGrid or .lab file
beside the recording; without labels, the sections that need them are left out.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr import audio, labels
from asr import checkpoint as checkpoints
from asr.commands import recordings
from asr.errors import DataError, exit_code
from asr.explanation.network import LONGEST_S, Network, Sentence, require_length
from asr.explanation.page import page
from asr.files.outputs import atomic_open, require_new
from asr.files.shards import file_of
from asr.phones import phone_set
from asr.records import Manifest, Utterance
from asr.training.run_directory import RunDirectory

RUNS = Path("exp/explain")  # of `make explain`; with ARGS exp/explain+…
COMPARED = {"GRU": "gru", "tanh RNN": "tanh"}  # its other networks
STUDIED = 60  # labelled sentences at most, on which gates and cells are measured


def run(
    file: str | Path | None = None,
    checkpoint: str | Path | None = None,
    compare: Mapping[str, str | Path] | None = None,
    manifest: str | Path | None = None,
    utterance: str | None = None,
    output: str | Path = "explain.html",
    channel: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the page of `file`, or of one utterance of the manifest: of this id, or the median.

    The default network is that of the newest `make explain`, the default manifest that of the test
    set in the checkpoint's folder. On its other sentences gates and cells are measured too.
    """
    require_new([output], overwrite, [file, checkpoint, manifest, *(compare or {}).values()])
    path, others = _checkpoints(checkpoint, compare)
    network = Network.of(checkpoints.load(path))
    compared = [Network.of(checkpoints.load(other), name) for name, other in others.items()]
    beside = RunDirectory(path.parent).manifest("test")
    listed = Manifest(manifest or beside) if manifest or beside.exists() else None
    chosen = _utterance(file, utterance, listed)
    sentence = _sentence(network, str(file), chosen, channel)
    for one in (network, *compared):
        require_length(sentence, one)
    study = list(_study(network, listed or (), chosen, required=manifest is not None))
    html = page(sentence, network, compared, study)
    with atomic_open(output) as written:
        written.write(html)
    return Path(output)


def _checkpoints(
    path: str | Path | None, compare: Mapping[str, str | Path] | None
) -> tuple[Path, Mapping[str, str | Path]]:
    if path is not None:
        return Path(path), compare or {}
    folders = [RUNS, *RUNS.parent.glob(f"{RUNS.name}+*")]
    every = [RunDirectory(run).best for folder in folders for run in folder.glob("lstm/*")]
    best = sorted((path for path in every if path.exists()), key=lambda path: path.stat().st_mtime)
    if not best:
        raise DataError(
            f"{RUNS}/lstm: no network; give --checkpoint …/checkpoint-best.safetensors of a run, "
            f"or train one with `make explain`"
        )
    folder, seed = best[-1].parents[2], best[-1].parent.name
    beside = {name: RunDirectory(folder / cell / seed).best for name, cell in COMPARED.items()}
    return best[-1], compare or {name: path for name, path in beside.items() if path.exists()}


def _utterance(
    file: str | Path | None, id: str | None, listed: Manifest | None
) -> Utterance | None:
    """The manifest's record of the recording; None where it has none."""
    if file is not None and id is not None:
        raise DataError(f"{file} and utterance {id!r}: expected one of them")
    if file is not None:
        wanted = Path(file).resolve()
        return next((one for one in listed or () if Path(one.audio).resolve() == wanted), None)
    if not listed:
        raise DataError("no recording: give a FILE, or a --manifest with utterances in it")
    return listed.pick(id)


def _sentence(
    network: Network, file: str, utterance: Utterance | None, channel: int | None
) -> Sentence:
    """The recording with phones from the manifest or from a file beside it."""
    path = file if utterance is None else utterance.audio
    config = network.recognizer.features.config
    waveform, header, warnings = recordings.read(path, config, LONGEST_S, channel)
    words = labels.words_beside(path)
    plain = Sentence(Path(path).stem, waveform, config.sample_rate, words=words, warnings=warnings)
    if utterance is not None:
        return replace(
            plain,
            name=utterance.id,
            phones=utterance.phones,
            segments=utterance.segments,
            labels_from="the manifest",
            speaker=utterance.speaker,
            corpus=utterance.corpus,
            words=utterance.words or words,
        )
    if (beside := labels.beside(path)) is None:
        return plain
    vocabulary = network.recognizer.vocabulary.phones
    known = frozenset({*vocabulary, *phone_set("timit61"), *phone_set("arpabet39")})
    about = header.samples, header.sample_rate, known, "the phones of TIMIT and CMUdict"
    segments = labels.read_checked(beside, *about)
    phones = tuple(segment.phone for segment in segments)
    return replace(plain, phones=phones, segments=segments, labels_from=beside.name)


def _study(
    network: Network, listed: Sequence[Utterance], chosen: Utterance | None, required: bool
) -> Iterator[Sentence]:
    """Labelled sentences of the manifest, evenly spaced, without the one that is explained."""
    rate = network.recognizer.features.config.sample_rate
    taken = 0
    for one in listed[:: max(1, len(listed) // STUDIED)]:
        if one.segments is None or one == chosen or taken == STUDIED:
            continue
        if not required and not Path(file_of(one.audio)).exists():
            return
        waveform = audio.load(one.audio, rate)
        sentence = Sentence(one.id, waveform, rate, segments=one.segments, speaker=one.speaker)
        if network.steps_of(len(waveform)) and sentence.duration_s <= LONGEST_S:
            taken += 1
            yield sentence


@exit_code
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr explain",
        description=(__doc__ or "").splitlines()[0],
        parents=[recordings.flags("?")],
        epilog="Without --checkpoint: the networks of the newest `make explain`.",
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, help="the network to explain")
    add(
        "--compare",
        nargs="+",
        default=[],
        metavar="NAME=CHECKPOINT",
        help="networks to compare its memory with, e.g. tanh=…/checkpoint-best.safetensors",
    )
    add("--manifest", type=Path, help="labelled utterances (default: test.jsonl of the run)")
    add("--utterance", metavar="ID", help="an utterance of the manifest, instead of FILE")
    add("--output", type=Path, default=Path("explain.html"), help="default: %(default)s")
    options = parser.parse_args(argv)
    options.compare = dict(text.partition("=")[::2] for text in options.compare)
    if "" in {*options.compare, *options.compare.values()}:
        parser.error("--compare: expected NAME=CHECKPOINT, as in tanh=exp/explain/tanh/1/…")
    print(run(**vars(options)))
