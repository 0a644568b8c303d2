"""Audio files → one page, or one picture, of what is in them.

    asr show sa1.wav
    asr show sa1.wav sa2.wav --features mfcc39 --output pair.png
    asr show --manifest exp/demo/1/manifests/test.jsonl --utterance maak0_si90 --augment

Waveform, spectrogram, features, energy, and the phones where they are labelled: beside the audio
(`.phn`, `.TextGrid`, `.lab`) or in the manifest. No network has a part in it; see `asr report`.
"""

import argparse
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import count
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from asr import audio, pictures
from asr.augment import Augment, AugmentConfig
from asr.commands.configured import with_features
from asr.config import RunConfig
from asr.corpora.folder import LABELS, read_labels
from asr.errors import DataError, exit_code, raise_problems
from asr.features import Features, FeaturesConfig
from asr.files import atomic_open, read_lines
from asr.labels import textgrid
from asr.records import Segment, Utterance, stream_jsonl

LONGEST_S = 60.0
INCHES_PER_S = 2.2
NARROWEST_IN = 7.0
SPECTRUM_MS = 8.0  # window of the spectrogram, short enough to show each pulse of a voice
SPECTRUM_DB = 55.0  # below the loudest point all is white
QUIETEST_DB = -90.0  # of the energy


@dataclass(frozen=True)
class Speech:
    """An utterance to be drawn: waveform (S,), and its phones where their times are known."""

    name: str
    waveform: Tensor
    segments: tuple[Segment, ...]
    facts: tuple[str, ...]  # sentences


@dataclass(frozen=True)
class Version:
    """What augmentation made of an utterance: waveform (S,), static frames (T, static width)."""

    kind: str
    waveform: Tensor
    frames: Tensor
    audible: bool = True  # false: no other waveform than the one recorded


def run(
    files: Sequence[str | Path],
    output: str | Path = "show.html",
    features: str = "fbank123",
    manifest: str | Path | None = None,
    utterances: Sequence[str] = (),
    augment: bool = False,
) -> Path:
    """Draw audio files, and utterances of a manifest, into one `.html` or `.png` file.

    `features` names a file of `conf/features`. Raises `DataError`, with nothing written, where any
    input is bad or `output` is one of the inputs.
    """
    output = Path(output)
    config = with_features(features)
    # those without an id have their labels beside them
    wanted = [Utterance("", str(path), 0.0, "", ()) for path in files]
    if manifest is not None:
        wanted += _choose(manifest, utterances)
    inputs = [Path(utterance.audio) for utterance in wanted] + [Path(manifest or "")]
    _require_output(output, inputs)
    speech = _read(wanted, config.features)
    others = [one.waveform for one in speech]
    versions = [
        list(augmented(one.waveform, others[:n] + others[n + 1 :], config)) if augment else []
        for n, one in enumerate(speech)
    ]
    if output.suffix == ".png":
        figures = []
        for one, made in zip(speech, versions, strict=True):
            figures.append(draw(one, config.features, one.name))
            figures += [draw_version(v, made[0], config.features, v.kind) for v in made]
        data = pictures.stacked(figures)
    else:
        data = _page(speech, versions, config.features).encode()
    with atomic_open(output, "wb") as file:
        file.write(data)
    return output


# ---------------------------------------------------------------- inputs


def _choose(manifest: str | Path, ids: Sequence[str]) -> list[Utterance]:
    found: dict[str, Utterance] = {}
    known = []
    for utterance in stream_jsonl(manifest, Utterance):
        known.append(utterance.id)
        if utterance.id in ids:
            found[utterance.id] = utterance
    if not ids:
        example = f", for example --utterance {known[0]}" if known else ""
        raise DataError(f"{manifest}: {len(known)} utterances; say which{example}")
    raise_problems(
        f"{manifest}: no utterance {id!r}; the nearest is "
        f"{', '.join(get_close_matches(id, known, n=1, cutoff=0.0)) or 'none'}"
        for id in ids
        if id not in found
    )
    return [found[id] for id in ids]


def _require_output(output: Path, inputs: Sequence[Path]) -> None:
    if output.suffix not in (".html", ".png"):
        raise DataError(f"{output}: expected a name that ends in .html or .png")
    if output.is_dir():
        raise DataError(f"{output}: is a folder, expected the name of a file to write")
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise DataError(f"{output}: is one of the inputs, expected the name of a file to write")


def _read(wanted: Sequence[Utterance], config: FeaturesConfig) -> list[Speech]:
    """Inspect all files, and raise one `DataError` for all that is wrong; then read them."""
    problems: list[str] = []
    speech = []
    for utterance in wanted:
        path = Path(utterance.audio)
        found = audio.inspect(path, config.sample_rate, config.window_samples)
        problems.extend(found.problems)
        if found.problems or found.header is None:
            continue
        if found.header.duration_s > LONGEST_S:
            problems.append(
                f"{path}: {found.header.duration_s:.0f} s, expected at most {LONGEST_S:.0f} s, the "
                f"length of an utterance; cut it first"
            )
            continue
        facts = [f"{path}: {found.header.duration_s:.2f} s at {config.sample_rate} Hz."]
        facts += [f"{warning}." for warning in found.warnings]
        segments = utterance.segments or ()
        try:
            if not utterance.id:
                labels, segments = _beside(path, found.header)
                facts.append(f"Phones: {labels}." if labels else "No labels beside it.")
            elif not segments:
                facts.append(f"Phones, without times: {' '.join(utterance.phones)}.")
        except DataError as error:
            problems.extend(error.problems)
        waveform = torch.from_numpy(audio.load(path, config.sample_rate))
        name = utterance.id or f"{path.absolute().parent.name}/{path.name}"
        speech.append(Speech(name, waveform, segments, tuple(facts)))
    raise_problems(problems)
    return speech


def _beside(path: Path, header: audio.AudioInfo) -> tuple[Path | None, tuple[Segment, ...]]:
    """The label file of an audio file, whatever phones are in it, and the segments it holds."""
    stem = path.stem.lower().removesuffix(".wav")
    for labels in sorted(path.parent.iterdir()):
        kind = labels.suffix.lower()
        if kind in LABELS and labels.stem.lower().removesuffix(".wav") == stem:
            if kind == ".phn":
                found = [line.split()[-1].lower() for line in read_lines(labels) if line.strip()]
            else:
                read = textgrid.read_lab if kind == ".lab" else textgrid.read_phones
                found = [label for *_, label in read(labels)]
            return labels, read_labels(labels, header, frozenset(found), "its own labels")
    return None, ()


# ---------------------------------------------------------------- augmentation


def augmented(waveform: Tensor, others: Sequence[Tensor], config: RunConfig) -> Iterator[Version]:
    """An utterance (S,) as it is, and after each kind of augmentation; babble is of `others`."""
    rate = config.features.sample_rate
    features = Features(config.features)
    bins = config.mel_bins[: config.features.static_width]

    def frames_of(waveform: Tensor, warps: Tensor | None = None) -> Tensor:
        lengths = torch.tensor([len(waveform)])
        return features.static(waveform.unsqueeze(0), lengths, warps)[0][0]

    def changed(kind: str, augment: AugmentConfig, factor: float = 1.0) -> Version:
        applied = Augment(augment, rate, bins)
        results = (
            applied.waveform(waveform, seed, lambda number: others[number % len(others)])
            for seed in count()
        )
        result = next(result for result, found in results if found == factor)
        return Version(kind, result, frames_of(result))

    original = frames_of(waveform)
    yield Version("as recorded", waveform, original, audible=False)
    yield changed("speed 0.9", AugmentConfig(speed=0.1), 0.9)
    yield changed("speed 1.1", AugmentConfig(speed=0.1), 1.1)
    warped = frames_of(waveform, torch.tensor([1.1]))
    yield Version("VTLP 1.1 (frames only)", waveform, warped, audible=False)
    noise = AugmentConfig(noise=1.0, snr_min_db=10.0, snr_max_db=10.0)
    yield changed("coloured noise, SNR 10 dB", noise)
    if others:
        babble = replace(noise, noise=0.0, babble=1.0, voices=min(4, len(others)))
        yield changed("babble of the other files, SNR 10 dB", babble)
    yield changed(
        "reverberation, RT60 0.4 s, direct sound as loud as its echo",
        AugmentConfig(reverb=1.0, rt60_min_s=0.4, rt60_max_s=0.4, drr_min_db=0.0, drr_max_db=0.0),
    )
    masks = AugmentConfig(time_masks=2, frequency_masks=2 if max(bins) >= 0 else 0)
    mean = original.mean(dim=0)
    masked = Augment(masks, rate, bins).mask(
        (original - mean).unsqueeze(0), torch.tensor([len(original)]), (2,)
    )
    yield Version("masks (frames only)", waveform, masked[0] + mean, audible=False)


# ---------------------------------------------------------------- pictures


def draw(speech: Speech, config: FeaturesConfig, title: str = "") -> Figure:
    """Waveform, spectrogram, features and energy of an utterance, one above the other."""
    rate = config.sample_rate
    seconds = len(speech.waveform) / rate
    inches_per_s = _inches_per_s(speech.waveform, rate)
    labels_in = pictures.label_points(speech.segments, inches_per_s) / 72
    figure, (wave, spectrum, frames, energy) = _figure(
        seconds, inches_per_s, (0.9, 2.0, 1.7, 0.8), labels_in + (0.3 if title else 0.05)
    )
    wave.set_title(title, loc="left", fontsize=10, pad=72 * labels_in + 4, parse_math=False)
    pictures.label_phones(wave, speech.segments, inches_per_s)
    wave.plot(np.arange(len(speech.waveform)) / rate, speech.waveform.numpy(), color="0.25", lw=0.4)
    peak = 1.05 * float(speech.waveform.abs().max())
    wave.set(ylabel="amplitude", ylim=(-peak, peak))
    spectrum.imshow(
        _spectrogram(speech.waveform, rate).numpy(),
        origin="lower",
        aspect="auto",
        extent=(0, seconds, 0, rate / 2000),
        cmap="gray_r",
        vmin=-SPECTRUM_DB,
        vmax=0,
    )
    spectrum.set(ylabel="frequency (kHz)")
    static, _ = Features(config).static(
        speech.waveform.unsqueeze(0), torch.tensor([len(speech.waveform)])
    )
    _draw_frames(frames, static[0], static[0], config)
    windows = speech.waveform.unfold(0, config.window_samples, config.hop_samples)
    power = windows.square().mean(dim=1).clamp(min=10 ** (QUIETEST_DB / 10))
    time = (np.arange(len(power)) * config.hop_samples + config.window_samples / 2) / rate
    energy.plot(time, 10 * power.log10().numpy(), color="0.25", lw=1)
    energy.set(ylabel="energy (dBFS)")
    energy.grid(alpha=0.2)
    edges = {edge for segment in speech.segments for edge in (segment.start_s, segment.end_s)}
    for axes in (wave, spectrum, frames, energy):
        for edge in edges:
            axes.axvline(edge, color="tab:red", lw=0.4, alpha=0.5)
    return figure


def draw_version(
    version: Version, original: Version, config: FeaturesConfig, title: str = ""
) -> Figure:
    """The features of a version, on the scales of time and of colour of the original."""
    figure, (axes,) = _figure(
        len(version.waveform) / config.sample_rate,
        _inches_per_s(original.waveform, config.sample_rate),
        (1.3,),
        0.3 if title else 0.05,
    )
    axes.set_title(title, loc="left", fontsize=10)
    _draw_frames(axes, version.frames, original.frames, config)
    return figure


def _inches_per_s(waveform: Tensor, rate: int) -> float:
    return max(INCHES_PER_S, NARROWEST_IN * rate / len(waveform))


def _figure(
    seconds: float, inches_per_s: float, heights: Sequence[float], top: float
) -> tuple[Figure, list[Axes]]:
    """Axes one above the other over the same time, `heights` inches each, below `top` inches."""
    left, right, bottom, gap = 0.75, 0.15, 0.45, 0.12
    width = inches_per_s * seconds + left + right
    height = top + sum(heights) + gap * (len(heights) - 1) + bottom
    figure = Figure(figsize=(width, height))
    axes, edge = [], height - top
    for size in heights:
        edge -= size
        place = (left / width, edge / height, 1 - (left + right) / width, size / height)
        axes.append(figure.add_axes(place, xlim=(0, seconds)))
        axes[-1].tick_params(labelsize=8, labelbottom=False)
        for label in (axes[-1].xaxis.label, axes[-1].yaxis.label):
            label.set_fontsize(9)
        edge -= gap
    axes[-1].tick_params(labelbottom=True)
    axes[-1].set(xlabel="time (s)")
    return figure, axes


def _draw_frames(axes: Axes, frames: Tensor, scale: Tensor, config: FeaturesConfig) -> None:
    """Static frames (T, static width) without the energy, coloured by what is usual in `scale`."""
    first = int(config.energy)
    shown, scale = frames[:, first:], scale[:, first:]
    if config.kind == "mfcc":  # coefficients differ in size
        mean, std = scale.mean(dim=0), scale.std(dim=0, correction=0).clamp(min=1e-6)
        shown, scale = (shown - mean) / std, (scale - mean) / std
    low, high = np.quantile(scale.numpy(), (0.01, 0.999))
    # A frame stands for one hop around the middle of its window.
    hop_s = config.hop_samples / config.sample_rate
    start_s = 0.0 if config.family == "kaldi" else -hop_s / 2
    if config.family == "kaldi" and config.snip_edges:
        start_s = (config.window_samples / config.sample_rate - hop_s) / 2
    axes.imshow(
        shown.T.numpy(),
        origin="lower",
        aspect="auto",
        extent=(start_s, start_s + len(shown) * hop_s, first - 0.5, first + shown.shape[1] - 0.5),
        interpolation="nearest",
        cmap="magma",
        vmin=low,
        vmax=high,
    )
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set(ylabel="mel filter" if config.kind == "fbank" else "coefficient")


def _spectrogram(waveform: Tensor, rate: int) -> Tensor:
    """Decibels below the loudest point, (frequencies, times); with pre-emphasis."""
    raised = torch.cat([waveform[:1], waveform[1:] - 0.97 * waveform[:-1]])
    size = round(rate * SPECTRUM_MS / 1000)
    spectrum = torch.stft(
        raised,
        n_fft=4 * size,
        hop_length=max(1, size // 4),
        win_length=size,
        window=torch.hann_window(size),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.abs().square()
    return 10 * (power / power.max()).clamp(min=1e-12).log10()


def _page(
    speech: Sequence[Speech], versions: Sequence[Sequence[Version]], config: FeaturesConfig
) -> str:
    rate = config.sample_rate
    parts = []
    for one, made in zip(speech, versions, strict=True):
        if len(speech) > 1:
            parts.append(f"<h2>{html.escape(one.name)}</h2>")
        parts += [f"<p>{html.escape(fact)}</p>" for fact in one.facts]
        parts.append(pictures.player(one.waveform.numpy(), rate))
        about = "waveform, spectrogram, features and energy, with the phones"
        parts.append(pictures.image(draw(one, config), about))
        for version in made:
            parts.append(f"<h3>{version.kind}</h3>")
            if version.audible:
                parts.append(pictures.player(version.waveform.numpy(), rate))
            figure = draw_version(version, made[0], config)
            parts.append(pictures.image(figure, f"features, {version.kind}"))
    title = speech[0].name if len(speech) == 1 else f"{len(speech)} utterances"
    return pictures.page(title, "\n".join(parts))


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr show",
        description="Draw waveform, spectrogram, features, energy and phones of utterances.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio, with labels beside it")
    parser.add_argument("--manifest", help="take utterances from this manifest")
    parser.add_argument(
        "--utterance",
        action="append",
        default=[],
        metavar="ID",
        help="one of them; may be repeated",
    )
    parser.add_argument(
        "--features", default="fbank123", metavar="NAME", help="of conf/features (fbank123)"
    )
    parser.add_argument(
        "--augment", action="store_true", help="also what each kind of augmentation makes of them"
    )
    parser.add_argument(
        "--output", default="show.html", help="page (.html) or picture (.png) to write (show.html)"
    )
    options = parser.parse_args(argv)
    if not options.files and not options.manifest:
        parser.error("give audio files, or --manifest with --utterance")
    if options.utterance and not options.manifest:
        parser.error("--utterance needs --manifest")
    print(
        run(
            options.files,
            options.output,
            options.features,
            options.manifest,
            options.utterance,
            options.augment,
        )
    )
