"""The prediction and the joint network of a transducer (Graves, Mohamed & Hinton 2013)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.lstm.cell import State
from asr.lstm.layer import RecurrentLayer

BLANK = 0


class Prediction(nn.Module):
    """One recurrent layer over the phones so far; its input before the first is a zero vector."""

    def __init__(self, cell: str, hidden: int, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.layer = RecurrentLayer(cell, vocabulary_size - 1, hidden, bidirectional=False)

    def forward(self, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Outputs before each phone and after the last: (N, U), (N,) → (N, U + 1, H)."""
        inputs = self._one_hot(F.pad(targets, (1, 0)))
        return self.layer(inputs, target_lengths + 1)  # type: ignore[no-any-return]

    def start(self, count: int) -> State:
        """The state of `count` hypotheses without phones."""
        (cell,) = self.layer.cells
        state = cell.start(count)
        return self.step(torch.full((count,), BLANK, device=state.hidden.device), state)

    def step(self, labels: Tensor, state: State) -> State:
        """The state after one more phone of each hypothesis: (N,), state → state."""
        (cell,) = self.layer.cells
        return cell.step(self._one_hot(labels), state)[0]

    def _one_hot(self, labels: Tensor) -> Tensor:
        """(…) → (…, V − 1); the blank, at the start and in padding, is the zero vector."""
        return F.one_hot(labels, self.vocabulary_size)[..., 1:].float()


class Joint(nn.Module):
    """Logits from a frame and the phones before it (Graves, Mohamed & Hinton 2013).

        l_t = W_l e_t + b_l
        h_tu = tanh(W_lh l_t + W_ph p_u + b_h)
        y_tu = W_y h_tu + b_y

    e is the encoder's output, p the prediction network's. Only the tanh and W_y are computed for
    each node of the lattice, the rest once for each frame or each prefix.
    """

    def __init__(self, input_size: int, hidden: int, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.transmission = nn.Linear(input_size, width)
        self.from_transmission = nn.Linear(width, width, bias=False)
        self.from_prediction = nn.Linear(hidden, width)
        self.output = nn.Linear(width, vocabulary_size)

    def of_frames(self, encoded: Tensor) -> Tensor:
        """W_lh l: (…, D) → (…, J)."""
        return self.from_transmission(self.transmission(encoded))  # type: ignore[no-any-return]

    def of_prefixes(self, predicted: Tensor) -> Tensor:
        """W_ph p + b_h: (…, H) → (…, J)."""
        return self.from_prediction(predicted)  # type: ignore[no-any-return]

    def forward(self, frames: Tensor, prefixes: Tensor) -> Tensor:
        """Logits of the nodes, by broadcasting: (…, J), (…, J) → (…, V)."""
        return self.output(hidden(frames, prefixes))  # type: ignore[no-any-return]


def hidden(frames: Tensor, prefixes: Tensor) -> Tensor:
    """h of the joint network: (…, J), (…, J) → (…, J)."""
    return (frames + prefixes).tanh_()
