"""A checkpoint → one ONNX file, which onnxruntime runs without this program.

asr export phones.onnx                                        # the packaged model
asr export phones.int8.onnx --int8
asr export exp/timit/1/checkpoint-best.safetensors timit.onnx
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asr import model_file
from asr.errors import DataError, exit_code, pip_install
from asr.files.outputs import atomic_open, require_new
from asr.transcriber import MODEL


def run(
    checkpoint: str | Path | None,
    output: str | Path,
    int8: bool = False,
    moments: bool = False,
    overwrite: bool = False,
) -> str:
    """Write the ONNX file of a checkpoint, or of the packaged model; returns a line about it.

    With `moments` it has an input for means and deviations other than the utterance's own. Raises
    `DataError` where the file is already there, unless `overwrite`, where the checkpoint is
    unreadable or cannot be expressed, and where packages are missing.
    """
    output, path = Path(output), Path(MODEL if checkpoint is None else checkpoint)
    if output.suffix != ".onnx":
        raise DataError(f"{output}: expected a name that ends in .onnx")
    require_new([output], overwrite, [path])
    try:
        from asr.export import file
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("onnx", "onnxruntime"):
            raise
        raise DataError(f"{error.name} is not installed; run: {pip_install('export')}") from error
    source = model_file.read(path)
    data = file.exported(source, int8, moments).SerializeToString()
    difference = file.difference(data, source)
    with atomic_open(output, "wb") as opened:
        opened.write(data)
    return (
        f"{output}: {len(data) / 1e6:.1f} MB; log-probabilities of noise differ by at most "
        f"{difference:.0e} from those of the checkpoint"
    )


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr export",
        description="Write a recogniser as one ONNX file, with its features, vocabulary, search "
        "and n-gram.",
    )
    add = parser.add_argument
    add("checkpoint", nargs="?", type=Path, help="model file; default: the packaged model")
    add("output", type=Path, metavar="MODEL.onnx", help="file to write")
    add(
        "--int8",
        action="store_true",
        help="recurrent layers in 8 bits: smaller, faster, less exact",
    )
    add(
        "--moments",
        action="store_true",
        help="an input for means and deviations that normalise the features instead of an "
        "utterance's own, as for one speaker or beside noise",
    )
    add("--overwrite", action="store_true", help="replace the file if it is already there")
    print(run(**vars(parser.parse_args(arguments))))
