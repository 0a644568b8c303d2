"""How a recogniser learns from a batch: gradient descent, or expectation maximisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asr.augment import Augment, seed_of
from asr.batch import Batch
from asr.config import OptimizerConfig, RunConfig, SGDConfig, TrainingConfig
from asr.criteria import Estimated
from asr.errors import DataError
from asr.features.normalization import SpeakerMoments
from asr.processor import ranks
from asr.processor.memory import trim_above
from asr.recognizer import Recognizer
from asr.training.progress import Progress


class Learner(ABC):
    """Changes the weights of `recognizer` from batch to batch.

    `moments` are those of the training set's speakers, with normalization=speaker.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        augment: Augment | None = None,
        moments: SpeakerMoments | None = None,
    ) -> None:
        self.recognizer = recognizer
        self.augment = augment
        self.moments = moments
        self.learning_rate = 0.0  # of the last step
        self.most_resident = 0  # bytes, beyond which a step trims the heap; 0: never
        self.progress = Progress()

    @property
    def result(self) -> Recognizer:
        """What is evaluated and kept."""
        return self.recognizer

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for the steps of an epoch, counted from 1."""
        self.recognizer.train()

    @abstractmethod
    def step(self, batch: Batch, rate: float = 1.0, weight_noise: float = 0.0) -> Tensor:
        """Learn from a batch on the recogniser's device; its losses before the step, (N,).

        The weights change at the last batch of a step. `rate` is a fraction of the highest learning
        rate, `weight_noise` a standard deviation.
        """

    def end_epoch(self) -> None:  # noqa: B027
        """Finish the epoch; by default nothing is left to do."""

    def restart(self, weights: Recognizer) -> None:
        """Go on from other weights, as if no step had been made."""
        self.recognizer.load_state_dict(weights.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What a continued training needs besides the weights, by part; every rank must call it."""
        return {"progress": ranks.gather(self.progress.state())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state_dict` of an earlier learner."""
        self.progress = Progress.of(state.get("progress", []))


class _Loss(nn.Module):
    """A recogniser's loss as a module, of which DistributedDataParallel sums the gradients."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.recognizer = recognizer

    def forward(
        self, batch: Batch, augment: Augment | None, moments: SpeakerMoments | None
    ) -> Tensor:
        return self.recognizer.loss(batch, augment, moments)


class GradientDescent(Learner):
    """Gradient descent on the mean loss of the utterances of a step, over all ranks.

    With `training.weight_noise` the gradient is taken at noisy weights, drawn from (seed, epoch,
    step); with `training.average` the exponential moving average of the weights is the result; for
    `training.frozen_epochs` the encoder keeps its weights.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        optimizer: OptimizerConfig,
        training: TrainingConfig,
        augment: Augment | None = None,
        moments: SpeakerMoments | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(recognizer, augment, moments)
        self.config = optimizer
        self.seed = seed
        self.epoch = 0
        self.losses: dict[str, Tensor] = {}  # of the step's utterances
        self.training = training
        self.optimizer = build_optimizer(optimizer, recognizer)
        self.average = averaged(recognizer, training.average)
        self.loss: nn.Module = _Loss(recognizer)

    @property
    def result(self) -> Recognizer:
        if self.average is None:
            return self.recognizer
        assert isinstance(self.average.module, Recognizer)
        return self.average.module

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        self.epoch = epoch
        self.recognizer.encoder.requires_grad_(epoch > self.training.frozen_epochs)
        if ranks.count() > 1:  # made anew, because it sums what is trained when it is made
            self.loss = DistributedDataParallel(_Loss(self.recognizer), broadcast_buffers=False)

    def step(self, batch: Batch, rate: float = 1.0, weight_noise: float = 0.0) -> Tensor:
        """See `Learner.step`; `DataError`, and no weight changed, if the gradient is not finite."""
        self.learning_rate = self.config.learning_rate * rate
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        if not self.losses:
            self.optimizer.zero_grad(set_to_none=True)
        noise_seed = seed_of(self.seed, self.epoch, f"step {batch.step}")
        parallel = self.loss if isinstance(self.loss, DistributedDataParallel) else None
        with (
            noisy_weights(self.recognizer, weight_noise, noise_seed),
            nullcontext() if parallel is None or batch.ends_step else parallel.no_sync(),
        ):
            losses: Tensor = self.loss(batch, self.augment, self.moments)
            mean = losses.sum() / (batch.step_utterances or len(losses))
            shared = mean * batch.counted * ranks.count()  # the sum over ranks is divided by it
            shared.backward()  # type: ignore[no-untyped-call]
        self.losses |= dict(zip(batch.ids, losses.detach(), strict=True))
        if batch.ends_step:
            self._move()
        trim_above(self.most_resident)
        return losses.detach()

    def _move(self) -> None:
        """Change the weights along the gradient of the step."""
        weights, longest = self.recognizer.parameters(), self.training.max_gradient_norm
        norm = nn.utils.clip_grad_norm_(weights, longest)
        if not torch.isfinite(norm):
            losses = {id: loss for each in ranks.gather(self.losses) for id, loss in each.items()}
            named = [id for id, loss in losses.items() if not loss.isfinite()]
            raise DataError(
                f"the gradient is {float(norm)} in a batch of {', '.join(named or losses)}; "
                f"lower optimizer.learning_rate, or check these utterances"
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.recognizer)
        self.losses = {}

    def restart(self, weights: Recognizer) -> None:
        super().restart(weights)
        self.optimizer = build_optimizer(self.config, self.recognizer)

    def state_dict(self) -> dict[str, Any]:
        average = {} if self.average is None else self.average.state_dict()
        optimizer = self.optimizer.state_dict()
        return {**super().state_dict(), "optimizer": optimizer, "average": average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        try:
            super().load_state_dict(state)
            self.optimizer.load_state_dict(state["optimizer"])
            self.learning_rate = float(self.optimizer.param_groups[0]["lr"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            for weights, values in self.optimizer.state.items():
                for value in values.values():
                    if not torch.is_tensor(value) or value.numel() not in (1, weights.numel()):
                        raise ValueError("a moment does not have the shape of its weights")
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise DataError(
                f"the last checkpoint's state of the optimiser does not fit ({error}); it is "
                f"damaged: set another run_dir, and start_from the best checkpoint"
            ) from error


class ExpectationMaximisation(Learner):
    """Sums over an epoch, then new values from the sums; there are no gradients."""

    @property
    def criterion(self) -> Estimated:
        assert isinstance(self.recognizer.criterion, Estimated)
        return self.recognizer.criterion

    def step(self, batch: Batch, rate: float = 1.0, weight_noise: float = 0.0) -> Tensor:
        """See `Learner.step`; rate and noise have no meaning here."""
        encoded, lengths = self.recognizer.encode_batch(batch, self.augment, self.moments)
        if not batch.counted:
            self.criterion.begin()
            return encoded.new_zeros(len(encoded))
        return self.criterion.accumulate(encoded, lengths, batch)

    def end_epoch(self) -> None:
        self.criterion.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "sums": ranks.gather(self.criterion.partial_sums())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        of_ranks = [sums for sums in state.get("sums", []) if sums]
        if not of_ranks:
            return
        if len(of_ranks) != ranks.count():  # of another number of processes
            merged = {name: sum(sums[name] for sums in of_ranks) for name in of_ranks[0]}
            of_ranks = [merged, *[{}] * (ranks.count() - 1)]
        self.criterion.continue_sums(of_ranks[ranks.rank()])


def build_learner(
    config: RunConfig, recognizer: Recognizer, augment: Augment, moments: SpeakerMoments | None
) -> Learner:
    """The learner that the recogniser's criterion needs."""
    if isinstance(recognizer.criterion, Estimated):
        return ExpectationMaximisation(recognizer, augment, moments)
    return GradientDescent(
        recognizer, config.optimizer, config.training, augment, moments, config.seed
    )


def build_optimizer(config: OptimizerConfig, recognizer: Recognizer) -> torch.optim.Optimizer:
    """The optimiser that `config` describes, over all weights of the recogniser."""
    weights = recognizer.parameters()
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(weights, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.Adam(weights, lr=config.learning_rate)


def averaged(recognizer: Recognizer, decay: float) -> AveragedModel | None:
    """The exponential moving average of the weights, from their present values; None for decay 0.

    After each step it moves towards the weights by 1 − decay (Polyak & Juditsky 1992).
    """
    if not decay:
        return None
    moving: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(recognizer, multi_avg_fn=moving)
    average.n_averaged += 1  # so that the first step is averaged too, and does not replace
    return average


@contextmanager
def noisy_weights(module: nn.Module, sigma: float, seed: int = 0) -> Iterator[None]:
    """Add Gaussian noise to all weights; at the end they have, bit for bit, their old values."""
    weights = list(module.parameters()) if sigma else []
    draw = torch.Generator(weights[0].device).manual_seed(seed) if weights else None
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            noise = torch.randn(weight.shape, generator=draw, device=weight.device)
            weight.add_(noise, alpha=sigma)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, clean, strict=True):
                weight.copy_(before)
