"""Corpora that are free to download, onto disk, checked.

    asr download librispeech
    asr download timit-sample --output data

It sends no password and accepts no licence on anybody's behalf.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from asr.corpora import download
from asr.errors import exit_code


@exit_code
def main(arguments: Sequence[str] | None = None) -> None:
    catalogue = download.catalogue()
    parser = argparse.ArgumentParser(
        prog="asr download",
        description="Download corpora that are free to download.",
        epilog=f"Known: {', '.join(sorted(catalogue))}. Existing files are left alone.",
    )
    parser.add_argument("corpus", nargs="+", choices=sorted(catalogue), metavar="CORPUS")
    parser.add_argument("--output", default="data", metavar="FOLDER", help="default: data")
    options = parser.parse_args(arguments)
    folder = Path(options.output)
    for item in (item for corpus in options.corpus for item in catalogue[corpus]):
        target = folder / item.gives
        if not download.ensure(item, folder):
            print(f"{target}: exists")
        elif item.checksum:
            print(f"{target}: downloaded, {item.checksum.partition(':')[0]} matches")
        else:
            print(f"{target}: downloaded; no checksum is known, its size was checked")
