"""A finished run → one HTML page, complete in itself.

    asr report exp/demo/1

The page has numbers, the learning curve, and one utterance with the posteriors of the network. For
the errors in detail see `asr score --html`.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from asr import audio, pictures, templates
from asr.batch import Batch
from asr.criteria import CTC
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.features import SpeakerMoments
from asr.files import atomic_open
from asr.pictures import Picture, data_url
from asr.pictures.posteriors import Floats, draw_posteriors
from asr.recognizer import Recognizer
from asr.records import Hypothesis, read_jsonl
from asr.training.run_directory import RunDirectory


def run(folder: Path, utterance_id: str | None = None) -> Path:
    """Write `report.html`, and `utterance.png` beside it, into a finished run's folder.

    The utterance is the test set's median by duration unless its id is given.
    """
    run_dir = RunDirectory(folder)
    training = run_dir.summary()
    if not run_dir.score.exists():
        raise DataError(f"{run_dir.score}: no such file; score the run first with `asr score`")
    score = run_dir.score.read_text(encoding="utf-8")
    utterances = run_dir.utterances("test")
    utterance = utterances.pick(utterance_id)
    hypotheses = {h.id: h for h in read_jsonl(run_dir.hypotheses("test"), Hypothesis)}
    recognizer = run_dir.recognizer()
    by_same_speaker = Batches(
        [one for one in utterances if one.speaker == utterance.speaker],
        recognizer.vocabulary,
        recognizer.config.features.sample_rate,
        batch_size=16,
    )
    moments = recognizer.moments_of(by_same_speaker)
    waveform = audio.load(utterance.audio, recognizer.features.config.sample_rate)
    log_mel, posteriors = _network_output(recognizer, waveform, utterance.speaker, moments)
    figure = draw_posteriors(
        utterance,
        hypotheses[utterance.id].phones,
        log_mel,
        "mel filter" if recognizer.features.config.kind == "fbank" else "coefficient",
        posteriors,
        recognizer.vocabulary,
    )
    drawn = pictures.png(figure, dpi=130)
    with atomic_open(run_dir.picture, "wb") as png:
        png.write(drawn)
    page = templates.render(
        "report.html",
        training=training,
        utterance=utterance,
        score=score,
        facts=_facts(training),
        curve=data_url(run_dir.curve.read_bytes(), "image/png"),
        sound=pictures.flac(waveform, recognizer.features.config.sample_rate),
        picture=Picture.of(
            figure, data_url(drawn, "image/png"), "log-mel spectrogram and phone posteriors"
        ),
    )
    with atomic_open(run_dir.report) as file:
        file.write(page)
    return run_dir.report


@torch.no_grad()
def _network_output(
    recognizer: Recognizer,
    waveform: audio.Waveform,
    speaker: str,
    moments: SpeakerMoments | None,
) -> tuple[Floats, Floats | None]:
    """Static features (F, T) without the energy, and the posteriors (T', V) of CTC."""
    batch = Batch.of([torch.from_numpy(waveform)], [speaker])
    features = recognizer.features
    first = int(features.config.kind == "fbank" and features.config.energy)
    frames, _ = features.static(batch.waveforms, batch.waveform_lengths)
    log_mel = frames[0, :, first : features.config.static_width].T.numpy()
    if not isinstance(recognizer.criterion, CTC):
        return log_mel, None
    encoded, _ = recognizer.encode_batch(batch, moments=moments)
    return log_mel, recognizer.criterion.emissions(encoded)[0].exp().numpy()


def _facts(training: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("trained on", training["corpus"]),
        ("best dev PER", f"{training['dev_per']:.2f} %"),
        ("best epoch", f"{training['best_epoch']} of {training['epochs']}"),
        ("weights", f"{training['parameters']:,}"),
        (
            "training time",
            f"{training['seconds']:.0f} s on {training['device']} ({training['machine']})",
        ),
        ("software", f"asr {training['version']}, torch {training['torch']}"),
    ]


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="asr report", description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder of a finished run, e.g. exp/demo/1")
    parser.add_argument("--utterance", metavar="ID", help="the test utterance to draw")
    arguments = parser.parse_args(argv)
    print(run(arguments.run_dir, arguments.utterance))
