"""The cells, each as the equations of one time step, as its paper has them.

σ is the logistic function, ∘ the product of elements; x_t is the frame, h_t the output, c_t the
cell state. The gates are i (input), f (forget), o (output), r (reset), z (update); g is the
candidate. `asr.lstm.cell` documents the other methods; `asr.lstm.fast` has the compiled steps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.lstm.cell import Cell, NormalizedInputs, State, TorchCell
from asr.lstm.fast.products import affine


class Elman(TorchCell):
    """The plain recurrent network with tanh (Elman 1990).

    h_t = tanh(W x_t + U h_{t−1} + b)
    """

    blocks = ("hidden",)
    kernel = "tanh"
    by_torch = staticmethod(torch.rnn_tanh)
    has_cell_state = False

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        return State((self.inputs(frame) + self.recurrent(state.hidden)).tanh()), {}


class GRU(TorchCell):
    """The gated recurrent unit (Cho et al. 2014), as torch and cuDNN compute it.

        r = σ(W_r x_t + U_r h_{t−1} + b_r)
        z = σ(W_z x_t + U_z h_{t−1} + b_z)
        g = tanh(W_g x_t + b_g + r ∘ (U_g h_{t−1} + b'_g))
        h_t = (1 − z) ∘ g + z ∘ h_{t−1}

    The paper resets before the product, U_g (r ∘ h_{t−1}); here the reset comes after it, so that
    one product serves all three. The candidate therefore needs a second bias, b'_g.
    """

    blocks = ("reset", "update", "candidate")
    kernel = "gru"
    by_torch = staticmethod(torch.gru)
    has_cell_state = False

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__(input_size, hidden, projection)
        self.candidate_bias = nn.Parameter(torch.empty(hidden))

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        r, z, g = self.inputs(frame).chunk(3, dim=1)
        u_r, u_z, u_g = self.recurrent(state.hidden).chunk(3, dim=1)
        r = (r + u_r).sigmoid()
        z = (z + u_z).sigmoid()
        g = (g + r * (u_g + self.candidate_bias)).tanh()
        return State((1 - z) * g + z * state.hidden), {"reset": r, "update": z, "candidate": g}

    def vectors(self) -> Tensor:
        return self.candidate_bias.unsqueeze(0)

    def torch_weights(self) -> list[Tensor]:
        return [*super().torch_weights()[:3], F.pad(self.candidate_bias, (2 * self.hidden, 0))]


class LSTM(TorchCell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    i = σ(W_i x_t + U_i h_{t−1} + b_i)
    f = σ(W_f x_t + U_f h_{t−1} + b_f)
    g = tanh(W_g x_t + U_g h_{t−1} + b_g)
    o = σ(W_o x_t + U_o h_{t−1} + b_o)
    c_t = f ∘ c_{t−1} + i ∘ g
    h_t = o ∘ tanh(c_t)
    """

    blocks = ("input", "forget", "candidate", "output")
    kernel = "lstm"
    by_torch = staticmethod(torch.lstm)

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        i, f, g, o = (self.inputs(frame) + self.recurrent(state.hidden)).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cell = f * state.cell + i * g
        hidden = o * cell.tanh()
        return State(hidden, cell), {"input": i, "forget": f, "candidate": g, "output": o}

    def vectors(self) -> Tensor:
        return self.inputs.weight.new_zeros(3, self.hidden)  # no peepholes


class PeepholeLSTM(Cell):
    """LSTM whose gates see the cell state (Gers & Schmidhuber 2000; Graves 2013, equations 3–7).

        i = σ(W_i x_t + U_i h_{t−1} + p_i ∘ c_{t−1} + b_i)
        f = σ(W_f x_t + U_f h_{t−1} + p_f ∘ c_{t−1} + b_f)
        g = tanh(W_g x_t + U_g h_{t−1} + b_g)
        c_t = f ∘ c_{t−1} + i ∘ g
        o = σ(W_o x_t + U_o h_{t−1} + p_o ∘ c_t + b_o)
        h_t = o ∘ tanh(c_t)

    Every cell sees itself only: the peepholes are diagonal. The output gate sees the new state.
    """

    blocks = ("input", "forget", "candidate", "output")
    kernel = "lstm"

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__(input_size, hidden, projection)
        self.peepholes = nn.Parameter(torch.empty(3, hidden))  # of input, forget, output

    def vectors(self) -> Tensor:
        return self.peepholes

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        p_i, p_f, p_o = self.peepholes
        i, f, g, o = (self.inputs(frame) + self.recurrent(state.hidden)).chunk(4, dim=1)
        i = (i + p_i * state.cell).sigmoid()
        f = (f + p_f * state.cell).sigmoid()
        g = g.tanh()
        cell = f * state.cell + i * g
        o = (o + p_o * cell).sigmoid()
        hidden = o * cell.tanh()
        return State(hidden, cell), {"input": i, "forget": f, "candidate": g, "output": o}


class LSTM1997(Cell):
    """LSTM as first published, without a forget gate (Hochreiter & Schmidhuber 1997).

        i = σ(W_i x_t + U_i h_{t−1} + b_i)
        g = tanh(W_g x_t + U_g h_{t−1} + b_g)
        o = σ(W_o x_t + U_o h_{t−1} + b_o)
        c_t = c_{t−1} + i ∘ g
        h_t = o ∘ tanh(c_t)

    Nothing is forgotten: the error flows back through c unchanged, and a written value can only be
    cancelled. The paper squashes with scaled logistic functions; here, as in later papers, tanh.
    """

    blocks = ("input", "candidate", "output")
    kernel = "lstm"

    def vectors(self) -> Tensor:
        return self.inputs.weight.new_zeros(3, self.hidden)  # no peepholes

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        i, g, o = (self.inputs(frame) + self.recurrent(state.hidden)).chunk(3, dim=1)
        i, g, o = i.sigmoid(), g.tanh(), o.sigmoid()
        cell = i * g + state.cell
        hidden = o * cell.tanh()
        return State(hidden, cell), {"input": i, "candidate": g, "output": o}


class ProjectedLSTM(LSTM):
    """LSTM whose output is a projection of its cells (Sak et al. 2014; torch's `proj_size`).

        h_t = P (o ∘ tanh(c_t)), the rest as in LSTM

    The recurrent product takes the projection too, so that many cells need few weights.
    """

    kernel = "lstm"

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__(input_size, hidden, projection)
        self.projection = nn.Linear(hidden, self.output_size, bias=False)

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        state, gates = super().step(frame, state)
        return State(self.projection(state.hidden), state.cell), gates

    def recurrent_matrix(self) -> Tensor:
        return affine(self.recurrent.weight, self.projection.weight.t(), None)

    def output(self, hidden: Tensor) -> Tensor:
        return affine(hidden, self.projection.weight, None)

    def torch_weights(self) -> list[Tensor]:
        return [*super().torch_weights(), self.projection.weight]


class LayerNormLSTM(Cell):
    """LSTM with layer normalisation (Ba et al. 2016, equations 20–22).

        (i, f, g, o) = LN(W x_t; α_x) + LN(U h_{t−1}; α_h) + b
        c_t = σ(f) ∘ c_{t−1} + σ(i) ∘ tanh(g)
        h_t = σ(o) ∘ tanh(LN(c_t; α_c, β_c))

    LN(a; α, β) = α ∘ (a − mean a) / √(var a + 1e-5) + β over all rows of one frame. The shifts of
    the first two would only add to b, and are left out.
    """

    blocks = ("input", "forget", "candidate", "output")
    kernel = "layernorm"

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__(input_size, hidden, projection)
        self.inputs = NormalizedInputs(input_size, 4 * hidden)
        self.recurrent_gain = nn.Parameter(torch.empty(4, hidden))
        self.cell_gain = nn.Parameter(torch.empty(hidden))
        self.cell_shift = nn.Parameter(torch.empty(hidden))

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        recalled = F.layer_norm(self.recurrent(state.hidden), (4 * self.hidden,))
        recalled = recalled * self.recurrent_gain.flatten()
        i, f, g, o = (self.inputs(frame) + recalled).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cell = f * state.cell + i * g
        shown = F.layer_norm(cell, (self.hidden,), self.cell_gain, self.cell_shift)
        hidden = o * shown.tanh()
        return State(hidden, cell), {"input": i, "forget": f, "candidate": g, "output": o}

    def vectors(self) -> Tensor:
        return torch.cat([self.recurrent_gain, self.cell_gain[None], self.cell_shift[None]])


class LiGRU(Cell):
    """The light GRU (Ravanelli et al. 2018): no reset gate, ReLU, normalised inputs.

        (z, g) = LN(W x_t; α) + U h_{t−1} + b
        h_t = σ(z) ∘ h_{t−1} + (1 − σ(z)) ∘ max(g, 0)

    The paper normalises W x over the batch. Here LN normalises it over the rows of one frame, so
    that an utterance depends neither on its batch mates nor on their padding, in training too.
    """

    blocks = ("update", "candidate")
    kernel = "ligru"
    has_cell_state = False

    def __init__(self, input_size: int, hidden: int, projection: int = 0) -> None:
        super().__init__(input_size, hidden, projection)
        self.inputs = NormalizedInputs(input_size, 2 * hidden)

    def step(self, frame: Tensor, state: State) -> tuple[State, dict[str, Tensor]]:
        z, g = (self.inputs(frame) + self.recurrent(state.hidden)).chunk(2, dim=1)
        z, g = z.sigmoid(), g.relu()
        return State(z * state.hidden + (1 - z) * g), {"update": z, "candidate": g}


CELLS: dict[str, type[Cell]] = {
    "tanh": Elman,
    "gru": GRU,
    "lstm": LSTM,
    "peephole": PeepholeLSTM,
    "lstm1997": LSTM1997,
    "projected": ProjectedLSTM,
    "layernorm": LayerNormLSTM,
    "ligru": LiGRU,
}
