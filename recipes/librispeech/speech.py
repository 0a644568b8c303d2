"""Fit the detector of speech of a model, and its prior of the moments of an utterance.

    python recipes/librispeech/speech.py MODEL train.jsonl OUTPUT [--utterances 400] [--minutes 60]

OUTPUT is MODEL in half precision with a `SpeechDetector`, a network of `HIDDEN` units on
`asr.detector.evidence`; where it ends in .json, it is the detector alone. Sounds are those of
noises.py, of another seed than those that it measures with. Utterances, which need the times of
their phones (`asr align --output`), are used as recorded, noisy, with sounds behind them, from a
telephone, between silences, in pieces and in words. The bias is such that of their frames with a
phone the share `--lost` is lost.

With features.normalization=active the features get the variance of the utterances as a prior, which
words alone need. The detector of a model that can stream sees at most `--ahead` seconds of what
follows, and OUTPUT says where phones begin and end, seen from its labels, and when they are decided
(recipes/streaming/measure.py shows what that costs).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import noises
import numpy as np
import torch

from asr import audio, checkpoint
from asr.augment import sounds
from asr.augment.layout import Layout
from asr.augment.sounds import Waveform, add_at
from asr.by_torch import TorchNetwork
from asr.detector import AHEAD_S, SpeechDetector, Values, evidence
from asr.errors import DataError, exit_code
from asr.features.layer import Features
from asr.features.moments import LOUDEST, level_of, of_loud
from asr.files.outputs import atomic_open, require_new
from asr.network import Network
from asr.records import Utterance
from asr.search import paths
from asr.search.decisions import Streaming
from asr.streaming import GAP_S

RATE = noises.RATE
SEED = 1  # of the sounds; noises.py measures with 0
HIDDEN = 16
STEPS = 150  # of L-BFGS
SHRINK = 1e-4  # weight of the squares of the weights, for values of variance 1
UNSURE = 0.02  # probability of a label
EXCERPT_S = (3.0, 10.0)  # many short sounds differ more than few long ones
WORD_S, PIECE_S = (0.3, 0.9), (1.0, 3.0)
Known = tuple[Values, Values, Values]  # evidence (T, E), weight (T,), whether a phone is output


def known(network: Network, sound: Waveform, ahead_s: float | None) -> Known:
    static = network.frames.static(sound)
    emissions = network.emissions(static)
    blank = np.exp(emissions[:, 0])
    values = evidence(emissions, static, network.step / RATE, ahead_s)
    return values, np.maximum(1 - blank, 1e-3), emissions.argmax(axis=1) > 0


def spoken(
    network: Network,
    utterances: Sequence[Utterance],
    draw: np.random.Generator,
    ahead_s: float | None,
) -> Iterator[Known]:
    """What is known of the speech in changed utterances, not of what was added beside it."""
    for number, one in enumerate(utterances):
        speech = audio.load(one.audio, RATE)
        way = number % 10
        if way in (0, 1, 2):
            least_s, most_s = WORD_S if way < 2 else PIECE_S
            cut = noises.parts(one, least_s, most_s)
            part = cut[draw.integers(len(cut))]
            speech = Layout((part,), (0.0, 0.0)).waveform(speech, RATE)
        if way in (3, 4):
            noise = sounds.coloured_noise(draw, len(speech), RATE, draw.uniform(0, 2))
            speech = add_at(draw.uniform(3, 25), speech, noise)
        if way == 5:
            speech = sounds.telephone(speech, RATE)
        if way == 6:
            speech = add_at(draw.uniform(8, 25), speech, noises.any_kind(draw, len(speech)))
        if draw.random() < 0.3:
            room = sounds.impulse_response(draw, draw.uniform(0.1, 0.5), draw.uniform(0, 12), RATE)
            speech = sounds.convolve(speech, room)
        before, after = np.zeros((2, 0), np.float32)
        if way in (1, 7, 8):
            sound = noises.zeros if way == 8 else noises.any_kind
            before, after = (
                noises.at_level(draw, speech, sound, draw.uniform(0, 8), draw.uniform(-50, -10))
                for _ in range(2)
            )
        whole = np.concatenate([before, speech, after]) * np.float32(10 ** draw.uniform(-2, 0))
        if len(speech) < RATE // 5:
            continue
        step = network.step
        first, last = int(len(before) / step), -int(len(after) / step) or None
        values, weight, phone = known(network, noises.in_16_bits(whole), ahead_s)
        yield values[first:last], weight[first:last], phone[first:last]


def set_prior(features: Features, utterances: Sequence[Utterance]) -> None:
    """Set the prior of the moments, which normalization=active uses, to those of utterances."""
    frames, config = features.frontend.frames, features.config
    means, variances = [], []
    for one in utterances:
        dynamic = frames.dynamic(frames.static(audio.load(one.audio, RATE)))
        level = np.sort(level_of(dynamic, config))[::-1]
        mean, std = of_loud(dynamic, np.ones(len(dynamic), bool), config)
        mean[: config.static_width] -= level[min(len(level), LOUDEST) - 1]
        means.append(mean)
        variances.append(np.square(std))
    features.mean.copy_(torch.from_numpy(np.mean(means, axis=0)))
    features.std.copy_(torch.from_numpy(np.sqrt(np.mean(variances, axis=0))))


def delays(network: Network, utterances: Sequence[Utterance]) -> tuple[float, float]:
    """The medians, over utterances, of where phones begin behind a pause, and where phones end."""
    starts, ends = [], []
    for one in utterances:
        emissions = network.emissions(network.frames.static(audio.load(one.audio, RATE)))
        labels = network.vocabulary.encode([phone for phone, *_ in one.segments or ()])
        if len(emissions) < network.decoder.frames_needed(labels):
            continue
        placed = paths.path_of(*paths.align(emissions, labels), 0.0)
        before_s = -GAP_S
        for frame, (_, start_s, end_s, *_) in zip(placed.frames, one.segments or (), strict=True):
            moment_s = network.config.time_s(frame)
            ends.append(end_s - moment_s)
            if start_s >= before_s + GAP_S:
                starts.append(start_s - moment_s)
            before_s = end_s
    start_s, end_s = (round(float(np.median(some)), 3) for some in (starts, ends))
    return start_s, end_s


def fitted(noise: Known, speech: Known, lost: float, ahead_s: float | None) -> SpeechDetector:
    values = np.concatenate([noise[0], speech[0]])
    mean, std = values.mean(axis=0), values.std(axis=0)
    scaled = torch.from_numpy((values - mean) / std).float()
    sign = torch.ones(len(values))
    sign[: len(noise[0])] = -1.0
    shares = np.concatenate([part[1] / part[1].sum() / 2 for part in (noise, speech)])
    share = torch.from_numpy(shares).float()
    torch.manual_seed(SEED)
    first, weights = 0.2 * torch.randn(HIDDEN, values.shape[1]), 0.2 * torch.randn(HIDDEN)
    parameters = [first, torch.zeros(HIDDEN), weights, torch.zeros(1)]
    for one in parameters:
        one.requires_grad_()
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        odds = torch.tanh(scaled @ first.T + parameters[1]) @ weights + parameters[3]
        total = (share * torch.nn.functional.softplus(-sign * odds)).sum()
        total = total + SHRINK * (first.square().sum() + weights.square().sum())
        total.backward()
        return total

    optimizer.step(loss)
    rows, bias, outer, _ = (one.detach().numpy().astype(np.float64) for one in parameters)
    rows = rows / std
    hidden = np.column_stack([rows, bias - rows @ mean]).round(5).tolist()
    unbiased = SpeechDetector(outer.round(5).tolist(), 0.0, hidden, ahead_s)
    least = float(np.quantile(unbiased.odds(speech[0])[speech[2]], lost))
    return replace(unbiased, bias=round(-least, 5))


def usable(known: Known) -> Known:
    """Frames that nearly are the blank weigh little, and of them every tenth does for all."""
    values, weight, phone = known
    sure = weight > UNSURE
    keep = sure | (np.arange(len(weight)) % 10 == 0)
    return values[keep], np.where(sure, weight, 10 * weight)[keep], phone[keep]


def joined(parts: Iterator[Known]) -> Known:
    values, weights, phones = zip(*map(usable, parts), strict=True)
    return np.concatenate(values), np.concatenate(weights), np.concatenate(phones)


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path, nargs="+")
    parser.add_argument("output", type=Path)
    parser.add_argument("--utterances", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=60.0, help="of sounds (default: 60)")
    parser.add_argument("--lost", type=float, default=3e-4)
    ahead = f"that the windows of a stream see of what follows (default: {AHEAD_S})"
    parser.add_argument("--ahead", type=float, default=AHEAD_S, metavar="S", help=ahead)
    for name, default in (("share", Streaming.share), ("patience", Streaming.patience_s)):
        said = f"of a stream's decisions (default: {default})"
        parser.add_argument(f"--{name}", type=float, default=default, help=said)
    parser.add_argument("--overwrite", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    require_new([options.output], options.overwrite, [options.model, *options.manifest])
    model = checkpoint.load(options.model)
    utterances = [
        one
        for path in options.manifest
        for one in noises.of_manifest(path, options.utterances // len(options.manifest))
    ]
    for one in utterances:
        if not one.segments:
            raise DataError(f"{one.id}: no times of its phones; add them with `asr align --output`")
    if model.recognizer.config.features.normalization == "active":
        set_prior(model.recognizer.features, utterances)
    network = TorchNetwork(model.recognizer.eval())
    can_stream = network.config.reads_ahead is None
    ahead_s = options.ahead if can_stream else None
    if can_stream:
        waits = options.share, options.patience
        model = replace(model, streaming=Streaming(*delays(network, utterances), *waits))
        print(model.streaming)
    speech = joined(spoken(network, utterances, np.random.default_rng(SEED), ahead_s))
    noise = joined(
        known(network, sound, ahead_s)
        for kind in noises.KINDS
        for sound in noises.excerpts(kind, options.minutes / len(noises.KINDS), SEED, EXCERPT_S)
    )
    detector = fitted(noise, speech, options.lost, ahead_s)
    if options.output.suffix == ".json":
        with atomic_open(options.output) as file:
            json.dump(asdict(detector), file)
    else:
        checkpoint.save(options.output, replace(model, detector=detector), half=True)
    left = (noise[2] & (detector.odds(noise[0]) >= 0)).sum() / max(1, noise[2].sum())
    print(f"{options.output}: {left:.2%} of the frames with a phone in sounds are left")


if __name__ == "__main__":
    sys.exit(main())
