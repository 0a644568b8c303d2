"""A finished run → one HTML page, complete in itself.

    asr report exp/demo/1
    asr report exp/demo*/1 --output runs.html      # several runs → tables, printed, and a page

The page has numbers, the learning curve, one utterance with its words, its errors and the
posteriors of the network, and the page of `asr score --html`. Several runs are compared: rates,
paired tests on the same test set, means over seeds, and what differs; on their page the curves too.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from asr import audio, labels, pictures, templates
from asr.audio import Waveform
from asr.batch import Batch
from asr.commands.comparison import Comparison, scored
from asr.commands.recordings import add_root
from asr.criteria import CTC
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.features.normalization import SpeakerMoments
from asr.files.outputs import atomic_open, require_new
from asr.pictures import Picture, data_url
from asr.pictures.posteriors import Floats, draw_posteriors
from asr.recognizer import Recognizer
from asr.scoring import report_html
from asr.training.run_directory import RunDirectory

CURVE_SIZE = 864, 326  # CSS pixels of the learning curve, 9 by 3.4 inches


def run(run_dir: str | Path, utterance: str | None = None, root: str = "") -> Path:
    """Write `report.html`, and `utterance.png` beside it, into a finished run's folder.

    The utterance is the test set's median by duration unless its id is given.
    """
    run = RunDirectory(run_dir)
    training = run.summary()
    if not run.score.exists():
        raise DataError(f"{run.score}: no such file; score the run first with `asr score`")
    result = run.score.read_text(encoding="utf-8")
    utterances = run.utterances("test", root)
    chosen = utterances.pick(utterance)
    recognizer = run.recognizer()
    config = recognizer.config.features
    by_same_speaker = [one for one in utterances if one.speaker == chosen.speaker]
    moments = recognizer.moments_of(
        Batches(by_same_speaker, recognizer.vocabulary, config.sample_rate, batch_size=16)
    )
    waveform = audio.load(chosen.audio, config.sample_rate)
    frames, posteriors = _network_output(recognizer, waveform, chosen.speaker, moments)
    figure = draw_posteriors(chosen, frames, config, posteriors, recognizer.vocabulary)
    drawn = pictures.png(figure, dpi=130)
    with atomic_open(run.picture, "wb") as png:
        png.write(drawn)
    shown = "log-mel spectrogram" if config.kind == "fbank" else "cepstra"
    alt = f"{shown}{' and phone posteriors' if posteriors is not None else ''} over time"
    curve = data_url(run.curve.read_bytes(), "image/png")
    reports = scored(run, result.partition("\n")[0])
    alignments = reports[0].score.alignments if reports else []
    page = templates.render(
        "report.html",
        training=training,
        utterance=chosen,
        words=chosen.words or labels.words_beside(chosen.audio),
        score=result,
        scored=report_html.section(reports) if reports else "",
        alignment=next((one for one in alignments if one.reference.id == chosen.id), None),
        posteriors=posteriors is not None,
        curve=Picture(curve, *CURVE_SIZE, "training loss and dev PER over epochs"),
        sound=pictures.flac(waveform, config.sample_rate),
        picture=Picture.of(figure, data_url(drawn, "image/png"), alt),
    )
    with atomic_open(run.report) as file:
        file.write(page)
    return run.report


@torch.no_grad()
def _network_output(
    recognizer: Recognizer, waveform: Waveform, speaker: str, moments: SpeakerMoments | None
) -> tuple[Tensor, Floats | None]:
    """Static frames (T, F), and the posteriors (T', V) of CTC."""
    batch = Batch.of([torch.from_numpy(waveform)], [speaker])
    frames, _ = recognizer.features.static(batch.waveforms, batch.waveform_lengths)
    if not isinstance(recognizer.criterion, CTC):
        return frames[0], None
    encoded, _ = recognizer.encode_batch(batch, moments=moments)
    return frames[0], recognizer.criterion.emissions(encoded)[0].exp().numpy()


def _files_of(run_dirs: Sequence[Path]) -> Iterator[Path]:
    """What a comparison reads, and what only training can make again."""
    for run_dir in run_dirs:
        files = chain(run_dir.glob("*"), run_dir.glob("manifests/*"))
        yield from (file for file in files if file.suffix != ".html")


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="asr report", description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, nargs="+", help="folder of a run: exp/demo/1")
    parser.add_argument("--utterance", metavar="ID", help="the test utterance to draw")
    add_root(parser, "a corpus")
    page = "for several runs: the page that compares them"
    parser.add_argument("--output", type=Path, metavar="HTML", help=page)
    parser.add_argument("--overwrite", action="store_true", help="replace that page if it exists")
    options = parser.parse_args(argv)
    if len(options.run_dir) > 1 or options.output:
        if options.utterance:
            raise DataError("--utterance: is for one run")
        if options.output:
            require_new([options.output], options.overwrite, _files_of(options.run_dir))
        compared = Comparison(options.run_dir)
        print(compared)
        if options.output:
            with atomic_open(options.output) as file:
                file.write(compared.html())
    else:
        print(run(options.run_dir[0], options.utterance, options.root))
