"""Downloads from a server in this process: interrupted, damaged, hostile, or there already."""

import errno
import gzip
import hashlib
import io
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from asr.commands.download import main
from asr.corpora import download
from asr.corpora.download import Item, catalogue, ensure, fetch, unpack
from asr.errors import DataError

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Server(ThreadingHTTPServer):
    """Serves `files`; `breaks` holds after how many bytes the next answers end."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []
        self.errors: list[int] = []  # status codes of the next answers
        self.tag = '"one"'
        self.ranges = True
        self.asked: list[str | None] = []  # Range of every request

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path[1:])
        if self.server.errors or content is None:
            self.send_error(self.server.errors.pop(0) if self.server.errors else 404)
            return
        begin = 0
        fits = self.headers.get("If-Range") in (None, self.server.tag)
        if wanted and self.server.ranges and fits:
            begin = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("ETag", self.server.tag)
        self.end_headers()
        stop = begin + self.server.breaks.pop(0) if self.server.breaks else len(content)
        self.wfile.write(content[begin:stop])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "PAUSE_S", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        running.files["file"] = CONTENT
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar(*members: tuple[str, bytes | tarfile.TarInfo], gz: bool = True) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz" if gz else "w") as pack:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                pack.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                pack.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members:
            pack.writestr(name, content)
    return raw.getvalue()


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---------------------------------------------------------------- fetching


def test_a_file_is_fetched_checked_and_named_at_the_end(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url("file"), tmp_path / "file", sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert everything(tmp_path) == ["file"]
    fetch(server.url("file"), path)
    assert len(server.asked) == 1  # what is there is not asked for again


def test_a_broken_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000, 200_000, 1]
    fetch(server.url("file"), tmp_path / "file", sha256(CONTENT))
    assert server.asked == [None, "bytes=300000-", "bytes=500000-", "bytes=500001-"]


def test_a_later_call_continues_where_an_earlier_one_ended(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000] + [0] * download.ATTEMPTS
    with pytest.raises(DataError, match=r"0\.3 MB .*the same command continues"):
        fetch(server.url("file"), tmp_path / "file")
    assert everything(tmp_path) == ["file.part", "file.part.tag"]
    server.breaks, server.asked = [], []
    assert fetch(server.url("file"), tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]
    assert everything(tmp_path) == ["file"]


@pytest.mark.parametrize("how", ["changed", "no ranges"])
def test_what_cannot_be_continued_is_begun_again(server: Server, tmp_path: Path, how: str) -> None:
    server.breaks = [300_000] + [0] * download.ATTEMPTS
    with pytest.raises(DataError):
        fetch(server.url("file"), tmp_path / "file")
    server.breaks = []
    if how == "changed":
        server.files["file"], server.tag = CONTENT[::-1], '"two"'
    else:
        server.ranges = False
    expected = server.files["file"]
    assert fetch(server.url("file"), tmp_path / "file").read_bytes() == expected


def test_a_part_that_is_whole_already_is_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server.url("file"), tmp_path / "file", sha256(CONTENT)).exists()
    (tmp_path / "other.part").write_bytes(CONTENT + b"of a longer file")
    assert fetch(server.url("file"), tmp_path / "other").read_bytes() == CONTENT


def test_a_wrong_checksum_removes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the checksum of the file is md5:\w{32}, expected md5:0"):
        fetch(server.url("file"), tmp_path / "file", "md5:" + "0" * 32)
    assert not list(tmp_path.glob("file*[!g]"))
    assert not (tmp_path / "file").exists()


def test_errors_of_a_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: HTTP 404 Not Found"):
        fetch(server.url("absent"), tmp_path / "absent")
    server.errors = [503, 500]
    assert fetch(server.url("file"), tmp_path / "file").read_bytes() == CONTENT
    server.errors = [503] * download.ATTEMPTS
    with pytest.raises(DataError, match=r"file: .*\(HTTP 503"):
        fetch(server.url("file"), tmp_path / "again")
    closed = server.url("file").replace(str(server.server_address[1]), "9")
    with pytest.raises(DataError, match=closed):
        fetch(closed, tmp_path / "closed")


def test_a_full_disk_is_seen_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"the disk is full .*1000 free.*make room"):
        ensure(Item(server.url("file"), None, "file"), tmp_path)
    assert (tmp_path / "file.part").stat().st_size == 0


def test_a_disk_that_fills_up_keeps_what_it_has(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DataError, match="the disk is full"):
        ensure(Item(server.url("file"), None, "file"), tmp_path)
    assert not (tmp_path / "file").exists()


def test_two_downloads_of_one_file_do_not_mix(server: Server, tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / "file.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another download is writing here"):
            fetch(server.url("file"), tmp_path / "file")


# ---------------------------------------------------------------- unpacking

GOOD = [("Libri/LICENSE.TXT", b"free"), ("Libri/part/1/a.flac", b"speech"), ("Libri/part/b", b"")]


@pytest.mark.parametrize("name", ["one.tar.gz", "one.zip"])
def test_an_archive_comes_whole_or_not_at_all(server: Server, tmp_path: Path, name: str) -> None:
    content = tar(*GOOD) if name.endswith("gz") else zipped(*GOOD)
    server.files[name] = content
    item = Item(server.url(name), sha256(content), "Libri/part")
    assert ensure(item, tmp_path)
    assert (tmp_path / "Libri/part/1/a.flac").read_bytes() == b"speech"
    assert (tmp_path / "Libri/LICENSE.TXT").read_bytes() == b"free"
    names = {path.name for path in tmp_path.iterdir()}  # no archive, no work folder
    assert names == {"Libri", ".downloaded"}
    asked = len(server.asked)
    assert not ensure(item, tmp_path)
    assert len(server.asked) == asked


def test_a_second_archive_joins_the_first(server: Server, tmp_path: Path) -> None:
    server.files["one.tar.gz"] = tar(*GOOD)
    server.files["two.tar.gz"] = tar(("Libri/LICENSE.TXT", b"other"), ("Libri/more/c", b"c"))
    ensure(Item(server.url("one.tar.gz"), None, "Libri/part"), tmp_path)
    ensure(Item(server.url("two.tar.gz"), None, "Libri/more"), tmp_path)
    assert (tmp_path / "Libri/LICENSE.TXT").read_bytes() == b"free"
    assert (tmp_path / "Libri/more/c").exists()


LINK = zipfile.ZipInfo("x/link")
LINK.create_system, LINK.external_attr = 3, 0o120777 << 16
INSIDE = ("x/in", b"inside")


def with_long_header(size: int) -> bytes:
    """A tar whose pax header announces and holds `size` bytes."""
    header = tarfile.TarInfo("x/pax")
    header.type, header.size = tarfile.XHDTYPE, size
    body = f"{size} comment={'a' * (size - 10 - len(str(size)))}\n".encode()
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512), 1)


def zipped_as(method: int) -> bytes:
    """A zip with bytes in its content changed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as pack:
        pack.writestr("x/in", bytes(range(256)) * 40)
    data = bytearray(packed.getvalue())
    data[45:75] = bytes(30)
    return bytes(data)


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "tar slip": ("a.tar.gz", lambda: tar(INSIDE, ("../out", b"!")), "outside"),
    "deep slip": ("a.tar", lambda: tar(INSIDE, ("x/../../out", b"!"), gz=False), "outside"),
    "absolute": ("a.tar.gz", lambda: tar(INSIDE, ("/tmp/out", b"!")), "'/tmp/out' is"),
    "zip slip": ("a.zip", lambda: zipped(INSIDE, ("x/../../out", b"!")), "outside"),
    "zip absolute": ("a.zip", lambda: zipped(INSIDE, ("/out", b"!")), "'/out' is"),
    "symlink": (
        "a.tar.gz",
        lambda: tar(INSIDE, ("x/l", special(tarfile.SYMTYPE, "..")), ("x/l/out", b"!")),
        "'x/l' is a link",
    ),
    "hard link": (
        "a.tar.gz",
        lambda: tar(INSIDE, ("x/l", special(tarfile.LNKTYPE, "/etc/passwd"))),
        "is a link",
    ),
    "zip link": ("a.zip", lambda: zipped(INSIDE, (LINK, b"..")), "'x/link' is a link"),
    "device": ("a.tar.gz", lambda: tar(INSIDE, ("x/d", special(tarfile.CHRTYPE))), "'x/d' is a"),
    "fifo": ("a.tar.gz", lambda: tar(INSIDE, ("x/p", special(tarfile.FIFOTYPE))), "'x/p' is a"),
    "bomb": ("a.zip", lambda: zipped(("x/in", bytes(9_000_000))), "more than 4 MB"),
    "tar bomb": ("a.tar.gz", lambda: tar(("x/in", bytes(9_000_000))), "more than 4 MB"),
    "twice": ("a.tar.gz", lambda: tar(INSIDE, ("x/in", b"again")), "'x/in' is a duplicate"),
    "truncated": ("a.tar.gz", lambda: tar(("x/in", CONTENT))[:-900], "damaged or truncated"),
    "cut tar": ("a.tar", lambda: tar(("x/in", CONTENT), gz=False)[:5000], "damaged or truncated"),
    "bad sum": ("a.tar.gz", lambda: tar(INSIDE)[:-8] + bytes(8), "damaged or truncated"),
    "bad zip": ("a.zip", lambda: zipped(("x/in", b"abc" * 99))[:-30], "damaged or truncated"),
    "long header": ("a.tar.gz", lambda: with_long_header(2_000_000), "header of more than"),
    "bad lzma": ("a.zip", lambda: zipped_as(zipfile.ZIP_LZMA), "damaged or truncated"),
    "bad bz2": ("a.zip", lambda: zipped_as(zipfile.ZIP_BZIP2), "damaged or truncated"),
    "bad deflate": ("a.zip", lambda: zipped_as(zipfile.ZIP_DEFLATED), "damaged or truncated"),
    "no archive": ("a.tar.gz", lambda: b"<html>moved</html>", "damaged or truncated"),
    "other content": ("a.zip", lambda: zipped(("y/in", b"")), "holds y, expected x"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_archive_leaves_nothing(tmp_path: Path, case: str) -> None:
    name, make, says = HOSTILE[case]
    target = tmp_path / "deep" / "target"
    archive = tmp_path / name
    archive.write_bytes(make())
    with pytest.raises(DataError, match=says):
        unpack(archive, target, "x", limit=4_000_000)
    assert everything(target) == []
    assert everything(tmp_path) == [name, "deep", "deep/target"]
    assert not Path("/tmp/out").exists()


# ---------------------------------------------------------------- the catalogue and the command


def test_the_catalogue_is_well_formed() -> None:
    known = catalogue()
    assert [item.gives for item in known["librispeech"]] == [
        "LibriSpeech/train-clean-5",
        "LibriSpeech/dev-clean-2",
        "LibriSpeech/test-clean",
        "cmudict-0.7b",
    ]
    (text,) = known["librispeech-lm"]
    assert (text.gives, text.is_archive) == ("librispeech-lm-norm.txt.gz", False)
    for items in known.values():
        for item in items:
            assert item.url.startswith(("https://", "http://svn.code.sf.net/"))
            if item.checksum is None:
                assert item.url.startswith("https://")
            else:
                kind, _, digest = item.checksum.partition(":")
                assert re.fullmatch(r"[0-9a-f]+", digest)
                assert len(digest) == {"md5": 32, "sha256": 64}[kind]


def test_the_command_prints_what_it_has_downloaded(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.files["one.zip"] = zipped(*GOOD)
    items = {
        "one": [Item(server.url("one.zip"), None, "Libri/part")],
        "list": [Item(server.url("file"), sha256(CONTENT), "lists/file.txt")],
        "gone": [Item(server.url("gone"), None, "gone")],
    }
    monkeypatch.setattr(download, "catalogue", lambda: items)
    assert main(["one", "list", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "part: downloaded; no checksum" in printed
    assert "file.txt: downloaded, sha256 matches" in printed
    assert main(["one", "--output", str(tmp_path)]) == 0
    assert "part: exists" in capsys.readouterr().out
    assert main(["gone", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: http://127.0.0.1")
