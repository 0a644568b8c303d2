"""The parts of a recogniser as nodes of an ONNX graph: features, encoder and head.

Every utterance is treated by its own length, so that nothing depends on batch mates or padding.
Spectra, which are products with a matrix of cosines and sines, their logarithms and moments are in
double precision, and the rest rounds as `asr.features` does: a network can make a hundredfold of a
difference between its inputs.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from asr.architecture import BLOCKS, EncoderConfig
from asr.export.graph import Array, Graph, Value
from asr.features.filters import dither_noise
from asr.features.frames import DECIBEL_FLOOR, EPSILON, INT16_SCALE, TOP_DB, Frames
from asr.features.moments import DB_PER_NAT, LOUDEST, PRIOR_VARIANCE, VARIANCE_FLOOR
from asr.features.running import MEMORY, PEAK, PRIOR, RISE, SOFT, Rules
from asr.lstm.inference import LAYER_NORM_EPSILON, NORMALIZED

FLOOR = np.float64(VARIANCE_FLOOR)
OPEN = 100.0  # before a logistic function, whose value is then exactly 1
# Operators of ONNX with the order of their blocks of rows.
LSTM = "LSTM", ("input", "output", "forget", "candidate")
GRU = "GRU", ("update", "reset", "candidate")
OPERATORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tanh": ("RNN", ("hidden",)),
    "gru": GRU,
    "ligru": GRU,
}

Weights = Mapping[str, Array]


class FeatureGraph:
    """`Frames` as nodes; its attributes are the names of values.

    `moments` is the name of an input (M, 2, dynamic width), which replaces the moments of each
    utterance where it has any.
    """

    def __init__(
        self, g: Graph, like: Frames, waveforms: str, lengths: str, moments: str | None = None
    ) -> None:
        self.g, self.like, self.config = g, like, like.config
        self.lengths, self.moments = lengths, moments
        config, samples = self.config, g.size(waveforms, 1)
        self.samples = samples
        counts = g("Div", g("Add", lengths, config.frame_offset), config.hop_samples)
        self.counts = g("Max", counts, 0)  # T of each utterance, (N,)
        frames = g("Div", g("Add", samples, config.frame_offset), config.hop_samples)
        self.total = g("Max", frames, 1)  # T of the padded batch, and at least one
        self.within = g.mask(self.counts, self.total)
        inside = g("Where", g.mask(lengths, samples), waveforms, 0.0)
        self.static = self._static(self._extended(inside))
        self.frames = self._frames()

    def _extended(self, waveforms: str) -> str:
        """What windows are cut from, with zeros enough for whole blocks: (N, S) → (N, S')."""
        g, config, size = self.g, self.config, self.config.window_samples
        zeros = -(-size // config.hop_samples) * config.hop_samples
        half = size // 2
        if config.family == "kaldi":
            if config.dither or config.dither_db:
                waveforms = self._dithered(waveforms, dither_noise())
            if config.snip_edges:
                return g("Pad", waveforms, [0, 0, 0, zeros])
            before, after, once = half - config.hop_samples // 2, size, 0
        else:
            if config.pad_mode == "constant":
                return g("Pad", waveforms, [0, half, 0, half + zeros])
            before, after, once = half, half, 1
        # Mirrored at both ends of each utterance, with its last sample `once` or twice.
        at = g("Range", -before, g("Add", self.samples, after + zeros), 1)
        lengths = g("Unsqueeze", self.lengths, [1])
        period = g("Max", g("Mul", g("Sub", lengths, once), 2), 1)
        at = g("Mod", at, period)
        at = g("Max", g("Min", at, g("Sub", g("Sub", period, 1 - once), at)), 0)
        return g.gather(g("Pad", waveforms, [0, 0, 0, zeros]), at)

    def _dithered(self, waveforms: str, noise: Array) -> str:
        g, config = self.g, self.config
        deviation: str | float = config.dither / INT16_SCALE
        if config.dither_db:
            exact = g.cast(waveforms, "float64")
            size = g.cast(g("Unsqueeze", g("Max", self.lengths, 1), [1]), "float64")
            mean = g("Div", g("ReduceSum", exact, [1]), size)
            square = g("Div", g("ReduceSum", g("Mul", exact, exact), [1]), size)
            power = g("Max", g("Sub", square, g("Mul", mean, mean)), np.float64(0))
            below = g("Mul", g("Sqrt", power), np.float64(10 ** (-config.dither_db / 20)))
            deviation = g("Add", g.cast(below, "float32"), deviation)
        times = g("Add", g("Div", self.samples, len(noise)), 1)
        repeated = g.cut(g("Tile", noise, g.shape(times)), 0, self.samples, 0)
        return g("Add", waveforms, g("Mul", deviation, repeated))

    def _static(self, signal: str) -> str:
        """(N, S') → (N, T, static width)."""
        g, config, like = self.g, self.config, self.like
        size, is_kaldi = config.window_samples, config.family == "kaldi"
        windows = g.windows(signal, self.total, size, config.hop_samples)
        if is_kaldi:
            windows = g("Mul", windows, INT16_SCALE)
        if is_kaldi and config.remove_dc:
            mean = g("ReduceMean", g.cast(windows, "float64"), axes=[2])
            windows = g("Sub", windows, g.cast(mean, "float32"))
        unshaped = windows
        if is_kaldi and config.preemphasis:
            before = g("Concat", g.cut(windows, 0, 1, 2), g.cut(windows, 0, size - 1, 2), axis=2)
            windows = g("Sub", windows, g("Mul", before, config.preemphasis))
        windows = g("Mul", windows, like.taper)
        bank = like.bank.astype(np.float64)
        used = np.flatnonzero(bank.any(axis=1))
        circle = 2 * np.pi / like.fft_size * np.arange(like.fft_size)
        places = g("Mod", g("Mul", np.arange(size)[:, None], used), like.fft_size)
        parts = [
            g("MatMul", g.cast(windows, "float64"), g("Gather", wave, places))
            for wave in (np.cos(circle), np.sin(circle))
        ]
        mel = g("MatMul", g("Add", *(g("Mul", part, part) for part in parts)), bank[used])
        cosines = like.cosines.astype(np.float64)
        if config.family == "librosa":
            values = g("Log", g("Max", mel, np.float64(config.log_floor)))
            if config.kind == "mfcc":
                values = g("Log", g("Max", mel, np.float64(DECIBEL_FLOOR)))
                real = g("Where", g("Unsqueeze", self.within, [2]), values, np.float64(-np.inf))
                least = g("Sub", g("ReduceMax", real, axes=[1, 2]), np.float64(TOP_DB / DB_PER_NAT))
                values = g("MatMul", g("Max", values, least), DB_PER_NAT * cosines)
            return g.cast(values, "float32")
        values = g("Log", g("Max", mel, np.float64(EPSILON)))
        if config.kind == "mfcc":
            values = g("MatMul", values, cosines[:, int(config.energy) :])
        if config.energy:
            floor = np.float64(max(EPSILON, config.energy_floor))
            measured = unshaped if config.raw_energy else windows
            energy = g("ReduceSumSquare", g.cast(measured, "float64"), axes=[2])
            values = g("Concat", g("Log", g("Max", energy, floor)), values, axis=2)
        return g.cast(values, "float32")

    def _frames(self) -> str:
        """Δ, normalisation and context: → (N, T, F), zero behind each utterance's end."""
        g, config = self.g, self.config
        window, parts = config.delta_window, [self.static]
        for _ in range(config.deltas):
            at = self._neighbours(parts[-1], window)
            slopes = [g("Mul", g("Sub", at(n), at(-n)), float(n)) for n in range(1, window + 1)]
            scale = 2 * sum(n * n for n in range(1, window + 1))
            parts.append(g("Div", g("Sum", *slopes), float(scale)))
        frames = self._normalized(g("Concat", *parts, axis=2) if config.deltas else self.static)
        if config.context:
            at = self._neighbours(frames, config.context)
            around = range(-config.context, config.context + 1)
            frames = g("Concat", *(at(n) for n in around), axis=2)
        return g("Where", g("Unsqueeze", self.within, [2]), frames, 0.0)

    def _neighbours(self, frames: str, reach: int) -> Callable[[int], str]:
        """A function from an offset to the frames there, edge frames repeated."""
        g = self.g
        at = g("Unsqueeze", g("Range", -reach, g("Add", self.total, reach), 1), [0])
        last = g("Unsqueeze", g("Sub", self.counts, 1), [1])
        padded = g.gather(frames, g("Max", g("Min", at, last), 0))
        return lambda n: g.cut(padded, reach + n, g("Add", self.total, reach + n), 1)

    def _normalized(self, frames: str) -> str:
        g, config, (prior_mean, prior_std) = self.g, self.config, self.like.training
        if self.moments is None and config.normalization == "none":
            return frames
        if self.moments is None and config.normalization == "global":
            return g("Div", g("Sub", frames, prior_mean), prior_std)
        exact = g.cast(frames, "float64")
        mean, std = self._own_moments(exact)
        if self.moments is not None:
            width = config.dynamic_width
            padded = g("Concat", self.moments, np.zeros((1, 2, width), np.float32), axis=0)
            count = g.size(self.moments, 0)
            given = g.cast(g.cut(padded, 0, g("Max", count, 1), 0), "float64")
            is_given = g("Greater", count, 0)
            mean = g("Where", is_given, g.cut(given, 0, 1, 1), mean)
            std = g("Where", is_given, g.cut(given, 1, 2, 1), std)
        if config.normalization == "running":  # as `Frames.normalised` rounds
            mean, std = g.cast(mean, "float32"), g.cast(std, "float32")
            return g("Div", g("Sub", frames, mean), std)
        return g.cast(g("Div", g("Sub", exact, mean), std), "float32")

    def _own_moments(self, exact: str) -> tuple[Value, Value]:
        """Mean and standard deviation by the configuration; they broadcast to (N, T, F)."""
        g, config, (prior_mean, prior_std) = self.g, self.config, self.like.training
        if config.normalization == "none":
            return np.float64(0), np.float64(1)
        if config.normalization == "global":
            return prior_mean.astype(np.float64), prior_std.astype(np.float64)
        if config.normalization == "sliding":
            mean, variance = self._around(exact)
        elif config.normalization == "active":
            mean, variance, size = self._moments(exact, self._loud())
            if np.any(prior_mean):
                variance = g("Mul", g("Max", variance, FLOOR), size)
                of_prior = PRIOR_VARIANCE * np.square(prior_std, dtype=np.float64)
                total = g("Add", size, np.float64(PRIOR_VARIANCE))
                variance = g("Div", g("Add", variance, of_prior), total)
        elif config.normalization == "running":
            mean, variance = self._running(exact)
        else:  # utterance, or speaker: that of one recording
            mean, variance, _ = self._moments(exact, self.within)
        return mean, g("Sqrt", g("Max", variance, FLOOR))

    def _moments(self, frames: str, chosen: str) -> tuple[str, str, str]:
        """Mean, variance and number of some frames of each utterance, (N, 1, F or 1)."""
        g = self.g
        chosen = g("Unsqueeze", chosen, [2])
        size = g("ReduceSum", g.cast(chosen, "float64"), [1])
        at_least_one = g("Max", size, np.float64(1))
        total = g("ReduceSum", g("Where", chosen, frames, np.float64(0)), [1])
        mean = g("Div", total, at_least_one)
        others = g("Where", chosen, g("Sub", frames, mean), np.float64(0))
        return mean, g("Div", g("ReduceSum", g("Mul", others, others), [1]), at_least_one), size

    def _loud(self) -> str:
        """`asr.features.normalization.loudest`: (N, T) bool."""
        g, config = self.g, self.config
        mel = g.cut(self.static, int(config.energy), config.static_width, 2)
        level = g("ReduceMean", mel, axes=[2], keepdims=0)
        level = g("Where", self.within, level, -math.inf)
        padded = g("Pad", level, [0, 0, 0, LOUDEST], -math.inf)
        ordered, _ = g.several(2, "TopK", padded, [LOUDEST])
        place = g("Sub", g("Max", g("Min", self.counts, LOUDEST), 1), 1)
        reference = g("GatherElements", ordered, g("Unsqueeze", place, [1]), axis=1)
        least = g("Sub", reference, config.active_db / DB_PER_NAT)
        return g("And", self.within, g("GreaterOrEqual", level, least))

    def _running(self, frames: str) -> tuple[str, str]:
        """`asr.features.running.follow` as a loop over time: mean and variance, (N, T, F)."""
        g, config, width = self.g, self.config, self.config.dynamic_width
        rules, f64 = Rules.of(config), np.float64
        prior_mean, prior_std = (part.astype(f64) for part in self.like.training)
        usual = rules.mean_level(prior_mean)
        is_static = (np.arange(width) < rules.static).astype(f64)
        step = Graph(f"{frames}.")
        above = step("Sub", "level", "reference")
        fallen = step("Sub", "reference", f64(rules.fall))
        risen = step("Add", "reference", step("Mul", above, f64(RISE)))
        rises = step("Greater", above, f64(0))
        reference = step("Where", rises, risen, fallen)
        below = step("Sub", reference, "level")
        faded = step("Exp", step("Div", step("Max", below, f64(0)), f64(-SOFT)))
        is_loud = step("LessOrEqual", below, f64(rules.active))
        weight = step("Where", is_loud, faded, f64(0))
        kept = step("Exp", step("Mul", step("Max", above, f64(0)), f64(-RISE / SOFT)))
        kept = step("Mul", kept, step("Sub", f64(1), step("Div", weight, f64(MEMORY))))
        values: tuple[Value, ...] = f64(1), "x", step("Mul", "x", "x")
        size, total, squares = (
            step("Add", step("Mul", name, kept), step("Mul", weight, value))
            for name, value in zip(("size", "total", "squares"), values, strict=True)
        )
        moved = step("Mul", step("Sub", reference, f64(usual + PEAK)), is_static)
        prior = step("Mul", step("Add", moved, prior_mean), f64(PRIOR))
        whole = step("Add", size, f64(PRIOR))
        of_total = step("Div", step("Mul", total, total), step("Max", size, f64(1e-300)))
        spread = step("Max", step("Sub", squares, of_total), f64(0))
        of_prior = PRIOR * np.square(prior_std)
        outputs = {
            **{"reference'": reference, "size'": size, "total'": total, "squares'": squares},
            "mean": step("Div", step("Add", prior, total), whole),
            "variance": step("Div", step("Add", spread, of_prior), whole),
        }
        for name, value in outputs.items():
            step.output(name, value)
        one, every = ["N", 1], ["N", width]
        states = {"reference": one, "size": one, "total": every, "squares": every}
        given = states | {"x": every, "level": one}
        results = {f"{name}'": shape for name, shape in states.items()}
        results |= {"mean": every, "variance": every}
        body = step.made("follow", given, results, **dict.fromkeys([*given, *results], "float64"))
        mel = g.cut(frames, rules.first, rules.static, 2)
        level = g("ReduceMean", mel, axes=[2])
        count = g.size(frames, 0)
        zeros = {size: g("Expand", f64(0), g.shape(count, size)) for size in (1, width)}
        begin = g("Add", zeros[1], f64(usual)), zeros[1], zeros[width], zeros[width]
        axes = {"scan_input_axes": [1, 1], "scan_output_axes": [1, 1]}
        *_, mean, variance = g.several(
            6, "Scan", *begin, frames, level, num_scan_inputs=2, body=body, **axes
        )
        return mean, variance

    def _around(self, frames: str) -> tuple[str, str]:
        """`asr.features.normalization.around`: mean and variance, (N, T, F)."""
        g, window = self.g, self.config.cmn_window
        counts = g("Unsqueeze", self.counts, [1])
        centred = g("Sub", g("Range", 0, self.total, 1), window // 2)
        start = g("Max", g("Min", centred, g("Sub", counts, window)), 0)
        stop = g("Min", g("Add", start, window), counts)
        size = g.cast(g("Unsqueeze", g("Max", g("Sub", stop, start), 1), [2]), "float64")

        def mean(values: str) -> str:
            sums = g("Pad", g("CumSum", values, 1), [0, 1, 0, 0, 0, 0])
            return g("Div", g("Sub", g.gather(sums, stop), g.gather(sums, start)), size)

        first = mean(frames)
        return first, g("Sub", mean(g("Mul", frames, frames)), g("Mul", first, first))


def encode(
    g: Graph, config: EncoderConfig, weights: Weights, features: FeatureGraph
) -> tuple[str, str]:
    """Frames → encoded (T', N, D) and the T' of each utterance, (N,)."""
    stacked = config.subsampling
    lengths, steps = (
        g("Div", g("Add", count, stacked - 1), stacked)
        for count in (features.counts, features.total)
    )
    frames = features.frames
    if stacked > 1:
        padded = g("Pad", frames, [0, 0, 0, 0, stacked - 1, 0])
        whole = g.cut(padded, 0, g("Mul", steps, stacked), 1)
        frames = g("Reshape", whole, g.shape(0, steps, stacked * features.config.width))
    encoded = g("Transpose", frames, perm=[1, 0, 2])
    real = g("Max", lengths, 1)  # onnxruntime refuses a length of 0
    for layer in range(config.layers):
        ways = ("forward", "reverse")[: 1 + config.bidirectional]
        directions = [
            direction(
                g, config, below(f"layers.{layer}.directions.{n}.", weights), encoded, real, way
            )
            for n, way in enumerate(ways)
        ]
        encoded = g("Concat", *directions, axis=2)
    return encoded, lengths


def direction(
    g: Graph, config: EncoderConfig, own: Weights, frames: str, lengths: str, way: str
) -> str:
    """One direction of a layer: (T', N, D), (N,) → (T', N, output size).

    Undefined behind each end. Cells that ONNX does not have are those that it has with other
    weights: a gate that is always open, or a recurrent matrix that contains the projection. Only
    layer normalisation inside of the recurrence needs a loop.
    """
    cell, hidden = config.cell, config.hidden
    weight, bias, recurrent = own["inputs.weight"], own["inputs.bias"], own["recurrent.weight"]
    if cell in NORMALIZED:
        product = g("MatMul", frames, g.weights(weight.T))
        frames = _normalized(g, product, own["inputs.gain"], bias)
        weight, bias = np.eye(len(bias), dtype=np.float32), np.zeros_like(bias)
    if cell == "layernorm":
        return _layernorm(g, own, frames, lengths, way)
    op, order = OPERATORS.get(cell, LSTM)
    others: dict[str, Any] = {"linear_before_reset": 1} if op == "GRU" else {}
    if cell == "ligru":
        others["activations"] = ["Sigmoid", "Relu"]

    def rows(matrix: Array, absent: float = 0.0) -> Array:
        """Blocks of rows in ONNX's order; a block that the cell does not have is constant."""
        blocks = dict(zip(BLOCKS[cell], np.split(matrix, len(BLOCKS[cell])), strict=True))
        constant = np.full_like(matrix[:hidden], absent)
        return np.concatenate([blocks.get(name, constant) for name in order])

    second = np.zeros_like(rows(bias))
    if cell == "gru":
        second[-hidden:] = own["candidate_bias"]
    if cell == "projected":
        recurrent = recurrent @ own["projection.weight"]
    biases = np.concatenate([rows(bias, absent=OPEN), second])
    constants = (g.weights(one[None]) for one in (rows(weight), rows(recurrent), biases))
    inputs = [*constants, g.cast(lengths, "int32")]
    if cell == "peephole":
        inputs += ["", "", g.named(own["peepholes"][[0, 2, 1]].reshape(1, -1))]  # as in `order`
    output = g(op, frames, *inputs, hidden_size=hidden, direction=way, **others)
    output = g("Squeeze", output, [1])
    if cell == "projected":
        output = g("MatMul", output, g.weights(own["projection.weight"].T))
    return output


def _normalized(g: Graph, values: str, gain: Array, *bias: Array) -> str:
    return g("LayerNormalization", values, gain, *bias, epsilon=LAYER_NORM_EPSILON)


def _layernorm(g: Graph, own: Weights, frames: str, lengths: str, way: str) -> str:
    """The cell `layernorm` as a loop over time, of W x_t normalised: (T', N, 4H) → (T', N, H)."""

    def turned(sequences: str) -> str:
        if way == "forward":
            return sequences
        return g("ReverseSequence", sequences, lengths, batch_axis=1, time_axis=0)

    hidden = len(own["cell_gain"])
    recurrent = g.weights(own["recurrent.weight"].T)
    step = Graph(f"{frames}.")
    recalled = _normalized(step, step("MatMul", "h", recurrent), own["recurrent_gain"].reshape(-1))
    gates = step.several(4, "Split", step("Add", "x", recalled), [hidden] * 4, axis=1)
    i, f, o = (step("Sigmoid", gates[n]) for n in (0, 1, 3))
    state = step("Add", step("Mul", f, "c"), step("Mul", i, step("Tanh", gates[2])))
    shown = _normalized(step, state, own["cell_gain"], own["cell_shift"])
    step.output("c'", state)
    step.output("h'", step("Mul", o, step("Tanh", shown)))
    step.output("y", "h'")
    width = ["N", hidden]
    states = {"h": width, "c": width, "x": ["N", 4 * hidden]}
    body = step.made("step", states, {"h'": width, "c'": width, "y": width})
    zeros = g("Expand", 0.0, g.shape(g.size(frames, 1), hidden))
    *_, output = g.several(3, "Scan", zeros, zeros, turned(frames), num_scan_inputs=1, body=body)
    return turned(output)


def head(g: Graph, own: Weights, encoded: str) -> str:
    """Log-probabilities of labels, for `framewise` of states: (T', N, D) → (N, T', K)."""
    product = g("MatMul", encoded, g.weights(own["head.weight"].T))
    logits = g("Add", product, own["head.bias"])
    return g("LogSoftmax", g("Transpose", logits, perm=[1, 0, 2]), axis=2)


def of_labels(g: Graph, log_probs: str, phones: int, states: int) -> str:
    """log P(label | frame), summed over its states: (N, T', K) → (N, T', V)."""
    others = g("Reshape", g.cut(log_probs, 1, 1 + phones * states, 2), [0, 0, phones, states])
    summed = g("ReduceLogSumExp", others, axes=[3], keepdims=0)
    return g("Concat", g.cut(log_probs, 0, 1, 2), summed, axis=2)


def below(start: str, weights: Weights) -> dict[str, Array]:
    """The tensors whose names begin so, by the rest of their names, in single precision."""
    return {
        name.removeprefix(start): np.asarray(values, np.float32)
        for name, values in weights.items()
        if name.startswith(start)
    }
