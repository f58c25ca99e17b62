"""`solo serve` is ready when every model answers by itself, and not for ever later where one cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.errors import LoadError
from serve_app.cli.serve import waiting
from serve_app.cli.stopping import Stop
from serve_app.config.serve_yaml import ServeConfig

CONFIG: Any = SimpleNamespace(paths=["/v2/models/digits"], pipeline_paths=[], gateway_paths=[])


class Door(BaseHTTPRequestHandler):
    """Answers what the server's `told` says, one after another, and the last for ever."""

    def do_GET(self) -> None:
        told: list[tuple[int, str]] = self.server.told  # type: ignore[attr-defined]
        status, timing = told.pop(0) if len(told) > 1 else told[0]
        self.send_response(status)
        if timing:
            self.send_header("Server-Timing", timing)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def door() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def wait(door: ThreadingHTTPServer, *told: tuple[int, str]) -> list[tuple[int, str]]:
    """Wait for a door that answers so; return what it has not said."""
    door.told = left = [*told]  # type: ignore[attr-defined]
    waiting.wait_until_answering(CONFIG, {"host": "127.0.0.1", "port": door.server_port}, Stop())
    return left


def test_the_first_answer_of_the_replica_itself_is_waited_for(door: ThreadingHTTPServer) -> None:
    told = [(503, ""), (200, "from-zero;dur=12"), (200, "from-zero;dur=3"), (200, "total;dur=0.2"), (404, "")]
    assert wait(door, *told) == [(404, "")]


def test_a_gateway_without_models_is_waited_for(door: ThreadingHTTPServer) -> None:
    door.told = left = [(503, ""), (200, "from-zero;dur=12"), (200, ""), (404, "")]  # type: ignore[attr-defined]
    config = ServeConfig({"applications": [{"import_path": "serve_app:gateway_app", "route_prefix": "/"}]}, ())
    waiting.wait_until_answering(config, {"host": "127.0.0.1", "port": door.server_port}, Stop())
    assert left == [(404, "")]


def test_where_all_answers_come_by_the_proxy_they_do(
    door: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "STRAIGHT_S", 0.3)
    assert wait(door, (200, "from-zero;dur=12")) == [(200, "from-zero;dur=12")]


def test_who_never_answers_is_named(door: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ANSWER_S", 0.3)
    with pytest.raises(LoadError, match="/v2/models/digits/ready does not answer, although its replica runs"):
        wait(door, (503, ""))
