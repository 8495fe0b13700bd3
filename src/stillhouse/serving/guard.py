"""Who may see the page: on loopback, requests that ask for loopback; elsewhere, those who have the token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "stillhouse"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a page bound to the host."""
    return host in LOOPBACK


class Guard:
    """ASGI middleware for pages and websockets alike.

    Args:
        application: what is guarded.
        token: without one, requests must name a loopback host: another site's page that has its own name point here is refused.
    """

    def __init__(self, application: Application, token: str | None) -> None:
        self.application, self.token = application, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, set the cookie, or refuse."""
        if scope["type"] not in ("http", "websocket") or self._may(scope):
            await self.application(scope, receive, send)
        elif scope["type"] == "http" and self.token and self._given(scope):
            await _redirect(scope, self.token, send)
        else:
            await _refuse(scope, send, "the token" if self.token else "a loopback address")

    def _may(self, scope: Scope) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.token is None:
            return is_loopback(_host(headers.get("host", "")))
        cookies = dict(part.strip().split("=", 1) for part in headers.get("cookie", "").split(";") if "=" in part)
        return hmac.compare_digest(cookies.get(COOKIE, "").encode(), self.token.encode())

    def _given(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        return hmac.compare_digest(given.encode(), (self.token or "").encode())


def _host(header: str) -> str:
    if header.startswith("["):
        return header[1 : header.find("]")]
    return header.rsplit(":", 1)[0] if ":" in header else header


async def _redirect(scope: Scope, token: str, send: Send) -> None:
    """To the same page without the token in its address; the cookie is out of scripts' and other sites' reach."""
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
    headers = [(b"location", scope["path"].encode()), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Send, needed: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = f"403: this page is for those who have {needed}; see what `stillhouse serve` printed when it started.\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
