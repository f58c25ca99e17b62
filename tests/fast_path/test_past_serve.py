"""Predictions past Serve's wrapper: what is answered here, what is left to Serve, and what is kept of its books."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from ray.serve._private import http_util
from ray.serve._private.logging_utils import log_access_log_filter
from ray.serve._private.replica import Replica, ReplicaMetricsManager
from ray.serve._private.utils import Semaphore

from serve_app.fast_path import joined_writes, parser, past_serve
from serve_app.front import environment
from tests.support.uvicorn_server import serving

PATH = "/v2/models/m/infer"
UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"


class Metrics:
    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.running = self.ran = 0

    def inc_num_ongoing_requests(self, metadata: Any) -> None:
        assert metadata.is_direct_ingress
        self.running += 1
        self.ran += 1

    def dec_num_ongoing_requests(self, _metadata: Any) -> None:
        self.running -= 1

    def record_request_metrics(self, **told: Any) -> None:
        self.requests.append(told)

    def record_ingress_request_metrics(self, **told: Any) -> None:
        self.answers.append(told)


class FakeReplica:
    """What `FastPath` uses of Serve's replica, and the ASGI app that Serve puts into its middleware."""

    def __init__(self) -> None:
        self._metrics_manager = Metrics()
        self._http_options = SimpleNamespace(request_timeout_s=None)
        self._route_prefix = "/v2/models/m"
        self._deployment_id = SimpleNamespace(app_name="app", name="KerasReplica")
        self.has_room = True
        self.most = 10
        self._semaphore = Semaphore(lambda: self.most)
        self.queued = self.most_queued = 0
        self.served: list[str] = []

    def _can_accept_request(self, metadata: Any) -> bool:
        assert metadata.is_direct_ingress
        return self.has_room

    @contextlib.contextmanager
    def _track_queued_request(self) -> Iterator[Any]:
        self.queued += 1
        self.most_queued = max(self.queued, self.most_queued)

        def release() -> None:
            self.queued -= 1

        yield release

    @contextlib.asynccontextmanager
    async def _start_request(self, metadata: Any) -> AsyncIterator[None]:
        await self._semaphore.acquire()
        self._metrics_manager.inc_num_ongoing_requests(metadata)
        try:
            yield
        finally:
            self._metrics_manager.dec_num_ongoing_requests(metadata)
            self._semaphore.release()

    @property
    def books(self) -> tuple[int, int, int, int]:
        """How many requests ran, run, have a slot, and wait for one."""
        metrics = self._metrics_manager
        return metrics.ran, metrics.running, self._semaphore._value, self.queued

    async def asgi(self, scope: Any, _receive: Any, _send: Any) -> None:
        self.served.append(scope["path"])


class Model:
    """The app of a model: answers with the id that it was told, or does as `does` says."""

    def __init__(self) -> None:
        self.does: Any = None

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        if self.does is not None:
            await self.does()
        told = dict(scope["headers"])[b"x-request-id"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    handler = logging.NullHandler()
    handler.addFilter(log_access_log_filter)
    logger = logging.Logger("serve's", logging.INFO)
    logger.addHandler(handler)
    monkeypatch.setattr(past_serve, "serve_log", logger)
    return logger


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(past_serve, "_offered", [])
    app = Model()
    past_serve.offer(app, {PATH})
    return app


@pytest.fixture
def replica() -> FakeReplica:
    return FakeReplica()


def chain(replica: FakeReplica) -> Any:
    """Return the app as Serve builds it, with our middleware from its hook."""
    return http_util._apply_middlewares(replica.asgi, http_util.validate_http_proxy_callback_return(hooked()))


def hooked() -> Any:
    path = environment.FAST["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    module, _, name = path.partition(":")
    hook = getattr(importlib.import_module(module), name)
    assert hook is past_serve.middlewares
    return hook()


def ask(app: Any, path: str = PATH, method: str = "POST", headers: Any = ()) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    asyncio.run(app({"type": "http", "method": method, "path": path, "headers": list(headers)}, receive, send))
    return sent


@pytest.mark.usefixtures("log", "model")
def test_a_prediction_is_answered_and_booked(replica: FakeReplica) -> None:
    start, body = ask(chain(replica))
    assert (start["status"], replica.served) == (200, [])
    ids = [value for name, value in start["headers"] if name == b"x-request-id"]
    assert ids == [body["body"]], "one id, the one that the model's app saw"
    assert re.fullmatch(UUID, body["body"])
    assert replica.books == (1, 0, 0, 0)
    (request,), (answer,) = replica._metrics_manager.requests, replica._metrics_manager.answers
    assert request["route"] == "/v2/models/m"
    assert (request["is_error"], request["exception_type"]) == (False, None)
    assert 0 < request["latency_ms"] < 1e4
    assert (answer["status_code"], answer["app_name"], answer["is_error"]) == ("200", "app", False)


@pytest.mark.usefixtures("log", "model")
def test_the_clients_id_comes_back(replica: FakeReplica) -> None:
    _, body = ask(chain(replica), headers=[(b"x-request-id", b"mine")])
    assert body["body"] == b"mine"


@pytest.mark.usefixtures("log", "model")
@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", "/v2/models/m"), ("GET", "/-/healthz")])
def test_all_else_is_serves(replica: FakeReplica, method: str, path: str) -> None:
    ask(chain(replica), path, method)
    assert (replica.served, replica.books) == ([path], (0, 0, 0, 0))


@pytest.mark.usefixtures("log", "model")
def test_beyond_the_limit_serve_refuses(replica: FakeReplica) -> None:
    replica.has_room = False
    ask(chain(replica))
    assert replica.served == [PATH]


@pytest.mark.usefixtures("log", "model")
def test_who_finds_no_slot_queues_for_one(replica: FakeReplica) -> None:
    replica.most = 1
    app = chain(replica)

    async def both() -> None:
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await replica._semaphore.acquire()
        waiting = asyncio.ensure_future(app(scope, None, send))
        await asyncio.sleep(0.01)
        assert (sent, replica.books) == ([], (0, 0, 1, 1))
        replica._semaphore.release()
        await waiting
        assert len(sent) == 2

    asyncio.run(both())
    assert replica.books == (1, 0, 0, 0)
    assert replica.most_queued == 1


@pytest.mark.usefixtures("log", "model")
@pytest.mark.parametrize(
    ("headers", "takes"),
    [
        ([], True),
        ([(b"x-request-id", b"mine")], True),
        ([(b"x-request-id", b"a\x01b")], False),
        ([(b"x-request-timeout-seconds", b"5")], True),
    ],
)
def test_what_it_takes_without_a_task(replica: FakeReplica, headers: Any, takes: bool) -> None:
    door = chain(replica)
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
    assert door.takes(scope) == takes
    assert not door.takes({**scope, "path": "/v2/models/m"})
    replica.has_room = False
    assert not door.takes(scope)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("from_config", [True, False])
@pytest.mark.parametrize("loop", [uvloop, asyncio])
def test_a_time_limit_needs_no_task(replica: FakeReplica, model: Model, loop: Any, from_config: bool) -> None:
    """Answered from uvicorn's parser: what waits is cancelled, the books are right, the connection goes on."""
    replica._http_options.request_timeout_s = 0.05 if from_config else None
    header = "" if from_config else "x-request-timeout-seconds: 0.05\r\n"
    wire = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n{header}\r\nab".encode()
    tasks, cancelled = [], []

    async def sleep() -> None:
        tasks.append(asyncio.current_task())
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def answers() -> list[bytes]:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            async with serving(replica.asgi, listening, http="httptools") as server:
                plain = server.config.http_protocol_class
                server.config.http_protocol_class = parser.predicting(server.config, plain, chain(replica))
                reader, writer = await asyncio.open_connection(*listening.getsockname())
                bodies = []
                for does in (sleep, None):
                    model.does = does
                    writer.write(wire)
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                    bodies.append(
                        head[9:12] + await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0]))
                    )
                writer.close()
                return bodies

    late, next_one = loop.run(answers())
    assert late == b'408{"error":"no answer within the request\'s 0.05 s"}'
    assert re.fullmatch(b"200" + UUID, next_one)
    assert (tasks, cancelled) == ([None], [True])
    assert replica.books == (2, 0, 0, 0)
    assert [answer["status_code"] for answer in replica._metrics_manager.answers] == ["408", "200"]


@pytest.mark.usefixtures("model")
def test_an_access_log_is_written_by_serve(replica: FakeReplica, log: logging.Logger) -> None:
    app = chain(replica)
    log.handlers = [logging.NullHandler()]
    ask(app)
    assert replica.served == [PATH]
    replica.served.clear()
    ask(chain(replica))
    assert replica.served == [PATH]


@pytest.mark.usefixtures("log", "model")
@pytest.mark.parametrize("name", past_serve._USED)
def test_without_a_method_of_serves_it_steps_aside(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    class Other(FakeReplica):
        def __getattribute__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(asked)
            return super().__getattribute__(asked)

    told: list[str] = []
    monkeypatch.setattr(past_serve, "event", lambda _, sentence, **__: told.append(sentence))
    other = Other()
    ask(chain(other))
    assert other.served == [PATH]
    assert name in told[0]


@pytest.mark.usefixtures("log", "model")
@pytest.mark.parametrize("name", past_serve._USED_OF_METRICS)
def test_without_a_method_of_its_metrics_it_steps_aside(
    monkeypatch: pytest.MonkeyPatch, replica: FakeReplica, name: str
) -> None:
    known = replica._metrics_manager

    class Other:
        def __getattr__(self, asked: str) -> Any:
            if asked == name:
                raise AttributeError(asked)
            return getattr(known, asked)

    told: list[str] = []
    monkeypatch.setattr(past_serve, "event", lambda _, sentence, **__: told.append(sentence))
    monkeypatch.setattr(replica, "_metrics_manager", Other())
    ask(chain(replica))
    assert replica.served == [PATH]
    assert name in told[0]


@pytest.mark.usefixtures("log", "model")
def test_where_serves_request_metadata_are_others_it_steps_aside(
    monkeypatch: pytest.MonkeyPatch, replica: FakeReplica
) -> None:
    def another(*, request: str) -> None:
        """Take what no version known here takes."""

    told: list[str] = []
    monkeypatch.setattr(past_serve, "event", lambda _, sentence, **__: told.append(sentence))
    monkeypatch.setattr("ray.serve._private.common.RequestMetadata", another)
    ask(chain(replica))
    assert replica.served == [PATH]
    assert "request metadata" in told[0]


@pytest.mark.usefixtures("log")
def test_a_proxy_is_left_alone(monkeypatch: pytest.MonkeyPatch, replica: FakeReplica) -> None:
    monkeypatch.setattr(past_serve, "_offered", [])
    ask(chain(replica))
    assert replica.served == [PATH]


@pytest.mark.usefixtures("log")
def test_a_time_limit_answers_in_the_protocols_form(replica: FakeReplica, model: Model) -> None:
    model.does = lambda: asyncio.sleep(30)
    start, body = ask(chain(replica), headers=[(b"x-request-timeout-seconds", b"0.05")])
    assert start["status"] == 408
    assert json.loads(body["body"]) == {"error": "no answer within the request's 0.05 s"}
    assert replica.books == (1, 0, 0, 0)
    assert replica._metrics_manager.answers[0]["is_error"]


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("header", "status"), [(b"-1", 200), (b"inf", 200), (b"nan", 200), (b"soon", 408), (b"1e300", 200)]
)
def test_the_header_goes_before_the_configs_limit(
    replica: FakeReplica, model: Model, header: bytes, status: int
) -> None:
    replica._http_options.request_timeout_s = 0.05
    model.does = lambda: asyncio.sleep(0.2)
    assert ask(chain(replica), headers=[(b"x-request-timeout-seconds", header)])[0]["status"] == status


@pytest.mark.usefixtures("log")
def test_a_failure_is_booked_and_raised_on(replica: FakeReplica, model: Model) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    model.does = fail
    with pytest.raises(ZeroDivisionError):
        ask(chain(replica))
    assert replica.books == (1, 0, 0, 0)
    (request,) = replica._metrics_manager.requests
    assert (request["is_error"], request["exception_type"]) == (True, "ZeroDivisionError")
    assert replica._metrics_manager.answers == []


class Transport:
    def __init__(self) -> None:
        self.did: list[Any] = []

    def write(self, data: bytes) -> None:
        self.did.append(data)

    def writelines(self, pieces: Any) -> None:
        self.did.append(tuple(pieces))

    def close(self) -> None:
        self.did.append("close")

    def is_closing(self) -> bool:
        return "close" in self.did


def test_head_and_body_are_written_in_one_go() -> None:
    transport = Transport()
    joined = joined_writes.JoinedWrites(transport)
    for piece in (b"head", b"body", b"more", b"and more"):
        joined.write(piece)
    joined.close()
    assert transport.did == [(b"head", b"body"), b"more", b"and more", "close"]
    assert joined.is_closing()


def test_a_head_without_a_body_is_written_before_the_end() -> None:
    transport = Transport()
    joined = joined_writes.JoinedWrites(transport)
    joined.write(b"head")
    joined.close()
    assert transport.did == [b"head", "close"]


def test_serve_has_what_is_used_of_it() -> None:
    assert all(hasattr(Replica, name) for name in past_serve._USED[:3])
    assert all(hasattr(ReplicaMetricsManager, name) for name in past_serve._USED_OF_METRICS)
