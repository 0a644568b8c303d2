"""What a file is that holds no audio that can be read, told by its first bytes."""

import shlex
from functools import cache
from pathlib import Path

from asr.phones import table_lines

CONVERTED_ENDINGS = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".webm", ".mkv", ".mov", ".3gp")


@cache
def _known() -> list[tuple[int, bytes, list[str]]]:
    """The place and the bytes by which a kind is known; what it is, and perhaps what to do."""
    rows = (line.split(" | ") for line in table_lines("file-kinds.txt"))
    return [
        (int(place), magic.encode().decode("unicode_escape").encode("latin-1"), said)
        for place, magic, *said in rows
    ]


def other_kind(path: str | Path, head: bytes) -> str | None:
    """What a file is, by its first bytes, and what to do; None where it may be readable audio."""
    if head.startswith(b"NIST_1A") and b"shorten" in head:
        return (
            "SPHERE compressed with shorten, which no library here reads; expand it with "
            "`sph2pipe -f wav IN OUT` or `sox IN OUT`"
        )
    for place, magic, (kind, *remedy) in _known():
        if head.startswith(magic, place):
            if remedy:
                return f"not a readable audio file but {kind}; {remedy[0]}"
            return f"{kind}, which libsndfile does not read; {conversion(path)}"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "not a readable audio file but an HTML page, perhaps of an error; download it again"
    text = " ".join(head.decode("utf-8", "replace").rstrip("\ufffd").split())
    if text and not text.startswith("NIST_1A") and text.isprintable() and "\ufffd" not in text:
        return f"not a readable audio file but a text, {text[:30]!r}; leave it out"
    if Path(path).suffix.lower() in CONVERTED_ENDINGS:
        return (
            f"not a readable audio file, of a kind that libsndfile does not read; "
            f"{conversion(path)}"
        )
    return None


def conversion(path: str | Path) -> str:
    """What to do with a file that only other programs read."""
    return f"convert it with `ffmpeg -i {shlex.quote(str(path))} -ar 16000 OUT.wav`"
