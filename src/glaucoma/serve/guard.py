"""Who may ask the server what: a token, this machine's own pages only, and headers that keep a browser careful."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["OPEN", "Guard", "is_loopback"]

OPEN = ("/", "/health")  # the page without any data, and whether there is a server: no token needed
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether a name or address, IPv6 without brackets, is this machine's own and reaches no further."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that refuses, before anything is read, what no client of ours would ask.

    On loopback a page of another site could have a browser ask, under its own name whose address it changes to
    127.0.0.1 (DNS rebinding): the name in `Host` must be loopback's. A post from another site's page has its `Origin`.

    Args:
        app: what answers the rest.
        token: every request but for `OPEN` must have it; None asks for none.
        loopback: whether the server listens on loopback alone.
    """

    def __init__(self, app: ASGIApp, token: str | None, loopback: bool):
        self.app, self.token, self.loopback = app, token, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or hand the request on."""
        if scope["type"] != "http":
            return  # neither websockets nor a lifespan are of use here

        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        status, why = self._refusal(scope["path"], scope["method"], Headers(scope=scope))
        if not why:
            with suppress(ClientDisconnect):  # nobody is left to answer
                await self.app(scope, receive, careful)
            return
        asks = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        await JSONResponse({"detail": why}, status, headers=asks)(scope, receive, careful)

    def _refusal(self, path: str, method: str, headers: Mapping[str, str]) -> tuple[int, str]:
        host = headers.get("host", "")
        if self.loopback and not is_loopback(_name(host)):
            return 421, "this server answers to 127.0.0.1 and localhost only"
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if foreign or (method == "POST" and headers.get("sec-fetch-site") in ("cross-site", "same-site")):
            return 403, "a page of another site has no business here"
        if self.token is None or path in OPEN:
            return 0, ""
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), self.token.encode()):
            return 0, ""
        return (
            401,
            "a token is needed, the one that the server printed: `Authorization: Bearer TOKEN`",
        )


def _name(host: str) -> str:
    """The name in a Host header; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
