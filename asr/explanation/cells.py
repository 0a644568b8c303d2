"""The equations of a cell as HTML, one step of one cell in numbers, and a drawing of the LSTM.

The equations are those that stand above the code of `asr.lstm.cells`: what is shown is what runs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from asr.explanation.base import CELL_NAMES, Heard, Layer, signed
from asr.lstm import CELLS, RecurrentLayer

BLOCKS = {
    "i": "input",
    "f": "forget",
    "o": "output",
    "g": "candidate",
    "r": "reset",
    "z": "update",
    "h_t": "hidden",
}
SYMBOL_OF = {block: symbol for symbol, block in BLOCKS.items()}
GLOSS = {
    "i": "input gate: how much of the candidate is written",
    "f": "forget gate: how much of the old cell state is kept",
    "o": "output gate: how much of the cell state is shown",
    "r": "reset gate: how much of the old output the candidate takes into account",
    "z": "update gate: how much of the old output is kept",
    "g": "candidate: what would be written",
    "(z, g)": "below the update gate, which says how much of the old output is kept, and below the "
    "candidate, which would be written",
    "(i, f, g, o)": "below the input gate, the forget gate, the candidate and the output gate",
    "c_t": "cell state: the old one as far as it is kept, plus what is written",
    "h_t": "output, for the layer above now and for this layer one step later",
}
SYMBOLS = {
    "x_t": "what comes from below",
    "h_{t−1}": "the layer’s own output one step ago",
    "W, U, b": "the weights that training found",
    "σ": "squeezes any number into 0 … 1",
    "tanh": "into −1 … 1",
    "∘": "multiplies cell by cell",
}
# Of these the sums below the gates are W x + U h + b, and what a peephole adds.
PLAIN = ("tanh", "gru", "lstm", "peephole", "lstm1997", "projected")


def equations(kind: str) -> list[tuple[str, str]]:
    """Every equation of a cell as HTML, and what it means in words."""
    found: dict[str, str] = {}
    for described in reversed(CELLS[kind].__mro__):  # what is said of a base holds unless replaced
        for line in (described.__doc__ or "").splitlines():
            left, equals, _ = line.strip().partition(" = ")
            if equals and left in GLOSS:
                found[left] = formula(line.strip().partition(", the rest")[0])
    return [(html, GLOSS[left]) for left, html in found.items()]


def formula(text: str) -> str:
    """HTML of a formula as docstrings have it: `c_{t−1}`; letters that stand alone are italic."""
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


# ── one step of one cell ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Sum:
    """What is added up, and then squeezed into the value of a gate, candidate or output."""

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

    That is where the gate nearest to 0 or 1 is farthest from it; without gates it is where the
    state changes most.
    """
    middle = slice(len(layer.state) // 4, len(layer.state) * 3 // 4)
    if layer.shown_gates:
        gates = np.stack([gate[middle, cell] for gate in layer.shown_gates.values()])
        found = np.minimum(gates, 1 - gates).min(axis=0)
    else:
        found = np.abs(np.diff(layer.state[:, cell], prepend=0))[middle]
    return middle.start + int(found.argmax())


def example(heard: Heard, layer: Layer, cell: int, step: int) -> Example | None:
    """A step of a forward direction in numbers; None for cells whose sums are normalised."""
    kind = heard.network.config.cell
    if kind not in PLAIN:
        return None
    recurrent = heard.network.recognizer.encoder.stack.layers[layer.depth - 1]
    assert isinstance(recurrent, RecurrentLayer)
    module = recurrent.cells[0]
    with torch.no_grad():
        below = module.inputs(torch.from_numpy(layer.inputs[step])).view(-1, module.hidden)
        before = module.recurrent(torch.from_numpy(layer.hidden[step - 1])).view(-1, module.hidden)
    sums = []
    for row, block in enumerate(module.blocks):
        value = float(layer.gates.get(block, layer.hidden)[step, cell])
        of_below, of_before, own = float(below[row, cell]), float(before[row, cell]), 0.0
        if kind == "peephole" and block != "candidate":
            own = float(np.log(value) - np.log1p(-value)) - of_below - of_before
        if kind == "gru" and block == "candidate":  # r ∘ (U h + b')
            of_before = float(np.arctanh(value)) - of_below
        sums.append(Sum(SYMBOL_OF[block], of_below, of_before, own, value))
    return Example(
        layer,
        cell,
        step,
        tuple(sums),
        float(layer.state[step - 1, cell]),
        float(layer.state[step, cell]),
        None if kind == "projected" else float(layer.hidden[step, cell]),
    )


def substituted(found: Example) -> Iterator[tuple[str, str]]:
    """The equations of a step, and the same with numbers (HTML)."""
    for one in found.sums:
        squeeze = "tanh" if one.symbol in ("g", "h_t") else "σ"
        general, numbers = (
            "<i>below</i> + <i>before</i>",
            f"{signed(one.below)} {_plus(one.before)}",
        )
        if one.own:
            general, numbers = f"{general} + <i>peephole</i>", f"{numbers} {_plus(one.own)}"
        yield (
            f"{formula(one.symbol)} = {squeeze}({general})",
            f"{squeeze}({numbers}) = <b>{signed(one.value)}</b>",
        )
    symbols = {one.symbol for one in found.sums}
    before, after = signed(found.before), signed(found.after)
    if "i" in symbols:
        written = f"{signed(found['i'])} × {_bracketed(found['g'])}"
        if "f" in symbols:
            general, kept = (
                "f ∘ c_{t−1} + i ∘ g",
                f"{signed(found['f'])} × {_bracketed(found.before)}",
            )
        else:
            general, kept = "c_{t−1} + i ∘ g", before
        yield formula(f"c_t = {general}"), f"{kept} + {written} = <b>{after}</b>"
        if found.output is not None:
            yield (
                formula("h_t = o ∘ tanh(c_t)"),
                f"{signed(found['o'])} × tanh({after}) = <b>{signed(found.output)}</b>",
            )
    elif "z" in symbols:
        z = found["z"]
        yield (
            formula("h_t = (1 − z) ∘ g + z ∘ h_{t−1}"),
            f"{signed(1 - z)} × {_bracketed(found['g'])} + {signed(z)} × "
            f"{_bracketed(found.before)} = <b>{after}</b>",
        )


def _plus(value: float) -> str:
    text = signed(value)
    return f"− {text[1:]}" if text.startswith("−") else f"+ {text}"


def _bracketed(value: float) -> str:
    text = signed(value)
    return f"({text})" if text.startswith("−") else text


# ── the drawing ──────────────────────────────────────────────────────────────────────────────

PLACES = {"f": 136, "i": 240, "g": 330, "o": 434}
WIRES = (
    "M100 366V300", "M10 300H434", "M136 240V98", "M240 240V170H271", "M330 240V170H298",
    "M285 157V98", "M522 84V111", "M522 148V176", "M434 240V190H508", "M522 203V300H624",
)  # fmt: skip
NODES = {"×": ((136, 84), (285, 170), (522, 190)), "+": ((285, 84),)}


def drawing(found: Example) -> str:
    """An LSTM cell as SVG: four layers, three gates, the state on top; with a step's numbers."""
    wires = "".join(f'<path class="wire" d="{path}" marker-end="url(#tip)"/>' for path in WIRES[2:])
    plain = "".join(f'<path class="wire" d="{path}"/>' for path in WIRES[:2])
    boxes = "".join(
        f'<path class="wire" d="M{x} 300V276"/>'
        f'<rect class="box {BLOCKS[symbol]}" x="{x - 34}" y="240" width="68" height="36" rx="6"/>'
        f'<text class="middle" x="{x}" y="265">{"tanh" if symbol == "g" else "σ"}</text>'
        f'<text class="{BLOCKS[symbol]}" x="{x + 8}" y="228"><tspan class="symbol">{symbol}</tspan>'
        f" {signed(found[symbol], 2)}</text>"
        for symbol, x in PLACES.items()
    )
    nodes = "".join(
        f'<circle class="node" cx="{x}" cy="{y}" r="13"/>'
        f'<text class="middle" x="{x}" y="{y + 7}">{sign}</text>'
        for sign, places in NODES.items()
        for x, y in places
    )
    ends = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}"><tspan class="symbol">{letter}</tspan>'
        f'<tspan class="low" dy="5">{index}</tspan></text>'
        + (
            ""
            if value is None
            else f'<text x="{x}" y="{y + 44}" text-anchor="{anchor}">{signed(value, 2)}</text>'
        )
        for x, y, anchor, letter, index, value in (
            (6, 68, "start", "c", "t−1", found.before),
            (634, 68, "end", "c", "t", found.after),
            (6, 286, "start", "h", "t−1", None),
            (634, 286, "end", "h", "t", found.output),
            (112, 362, "start", "x", "t", None),
        )
    )
    label = (
        f"{CELL_NAMES['lstm']} cell: forget gate, input gate, candidate, output gate, cell state"
    )
    return f"""<svg class="cell" role="img" viewBox="0 0 640 372" aria-label="{label}">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="11" markerHeight="11"
 markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="frame" x="76" y="34" width="488" height="292" rx="14"/>
<path class="belt" d="M10 84H622" marker-end="url(#tip)"/>
{plain}{wires}
<rect class="box" x="488" y="112" width="68" height="36" rx="18"/>
<text class="middle" x="522" y="137">tanh</text>
{nodes}{boxes}{ends}
</svg>"""
