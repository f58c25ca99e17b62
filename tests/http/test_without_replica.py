"""What Serve's proxy refuses is put into the protocol's form; everything else passes as it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from serve_app.cluster.directory import DeployedModel
from serve_app.http.without_replica import WithoutReplica

BROKEN = DeployedModel("m", "1", "m", "/v2/models/m", "UNAVAILABLE", "no such layer", 0)
TEXT = b"Deployment(name='KerasReplica', app='m') is unavailable because it failed to deploy."


class Known:
    def __init__(self, *models: DeployedModel) -> None:
        self._models = {model.key: model for model in models}

    async def models(self) -> dict[str, DeployedModel]:
        return self._models


class Away(Known):
    async def models(self) -> dict[str, DeployedModel]:
        raise RuntimeError("the controller is away")


def answer(
    status: int, kind: bytes, parts: list[bytes], directory: Any = None
) -> tuple[int, dict[bytes, bytes], bytes]:
    async def serves(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-type", kind), (b"content-length", b"%d" % sum(map(len, parts))), (b"x-request-id", b"7")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(parts)})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v2/models/m/infer"}
    asyncio.run(WithoutReplica(serves, directory or Known(BROKEN))(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:])


def test_a_model_that_failed_tells_its_own_reason() -> None:
    status, headers, body = answer(503, b"text/plain", [TEXT[:10], TEXT[10:]])
    assert (status, json.loads(body)) == (503, {"error": "model 'm' is not ready: no such layer"})
    assert headers[b"content-type"].startswith(b"application/json")
    assert headers[b"content-length"] == b"%d" % len(body)
    assert headers[b"x-request-id"] == b"7"


@pytest.mark.parametrize("directory", [Known(), Away()])
def test_without_a_reason_serves_words_stay(directory: Any) -> None:
    status, _, body = answer(503, b"text/plain; charset=utf-8", [TEXT], directory)
    assert (status, json.loads(body)) == (503, {"error": TEXT.decode()})


def test_a_time_limit_is_one_in_the_protocols_form() -> None:
    status, _, body = answer(408, b"text/plain", [b"Request 7 timed out after 1.0s."])
    assert (status, json.loads(body)) == (408, {"error": "Request 7 timed out after 1.0s."})


@pytest.mark.parametrize(
    ("status", "kind"), [(200, b"text/plain"), (503, b"application/json"), (404, b"text/plain"), (500, b"text/plain")]
)
def test_all_else_passes(status: int, kind: bytes) -> None:
    got, headers, body = answer(status, kind, [b"a", b"b"])
    assert (got, headers[b"content-type"], body) == (status, kind, b"ab")
