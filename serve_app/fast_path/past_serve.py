"""Predictions go from uvicorn straight to the model's routes, past Serve's wrapper around its replica.

Serve (2.60) wraps every HTTP request to a replica: a middleware, metadata of 20 fields, two UUIDs, a request context,
two further layers around each message. That is twice what all of our own code takes. Its hook for ASGI middleware
(`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`) lets us stand before it. What a prediction needs of it is done here, with
the replica's own methods: the limits on requests that run and that wait, its count of them (autoscaling and draining
go by that), its metrics, the time limit, and the request's id both ways.

Everything else goes through Serve as before: any other path, an access log that is on, tracing, and all of it where a
method that is used here is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Any

from deployments.errors import DeadlineExceeded
from deployments.events import event
from serve_app.fast_path.access_log import dropping_handlers
from serve_app.fast_path.joined_writes import join_writes
from serve_app.fast_path.latency_sample import sample_latencies
from serve_app.http.asgi import App, Message, Receive, Scope, Send, send_response
from serve_app.http.deadlines import positive_seconds
from serve_app.http.errors import error_response
from serve_app.http.without_replica import WithoutReplica

Cancel = Callable[[], None]

serve_log = logging.getLogger("ray.serve")
REQUEST_ID = b"x-request-id"
TIMEOUT = b"x-request-timeout-seconds"
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What no header of an answer may hold, the request's id neither."""
_USED = (
    *("_can_accept_request", "_track_queued_request", "_start_request", "_semaphore"),
    *("_metrics_manager", "_http_options", "_route_prefix", "_deployment_id"),
)
_USED_OF_METRICS = (
    *("inc_num_ongoing_requests", "dec_num_ongoing_requests"),
    *("record_request_metrics", "record_ingress_request_metrics"),
)
_offered: list[tuple[App, Collection[str]]] = []


def offer(app: App, paths: Collection[str]) -> None:
    """Have POST requests to `paths` answered by `app` in this process; to be called before Serve listens."""
    _offered.append((app, paths))


def middlewares() -> list[Any]:
    """Return what Serve is to put around its ASGI app; it calls this in every process that opens an HTTP server."""
    from starlette.middleware import Middleware

    return [Middleware(_before)]


def _before(app: Any) -> App:
    """Return `app`, with the fast path before it where `app` is a replica that was offered one.

    In a proxy, which has no replica of its own, what it refuses is put into the protocol's form.
    """
    inner: App = app
    # The middleware that Serve always adds, and in it a bound method of the replica.
    replica = getattr(getattr(app, "_app", None), "__self__", None)
    if replica is None:
        return WithoutReplica(inner)
    if not _offered:
        return inner
    if missing := _missing(replica):
        event("slow_path", f"predictions take Serve's way: its replica has no {', '.join(missing)}", missing=missing)
        return inner
    handlers = dropping_handlers(serve_log)
    if handlers is None or not hasattr(asyncio, "timeout"):  # Python 3.10
        return inner
    try:
        fast_path = FastPath(inner, *_offered[-1], replica, handlers)
    except (ImportError, TypeError, AttributeError) as error:
        event("slow_path", f"predictions take Serve's way: its request metadata is another ({error})", missing=[])
        return inner
    sample_latencies(replica._metrics_manager)
    return fast_path


def _missing(replica: Any) -> list[str]:
    """Return the names that are used here and that Serve's replica or its metrics do not have."""
    missing = [name for name in _USED if not hasattr(replica, name)]
    metrics = getattr(replica, "_metrics_manager", None)
    return missing + [name for name in _USED_OF_METRICS if metrics is not None and not hasattr(metrics, name)]


class FastPath:
    """An ASGI app: predictions go to `own`, all else to `serves`."""

    def __init__(
        self, serves: App, own: App, paths: Collection[str], replica: Any, handlers: list[logging.Handler]
    ) -> None:
        from ray.serve._private.common import RequestMetadata, RequestProtocol

        self._serves = serves
        self._own = own
        self._paths = paths
        self._replica = replica
        self._log = serve_log
        self._handlers = handlers
        self._timeout_s: float | None = replica._http_options.request_timeout_s
        self._metrics = replica._metrics_manager
        self._protocol = RequestProtocol.HTTP
        # One for all: Serve reads nothing else of it in the methods used here.
        self._metadata = RequestMetadata(
            request_id="",
            internal_request_id="",
            route=replica._route_prefix or "",
            app_name=replica._deployment_id.app_name,
            is_streaming=True,
            is_direct_ingress=True,
            _http_method="POST",
            _request_protocol=self._protocol,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope.get("method") == "POST" and self._is_open(scope["path"]):
            await self.answer(scope, receive, send)
        else:
            await self._serves(scope, receive, send)

    def takes(self, scope: Scope) -> bool:
        """Return whether `answer` can answer a POST request without a task, its id written into an answer as it is."""
        if not self._is_open(scope["path"]):
            return False
        return not any(name == REQUEST_ID and CONTROL.search(value) for name, value in scope["headers"])

    def _is_open(self, path: str) -> bool:
        return (
            path in self._paths
            and self._log.handlers == self._handlers  # no access log was turned on
            and self._replica._can_accept_request(self._metadata)
        )

    async def answer(self, scope: Scope, receive: Receive, send: Send, cancel: Cancel | None = None) -> None:
        """Answer one prediction; `cancel` cancels what this waits for, where no task runs it."""
        request_id, timeout_s = self._read(scope["headers"])
        status = ""
        started_s = time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"].append((REQUEST_ID, request_id))
                join_writes(send)
            await send(message)

        failed: str | None = None
        try:
            if timeout_s is None:
                await self._run(scope, receive, send_on)
            else:
                await self._within(timeout_s, cancel, scope, receive, send_on)
        except BaseException as error:
            failed = type(error).__name__  # the error itself would hold this frame, and this frame the error
            raise
        finally:
            self._record(status, (time.perf_counter() - started_s) * 1e3, failed)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call our own app as one of the replica's running requests, queued until there may be one more."""
        replica, metadata = self._replica, self._metadata
        if replica._semaphore.locked():
            with replica._track_queued_request() as release_queue_slot:
                async with replica._start_request(metadata):
                    release_queue_slot()
                    await self._own(scope, receive, send)
            return
        # The same without its context managers: nothing waits.
        await replica._semaphore.acquire()
        self._metrics.inc_num_ongoing_requests(metadata)
        try:
            await self._own(scope, receive, send)
        finally:
            self._metrics.dec_num_ongoing_requests(metadata)
            replica._semaphore.release()

    def began(self) -> None:
        """Count a request that comes by another way: autoscaling and draining go by the replica's count."""
        self._metrics.inc_num_ongoing_requests(self._metadata)

    def ended(self) -> None:
        """Count it off."""
        self._metrics.dec_num_ongoing_requests(self._metadata)

    def _read(self, headers: list[tuple[bytes, bytes]]) -> tuple[bytes, float | None]:
        """Return the request's id, which it gets here if it has none, and its time limit in seconds."""
        request_id, timeout_s = b"", self._timeout_s
        for name, value in headers:
            if name == REQUEST_ID:
                request_id = value
            elif name == TIMEOUT:
                timeout_s = positive_seconds(value, otherwise=timeout_s)
        if not request_id:
            request_id = _new_id()
            headers.append((REQUEST_ID, request_id))
        return request_id, timeout_s

    async def _within(
        self, timeout_s: float, cancel: Cancel | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            async with _Timeout(timeout_s, cancel) if cancel else asyncio.timeout(timeout_s):  # type: ignore[attr-defined, unused-ignore]
                await self._run(scope, receive, send)
        except TimeoutError:
            error = DeadlineExceeded(f"no answer within the request's {timeout_s:g} s")
            await send_response(error_response(error), send)

    def _record(self, status: str, latency_ms: float, failed: str | None) -> None:
        metadata = self._metadata
        self._metrics.record_request_metrics(
            route=metadata.route,
            latency_ms=latency_ms,
            is_error=failed is not None,
            exception_type=failed,
        )
        if status:
            self._metrics.record_ingress_request_metrics(
                protocol=self._protocol,
                method="POST",
                route=metadata.route,
                app_name=metadata.app_name,
                deployment_name=self._replica._deployment_id.name,
                latency_ms=latency_ms,
                is_error=status[0] in "45",
                status_code=status,
            )


class _Timeout:
    """`asyncio.timeout` where no task runs: `cancel` does it."""

    __slots__ = ("_cancel", "_is_over", "_timer")

    def __init__(self, timeout_s: float, cancel: Cancel) -> None:
        self._cancel = cancel
        self._is_over = False
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._end)

    async def __aenter__(self) -> None:
        """Do nothing: time runs already."""

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Raise `TimeoutError` in the place of our own cancellation."""
        self._timer.cancel()
        if self._is_over and kind is asyncio.CancelledError:
            raise TimeoutError

    def _end(self) -> None:
        self._is_over = True
        self._cancel()


def _new_id() -> bytes:
    """Return a UUID as text: no secret, so the quicker source of random bits will do."""
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}".encode()
