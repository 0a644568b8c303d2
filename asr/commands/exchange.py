"""Our manifests → Kaldi data directories or Lhotse manifests.

    asr exchange kaldi exp/demo/1/manifests data
    asr exchange lhotse exp/demo/1/manifests/test.jsonl test

The other direction is a corpus: `corpus=folder corpus.root=DATA` reads both. Audio is not copied;
its paths are written as the manifests have them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asr.corpora import kaldi, lhotse
from asr.errors import DataError, exit_code
from asr.files.outputs import require_new
from asr.records import Utterance, read_jsonl

WRITERS = {"kaldi": (kaldi.write, kaldi.FILES), "lhotse": (lhotse.write, lhotse.FILES)}


def run(format: str, manifest: Path, target: Path, overwrite: bool = False) -> list[Path]:
    """Write a manifest, or each manifest of a folder into a folder of its name.

    Raises `DataError` where a file of the format is already there, unless `overwrite`.
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
    write, files = WRITERS[format]
    require_new((folder / name for folder in places.values() for name in files), overwrite)
    for path, folder in places.items():
        if not (utterances := read_jsonl(path, Utterance)):
            raise DataError(f"{path}: no utterances in it, expected at least one")
        write(utterances, folder)
    return list(places.values())


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr exchange",
        description="Write manifests as Kaldi data directories or as Lhotse manifests.",
        epilog="To read either: asr prepare experiment=folder corpus.root=FOLDER",
    )
    add = parser.add_argument
    add("format", choices=sorted(WRITERS))
    add("manifest", type=Path, help="a manifest, or the folder of a run's manifests")
    add("target", type=Path, help="folder to write into")
    add("--overwrite", action="store_true", help="replace files that are there")
    for folder in run(**vars(parser.parse_args(arguments))):
        print(folder)
