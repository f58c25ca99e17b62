"""Cross-origin requests: off by default, answered without a token where a config names the origin."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.errors import ConfigError
from serve_app.config.args import ModelArgs
from serve_app.config.tokens import Tokens, TokenSource
from serve_app.http.cors import with_cors
from serve_app.http.guard import guarded, is_ready_path
from tests.support.routes_harness import Reply, call, dense, routes

TOKEN = "the-token-of-this-model"
OURS, OTHER = "https://app.example", "https://other.example"
PATH = "/v2/models/dense"


def app(*origins: str) -> Any:
    closed = guarded(routes(dense()), Tokens(TokenSource(None), frozenset({TOKEN})), is_ready_path)
    return with_cors(closed, origins)


def preflight(origin: str, *origins: str) -> Reply:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return call(app(*origins), f"{PATH}/infer", b"", "OPTIONS", headers)


def test_without_origins_the_app_is_itself() -> None:
    inner = routes(dense())
    assert with_cors(inner, ()) is inner


def test_a_preflight_needs_no_token() -> None:
    reply = preflight(OURS, OURS)
    assert reply.status == 200
    assert reply.headers[b"access-control-allow-origin"] == OURS.encode()
    assert reply.headers[b"vary"].startswith(b"Origin")
    assert b"authorization" in reply.headers[b"access-control-allow-headers"].lower()
    assert b"POST" in reply.headers[b"access-control-allow-methods"]


@pytest.mark.parametrize("origin", [OTHER, "null", OURS + ".evil", "http://app.example", OURS.upper()])
def test_another_origin_is_not_let_in(origin: str) -> None:
    replies = (preflight(origin, OURS), call(app(OURS), PATH, method="GET", headers={"Origin": origin}))
    assert [reply.status for reply in replies] == [400, 401]
    assert not [reply for reply in replies if b"access-control-allow-origin" in reply.headers]


def test_answers_and_refusals_are_readable_for_the_origin() -> None:
    for token, status in ((TOKEN, 200), ("a-wrong-token-altogether", 401)):
        reply = call(app(OURS), PATH, method="GET", headers={"Origin": OURS, "Authorization": f"Bearer {token}"})
        assert reply.status == status
        assert reply.headers[b"access-control-allow-origin"] == OURS.encode()
        assert b"server-timing" in reply.headers[b"access-control-expose-headers"]
        assert b"access-control-allow-credentials" not in reply.headers


def test_any_origin() -> None:
    assert preflight(OTHER, "*").headers[b"access-control-allow-origin"] == b"*"


def test_options_without_an_origin_are_as_ever() -> None:
    reply = call(app(OURS), PATH, b"", "OPTIONS", {"Authorization": f"Bearer {TOKEN}"})
    assert reply.status == 405


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://*.example", "null", ""])
def test_what_is_no_origin_is_refused_in_the_config(origin: str) -> None:
    with pytest.raises(ConfigError, match="cors_origins"):
        ModelArgs.parse({"name": "m", "source": "a:b", "cors_origins": [origin]})
