"""The HTTP interface of `asr serve`, and its page: requests → `Speech` → JSON.

Requests wait their turn: one thread computes, in the order of their arrival, and no further for a
client that has left. Files of the page are
read once, before the first request; no part of a request is a path. Every error is
`{"error": sentence}`.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asr import __version__
from asr.audio import InMemory
from asr.errors import DataError
from asr.labels.formats import as_record, in_format
from asr.serving import forms
from asr.serving.forms import Fields
from asr.serving.guard import OWN_NAMES, Guard
from asr.serving.limits import Admission, BusyError, Limits, TooMuchError
from asr.serving.speech import NotAudioError, Speech, StoppedError

PAGE = Path(__file__).parent / "page"
OPENAPI = Path(__file__).with_name("openapi.json")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
NONCE = 'name="csp-nonce" content="'
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'nonce-{nonce}'",  # wavesurfer's
        "img-src 'self' data:",
        "connect-src 'self' blob:",  # blob: the sound that is played
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
RETRY_S = "3"
CLOSED = 499  # status where nobody waits for the answer any more

log = logging.getLogger(__name__)

Work = Callable[[InMemory, Fields], Response]


@dataclass
class Service:
    """The recogniser, the thread that it works in, and the requests that wait for it."""

    speech: Speech
    pool: Executor
    limits: Limits

    def __post_init__(self) -> None:
        self.admission = Admission(self.limits)
        self.turn = asyncio.Semaphore(1)

    async def about(self, request: Request) -> Response:
        return JSONResponse(self.speech.about())

    async def answer(self, request: Request) -> Response:
        """What is asked of the recording in a form."""
        what = PurePosixPath(request.url.path).name
        work: Work = getattr(self, what)
        try:
            with self.admission.admitted() as upload:
                recording, fields = await forms.read(request, upload, what, self.limits)
                async with self.turn:
                    if await request.is_disconnected():
                        return Response(status_code=CLOSED)
                    return await self._worked(request, partial(work, recording, fields))
        except asyncio.CancelledError:  # by the end of the server
            return _failed(request, StoppedError("the server ends"))
        except Exception as error:
            return _failed(request, error)

    async def _worked(self, request: Request, job: Callable[[], Response]) -> Response:
        """The result of a job, which ends before its next piece where the client leaves."""
        left = self.speech.left
        left.clear()

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            left.set()

        watching = asyncio.create_task(watch())
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, job)
        except StoppedError:
            if left.is_set():
                return Response(status_code=CLOSED)
            raise
        finally:
            watching.cancel()

    # ── in the thread of the recogniser ──────────────────────────────────────────────────────

    def waveform(self, recording: InMemory, fields: Fields) -> Response:
        return Response(self.speech.waveform(recording, **fields), media_type="audio/wav")

    def transcribe(self, recording: InMemory, fields: Fields) -> Response:
        format, warnings = fields.pop("format", "json"), list[str]()
        if format != "json" and fields.get("posteriors"):
            raise DataError(f"posteriors are part of JSON, and format is {format}; leave one out")
        result, posteriors = self.speech.transcribe(recording, **fields, warn=warnings.append)
        if format != "json":
            return Response(in_format(result, format), media_type=forms.FORMATS[format])
        record = as_record(result) | {"warnings": warnings}
        return JSONResponse(record | ({"posteriors": posteriors} if posteriors else {}))

    def align(self, recording: InMemory, fields: Fields) -> Response:
        format, warnings = fields.pop("format", "json"), list[str]()
        result = self.speech.align(recording, **fields, warn=warnings.append)
        if format != "json":
            return Response(in_format(result, format), media_type=forms.FORMATS[format])
        return JSONResponse(as_record(result) | {"warnings": warnings})

    def assess(self, recording: InMemory, fields: Fields) -> Response:
        warnings: list[str] = []
        result = self.speech.assess(recording, **fields, warn=warnings.append)
        return JSONResponse(result | {"warnings": warnings})

    def gates(self, recording: InMemory, fields: Fields) -> Response:
        return JSONResponse(self.speech.gates(recording, **fields))


# ── errors ───────────────────────────────────────────────────────────────────────────────────


def _failed(request: Request, error: Exception) -> Response:
    """An error as JSON, with the status that says whose fault it is."""
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return JSONResponse({"error": error.detail}, error.status_code, headers)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLOSED)
    if not isinstance(error, DataError):
        log.error("a request to %s failed", request.url.path, exc_info=error)
        return JSONResponse({"error": "this program failed; its terminal says where"}, 500)
    status, headers = 422, {}
    match error:
        case TooMuchError():
            status = 413
        case NotAudioError():
            status = 415
        case BusyError() | StoppedError():
            status, headers = 503, {"retry-after": RETRY_S}
    return JSONResponse({"error": f"{error}"}, status, headers)


# ── the page ─────────────────────────────────────────────────────────────────────────────────


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Content and type of each file of the page, by its path below the page."""
    return {
        str(path.relative_to(PAGE)): (path.read_bytes(), KINDS[path.suffix])
        for path in sorted(PAGE.rglob("*"))
        if path.suffix in KINDS
    }


def _routes(service: Service) -> list[Route]:
    files = _page_files()
    html = files.pop("index.html")[0].decode()
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    document["info"]["version"] = __version__

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        headers = {"content-security-policy": POLICY.format(nonce=nonce)}
        content = html.replace(NONCE, NONCE + nonce)
        return Response(content, headers=headers, media_type=KINDS[".html"])

    async def file(request: Request) -> Response:
        content, kind = files[request.url.path.removeprefix("/")]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    return [
        Route("/", page),
        Route("/openapi.json", openapi),
        Route("/api/model", service.about),
        *(Route(f"/api/{what}", service.answer, methods=["POST"]) for what in forms.FIELDS),
        *(Route(f"/{name}", file) for name in files),
    ]


def app_of(
    speech: Speech, pool: Executor, limits: Limits, names: Collection[str] | None = OWN_NAMES
) -> Starlette:
    """The server as an ASGI application; `pool` has one thread, in which `speech` works."""
    service = Service(speech, pool, limits)
    return Starlette(
        routes=_routes(service),
        middleware=[Middleware(Guard, names=names)],
        exception_handlers={HTTPException: _failed},
    )
