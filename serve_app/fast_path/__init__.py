"""The only place that replaces parts of Serve and uvicorn; without it the server is slower, and answers the same.

May import http. Serve's hook for middleware names `middlewares`; applications call `quicken`, and go without where this
folder is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from serve_app.fast_path import accepting, access_log
from serve_app.fast_path.accepting import Beside
from serve_app.fast_path.past_serve import middlewares, offer
from serve_app.http.asgi import App

__all__ = ["middlewares", "quicken"]


def quicken(app: App, prediction_paths: Collection[str] = (), beside: Beside | None = None) -> None:
    """Have this process's HTTP server answer POST requests to `prediction_paths` by `app`, past Serve's wrapper.

    `beside` is awaited once that server listens, on its loop; what it returns is closed with it. And tend all its
    connections, and write no access log that nobody reads. To be called before Serve listens.
    """
    access_log.skip_unwanted(logging.getLogger("ray.serve"))
    accepting.tend_connections()
    if beside is not None:
        accepting.open_beside(beside)
    if prediction_paths:
        offer(app, prediction_paths)
