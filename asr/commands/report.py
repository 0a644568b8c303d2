"""A finished run → one HTML page, complete in itself.

    asr report exp/demo/1

Numbers, the learning curve, and one utterance with the posteriors of its phones. `asr score` lists
the errors in full.
"""

import argparse
import html
import sys
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from asr import audio, pictures
from asr.batch import Batch
from asr.criteria import CTC
from asr.dataset import Batches
from asr.errors import DataError, exit_code
from asr.features import SpeakerMoments
from asr.files import atomic_open
from asr.recognizer import Recognizer
from asr.records import Hypothesis, Utterance, read_jsonl
from asr.training.run_directory import RunDirectory

BODY = Template("""$synthetic
<p class="per"><code>$per</code></p>
<table>$facts</table>
<h2>Learning</h2>
<img alt="training loss and dev PER over epochs" src="data:image/png;base64,$curve">
<h2>One utterance of the test set: $id</h2>
<p>$player</p>
<img alt="log-mel spectrogram and phone posteriors" src="data:image/png;base64,$picture">
<p>Above: the log-mel features, with the labelled phones. Below: the posteriors of
the network, frame by frame; those of CTC are spikes, and blank is most probable between them.</p>
<h2>The score in full</h2>
<pre>$score</pre>
""")


def run(folder: Path, utterance_id: str | None = None) -> Path:
    """Write `report.html`, and `utterance.png` beside it, into a finished run's folder.

    The utterance is the one named, or else the test set's middle one by length of speech.
    """
    run_dir = RunDirectory(folder)
    training = run_dir.summary()
    score = run_dir.score.read_text(encoding="utf-8")
    utterances = read_jsonl(run_dir.manifest("test"), Utterance)
    utterance = _choose(utterances, utterance_id)
    hypotheses = {h.id: h for h in read_jsonl(run_dir.hypotheses("test"), Hypothesis)}
    recognizer = run_dir.recognizer()
    by_same_speaker = Batches(
        [one for one in utterances if one.speaker == utterance.speaker],
        recognizer.vocabulary,
        recognizer.config.features.sample_rate,
        batch_size=16,
    )
    moments = recognizer.moments_of(by_same_speaker)
    figure = draw_utterance(recognizer, utterance, hypotheses[utterance.id], moments)
    with atomic_open(run_dir.picture, "wb") as file:
        figure.savefig(file, format="png", dpi=130)
    title = f"{training['experiment']}, seed {training['seed']}"
    synthetic = "<p><strong>Synthetic speech</strong>: a check of the pipeline, not a statement "
    synthetic += "about human speech.</p>"
    body = BODY.substitute(
        synthetic=synthetic if utterance.corpus == "synthetic" else "",
        per=html.escape(score.splitlines()[0]),
        facts="".join(
            f"<tr><td>{k}</td><td>{html.escape(v)}</td></tr>" for k, v in _facts(training)
        ),
        curve=pictures.base64_of(run_dir.curve.read_bytes()),
        id=html.escape(utterance.id),
        player=_player(utterance, recognizer.features.config.sample_rate),
        picture=pictures.base64_of(run_dir.picture.read_bytes()),
        score=html.escape(score),
    )
    with atomic_open(run_dir.report) as file:
        file.write(pictures.page(title, body))
    return run_dir.report


def draw_utterance(
    recognizer: Recognizer,
    utterance: Utterance,
    hypothesis: Hypothesis,
    moments: SpeakerMoments | None = None,
) -> Figure:
    """The log-mel features with the labelled phones, above the posteriors of the phones heard."""
    waveform = torch.from_numpy(audio.load(utterance.audio, recognizer.features.config.sample_rate))
    batch = Batch.of([waveform], [utterance.speaker])
    features = recognizer.features
    first = int(features.config.kind == "fbank" and features.config.energy)
    with torch.no_grad():
        frames, _ = features.raw(batch.waveforms, batch.waveform_lengths)
        log_mel = frames[0, :, first : features.config.static_width].T.numpy()
        posteriors = _posteriors(recognizer, batch, moments)
    seconds = utterance.duration_s
    figure = Figure(figsize=(max(8.0, 3.6 * seconds), 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    upper.imshow(
        log_mel, origin="lower", aspect="auto", extent=(0, seconds, 0, len(log_mel)), cmap="magma"
    )
    upper.set_ylabel("mel filter" if features.config.kind == "fbank" else "coefficient")
    segments = utterance.segments or ()
    inches_per_s = 0.9 * figure.get_figwidth() / seconds
    pictures.label_phones(upper, segments, inches_per_s)
    upper.set_title(
        f"{utterance.corpus} {utterance.split}: {utterance.id}",
        loc="left",
        pad=6 + pictures.label_points(segments, inches_per_s),
    )
    for segment in segments:
        upper.axvline(segment.end_s, color="white", lw=0.5, alpha=0.6)
    if posteriors is not None:
        _draw_posteriors(lower, posteriors, recognizer, seconds)
    lower.set(xlabel="time (s)", ylabel="posterior", ylim=(0, 1.18), xlim=(0, seconds))
    heard = " ".join(hypothesis.phones)
    lower.set_title(f"heard: {heard}", loc="left", fontsize=8, wrap=True)
    return figure


def _draw_posteriors(
    axes: Any, posteriors: np.ndarray[Any, Any], recognizer: Recognizer, seconds: float
) -> None:
    time = (np.arange(len(posteriors)) + 0.5) * seconds / len(posteriors)
    axes.plot(time, posteriors[:, 0], color="0.75", lw=0.8, ls=":")
    best = posteriors.argmax(axis=1)
    for label in sorted(set(best.tolist()) - {0}):
        phone = recognizer.vocabulary.decode([label])[0]
        (line,) = axes.plot(time, posteriors[:, label], lw=1.1)
        starts = np.flatnonzero((best == label) & (np.append(-1, best[:-1]) != label))
        for start in starts:
            stop = start + int(np.argmax(np.append(best[start:] != label, True)))
            peak = start + int(posteriors[start:stop, label].argmax())
            axes.text(
                time[peak],
                posteriors[peak, label] + 0.03,
                phone,
                ha="center",
                fontsize=8,
                color=line.get_color(),
            )


def _posteriors(
    recognizer: Recognizer, batch: Batch, moments: SpeakerMoments | None
) -> np.ndarray[Any, Any] | None:
    if not isinstance(recognizer.criterion, CTC):
        return None
    encoded, _ = recognizer.encode_batch(batch, moments=moments)
    return recognizer.criterion.log_probs(encoded)[0].exp().numpy()


def _choose(utterances: list[Utterance], wanted: str | None) -> Utterance:
    if wanted is None:
        by_length = sorted(utterances, key=lambda utterance: (utterance.duration_s, utterance.id))
        return by_length[len(by_length) // 2]
    for utterance in utterances:
        if utterance.id == wanted:
            return utterance
    raise DataError(f"no utterance {wanted!r} in the test set; one is {utterances[0].id!r}")


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


def _player(utterance: Utterance, sample_rate: int) -> str:
    return pictures.player(audio.load(utterance.audio, sample_rate), sample_rate)


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="asr report", description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder of a finished run, e.g. exp/demo/1")
    parser.add_argument("--utterance", metavar="ID", help="the test utterance to draw")
    arguments = parser.parse_args(argv)
    print(run(arguments.run_dir, arguments.utterance))


if __name__ == "__main__":
    sys.exit(main())
