"""A file of `asr export` in use: onnxruntime and numpy, no torch."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import DataError, pip_install
from asr.features.moments import Moments
from asr.files import names, require_kind
from asr.files.decoding import convert
from asr.search import packing
from asr.search.ngram import LanguageModel

try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise DataError(f"onnxruntime is not installed; run: {pip_install('export')}") from error

FORMAT = 1
KEY = "asr"  # of the metadata
MOMENTS = "moments"  # the input, and in the header those of the training set
STREAM = "language_model."  # begins the names of the outputs that hold a packed n-gram
EXPECTED = "an ONNX file of `asr export`"


class ExportedModel:
    """The recogniser of a file, run by onnxruntime with `threads` threads, 0: one for each core.

    `phones` are those of the labels from 1, label 0 is the blank; `header` has what docs/export.md
    lists. Raises `DataError` where the file is absent, damaged, or not of `asr export`.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        require_kind(path, EXPECTED)
        if not self.path.is_file():
            raise DataError(f"{path}: no such file, expected {EXPECTED}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                self.path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no class in common
            raise DataError(f"{path}: damaged, or not an ONNX file ({error})") from error
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY, "{}")
        self.header: dict[str, Any] = json.loads(text)
        if self.header.get("format") != FORMAT:
            raise DataError(
                f"{path}: expected {EXPECTED} of format {FORMAT}, found "
                f"{self.header.get('format', 'another')}; export the model again"
            )
        self.phones = names(self.header["vocabulary"], f"{path}", "vocabulary")

    def log_probs(
        self, waveform: npt.NDArray[np.float32], moments: Moments | None = None
    ) -> npt.NDArray[np.float32]:
        """Log-probabilities of one recording at the file's sample rate: (S,) → (T', V).

        `moments` (F,), (F,) replace the recording's own; for them the file needs `asr export
        --moments`, or else `DataError` is raised.
        """
        log_probs: npt.NDArray[np.float32] = self._run(["log_probs"], waveform, moments)[0][0]
        return log_probs

    @cached_property
    def language_model(self) -> LanguageModel | None:
        """The n-gram of the file, if it has one."""
        if "packed_language_model" not in self.header:
            return None
        where = f"{self.path}: language_model"
        packed = convert(self.header["packed_language_model"], packing.Packed, where)
        arrays = self._run([f"{STREAM}{key}" for key in packing.STREAMS], np.zeros(1, np.float32))
        return packing.unpack(packed, dict(zip(packing.STREAMS, arrays, strict=True)), where)

    def _run(
        self, outputs: list[str], waveform: npt.NDArray[np.float32], moments: Moments | None = None
    ) -> Any:
        inputs = {"waveforms": waveform[None], "lengths": np.array([len(waveform)])}
        if MOMENTS in self.header:
            width = len(self.header[MOMENTS]["mean"])
            given = np.zeros((0, 2, width)) if moments is None else np.array([moments])
            inputs[MOMENTS] = given.astype(np.float32)
        elif moments is not None:
            raise DataError(
                f"{self.path}: has no input for moments; export the model again, with --moments"
            )
        return self.session.run(outputs, inputs)
