"""Pack a prepared run into tar files of limited size, for training on another machine.

    python recipes/librispeech/pieces.py pack exp/librispeech-18h/1 pieces --limit 64
    python recipes/librispeech/pieces.py unpack pieces exp/elsewhere --wav

`pack` packs the vocabulary, the manifests and every recording that they name, but no checkpoints.
Recordings are unchanged, except 16-bit PCM (WAV, SPHERE), which becomes FLAC: the same samples in
about half the space; Opus would need a tenth, but change the samples. `SHA256SUMS` names all pieces
and is copied along with each of them.

`unpack` is called whenever more pieces have arrived, and reads each piece once. When all have
arrived, it writes manifests and vocabulary, and `asr train run_dir=…` can begin. Exit code 3:
pieces are still missing; standard error names them.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from asr.errors import DataError, exit_code, raise_problems
from asr.files.outputs import atomic_open
from asr.records import Utterance, stream_jsonl
from asr.training.run_directory import RunDirectory

MIB = 1 << 20
SUMS = "SHA256SUMS"  # in the format of sha256sum
TEXTS, SPEECH = "packed", "speech"  # folders within the pieces, and within the run directory
STILL_MISSING = 3  # exit code


def pack(run_dir: Path, target: Path, limit: int) -> list[str]:
    """Write pieces of at most `limit` bytes, and their checksums; return the names of the pieces.

    The folder `target` appears when it is complete. Raises `DataError` if it holds files, if the
    run is not prepared, or if a single file exceeds the limit.
    """
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{target}: holds files already; give a new folder, or remove this one")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pack.", dir=target.parent) as staging:
        folder = Path(staging) / "pieces"
        folder.mkdir()
        sums: dict[str, str] = {}
        members = _members(run_dir)
        held = next(members, None)
        while held is not None:
            path = folder / f"piece-{len(sums) + 1:03d}.tar"
            with tarfile.open(path, "w") as piece:
                while held is not None and (size := _size_with(piece, held[0])) <= limit:
                    piece.addfile(held[0], io.BytesIO(held[1]))
                    held = next(members, None)
                if held is not None and not piece.offset:
                    raise DataError(
                        f"{run_dir}: {held[0].name} needs a piece of {size / MIB:.2f} MiB, "
                        f"expected at most {limit / MIB:.2f}; raise --limit"
                    )
            sums[path.name] = _sha256(path)
        _write_sums(folder / SUMS, sums)
        os.replace(folder, target)
    return list(sums)


def unpack(pieces: Path, run_dir: Path, wav: bool = False, jobs: int = 0) -> list[str]:
    """Read the pieces that have newly arrived; return the names of the missing ones.

    With `wav` recordings are decoded to 16-bit WAV, in `jobs` threads (0: one for each core). When
    no piece is missing, manifests and vocabulary are in `run_dir`. Raises `DataError` for damaged
    pieces, after the others have been read.
    """
    sums = _read_sums(pieces / SUMS)
    record = run_dir / TEXTS / SUMS  # the pieces read so far
    done = _read_sums(record) if record.exists() else {}
    if not done.items() <= sums.items():
        raise DataError(f"{run_dir}: holds other data than {pieces}; give a new folder")
    if not done and RunDirectory(run_dir).vocabulary.exists():
        raise DataError(f"{run_dir}: holds a run that was not unpacked here; give a new folder")
    damaged, missing = [], []
    for name, expected in sums.items():
        path = pieces / name
        if name in done:
            continue
        if not path.is_file():
            missing.append(name)
        elif (actual := _sha256(path)) != expected:
            damaged.append(f"{path}: damaged, SHA-256 {actual}, expected {expected}; copy it again")
        else:
            _extract(path, run_dir, wav, jobs)
            done[name] = expected
            _write_sums(record, done)
    raise_problems(damaged)
    if not missing:
        _publish(run_dir)
    return missing


# ---------------------------------------------------------------- packing


def _members(run_dir: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The files to pack: texts, then the recordings in the order of the manifests."""
    run = RunDirectory(run_dir)
    if not run.vocabulary.is_file():
        raise DataError(f"{run.vocabulary}: no such file; run `asr prepare run_dir={run}` first")
    for path in [run.vocabulary, *sorted(run.manifests.glob("*.txt"))]:
        yield _member(f"{TEXTS}/{path.name}", path.read_bytes())
    manifests = sorted(run.manifests.glob("*.jsonl"))
    if not manifests:
        raise DataError(f"{run_dir}: no manifests; run `asr prepare run_dir={run_dir}` first")
    recordings = {
        one.audio: Path(one.audio).absolute()
        for manifest in manifests
        for one in stream_jsonl(manifest, Utterance)
    }
    common = os.path.commonpath([path.parent for path in recordings.values()])
    encoded = {given for given, path in recordings.items() if _is_pcm_16(path)}
    names = {
        given: f"{SPEECH}/{path.relative_to(common)}{'.flac' if given in encoded else ''}"
        for given, path in recordings.items()
    }
    for manifest in manifests:
        text = "".join(
            json.dumps(replace(one, audio=names[one.audio]).to_dict(), ensure_ascii=False) + "\n"
            for one in stream_jsonl(manifest, Utterance)
        )
        yield _member(f"{TEXTS}/{manifest.name}.gz", gzip.compress(text.encode(), mtime=0))
    for given, path in recordings.items():
        yield _member(names[given], _as_flac(path) if given in encoded else path.read_bytes())


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)  # without owner and time: equal data give equal pieces
    info.size = len(content)
    return info, content


def _size_with(piece: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    """Size in bytes of the closed piece with this member added."""
    header = len(member.tobuf(piece.format, piece.encoding or "utf-8", piece.errors or "strict"))
    end = piece.offset + header + _up(member.size, tarfile.BLOCKSIZE) + 2 * tarfile.BLOCKSIZE
    return _up(end, tarfile.RECORDSIZE)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _is_pcm_16(path: Path) -> bool:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: cannot be read ({error}); run `asr prepare` again") from error
    return bool(info.subtype == "PCM_16" and info.format != "FLAC")


def _as_flac(path: Path) -> bytes:
    samples, rate = soundfile.read(path, dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


# ---------------------------------------------------------------- unpacking


def _extract(piece: Path, run_dir: Path, wav: bool, jobs: int) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack.", dir=run_dir) as folder:
        staging = Path(folder)
        with tarfile.open(piece) as tar:
            tar.extractall(staging, filter="data")
        if wav:
            speech = [path for path in (staging / SPEECH).rglob("*") if path.is_file()]
            with ThreadPoolExecutor(jobs or os.cpu_count()) as threads:
                list(threads.map(_to_wav, speech))
        for path in sorted(path for path in staging.rglob("*") if path.is_file()):
            final = run_dir / path.relative_to(staging)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, final)


def _to_wav(path: Path) -> None:
    """Replace a recording by its decoded `<path>.wav`."""
    samples, rate = soundfile.read(path, dtype="float32")
    in_16_bits = np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)
    soundfile.write(_decoded(path), in_16_bits, rate, subtype="PCM_16")
    path.unlink()


def _decoded(path: Path) -> Path:
    return path.with_name(f"{path.name}.wav")


def _publish(run_dir: Path) -> None:
    """Write the manifests, with paths on this machine, and then the vocabulary."""
    run = RunDirectory(run_dir)
    for packed in sorted((run_dir / TEXTS).glob("*.jsonl.gz")):
        with (
            atomic_open(run.manifests / packed.stem) as file,
            gzip.open(packed, "rt", encoding="utf-8") as lines,
        ):
            for fields in map(json.loads, lines):
                path = run_dir.absolute() / fields["audio"]
                existing = [one for one in (path, _decoded(path)) if one.exists()]
                if not existing:
                    raise DataError(f"{path}: no such file; remove {run_dir} and unpack again")
                fields["audio"] = str(existing[0])
                file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    vocabulary = run.vocabulary.name
    for path in sorted((run_dir / TEXTS).glob("*.txt"), key=lambda path: path.name == vocabulary):
        target = run.vocabulary if path.name == vocabulary else run.manifests / path.name
        with atomic_open(target, "wb") as file:
            file.write(path.read_bytes())


# ---------------------------------------------------------------- checksums


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    with atomic_open(path) as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in sums.items())


def _read_sums(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; copy it along with the pieces")
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name or "/" in name:
            raise DataError(
                f"{path}:{number}: found {line!r}, expected a SHA-256 and a piece; copy it again"
            )
        sums[name] = digest
    return sums


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="a run of `asr prepare` → pieces")
    packing.add_argument("run_dir", type=Path)
    packing.add_argument("pieces", type=Path, help="a new folder")
    packing.add_argument("--limit", type=float, default=64, help="MiB for each piece (default: 64)")
    unpacking = commands.add_parser("unpack", help="pieces → a run for `asr train`")
    unpacking.add_argument("pieces", type=Path, help="a folder with SHA256SUMS and some pieces")
    unpacking.add_argument("run_dir", type=Path)
    unpacking.add_argument("--wav", action="store_true", help="decode to WAV, for faster epochs")
    unpacking.add_argument("--jobs", type=int, default=0, help="threads (default: all cores)")
    options = parser.parse_args(arguments)
    if options.command == "pack":
        names = pack(options.run_dir, options.pieces, int(options.limit * MIB))
        sizes = [(options.pieces / name).stat().st_size / MIB for name in names]
        print(f"{options.pieces}: {len(names)} pieces, {sum(sizes):.1f} MiB")
        return 0
    missing = unpack(options.pieces, options.run_dir, options.wav, options.jobs)
    if missing:
        print(f"{options.pieces}: still missing {', '.join(missing)}", file=sys.stderr)
        return STILL_MISSING
    print(f"{options.run_dir}: complete, ready for asr train")
    return 0


if __name__ == "__main__":
    sys.exit(main())
