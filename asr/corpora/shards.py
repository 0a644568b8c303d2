"""Tar shards with a manifest, written and read: a few large files in place of many small ones.

    FOLDER/manifest.jsonl       the utterances; `audio` names a member of a shard (asr.files.shards)
    FOLDER/000000.tar, …        84-121123-0000.flac and so on, each file as it was

Members are called as webdataset expects it: the id, with `.`, `/` and `%` as in a URL, and the
ending of the file.
"""

import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

from asr.corpora.recording import Recording, Stated
from asr.errors import DataError, raise_problems
from asr.files.outputs import atomic_open, temporary_folder
from asr.files.shards import Member, file_of, opened
from asr.records import Manifest, Utterance, stream_jsonl

MANIFEST = "manifest.jsonl"
SIZE_MB = 1000.0  # of a shard
OURS = re.compile(r"(\d{6,}\.tar|manifest\.jsonl)")


def of(folder: Path) -> list[Path]:
    """The shards in a folder."""
    return sorted(path for path in folder.glob("*.tar") if OURS.fullmatch(path.name))


def read(folder: Path, problems: list[str]) -> list[Recording]:
    """The utterances of a folder's manifest; shards are read beside it, wherever they were made."""
    recordings = []
    for number, one in enumerate(stream_jsonl(folder / MANIFEST, Utterance), start=1):
        audio, place = one.audio, f"{folder / MANIFEST}:{number}"
        if (member := Member.of(audio)) is not None:
            beside = folder.absolute() / Path(member.shard).name
            audio = str(member._replace(shard=str(beside))) if beside.exists() else audio
        if not os.path.exists(file_of(audio)):
            problems.append(f"{place}: {file_of(audio)} does not exist; copy it into {folder}")
            continue
        recordings.append(
            Recording(
                *(one.id, audio, one.speaker),
                words=one.words,
                sex=one.sex,
                dialect=one.dialect,
                phones=one.phones,
                segments=one.segments or (),
                place=place,
                stated=Stated(place, one.duration_s),
            )
        )
    return recordings


def write(manifests: Mapping[str, Manifest], folder: Path, size_mb: float = SIZE_MB) -> None:
    """Pack manifests, each into the subfolder that is its key, "." for the folder itself.

    A shard has at most `size_mb` million bytes, or one recording. The folder is complete or absent,
    also after an interruption. Raises one `DataError`, before the work, for all audio that does not
    exist, and for a folder with other files in it.
    """
    files = {file_of(one.audio): manifest for manifest in manifests.values() for one in manifest}
    raise_problems(
        f"{file}: no such file, expected the audio that {manifest.path} names; if it has moved, "
        f"prepare the corpus again"
        for file, manifest in files.items()
        if not os.path.exists(file)
    )
    place = folder.resolve()
    if other := next((one for one in place.rglob("*") if not _is_ours(one)), None):
        raise DataError(
            f"{folder}: has other files in it ({other.name}), expected none, or shards; choose "
            f"another folder"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    count = sum(map(len, manifests.values()))
    with (
        temporary_folder(place.parent, f".{place.name}.") as staging,
        tqdm(total=count, desc="recordings", leave=False, disable=None) as progress,
    ):
        made = staging / "made"
        for name, manifest in manifests.items():
            with atomic_open(made / name / MANIFEST) as lines:
                for number, some in enumerate(_shares(manifest, size_mb * 1e6)):
                    shard = Path(name, f"{number:06}.tar")
                    for one, member in _pack(some, made / shard, folder.absolute() / shard):
                        record = one.to_dict() | {"audio": str(member)}
                        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
                        progress.update()
        if place.exists():
            os.rename(place, staging / "before")
        os.rename(made, place)


def _is_ours(path: Path) -> bool:
    return path.is_dir() or OURS.fullmatch(path.name) is not None


def _shares(utterances: Iterable[Utterance], size: float) -> Iterator[list[Utterance]]:
    """Utterances in their order, as many as a shard of `size` bytes holds."""
    share: list[Utterance] = []
    end = total = 2 * tarfile.BLOCKSIZE  # zeros
    for one in utterances:
        member = Member.of(one.audio)
        length = os.path.getsize(one.audio) if member is None else member.size
        length = len(_header(one, length).tobuf()) + _padded(length)
        if share and _padded(total + length, tarfile.RECORDSIZE) > size:
            yield share
            share, total = [], end
        share.append(one)
        total += length
    if share:
        yield share


def _pack(
    utterances: Iterable[Utterance], path: Path, shard: Path
) -> Iterator[tuple[Utterance, Member]]:
    """Write a shard to `path`; each utterance, with the member of what will be called `shard`."""
    with atomic_open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for one in utterances:
            with opened(one.audio) as source:
                content = source.read()
            header = _header(one, len(content))
            tar.addfile(header, io.BytesIO(content))
            start = file.tell() - _padded(header.size)
            yield one, Member(str(shard), start, header.size, zlib.crc32(content), header.name)


def _header(one: Utterance, size: int) -> tarfile.TarInfo:
    name = re.sub(r"[./%]", lambda escaped: f"%{ord(escaped[0]):02X}", one.id)
    header = tarfile.TarInfo(name + (Path(one.audio).suffix.lower() or ".audio"))
    header.size = size
    return header


def _padded(size: int, block: int = tarfile.BLOCKSIZE) -> int:
    return -(-size // block) * block
