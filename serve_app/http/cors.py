"""Cross-origin requests: off unless a config names origins; then Starlette's middleware, with this server's headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from starlette.middleware.cors import CORSMiddleware

from serve_app.http.asgi import App

_METHODS = ("GET", "HEAD", "POST")
_ALLOWED = (
    *("authorization", "content-type", "content-encoding", "inference-header-content-length"),
    *("x-request-id", "x-request-timeout-seconds"),
)
_EXPOSED = ("inference-header-content-length", "retry-after", "server-timing", "www-authenticate", "x-request-id")


def with_cors(app: App, origins: Sequence[str]) -> App:
    """Return `app` with pages of `origins` allowed to read its answers; without origins it is `app` itself.

    Preflight requests carry no token by design, and are answered before one is asked for.
    """
    if not origins:
        return app
    middleware = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_ALLOWED,
        expose_headers=_EXPOSED,
    )
    return cast(App, middleware)
