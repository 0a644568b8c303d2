"""The means and standard deviations that the frames of batches are normalised by.

`asr.features.moments` has the same for one utterance, in numpy.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from asr.batch import length_mask
from asr.errors import DataError
from asr.features.config import FeaturesConfig
from asr.features.moments import (
    DB_PER_NAT,
    LOUDEST,
    PRIOR_VARIANCE,
    VARIANCE_FLOOR,
    Sums,
)
from asr.features.running import MEMORY, PEAK, PRIOR, RISE, SOFT, Rules, Running
from asr.processor import ranks

Moments = tuple[Tensor, Tensor]  # mean and standard deviation
SpeakerMoments = Mapping[str, Moments]  # (F,), (F,) of each speaker


# From the frames (n, T, F) of the utterances `rows` of a batch and their counts (n,), the moments,
# which broadcast to (n, T, F).
Normalization = Callable[[Tensor, Tensor, slice], Moments]


def normalization(config: FeaturesConfig, training: Moments) -> Normalization:
    """The normalisation of a configuration other than by speaker; `training` are (F,), (F,)."""
    match config.normalization:
        case "utterance":
            return of_utterances
        case "active":
            return lambda frames, counts, rows: of_loud(
                frames, length_mask(counts, frames.shape[1]), config, training
            )
        case "running":
            return lambda frames, counts, rows: running(frames, counts, config, training)
        case "sliding":
            return lambda frames, counts, rows: around(frames, counts, config.cmn_window)
        case "none":
            return lambda frames, counts, rows: (frames.new_zeros(()), frames.new_ones(()))
    return lambda frames, counts, rows: training


def of_speakers(speakers: Sequence[str], moments: SpeakerMoments, count: int) -> Normalization:
    """For `count` utterances by these speakers; `DataError` names one without moments."""
    if len(speakers) != count:
        raise ValueError(
            f"features are normalised by speaker: {count} utterances need the names of their "
            f"speakers, found {len(speakers)}"
        )
    for speaker in speakers:
        if speaker not in moments:
            raise DataError(
                f"speaker {speaker!r}: no moments to normalise by; pass those of "
                f"Features.speaker_moments over all utterances of the split"
            )
    mean, std = (
        torch.stack([moments[speaker][part] for speaker in speakers]).unsqueeze(1)
        for part in (0, 1)
    )
    return lambda frames, counts, rows: (mean[rows], std[rows])


def of_utterances(frames: Tensor, counts: Tensor, rows: slice) -> Moments:
    """The moments of all frames of each utterance."""
    return _of_frames(frames, length_mask(counts, frames.shape[1]))


def of_loud(
    frames: Tensor, within: Tensor, config: FeaturesConfig, prior: Moments | None = None
) -> Moments:
    """The moments of the loud frames of each utterance, out of those `within` (N, T) bool.

    Loud frames are at most `active_db` below the
    `LOUDEST`th loudest one, so that neither silence added to an utterance, however long, nor a
    click changes the moments. `prior` has those of many utterances (F,), (F,), zeros where there is
    none. Its variance counts as that of `PRIOR_VARIANCE` frames: that of a word alone is too small.
    """
    loud, _ = loudest(frames, within, config)
    mean, std = _of_frames(frames, loud)
    if prior is None:
        return mean, std
    size = loud.sum(dim=1).reshape(-1, 1, 1)
    variance = size * std.square() + PRIOR_VARIANCE * prior[1].square()
    return mean, torch.where(prior[0].any(), _std(variance / (size + PRIOR_VARIANCE)), std)


def level_of(frames: Tensor, config: FeaturesConfig) -> Tensor:
    """The mean of each frame's log-mel values: (N, T, F) → (N, T)."""
    return frames[:, :, int(config.energy) : config.static_width].mean(dim=2)


def loudest(frames: Tensor, within: Tensor, config: FeaturesConfig) -> tuple[Tensor, Tensor]:
    """Which frames are loud, (N, T) bool, and the level of the `LOUDEST`th, (N, 1)."""
    level = level_of(frames, config).masked_fill(~within, -torch.inf)
    ordered = level.sort(dim=1, descending=True).values
    place = within.sum(dim=1, keepdim=True).clamp(min=1, max=LOUDEST) - 1
    reference = ordered.gather(1, place) if frames.shape[1] else level.new_zeros(len(level), 1)
    return level.isfinite() & (level >= reference - config.active_db / DB_PER_NAT), reference


def around(frames: Tensor, counts: Tensor, window: int) -> Moments:
    """The moments of the `window` frames around each frame.

    As Kaldi's `apply-cmvn-sliding --center=true --norm-vars=true`: at the edges of an utterance the
    window is moved inwards, and shortened only where the utterance is shorter.
    """
    time = torch.arange(frames.shape[1], device=frames.device)
    counts = counts.unsqueeze(1)
    start = torch.minimum(time - window // 2, counts - window).clamp(min=0)
    stop = torch.minimum(start + window, counts)
    size = (stop - start).clamp(min=1).unsqueeze(2)
    edges = torch.stack([start, stop.clamp(min=0)]).unsqueeze(3)
    index = edges.expand(-1, -1, -1, frames.shape[2])

    def mean(values: Tensor) -> Tensor:
        sums = torch.nn.functional.pad(values.cumsum(dim=1), (0, 0, 1, 0))
        return (sums.gather(1, index[1]) - sums.gather(1, index[0])) / size

    double = frames.double()
    first = mean(double)
    return first, _std(mean(double.square()) - first.square())


def running(frames: Tensor, counts: Tensor, config: FeaturesConfig, training: Moments) -> Moments:
    """The moments of what was loud until each frame: `asr.features.running`, (n, T, F) each."""
    if frames.device.type == "cpu":
        moments = frames.new_ones(2, *frames.shape)
        for n, count in enumerate(counts.tolist()):
            own = Running(config, (training[0].numpy(), training[1].numpy()))
            mean, std = own(frames[n, :count].numpy())
            moments[0, n, :count], moments[1, n, :count] = map(torch.from_numpy, (mean, std))
        return moments[0], moments[1]
    rules, exact = Rules.of(config), frames.double()
    level = exact[:, :, rules.first : rules.static].mean(dim=2, keepdim=True)
    prior_mean, prior_std = (part.double() for part in training)
    reference = prior_mean[rules.first : rules.static].mean().expand(len(frames), 1)
    usual = reference + PEAK
    moved = torch.arange(frames.shape[2], device=frames.device) < rules.static
    size = exact.new_zeros(len(frames), 1)
    total, squares = exact.new_zeros(2, len(frames), frames.shape[2])
    means, stds = [], []
    for values, here in zip(exact.unbind(1), level.unbind(1), strict=True):
        above = here - reference
        reference = reference + torch.where(above > 0, RISE * above, -rules.fall)
        below = reference - here
        weight = (-below.clamp(min=0) / SOFT).exp() * (below <= rules.active)
        kept = (-RISE * above.clamp(min=0) / SOFT).exp() * (1 - weight / MEMORY)
        size = kept * size + weight
        total, squares = kept * total + weight * values, kept * squares + weight * values.square()
        prior = prior_mean + (reference - usual) * moved
        means.append((PRIOR * prior + total) / (PRIOR + size))
        spread = (squares - total.square() / size.clamp(min=1e-30)).clamp(min=0)
        stds.append(_std((PRIOR * prior_std.square() + spread) / (PRIOR + size)))
    if not means:
        return exact, torch.ones_like(exact)
    return torch.stack(means, 1), torch.stack(stds, 1)


def over_ranks(sums: dict[str, Sums]) -> dict[str, Sums]:
    """The sums of all ranks by their names, each rank's over utterances of its own."""
    if ranks.count() == 1:
        return sums
    merged: dict[str, Sums] = {}
    for of_rank in ranks.gather(sums):
        for name, one in of_rank.items():
            before = merged.get(name, Sums())
            merged[name] = Sums(
                before.count + one.count, before.total + one.total, before.squares + one.squares
            )
    return merged


def _of_frames(frames: Tensor, chosen: Tensor) -> Moments:
    """Of some frames of each utterance: (N, T, F), (N, T) bool → (N, 1, F), (N, 1, F)."""
    size = chosen.sum(dim=1).clamp(min=1).reshape(-1, 1, 1)
    others = ~chosen.unsqueeze(2)
    mean = frames.masked_fill(others, 0).sum(1, keepdim=True, dtype=torch.float64) / size
    squares = (frames - mean).masked_fill(others, 0).square()
    return mean, _std(squares.sum(1, keepdim=True) / size)


def _std(variance: Tensor) -> Tensor:
    return variance.clamp(min=VARIANCE_FLOOR).sqrt()
