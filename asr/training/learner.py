"""How a recogniser learns from a batch: gradient descent, or expectation maximisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asr.augment import Augment
from asr.batch import Batch
from asr.config import OptimizerConfig, RunConfig, SGDConfig, TrainingConfig
from asr.criteria import Estimated
from asr.errors import DataError
from asr.features import SpeakerMoments
from asr.recognizer import Recognizer


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

        `rate` is a fraction of the highest learning rate, `weight_noise` a standard deviation.
        """

    def end_epoch(self) -> None:  # noqa: B027
        """Finish the epoch; by default nothing is left to do."""

    def restart(self, weights: Recognizer) -> None:
        """Go on from other weights, as if no step had been made."""
        self.recognizer.load_state_dict(weights.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """What a continued training needs besides the weights, by part."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Continue from the `state_dict` of an earlier learner."""


class GradientDescent(Learner):
    """Gradient descent on the mean loss of a batch.

    With `training.weight_noise` the gradient is taken at noisy weights; with `training.average` the
    exponential moving average of the weights is the result; for `training.frozen_epochs` the
    encoder keeps its weights.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        optimizer: OptimizerConfig,
        training: TrainingConfig,
        augment: Augment | None = None,
        moments: SpeakerMoments | None = None,
    ) -> None:
        super().__init__(recognizer, augment, moments)
        self.config = optimizer
        self.training = training
        self.optimizer = build_optimizer(optimizer, recognizer)
        self.average = averaged(recognizer, training.average)

    @property
    def result(self) -> Recognizer:
        if self.average is None:
            return self.recognizer
        assert isinstance(self.average.module, Recognizer)
        return self.average.module

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        self.recognizer.encoder.requires_grad_(epoch > self.training.frozen_epochs)

    def step(self, batch: Batch, rate: float = 1.0, weight_noise: float = 0.0) -> Tensor:
        """See `Learner.step`; `DataError`, and no weight changed, if the gradient is not finite."""
        self.learning_rate = self.config.learning_rate * rate
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        with noisy_weights(self.recognizer, weight_noise):
            losses = self.recognizer.loss(batch, self.augment, self.moments)
            losses.mean().backward()  # type: ignore[no-untyped-call]
        weights, longest = self.recognizer.parameters(), self.training.max_gradient_norm
        norm = nn.utils.clip_grad_norm_(weights, longest)
        if not torch.isfinite(norm):
            named = [id for id, loss in zip(batch.ids, losses, strict=True) if not loss.isfinite()]
            raise DataError(
                f"the gradient is {float(norm)} in a batch of {', '.join(named or batch.ids)}; "
                f"lower optimizer.learning_rate, or check these utterances"
            )
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.recognizer)
        return losses.detach()

    def restart(self, weights: Recognizer) -> None:
        super().restart(weights)
        self.optimizer = build_optimizer(self.config, self.recognizer)

    def state_dict(self) -> dict[str, Any]:
        average = {} if self.average is None else self.average.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "average": average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        try:
            self.optimizer.load_state_dict(state["optimizer"])
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
        return self.criterion.accumulate(encoded, lengths, batch)

    def end_epoch(self) -> None:
        self.criterion.update()


def build_learner(
    config: RunConfig, recognizer: Recognizer, augment: Augment, moments: SpeakerMoments | None
) -> Learner:
    """The learner that the recogniser's criterion needs."""
    if isinstance(recognizer.criterion, Estimated):
        return ExpectationMaximisation(recognizer, augment, moments)
    return GradientDescent(recognizer, config.optimizer, config.training, augment, moments)


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
def noisy_weights(module: nn.Module, sigma: float) -> Iterator[None]:
    """Add Gaussian noise to all weights; at the end they have, bit for bit, their old values."""
    weights = list(module.parameters()) if sigma else []
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight), alpha=sigma)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, clean, strict=True):
                weight.copy_(before)
