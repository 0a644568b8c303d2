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
from asr.records import Utterance, read_jsonl


def run(format_name: str, source: Path, target: Path) -> list[Path]:
    """Write a manifest, or each manifest of a folder into a folder of its name."""
    if source.is_dir():
        manifests = sorted(source.glob("*.jsonl"))
        if not manifests:
            raise DataError(f"{source}: no manifests (*.jsonl); give exp/…/manifests, or one of it")
        places = {path: target / path.stem for path in manifests}
    else:
        places = {source: target}
    write = {"kaldi": kaldi.write, "lhotse": lhotse.write}[format_name]
    for manifest, folder in places.items():
        write(read_jsonl(manifest, Utterance), folder)
    return list(places.values())


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="asr exchange",
        description="Write manifests as Kaldi data directories or as Lhotse manifests.",
        epilog="To read either: asr prepare experiment=folder corpus.root=FOLDER",
    )
    parser.add_argument("format", choices=("kaldi", "lhotse"))
    parser.add_argument(
        "manifest", type=Path, help="a manifest, or the folder of a run's manifests"
    )
    parser.add_argument("target", type=Path, help="folder to write into")
    options = parser.parse_args(arguments)
    for folder in run(options.format, options.manifest, options.target):
        print(folder)
