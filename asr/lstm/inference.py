"""A trained recurrent stack on one utterance, in numpy and compiled: no torch, no gradient."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.architecture import BLOCKS, EncoderConfig
from asr.lstm.fast.kernels import KERNELS, Arrays, recurrent_product
from asr.processor.choice import thread_count

# Cells that run here, each with its compiled steps.
KERNEL_OF = {
    **{"tanh": "tanh", "gru": "gru", "lstm": "lstm", "peephole": "lstm", "lstm1997": "lstm"},
    **{"projected": "lstm", "layernorm": "layernorm", "ligru": "ligru"},
}
NORMALIZED = ("layernorm", "ligru")  # cells with `NormalizedInputs`
GATES = ("input", "forget", "output", "reset", "update")  # of `BLOCKS`: 0 is shut, 1 is open
LAYER_NORM_EPSILON = 1e-5  # torch's

Array = npt.NDArray[Any]
Shapes = dict[str, tuple[int, ...]]


def shapes(config: EncoderConfig, input_size: int) -> Shapes:
    """The shapes of a stack's tensors, by their names in a model file."""
    result: Shapes = {}
    directions = 2 if config.bidirectional else 1
    hidden, output = config.hidden, config.projection or config.hidden
    rows, width = len(BLOCKS[config.cell]) * hidden, input_size * config.subsampling
    own: dict[str, Shapes] = {
        "gru": {"candidate_bias": (hidden,)},
        "peephole": {"peepholes": (3, hidden)},
        "projected": {"projection.weight": (output, hidden)},
        "layernorm": {
            **{"inputs.gain": (rows,), "recurrent_gain": (4, hidden)},
            **{"cell_gain": (hidden,), "cell_shift": (hidden,)},
        },
        "ligru": {"inputs.gain": (rows,)},
    }
    for layer in range(config.layers):
        for direction in range(directions):
            start = f"layers.{layer}.directions.{direction}"
            result[f"{start}.inputs.weight"] = rows, width
            result[f"{start}.inputs.bias"] = (rows,)
            result[f"{start}.recurrent.weight"] = rows, output
            for name, shape in own.get(config.cell, {}).items():
                result[f"{start}.{name}"] = shape
        width = directions * output
    return result


class Stack:
    """Layers one above the other, with the weights of a model file (`shapes`)."""

    def __init__(self, config: EncoderConfig, weights: Mapping[str, Array]) -> None:
        self.config = config
        exact = {name: np.asarray(values, np.float32) for name, values in weights.items()}
        directions = range(2 if config.bidirectional else 1)
        self.layers = [
            [Direction(config.cell, exact, f"layers.{layer}.directions.{n}.") for n in directions]
            for layer in range(config.layers)
        ]

    def __call__(self, frames: Array) -> Array:
        """(T, F) → (T', output size), with T' = ⌈T / subsampling⌉."""
        return self._through(self.layers, frames)

    def gates(self, frames: Array, layer: int, direction: int) -> dict[str, Array]:
        """The gates of a layer, counted from 0, by name: (T, F) → (T', H), forwards in time.

        Direction 1 is the backward one. A cell without gates has none.
        """
        below = self._through(self.layers[:layer], frames)
        one = self.layers[layer][direction]
        return (
            one.gates(below)
            if not direction
            else {name: gate[::-1] for name, gate in one.gates(below[::-1]).items()}
        )

    def _through(self, layers: list[list["Direction"]], frames: Array) -> Array:
        factor = self.config.subsampling
        missing = -len(frames) % factor
        stacked = np.pad(frames, ((0, missing), (0, 0))).reshape(-1, factor * frames.shape[1])
        with ThreadPoolExecutor(min(2, thread_count())) as threads:
            for layer in layers:
                ordered = [stacked, stacked[::-1]][: len(layer)]
                results = threads.map(lambda one, frames: one(frames), layer, ordered)
                both = [h[::-1] if backward else h for backward, h in enumerate(results)]
                stacked = np.concatenate(both, axis=1)
        return stacked


class Direction:
    """One direction of one layer: the same steps as those of `asr.lstm.fast.recurrence`."""

    def __init__(self, cell: str, weights: Mapping[str, Array], start: str) -> None:
        own = {
            name.removeprefix(start): values
            for name, values in weights.items()
            if name.startswith(start)
        }
        self.blocks = BLOCKS[cell]
        kernel = KERNELS[KERNEL_OF[cell]]
        assert kernel.run is not None
        self.run, self.memory = kernel.run, kernel.memory
        self.inputs, self.bias = own["inputs.weight"].T, own["inputs.bias"]
        self.gain = own["inputs.gain"] if cell in NORMALIZED else None
        self.projection = own.get("projection.weight")
        recurrent = own["recurrent.weight"]
        if self.projection is not None:
            recurrent = recurrent @ self.projection
        self.matrix = np.ascontiguousarray(recurrent.T)
        self.hidden = len(self.matrix)
        self.vectors = self._vectors(cell, own)

    def __call__(self, frames: Array) -> Array:
        """(T, D) → (T, output size)."""
        result: Array = self._run(frames).hidden[1:, 0]
        return result if self.projection is None else result @ self.projection.T

    def gates(self, frames: Array) -> dict[str, Array]:
        """By name: (T, D) → (T, H)."""
        blocks = np.split(self._run(frames).rows[:, 0], len(self.blocks), axis=1)
        by_name = dict(zip(self.blocks, blocks, strict=True))
        return {name: by_name[name] for name in self.blocks if name in GATES}

    def _run(self, frames: Array) -> Arrays:
        """All steps, after which `rows` has the gates."""
        rows = self._finished(np.ascontiguousarray(frames) @ self.inputs)
        steps = len(rows)
        hidden = np.zeros((steps + 1, 1, self.hidden), np.float32)
        memory = np.zeros((steps + 1, 1, self.memory(self.hidden)), np.float32)
        arrays = Arrays(rows[:, None], hidden, memory, self.vectors)
        self.run(self.matrix, arrays)
        return arrays

    def _finished(self, rows: Array) -> Array:
        """W x, (T, R), normalised where the cell does, with the bias; changed in place."""
        if self.gain is not None:
            rows -= rows.mean(axis=1, keepdims=True)
            rows /= np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
            rows *= self.gain
        rows += self.bias
        return rows

    def _vectors(self, cell: str, own: Mapping[str, Array]) -> Array:
        """What the compiled steps apply element by element, (any number, H)."""
        match cell:
            case "gru":
                return own["candidate_bias"][None]
            case "peephole":
                return own["peepholes"]
            case "layernorm":
                parts = own["recurrent_gain"], own["cell_gain"][None], own["cell_shift"][None]
                return np.concatenate(parts)
        return np.zeros((0 if cell in ("tanh", "ligru") else 3, self.hidden), np.float32)


class Steps:
    """A stack of one direction on a stream: one encoded frame at a time, from what was before.

    Products are compiled loops, not of BLAS, whose sums depend on how many rows and threads there
    are: the same frames have the same bits, however they come.
    """

    def __init__(self, stack: Stack) -> None:
        self.layers = [Step(direction) for (direction,) in stack.layers]

    def __call__(self, frame: Array) -> Array:
        """(F · subsampling,) → (output size,)."""
        for layer in self.layers:
            frame = layer(frame)
        return frame


class Step:
    """A layer of `Steps`."""

    def __init__(self, direction: Direction) -> None:
        self.direction, size = direction, direction.hidden
        self.inputs = np.ascontiguousarray(direction.inputs)
        self.projection = None
        if direction.projection is not None:
            self.projection = np.ascontiguousarray(direction.projection.T)
        self.hidden = np.zeros((2, 1, size), np.float32)  # before and after the step
        self.memory = np.zeros((2, 1, direction.memory(size)), np.float32)

    def __call__(self, frame: Array) -> Array:
        """(D,) → (output size,)."""
        own = self.direction
        rows = own._finished(product(self.inputs, frame)[None])
        own.run(own.matrix, Arrays(rows[:, None], self.hidden, self.memory, own.vectors))
        self.hidden[0], self.memory[0] = self.hidden[1], self.memory[1]
        result: Array = self.hidden[0, 0].copy()
        return result if self.projection is None else product(self.projection, result)


def product(matrix: Array, vector: Array) -> Array:
    """Wᵀ (D, R), x (D,) → W x (R,), by a compiled loop."""
    result = np.empty(matrix.shape[1], np.float32)
    recurrent_product(matrix, vector, result)
    return result
