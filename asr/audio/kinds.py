"""What a file is that holds no audio that can be read, told by its first bytes."""

import shlex
from pathlib import Path

CONVERTED = {  # audio and video that ffmpeg reads, and libsndfile does not
    (4, b"ftyp"): "MPEG-4 (m4a, mp4, mov)",
    (4, b"moov"): "MPEG-4 (m4a, mp4, mov)",
    (4, b"mdat"): "MPEG-4 (m4a, mp4, mov)",
    (0, b"\xff\xf1"): "AAC",
    (0, b"\xff\xf9"): "AAC",
    (0, b"ADIF"): "AAC",
    (0, b"0&\xb2u\x8ef\xcf\x11"): "Windows Media (wma, wmv)",
    (0, b"#!AMR"): "AMR",
    (0, b"\x1aE\xdf\xa3"): "Matroska (webm, mkv)",
    (8, b"AVI "): "AVI video",
    (0, b"FLV\x01"): "Flash video",
    (0, b".RMF"): "RealMedia",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"wvpk"): "WavPack",
    (0, b"TTA1"): "True Audio",
    (0, b"DSD "): "DSD",
    (0, b"\0\0\x01\xba"): "MPEG video",
    (0, b"ajkg"): "shorten",
    (28, b"Speex   "): "Speex",
    (28, b"\x80theora"): "Ogg video",
}
OTHERS = {
    (0, b"version https://git-lfs"): ("a pointer of Git LFS", "get the file with `git lfs pull`"),
    (0, b"PK\x03\x04"): ("a ZIP archive", "unpack it"),
    (0, b"\x1f\x8b"): ("compressed with gzip", "unpack it"),
    (0, b"BZh"): ("compressed with bzip2", "unpack it"),
    (0, b"\xfd7zXZ"): ("compressed with xz", "unpack it"),
    (0, b"7z\xbc\xaf"): ("a 7z archive", "unpack it"),
    (0, b"Rar!"): ("a RAR archive", "unpack it"),
    (257, b"ustar"): ("a tar archive", "unpack it"),
    (0, b"%PDF"): ("a PDF page", "leave it out"),
    (0, b"\x89PNG"): ("a picture", "leave it out"),
    (0, b"\xff\xd8\xff"): ("a picture", "leave it out"),
    (0, b"GIF8"): ("a picture", "leave it out"),
    (0, b"MThd"): ("MIDI, notes without sound", "leave it out"),
}
CONVERTED_ENDINGS = (".m4a", ".mp4", ".aac", ".wma", ".amr", ".webm", ".mkv", ".mov", ".3gp")


def other_kind(path: str | Path, head: bytes) -> str | None:
    """What a file is, by its first bytes, and what to do; None where it may be readable audio."""
    convert = conversion(path)
    if head.startswith(b"NIST_1A") and b"shorten" in head:
        return (
            "SPHERE compressed with shorten, which no library here reads; expand it with "
            "`sph2pipe -f wav IN OUT` or `sox IN OUT`"
        )
    for (place, magic), name in CONVERTED.items():
        if head.startswith(magic, place):
            return f"{name}, which libsndfile does not read; {convert}"
    for (place, magic), (name, remedy) in OTHERS.items():
        if head.startswith(magic, place):
            return f"not a readable audio file but {name}; {remedy}"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "not a readable audio file but an HTML page, perhaps of an error; download it again"
    text = " ".join(head.decode("utf-8", "replace").rstrip("\ufffd").split())
    if text and not text.startswith("NIST_1A") and text.isprintable() and "\ufffd" not in text:
        return f"not a readable audio file but a text, {text[:30]!r}; leave it out"
    if Path(path).suffix.lower() in CONVERTED_ENDINGS:
        return f"not a readable audio file, of a kind that libsndfile does not read; {convert}"
    return None


def conversion(path: str | Path) -> str:
    """What to do with a file that only other programs read."""
    return f"convert it with `ffmpeg -i {shlex.quote(str(path))} -ar 16000 OUT.wav`"
