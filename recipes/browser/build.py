"""A static page that recognises phones in the browser: `make page`.

    python recipes/browser/build.py dist
    python recipes/browser/build.py dist --checkpoint exp/timit/1/checkpoint-best.safetensors

The folder holds the page of `asr serve` with an engine of its own (engine/), the model as `asr
export --moments` writes it, its n-gram, and onnxruntime-web. Any server of files serves it; nothing
is fetched from elsewhere. Large files are compressed, and the page decompresses them.
"""

import argparse
import gzip
import json
import lzma
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr import __version__, model_file
from asr.architecture import CTCConfig
from asr.errors import DataError, exit_code
from asr.export import file as export
from asr.model_file import ModelFile
from asr.phones import fold_to_arpabet, phone_set
from asr.search import packing
from asr.search.ngram import END, START, UNKNOWN
from asr.symbols import ALPHABETS, require_alphabet, symbols_of
from asr.transcriber import MODEL

HERE = Path(__file__).parent
VIEWER = Path(export.__file__).parents[1] / "serving" / "page"
RUNTIME = Path("node_modules", "onnxruntime-web")
OF_RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
OF_SERVER = {"main.js", "http_engine.js"}  # what the page of `asr serve` has instead of our own
COMPRESSED = ".gz"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self' blob:; style-src 'self' 'nonce-asr'; img-src 'self' data: blob:; "
    "media-src blob:; base-uri 'none'; form-action 'none'"
)
NONCE = '<meta name="csp-nonce" content="">'  # of the server's policy
HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="csp-nonce" content="asr">
<script src="served.js"></script>"""
MARK = "model/about.json"  # by which a folder is known as one that this program wrote


def build(output: Path, checkpoint: Path, packages: Path, int8: bool, overwrite: bool) -> str:
    """Write the page to the folder `output`, whole or not at all; returns a table of its files."""
    runtime = packages / RUNTIME
    if not (runtime / "dist" / OF_RUNTIME[0]).is_file():
        raise DataError(
            f"{runtime}: no onnxruntime-web, which runs the model in the browser; install Node.js "
            f"with npm, and run `npm ci --prefix {packages}`, or `make page`, which does that"
        )
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file, expected a folder to write")
    if output.exists() and any(output.iterdir()):
        if not (output / MARK).is_file():
            raise DataError(f"{output}: has files of something else; choose another folder")
        if not overwrite:
            raise DataError(f"{output}: already has a page; set --overwrite to replace it")
    source = model_file.read(checkpoint)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as folder:
        page, model = Path(folder, "page"), Path(folder, "page", "model")
        parts = {
            "page": write_viewer(page),
            "onnxruntime-web": write_runtime(page / "runtime", runtime),
            "network": write_network(model, source, int8),
            "n-gram": write_ngram(model, source),
        }
        parts["page"] += write_about(model, source, sum(parts.values()) - parts["page"])
        if output.exists():
            shutil.rmtree(output)
        page.rename(output)
    return "\n".join(table(parts))


def write_viewer(page: Path) -> int:
    """The viewer of `asr serve`, and the engine; returns bytes, as do the others."""
    shutil.copytree(VIEWER, page, ignore=lambda *_: OF_SERVER)
    shutil.copytree(HERE / "engine", page / "engine")
    for path in (HERE / "page").iterdir():
        shutil.copy(path, page)
    index = page / "index.html"
    before, nonce, after = index.read_text(encoding="utf-8").partition(NONCE)
    assert nonce, f"{VIEWER}/index.html has no {NONCE}"
    index.write_text(before + HEAD + after, encoding="utf-8")
    return sum(path.stat().st_size for path in page.rglob("*") if path.is_file())


def write_runtime(folder: Path, runtime: Path) -> int:
    """onnxruntime-web for one thread, its machine code compressed."""
    folder.mkdir()
    size = 0
    for name in OF_RUNTIME:
        path = runtime / "dist" / name
        if path.suffix == ".wasm":
            size += write_compressed(folder / name, path.read_bytes())
        else:
            size += Path(shutil.copy(path, folder)).stat().st_size
    return size


def write_network(folder: Path, source: ModelFile, int8: bool) -> int:
    """The network; `DataError` where the page has not the search of its criterion."""
    criterion = source.config.criterion
    if not isinstance(criterion, CTCConfig):
        raise DataError(
            f"{source.path}: criterion.name is {criterion.name}, expected ctc, whose search the "
            f"page has; choose another checkpoint"
        )
    if source.config.features.normalization == "running":
        raise DataError(
            f"{source.path}: features.normalization is running, of a model for streams, whose "
            f"decisions the page does not make; choose another checkpoint"
        )
    folder.mkdir()
    model = export.exported(source, int8, moments=True, language_model=False)
    return write_compressed(folder / "network.onnx", model.SerializeToString())


def write_about(folder: Path, source: ModelFile, size: int) -> int:
    """What the use of the model needs to know, and the bytes that are fetched for it."""
    packed, _ = export.ngrams(source)
    header = export.header(source, packed, moments=True)
    vocabulary = header["vocabulary"]
    if packed and (phones := {*packed.symbols} - {START, END, UNKNOWN}) != {*vocabulary}:
        header["folding"] = folding(phones, vocabulary, source.path)
    header["alphabets"] = dict(alphabets(vocabulary))
    header |= {"name": source.path.stem, "version": __version__, "bytes": size}
    text = json.dumps(finite(header), ensure_ascii=False, allow_nan=False)
    (folder / Path(MARK).name).write_text(text, encoding="utf-8")
    return len(text.encode())


def write_ngram(folder: Path, source: ModelFile) -> int:
    """Its streams, compressed by what every browser can read, which LZMA is not."""
    _, streams = export.ngrams(source)
    return sum(
        write_compressed(
            folder / f"ngram-{name}",
            lzma.decompress(data.tobytes(), lzma.FORMAT_RAW, filters=packing.FILTERS),
        )
        for name, data in streams.items()
    )


def alphabets(phones: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What `written` of asr.symbols reads, for each alphabet that has these phones."""
    for name in ALPHABETS:
        try:
            require_alphabet(name, phones)
        except DataError:
            continue
        releases = fold_to_arpabet().releases if name == "arpabet" else {}
        yield (
            name,
            {
                "symbols": {phone: symbols_of(name)[phone] for phone in phones},
                "releases": {one: sorted(releases[one]) for one in phones if one in releases},
            },
        )


def folding(phones: set[str], labels: Sequence[str], path: Path) -> dict[str, Any]:
    """How labels fold to the phones of an n-gram; `DataError` where they do not."""
    table = fold_to_arpabet()
    if phones != {*phone_set("arpabet39")} or not {*labels} <= table.target.keys():
        raise DataError(
            f"{path}: its n-gram has other phones than the recogniser; the page needs one over the "
            f"same phones or CMUdict's (`asr ngram`)"
        )
    return {
        "target": {label: table.target[label] for label in labels},
        "releases": {one: sorted(table.releases[one]) for one in labels if one in table.releases},
    }


def finite(value: Any) -> Any:
    """JSON has no infinity: null is none in `threshold`."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return None if value == float("inf") else value


def write_compressed(path: Path, data: bytes) -> int:
    compressed = gzip.compress(data, 6, mtime=0)
    path.with_name(path.name + COMPRESSED).write_bytes(compressed)
    return len(compressed)


def table(parts: dict[str, int]) -> Iterator[str]:
    for name, size in (parts | {"all": sum(parts.values())}).items():
        yield f"{name:16} {size / 1e6:6.2f} MB"


@exit_code
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    add = parser.add_argument
    add("output", type=Path, help="folder to write")
    add("--checkpoint", type=Path, default=MODEL, help="model file; default: the packaged model")
    add("--packages", type=Path, default=HERE, help="folder with node_modules")
    add("--int8", action="store_true", help="recurrent layers in 8 bits: smaller, less exact")
    add("--overwrite", action="store_true", help="replace the page that is already there")
    print(build(**vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
