"""Tokens of the Python client: what it sends to a door, and what it makes of a refusal. No cluster is needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn

from serve_app.client import http_messages
from serve_app.client.connection import Connection
from serve_app.client.lookup import Place
from serve_app.client.model import Model
from serve_app.config import tokens
from serve_app.config.tokens import Tokens, TokenSource
from serve_app.http.guard import guarded, is_ready_path
from serve_app.protocols.errors import Unauthorized
from tests.support.routes_harness import dense, routes

TOKEN = "the-token-of-this-model"
X = np.ones((1, 16), np.float32)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Where a model behind a token answers over real HTTP."""
    app: Any = guarded(routes(dense()), Tokens(TokenSource(None), frozenset({TOKEN})), is_ready_path)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(),))
    thread.start()
    while not server.started:
        threading.Event().wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Place("dense", "1", "dense", ("127.0.0.1", port), "/v2/models/dense")
    server.should_exit = True
    thread.join(10)


def test_http_with_the_token(place: Place) -> None:
    connection = Connection(place, "http", TOKEN)
    connection.describe(None)
    assert connection.description.signature.inputs[0].name == "x"
    (scores,) = connection.predict_once((X,), None)
    assert scores.shape == (1, 10)
    (again,) = asyncio.run(connection.predict((X,), None))
    assert (again == scores).all()


@pytest.mark.parametrize("token", [None, "another-token-altogether"])
def test_http_alone_says_what_is_missing(place: Place, token: str | None) -> None:
    with pytest.raises(Unauthorized, match="token") as caught:
        Connection(place, "http", token).describe(None)
    assert "another-token" not in str(caught.value)


class Handle:
    """What Serve's handle tells about the model."""

    def __init__(self, app_name: str, deployment: str = "KerasReplica") -> None:
        self.app_name = app_name

    async def describe(self, deadline_s: float | None) -> dict[str, Any]:
        return {"signature": dense().signature, "max_batch_size": 32}


def test_auto_goes_on_by_the_handle(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.client.connection.HandleWay", Handle)
    connection = Connection(place, "auto", None)
    connection.describe(None)
    assert connection.http is None
    assert connection.description.signature == dense().signature


def test_a_token_is_asked_for_after_the_description(place: Place) -> None:
    """A model that was open and is deployed anew with a token: the next call says so, and the model looks again."""
    connection = Connection(place, "http", TOKEN)
    connection.describe(None)
    assert connection.http is not None
    connection.wire = http_messages.Wire(place.path, connection.http.host, connection.description.signature)
    with pytest.raises(Unauthorized):
        connection.predict_once((X,), None)


def test_the_environments_token_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tokens.SERVER_WIDE, raising=False)
    assert Model("m")._offered is None
    monkeypatch.setenv(tokens.SERVER_WIDE, "the-environments-own")
    assert Model("m")._offered == "the-environments-own"
    assert Model("m", token=TOKEN)._offered == TOKEN
    assert TOKEN not in repr(Model("m", token=TOKEN))
