"""A page for recordings, and an HTTP interface, on this machine.

    asr serve                       prints the address of the page
    asr serve --port 0              on any free port
    asr serve --checkpoint my.safetensors
    asr serve --longest-s 3600 --largest-mb 400

The page records or takes a file, and shows and plays its words and phones. Nothing leaves this
machine, and nothing is kept. docs/serve.md has the HTTP interface.
"""

import argparse
import math
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.commands import recordings
from asr.errors import DataError, exit_code, pip_install
from asr.processor.choice import device_for
from asr.serving.limits import Limits

OWN_HOST, PORT = "127.0.0.1", 8000
ENDING_S = 2  # for requests that are being answered when the server is ended


def run(
    host: str | None,
    port: int,
    checkpoint: Path | None,
    words: Path | None,
    limits: Limits,
    device: str,
    threads: int,
) -> None:
    """Serve until interrupted; raises `DataError` where a model or the address cannot be used."""
    try:
        import uvicorn

        from asr.serving.app import app_of
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "asr":
            raise
        raise DataError(f"{error.name} is not installed; run: {pip_install('serve')}") from error
    from asr.serving.guard import OWN_NAMES
    from asr.serving.speech import Speech

    with bound(host or OWN_HOST, port) as listening:
        speech = Speech(limits, checkpoint, words, device_for(device, threads))
        pool = ThreadPoolExecutor(1, "recogniser")
        pool.submit(speech.warm_up)
        app = app_of(speech, pool, limits, None if host else OWN_NAMES)
        config = uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=ENDING_S,
        )
        print(f"{address(listening)}  (Ctrl-C ends it)", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            speech.stopped.set()
            pool.shutdown(cancel_futures=True)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; `DataError` where the address is taken or is not this machine's."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[
            0
        ]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DataError(
            f"--host {host}: {error.strerror}, expected a name of this machine"
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(socket.SOMAXCONN)
    except OSError as error:
        listening.close()
        raise DataError(
            f"{host}, port {port}: {error.strerror}; choose another with --host or --port; 0 is "
            f"any free port"
        ) from error
    return listening


def address(listening: socket.socket) -> str:
    """The address to type into a browser."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def number(least: float, most: float = math.inf) -> Callable[[str], float]:
    """The type of a flag that is a number within limits."""

    def parsed(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            beyond = "" if math.isinf(most) else f" to {most:g}"
            raise argparse.ArgumentTypeError(f"{text!r}, expected a number from {least:g}{beyond}")
        return value

    return parsed


def port_of(text: str) -> int:
    """The type of `--port`."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}, expected 0 to 65535")
    return int(text)


@exit_code
def main(arguments: Sequence[str] | None = None) -> int:
    recordings.tell_first_use()
    standard = Limits()
    parser = argparse.ArgumentParser(
        prog="asr serve",
        description="Serve a page that shows and plays the phones and words of recordings.",
        epilog="Only this machine can ask, unless --host says otherwise.",
    )
    add = parser.add_argument
    a_host = f"address to listen at; default: {OWN_HOST}, which only this machine reaches"
    add("--host", metavar="NAME", help=a_host)
    add("--port", type=port_of, default=PORT, help=f"default: {PORT}; 0: any free one")
    add("--checkpoint", type=Path, help="model file; default: the packaged model")
    add("--words-file", dest="words", type=Path, metavar="FILE", help="one that `asr words` wrote")
    longest = f"seconds of audio in an upload; default: {standard.seconds:g}"
    add("--longest-s", type=number(1), default=standard.seconds, metavar="N", help=longest)
    largest = f"megabytes of an upload; default: {standard.bytes / 1e6:g}"
    add("--largest-mb", type=number(0.1), default=standard.bytes / 1e6, metavar="N", help=largest)
    a_count = f"requests that may wait at once; default: {standard.waiting}"
    add("--waiting", type=number(1), default=standard.waiting, metavar="N", help=a_count)
    add("--threads", type=number(0), default=0, metavar="N", help="of the recogniser")
    add("--device", default="auto", help="cpu, cuda or cuda:N; default: cuda where there is one")
    given = parser.parse_args(arguments)
    limits = Limits(given.longest_s, round(1e6 * given.largest_mb), int(given.waiting))
    try:
        run(
            *(given.host, given.port, given.checkpoint, given.words),
            *(limits, given.device, int(given.threads)),
        )
    except KeyboardInterrupt:
        return 130  # the usual end, without a word
    return 0
