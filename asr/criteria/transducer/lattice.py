"""The loss over a transducer's lattice, by torchaudio, and the best path through it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torchaudio.functional import rnnt_loss

from asr.criteria.transducer.network import BLANK, Joint, hidden
from asr.search.paths import Span


def loss(
    joint: Joint, frames: Tensor, prefixes: Tensor, labels: tuple[Tensor, ...], most_logits: int
) -> Tensor:
    """−log P of each utterance's labels in nats: (N, T', J), (N, U + 1, J) → (N,).

    `labels` are T' of each utterance (N,), targets (N, U) and their lengths (N,).
    """
    head = joint.output
    parts = pieces(labels[0].tolist(), labels[2].tolist(), head.out_features, most_logits)
    operands = frames, prefixes, head.weight, head.bias
    return _LatticeLoss.apply(  # type: ignore[no-any-return, no-untyped-call]
        labels, list(parts), torch.is_grad_enabled(), *operands
    )


def pieces(
    lengths: Sequence[int], target_lengths: Sequence[int], vocabulary_size: int, most_logits: int
) -> Iterator[slice]:
    """Runs of utterances whose padded lattices have `most_logits` together; at least one each."""
    begin, longest, most = 0, 0, 0
    for n, (length, phones) in enumerate(zip(lengths, target_lengths, strict=True)):
        longest, most = max(longest, length), max(most, phones)
        logits = (n + 1 - begin) * longest * (most + 1) * vocabulary_size
        if logits > most_logits and n > begin:
            yield slice(begin, n)
            begin, longest, most = n, length, phones
    yield slice(begin, len(lengths))


class _LatticeLoss(torch.autograd.Function):
    """Losses of a batch, piece by piece, each with its gradients while its lattices are in memory.

    The backward pass keeps no lattice, but the output layer's gradients for each utterance, since
    the caller may weigh utterances differently.
    """

    @staticmethod
    def forward(
        ctx: Any,
        labels: tuple[Tensor, ...],
        pieces: list[slice],
        with_gradients: bool,
        frames: Tensor,
        prefixes: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        losses, gradients = [], []
        for piece in pieces:
            count = piece.stop - piece.start
            head = weight.expand(count, -1, -1), bias.expand(count, -1)
            views = frames[piece], prefixes[piece], *head
            inputs = [view.detach().requires_grad_(with_gradients) for view in views]
            with torch.set_grad_enabled(with_gradients):
                loss = _loss_of(inputs, [part[piece] for part in labels])
                total = loss.sum()
            losses.append(loss.detach())
            if with_gradients:
                gradients.append(torch.autograd.grad(total, inputs))
        ctx.save_for_backward(*(torch.cat(parts) for parts in zip(*gradients, strict=True)))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor | None, ...]:
        frames, prefixes, weight, bias = ctx.saved_tensors
        return (
            *(None, None, None),
            frames * weights[:, None, None],
            prefixes * weights[:, None, None],
            torch.einsum("n,nvj->vj", weights, weight),
            weights @ bias,
        )


def _loss_of(inputs: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """(n, T', J), (n, U + 1, J), the output layer for each (n, V, J), (n, V); labels → (n,)."""
    frames, prefixes, weight, bias = inputs
    lengths, targets, target_lengths = labels
    longest, most = int(lengths.max()), int(target_lengths.max())
    nodes = hidden(frames[:, :longest].unsqueeze(2), prefixes[:, : most + 1].unsqueeze(1))
    logits = torch.baddbmm(bias.unsqueeze(1), nodes.flatten(1, 2), weight.transpose(1, 2))
    return rnnt_loss(  # type: ignore[no-any-return]
        logits.view(len(frames), longest, most + 1, -1).float(),
        targets[:, :most].int().contiguous(),
        lengths.int(),
        target_lengths.int(),
        blank=BLANK,
        reduction="none",
    )


def best_spans(
    joint: Joint, frames: Tensor, prefixes: Tensor, labels: Tensor, most_logits: int
) -> list[Span]:
    """The frame of each label on the best path through one lattice, at most one label a frame.

    Shapes: (T', J), (U + 1, J), (U,) → U. At most `most_logits` logits, or those of one frame, are
    in memory at once.
    """
    at_once = max(1, most_logits // (len(prefixes) * joint.output.out_features))
    stays, emits = [], []  # log-probabilities of blanks, (T', U + 1), and of labels, (T', U)
    for some in torch.split(frames, at_once):
        nodes = joint(some.unsqueeze(1), prefixes.unsqueeze(0))
        log_probs = nodes.log_softmax(dim=2, dtype=torch.float64)
        stays.append(log_probs[:, :, BLANK])
        at = labels.expand(len(some), -1).unsqueeze(2)
        emits.append(log_probs[:, :-1].gather(2, at).squeeze(2))
    stay, emit = (torch.cat(parts).cpu().numpy() for parts in (stays, emits))
    best = np.full(len(labels) + 1, -np.inf)  # after a frame, by the number of labels so far
    best[0] = 0.0
    grew = np.zeros(stay.shape, dtype=bool)
    for t in range(len(stay)):
        longer = np.concatenate([[-np.inf], best[:-1] + emit[t]])
        grew[t] = longer > best
        best = np.maximum(best, longer) + stay[t]
    spans, u = [], len(labels)
    for t in reversed(range(len(stay))):
        if grew[t, u]:
            u -= 1
            spans.append(Span(t, t + 1, math.exp(emit[t, u])))
    return spans[::-1]
