"""Audio files → one page, or one picture, of what is in them.

    asr show sa1.wav
    asr show sa1.wav sa2.wav --features mfcc39 --output pair.png
    asr show --manifest exp/demo/1/manifests/test.jsonl --utterance maak0_si90 --augment

Waveform, spectrogram, features, energy, and the phones where they are labelled: beside the audio
(`.phn`, `.TextGrid`, `.lab`) or in the manifest. For the output of a network see `asr report`.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from asr import labels, pictures, templates
from asr.commands import recordings
from asr.commands.configured import compose
from asr.errors import DataError, did_you_mean, exit_code, raise_problems
from asr.features.config import FeaturesConfig
from asr.files.outputs import atomic_open, require_new
from asr.pictures import Picture
from asr.pictures.speech import Speech, Version, augmented, draw, draw_version
from asr.records import Utterance, stream_jsonl

LONGEST_S = 60.0


def run(
    files: Sequence[str | Path],
    output: str | Path = "show.html",
    features: str = "fbank123",
    manifest: str | Path | None = None,
    utterances: Sequence[str] = (),
    augment: bool = False,
    channel: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw audio files, and utterances of a manifest, into one `.html` or `.png` file.

    `features` names a file of `conf/features`. Raises `DataError`, with nothing written, where any
    input is bad, `output` is one of the inputs, or, unless `overwrite`, `output` is there already.
    """
    output, run = Path(output), compose([f"features={features}"])
    config = run.features
    # an utterance without an id has its labels beside the audio
    problems: list[str] = []
    given = list(recordings.expanded(files, problems))
    raise_problems(problems)
    wanted = [Utterance("", str(path), 0.0, "", ()) for path, _ in given]
    if manifest is not None:
        wanted += _choose(manifest, utterances)
    if output.suffix not in (".html", ".png"):
        raise DataError(f"{output}: expected a name that ends in .html or .png")
    require_new([output], overwrite, [manifest or "", *(one.audio for one in wanted)])
    speech = _read(wanted, config, channel)
    versions: list[list[Version]] = [[] for _ in speech]
    if augment:
        waves = [one.waveform for one in speech]
        versions = [
            list(augmented(wave, waves[:n] + waves[n + 1 :], config, run.mel_bins))
            for n, wave in enumerate(waves)
        ]
    if output.suffix == ".png":
        figures = []
        for one, made in zip(speech, versions, strict=True):
            figures.append(draw(one, config, one.name))
            figures += [draw_version(v, made[0], config, v.kind) for v in made]
        data = pictures.stacked(figures)
    else:
        title = speech[0].name if len(speech) == 1 else f"{len(speech)} utterances"
        shown = [list(_sections(*pair, config)) for pair in zip(speech, versions, strict=True)]
        data = templates.render("show.html", title=title, utterances=shown).encode()
    with atomic_open(output, "wb") as file:
        file.write(data)
    return output


def _choose(manifest: str | Path, ids: Sequence[str]) -> list[Utterance]:
    by_id = {utterance.id: utterance for utterance in stream_jsonl(manifest, Utterance)}
    if not ids:
        example = f", for example --utterance {next(iter(by_id))}" if by_id else ""
        raise DataError(f"{manifest}: {len(by_id)} utterances; choose one or more{example}")
    raise_problems(
        f"{manifest}: no utterance {id!r}{did_you_mean(id, by_id, cutoff=0.0)}"
        for id in ids
        if id not in by_id
    )
    return [by_id[id] for id in ids]


def _read(wanted: Sequence[Utterance], config: FeaturesConfig, channel: int | None) -> list[Speech]:
    """Read all, and raise one `DataError` with all problems."""
    problems: list[str] = []
    speech = []
    for utterance in wanted:
        try:
            speech.append(_speech(utterance, config, channel))
        except DataError as error:
            problems.extend(error.problems)
    raise_problems(problems)
    return speech


def _speech(utterance: Utterance, config: FeaturesConfig, channel: int | None) -> Speech:
    path = utterance.audio
    waveform, header, warnings = recordings.read(path, config, LONGEST_S, channel)
    facts = [f"{path}: {header.duration_s:.2f} s at {header.sample_rate} Hz."]
    facts += [f"{warning}." for warning in warnings]
    segments = utterance.segments or ()
    if not utterance.id:
        beside = labels.beside(path)
        facts.append(f"Phones: {beside}." if beside else "No labels beside it.")
        if beside:
            segments = labels.read_checked(beside, header.samples, header.sample_rate)
    elif not segments:
        facts.append(f"Phones, without times: {' '.join(utterance.phones)}.")
    place = Path(path).absolute()
    name = utterance.id or f"{place.parent.name}/{place.name}"
    return Speech(name, torch.from_numpy(waveform), segments, tuple(facts))


def _sections(
    one: Speech, versions: Sequence[Version], config: FeaturesConfig
) -> Iterator[dict[str, Any]]:
    """What the page has of an utterance, and then of each of its versions."""

    def section(heading: str, wave: Tensor | None, figure: Figure, alt: str) -> dict[str, Any]:
        sound = None if wave is None else pictures.flac(wave.numpy(), config.sample_rate)
        picture = Picture.png(figure, alt)
        return {"heading": heading, "facts": (), "sound": sound, "picture": picture}

    alt = "waveform, spectrogram, features and energy, with the phones"
    yield section(one.name, one.waveform, draw(one, config), alt) | {"facts": one.facts}
    for version in versions:
        wave = version.waveform if version.audible else None
        figure = draw_version(version, versions[0], config)
        yield section(version.kind, wave, figure, f"features, {version.kind}")


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr show",
        description="Draw waveform, spectrogram, features, energy and phones of utterances.",
        parents=[recordings.flags("*")],
    )
    add = parser.add_argument
    add("--manifest", help="draw utterances of this manifest")
    repeated: dict[str, Any] = {"dest": "utterances", "action": "append", "default": []}
    add("--utterance", metavar="ID", help="one of the manifest; may be repeated", **repeated)
    add("--features", default="fbank123", metavar="NAME", help="a file of conf/features (fbank123)")
    add("--augment", action="store_true", help="also draw them after each kind of augmentation")
    add("--output", default="show.html", help="page (.html) or picture (.png) (%(default)s)")
    options = parser.parse_args(argv)
    if not options.files and not options.manifest:
        parser.error("give audio files, or --manifest with --utterance")
    if options.utterances and not options.manifest:
        parser.error("--utterance needs --manifest")
    print(run(**vars(options)))
