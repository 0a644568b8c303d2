"""Folders walked in a fixed order."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the sorted names of its files, without hidden ones.

    Links are followed, but no folder is visited twice. Folders that cannot be listed are problems.
    """

    def unlisted(error: OSError) -> None:
        problems.append(
            f"{error.filename}: cannot be listed ({error.strerror}); fix its permissions"
        )

    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=unlisted):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a loop of links
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield folder, sorted(name for name in names if not name.startswith("."))
