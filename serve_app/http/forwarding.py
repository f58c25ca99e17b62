"""Passing a request on to a model's own front door, over loopback HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from deployments.errors import InvalidInput, NotReady
from serve_app.cluster import controller
from serve_app.http.asgi import Receive, Scope
from serve_app.http.bodies import read_body
from serve_app.protocols.codec import Response

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"host", b"content-length", b"transfer-encoding", b"te", b"upgrade"}
)
"""RFC 9110, section 7.6.1, and what the client library sets by itself."""
_SET_AGAIN = _HOP_BY_HOP | {b"content-type", b"x-request-id", b"date", b"server"}
"""Answer headers that this server writes itself on the way out."""


class Forwarder:
    """Keeps connections to one HTTP front door and sends requests there as they came."""

    def __init__(self, base_url: str, max_body_bytes: int) -> None:
        self.base_url = base_url
        self.max_body_bytes = max_body_bytes
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def to_front_door(cls, max_body_bytes: int) -> Forwarder:
        """Return a forwarder to this cluster's own HTTP address, as Serve's controller knows it."""
        host, port = controller.http_address(controller.serve_details())
        return cls(f"http://{host}:{port}", max_body_bytes)

    async def forward(self, path: str, scope: Scope, receive: Receive) -> Response:
        """Send the request in `scope` to `path` there and return the answer, whole."""
        body = await read_body(receive, dict(scope["headers"]), self.max_body_bytes)
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k not in _HOP_BY_HOP]
        # Already decoded, so quoted again, and kept from yarl, which would follow "..", "?" and "#" in it.
        url = URL(self.base_url + quote(path, safe="/:", errors="replace"), encoded=True)
        try:
            async with self.session.request(scope["method"], url, data=body, headers=headers) as answer:
                content = await answer.read()
        except aiohttp.ClientError as error:
            raise _no_answer(error) from None
        except ValueError as error:
            # aiohttp sends no header with a control character, which servers let through.
            raise InvalidInput(f"the request cannot be passed on: {error}") from None
        kept = tuple((k.lower(), v) for k, v in answer.raw_headers if k.lower() not in _SET_AGAIN)
        return Response(content, answer.status, answer.headers.get("content-type", "").encode(), kept)

    async def get_json(self, path: str, authorization: bytes = b"") -> Any:
        """Return the JSON at `path`, None where the token is not accepted there; `NotReady` for any other answer."""
        headers = {"authorization": authorization.decode("latin-1")} if authorization else {}
        try:
            async with self.session.get(self.base_url + path, headers=headers) as answer:
                content = await answer.read()
        except aiohttp.ClientError as error:
            raise _no_answer(error) from None
        if answer.status == 401:
            return None
        if answer.status != 200:
            raise NotReady(f"the model's replica answered with {answer.status}")
        return orjson.loads(content)

    async def close(self) -> None:
        """Close the kept connections."""
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session, made on first use because it belongs to the running event loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        return self._session


def _no_answer(error: aiohttp.ClientError) -> NotReady:
    return NotReady(f"the model's replica did not answer: {type(error).__name__}")
