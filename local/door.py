"""The door of every local server: programs of this machine pass, web pages do not.

Whatever page a developer visits can make the browser send requests to 127.0.0.1: a script, an image, a form that posts
itself. By a name of its own that resolves to 127.0.0.1 (DNS rebinding) it can read the answers, too. The one thing it
cannot do is keep the browser from saying for whom it asks. ``Host`` is the name that the page used, ``Origin`` and
``Sec-Fetch-Site`` say where the page is from; for a plain GET of a browser that sends neither, ``Referer`` does. Client
libraries send ``Host`` only. (WHATWG Fetch, "Origin header"; W3C, "Fetch Metadata Request Headers".)
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

# The values of a request's header, none, one or several.
Values = Callable[[str], list[str]]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NAMES = r"127\.0\.0\.1|localhost"
STATUS = 403
# Hadoop's S3A says in Referer what it does for whom (its auditing), at a name that nobody can own (RFC 2606).
S3A_AUDIT = r"https://audit\.example\.org/.*"


def refusal(values: Values, port: int, names: str = NAMES) -> str | None:
    """Why the request does not pass, None where it does.

    ``port``: where the server listens. ``names``: a regular expression of the names by which it is asked.
    """
    hosts = values("Host")
    if len(hosts) != 1 or not _known(hosts[0], port, names):
        received = " and ".join(map(ascii, hosts)) or "none"
        return (
            f"received the Host {received}, expected 127.0.0.1:{port} or localhost:{port}; use one of the two"
        )
    own = f"http://{hosts[0]}".lower()
    for name, good in (
        ("Origin", re.escape(own)),
        ("Sec-Fetch-Site", "same-origin|none"),
        ("Referer", rf"{re.escape(own)}(/.*)?|{S3A_AUDIT}"),
    ):
        for value in values(name):
            if not re.fullmatch(good, value, re.IGNORECASE | re.DOTALL):
                return (
                    f"received {name} {value!a}: a page of another site asks. Programs may ask this server, and you by "
                    f"typing its address; web pages may not"
                )
    return None


def _known(host: str, port: int, names: str) -> bool:
    name, _, number = host.partition(":")
    return (number or "80") == str(port) and re.fullmatch(names, name, re.IGNORECASE | re.ASCII) is not None


def wsgi(application: Wsgi, names: str = NAMES) -> Wsgi:
    """The application behind the door."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def values(name: str) -> list[str]:
            key = f"HTTP_{name.upper().replace('-', '_')}"
            return [environ[key]] if key in environ else []

        why = refusal(values, int(environ["SERVER_PORT"]), names)
        if why is None:
            return application(environ, start_response)
        body = _body(why)
        start_response(f"{STATUS} Forbidden", list(_headers(body).items()))
        return [body]

    return guarded


class Asgi:
    """An ASGI application behind the door; a middleware in Starlette's sense."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], names: str = NAMES) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = None if scope["type"] == "lifespan" else self._refusal(scope)
        if why is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            body = _body(why)
            headers = [(n.lower().encode(), v.encode()) for n, v in _headers(body).items()]
            await send({"type": "http.response.start", "status": STATUS, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> str | None:
        def values(name: str) -> list[str]:
            return [v.decode("latin-1") for n, v in scope["headers"] if n.decode("latin-1") == name.lower()]

        return refusal(values, scope["server"][1], self.names)


def _body(why: str) -> bytes:
    return f"Refused: {why}.\n".encode()


def _headers(body: bytes) -> dict[str, str]:
    return {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
