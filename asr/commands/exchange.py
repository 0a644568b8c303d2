"""Our manifests → Kaldi data directories, Lhotse manifests, or tar shards with a manifest.

    asr exchange kaldi exp/demo/1/manifests data
    asr exchange lhotse exp/demo/1/manifests/test.jsonl test
    asr exchange shards exp/demo/1/manifests shards

The other direction is a corpus: `corpus=folder corpus.root=DATA` reads all three. Only shards hold
copies of the audio; the others have its paths as they are in the manifests.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asr.corpora import kaldi, lhotse, shards
from asr.errors import DataError, exit_code, raise_problems
from asr.files.outputs import require_new
from asr.files.shards import Member
from asr.records import Manifest

WRITERS = {"kaldi": (kaldi.write, kaldi.FILES), "lhotse": (lhotse.write, lhotse.FILES)}
SHARDS = "shards"


def run(
    format: str,
    manifest: Path,
    target: Path,
    overwrite: bool = False,
    size_mb: float = shards.SIZE_MB,
) -> list[Path]:
    """Write a manifest, or each manifest of a folder into a folder of its name.

    `size_mb` is the most of a shard. Raises `DataError` where a file of the format is already
    there, unless `overwrite`.
    """
    places = {manifest: target}
    if (inner := manifest / "manifests").is_dir():
        manifest = inner
    if manifest.is_dir():
        places = {path: target / path.stem for path in sorted(manifest.glob("*.jsonl"))}
        if not places:
            raise DataError(
                f"{manifest}: no manifests (*.jsonl); give exp/…/manifests, or one of it"
            )
    files = (shards.MANIFEST,) if format == SHARDS else WRITERS[format][1]
    require_new((folder / name for folder in places.values() for name in files), overwrite, places)
    listed = {folder: Manifest(path) for path, folder in places.items()}
    for one in listed.values():
        if not one:
            raise DataError(f"{one.path}: no utterances in it, expected at least one")
    if format == SHARDS:
        named = {str(folder.relative_to(target)): one for folder, one in listed.items()}
        shards.write(named, target, size_mb)
        return list(listed)
    raise_problems(
        f"{one.path}: the audio is in tar shards, expected files, which {format} has names for; "
        f"give the manifest that the shards were made of, or unpack them (`tar -xf`)"
        for one in listed.values()
        if any(Member.of(utterance.audio) for utterance in one)
    )
    for folder, one in listed.items():
        WRITERS[format][0](one, folder)
    return list(listed)


def megabytes(text: str) -> float:
    """The type of `--size-mb`."""
    if not 0 < (size_mb := float(text)) < 1e9:
        raise ValueError
    return size_mb


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr exchange",
        description="Write manifests as Kaldi data directories, Lhotse manifests or tar shards.",
        epilog="To read any of them: asr prepare experiment=folder corpus.root=FOLDER",
    )
    add = parser.add_argument
    add("format", choices=sorted([*WRITERS, SHARDS]))
    add("manifest", type=Path, help="a manifest, or the folder of a run's manifests")
    add("target", type=Path, help="folder to write into")
    add("--overwrite", action="store_true", help="replace files that are there")
    most = "most of a shard, in millions of bytes (%(default)g)"
    add("--size-mb", type=megabytes, default=shards.SIZE_MB, metavar="MB", help=most)
    for folder in run(**vars(parser.parse_args(arguments))):
        print(folder)
