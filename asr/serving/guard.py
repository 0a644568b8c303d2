"""Who may ask the server, and the headers of its answers."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_NAMES = ("localhost", "127.0.0.1", "::1")  # of this machine
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Refuses requests of other sites, and gives every answer its headers.

    `names` are those that a request may call this machine by, against a site whose name is made to
    lead here; None: any. A page of another origin may not ask at all.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.encode() not in known
                    ),
                ]
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        problem = ""
        if self.names is not None and _name_of(host) not in self.names:
            problem = (
                f"the request calls this machine {host[:80]!r}, expected {', '.join(self.names)}; "
                f"this server answers its own machine only"
            )
        elif origin is not None and origin.partition("://")[2].lower() != host.lower():
            problem = f"the request is of a page of {origin[:80]!r}, expected this server's own"
        app: ASGIApp = JSONResponse({"error": problem}, 403) if problem else self.app
        await app(scope, receive, with_headers)


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
