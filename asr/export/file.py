"""A checkpoint → one ONNX file, which onnxruntime runs without anything else.

Its inputs are `waveforms` (N, S) and `lengths` (N,), on request also `moments` (M, 2, F); its
outputs `log_probs` (N, T', V) and `frames` (N,). What else a use needs is in the metadata of the
file, as JSON, and a packed n-gram in outputs that are constants; `asr.export.model` reads both.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from asr import __version__, network
from asr.architecture import CTCConfig, FramewiseConfig
from asr.errors import DataError
from asr.export.graph import Graph
from asr.export.model import FORMAT, KEY, MOMENTS, STREAM
from asr.export.network import FeatureGraph, below, encode, head, of_labels
from asr.model_file import ModelFile
from asr.search import packing

OPSET, IR_VERSION = 17, 8  # onnxruntime 1.12 of 2022, in the browser too
IN_INT8 = ("lstm", "peephole", "lstm1997", "projected")  # cells that onnxruntime has in 8 bits


def exported(
    file: ModelFile, int8: bool = False, moments: bool = False, language_model: bool = True
) -> onnx.ModelProto:
    """The recogniser of a checkpoint, with its n-gram, checked by `onnx.checker`.

    With `int8` the weights of its recurrent layers take a byte each, and their products are
    computed in 8 bits. With `moments` the graph has a third input, means and standard deviations
    (M, 2, dynamic width) that replace an utterance's own where M is 1 or N, not where it is 0.
    Without `language_model` the n-gram is left out. Raises `DataError` for a recogniser that cannot
    be expressed.
    """
    config, encoder, criterion = file.config, file.config.encoder, file.config.criterion
    if not isinstance(criterion, CTCConfig | FramewiseConfig):
        raise DataError(
            f"{file.path}: criterion.name is {criterion.name}, expected ctc or framewise, whose "
            f"outputs are probabilities of each frame; export another checkpoint"
        )
    if int8 and (encoder.cell not in IN_INT8 or not encoder.layers):
        raise DataError(
            f"{file.path}: encoder.cell is {encoder.cell} and encoder.layers {encoder.layers}, "
            f"expected a layer of {', '.join(IN_INT8)}, which onnxruntime has in 8 bits; leave "
            f"--int8 out"
        )
    file.require_sizes()
    original, phones, g = network.load(file), len(file.vocabulary) - 1, Graph(half=not int8)
    given = MOMENTS if moments else None
    features = FeatureGraph(g, original.frames, "waveforms", "lengths", given)
    encoded, frames = encode(g, encoder, below("encoder.stack.", file.weights), features)
    log_probs = g.cut(head(g, original.head, encoded), 0, g("ReduceMax", frames), 1)
    values: dict[str, Any] = {"log_probs": log_probs, "frames": frames}
    shapes: dict[str, list[str | int]] = {
        "waveforms": ["N", "S"],
        "lengths": ["N"],
        "log_probs": ["N", "T'", 1 + phones],
        "frames": ["N"],
    }
    types = {"lengths": "int64", "frames": "int64"}
    if isinstance(criterion, FramewiseConfig):
        values["log_probs"] = of_labels(g, log_probs, phones, criterion.states)
        values["state_log_probs"] = log_probs
        shapes["state_log_probs"] = ["N", "T'", 1 + phones * criterion.states]
    if file.header.detector is not None:
        values["static"] = g.cut(features.static, 0, g("ReduceMax", features.counts), 1)
        shapes["static"] = ["N", "T", config.features.static_width]
    packed, streams = ngrams(file) if language_model else (None, {})
    for name, data in streams.items():
        values[STREAM + name], shapes[STREAM + name] = data, [len(data)]
        types[STREAM + name] = "uint8"
    for name, value in values.items():
        g.output(name, value)
    inputs = {name: shapes.pop(name) for name in ("waveforms", "lengths")}
    if given:
        inputs[given] = ["M", 2, config.features.dynamic_width]
    model = helper.make_model(
        g.made("asr", inputs, shapes, **types),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="asr",
        producer_version=__version__,
    )
    model = _quantized(model) if int8 else model
    helper.set_model_props(model, {KEY: json.dumps(header(file, packed, moments))})
    onnx.checker.check_model(model, full_check=True)
    return model


def difference(model: bytes, file: ModelFile, seconds: float = 2.0) -> float:
    """The largest difference from the checkpoint in log-probabilities, on noise."""
    samples = int(seconds * file.config.features.sample_rate)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, samples), np.float32)
    original = network.load(file)
    expected = original.emissions(original.frames.static(noise[0]))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = "log_probs" if file.config.criterion.name == "ctc" else "state_log_probs"
    inputs = {"waveforms": noise, "lengths": np.array([samples])}
    for given in session.get_inputs()[2:]:
        inputs[given.name] = np.zeros((0, *given.shape[1:]), np.float32)
    (log_probs,) = session.run([name], inputs)
    return float(np.abs(log_probs[0] - expected).max())


def ngrams(file: ModelFile) -> tuple[packing.Packed | None, dict[str, Any]]:
    """The n-gram of a checkpoint as it is packed there, if it has one."""
    packed = file.header.packed_language_model
    if packed is not None:
        return packed, {name: file.tensors[f"language_model.{name}"] for name in packing.STREAMS}
    return packing.pack(file.language_model()) if file.has_language_model else (None, {})


def header(file: ModelFile, packed: packing.Packed | None, moments: bool) -> dict[str, Any]:
    """What a use of the file needs to know; docs/export.md explains it."""
    times, rate = file.config.frame_times, file.config.features.sample_rate
    about = {
        "format": FORMAT,
        "vocabulary": file.vocabulary.phones,
        "sample_rate": rate,
        "first_s": times.first / rate,
        "step_s": times.step / rate,
        "recognizer": asdict(file.config),
        "about": file.header.about,
    }
    if "criterion.occupancy" in file.weights:
        about["occupancy"] = file.weights["criterion.occupancy"].tolist()
    if moments:
        about[MOMENTS] = {
            key: file.weights[f"features.{key}"].astype(float).tolist() for key in ("mean", "std")
        }
    parts = {key: getattr(file.header, key) for key in ("search", "detector", "calibration")}
    parts["packed_language_model"] = packed
    return about | {key: asdict(part) for key, part in parts.items() if part is not None}


def _quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with recurrent layers, and nothing else, in 8 bits."""
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # needs none
    kinds = {"op_types_to_quantize": ["LSTM"], "weight_type": QuantType.QInt8, "per_channel": True}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_dynamic(model, path, **kinds)
        return onnx.load(path)
