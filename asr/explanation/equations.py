"""The equations of a cell as HTML, and one step of one cell in numbers.

The equations are read from the docstrings of `asr.lstm.cells`, so that the page shows the code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from asr.explanation.activations import Activations, Layer
from asr.explanation.network import CELLS_TABLE
from asr.explanation.wording import signed
from asr.lstm.cells import CELLS
from asr.lstm.layer import RecurrentLayer

BLOCKS, GLOSS, SYMBOLS = (CELLS_TABLE[name] for name in ("blocks", "equations", "symbols"))
SYMBOL_OF = {block: symbol for symbol, block in BLOCKS.items()}
# Of these the sums below the gates are W x + U h + b, and what a peephole adds.
PLAIN = ("tanh", "gru", "lstm", "peephole", "lstm1997", "projected")


def equations(kind: str) -> list[tuple[str, str]]:
    """Every equation of a cell as HTML, and what it means in words."""
    html: dict[str, str] = {}
    for described in reversed(CELLS[kind].__mro__):  # those of a base hold unless replaced
        for line in (described.__doc__ or "").splitlines():
            left, equals, _ = line.strip().partition(" = ")
            if equals and left in GLOSS:
                html[left] = formula(line.strip().partition(", the rest")[0])
    return [(equation, GLOSS[left]) for left, equation in html.items()]


def formula(text: str) -> str:
    """HTML of a formula written as in docstrings, `c_{t−1}`; single letters are italic."""
    html = ""
    for position, piece in enumerate(re.split(r"_(?:\{([^}]*)\}|(\w))", text)):
        if piece and position % 3:
            html += f"<sub>{escape(piece)}</sub>"
        elif piece:
            html += re.sub(r"(?<!\w)([A-Za-zαβ])(?!\w)('?)", _letter, escape(piece, quote=False))
    return html


def _letter(match: re.Match[str]) -> str:
    block = BLOCKS.get(match[1])
    colour = f' class="{block}"' if block else ""
    return f"<var{colour}>{match[1]}</var>{'′' if match[2] else ''}"


@dataclass(frozen=True)
class Sum:
    """A sum and the value of the gate, candidate or output that it is squeezed into."""

    symbol: str
    below: float  # W x_t + b
    before: float  # U h_{t−1}
    own: float  # through the peephole; 0 where there is none
    value: float


@dataclass(frozen=True)
class Example:
    """One cell of a layer at one step; `before` and `after` are its state."""

    layer: Layer
    cell: int
    step: int
    sums: tuple[Sum, ...]
    before: float
    after: float
    output: float | None  # None: the outputs are mixed from all cells

    def __getitem__(self, symbol: str) -> float:
        return next(one.value for one in self.sums if one.symbol == symbol)


def telling_step(layer: Layer, cell: int) -> int:
    """The step, in the middle half, at which the gates of a cell are least decided.

    There the gate nearest to 0 or 1 is farthest from it. Without gates: where the state changes
    most.
    """
    middle = slice(len(layer.state) // 4, len(layer.state) * 3 // 4)
    if layer.shown_gates:
        gates = np.stack([gate[middle, cell] for gate in layer.shown_gates.values()])
        undecided = np.minimum(gates, 1 - gates).min(axis=0)
    else:
        undecided = np.abs(np.diff(layer.state[:, cell], prepend=0))[middle]
    return middle.start + int(undecided.argmax())


def example(activations: Activations, layer: Layer, cell: int, step: int) -> Example | None:
    """A step of a forward direction in numbers; None for cells whose sums are normalised."""
    kind = activations.network.config.cell
    if kind not in PLAIN:
        return None
    recurrent = activations.network.recognizer.encoder.stack.layers[layer.depth - 1]
    assert isinstance(recurrent, RecurrentLayer)
    module = recurrent.cells[0]
    with torch.no_grad():
        below = module.inputs(torch.from_numpy(layer.inputs[step])).view(-1, module.hidden)
        recalled = module.recurrent(torch.from_numpy(layer.hidden[step - 1]))
        recalled = recalled.view(-1, module.hidden)
    sums = []
    for row, block in enumerate(module.blocks):
        value = float(layer.gates.get(block, layer.hidden)[step, cell])
        of_below, of_before, own = float(below[row, cell]), float(recalled[row, cell]), 0.0
        if kind == "peephole" and block != "candidate":
            own = float(np.log(value) - np.log1p(-value)) - of_below - of_before
        if kind == "gru" and block == "candidate":  # r ∘ (U h + b')
            of_before = float(np.arctanh(value)) - of_below
        sums.append(Sum(SYMBOL_OF[block], of_below, of_before, own, value))
    before, after = (float(layer.state[at, cell]) for at in (step - 1, step))
    output = None if kind == "projected" else float(layer.hidden[step, cell])
    return Example(layer, cell, step, tuple(sums), before, after, output)


def substituted(example: Example) -> Iterator[tuple[str, str]]:
    """The equations of a step, and the same with numbers (HTML)."""
    for one in example.sums:
        squeeze = "tanh" if one.symbol in ("g", "h_t") else "σ"
        sum_of = "<i>below</i> + <i>before</i>"
        numbers = f"{signed(one.below)} {_plus(one.before)}"
        if one.own:
            sum_of, numbers = f"{sum_of} + <i>peephole</i>", f"{numbers} {_plus(one.own)}"
        result = f"<b>{signed(one.value)}</b>"
        yield f"{formula(one.symbol)} = {squeeze}({sum_of})", f"{squeeze}({numbers}) = {result}"
    symbols = {one.symbol for one in example.sums}
    before, after = _bracketed(example.before), signed(example.after)
    if "i" in symbols:
        old, kept = "c_{t−1}", signed(example.before)
        if "f" in symbols:
            old, kept = "f ∘ c_{t−1}", f"{signed(example['f'])} × {before}"
        written = f"{signed(example['i'])} × {_bracketed(example['g'])}"
        yield formula(f"c_t = {old} + i ∘ g"), f"{kept} + {written} = <b>{after}</b>"
        if example.output is not None:
            yield (
                formula("h_t = o ∘ tanh(c_t)"),
                f"{signed(example['o'])} × tanh({after}) = <b>{signed(example.output)}</b>",
            )
    elif "z" in symbols:
        z, g = example["z"], _bracketed(example["g"])
        yield (
            formula("h_t = (1 − z) ∘ g + z ∘ h_{t−1}"),
            f"{signed(1 - z)} × {g} + {signed(z)} × {before} = <b>{after}</b>",
        )


def _plus(value: float) -> str:
    return ("− " if value < 0 else "+ ") + signed(abs(value))


def _bracketed(value: float) -> str:
    text = signed(value)
    return f"({text})" if text.startswith("−") else text
