"""Bearer tokens at every door in process: a model's HTTP, the gateway's, gRPC, and where the tokens come from."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from deployments.errors import ConfigError
from serve_app.config import tokens as tokens_config
from serve_app.config.args import ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.tokens import Tokens, TokenSource
from serve_app.http.forwarding import Forwarder
from serve_app.http.gateway_routes import GatewayRoutes
from serve_app.http.guard import guarded, is_ready_path
from serve_app.protocols.errors import Unauthorized
from tests.http.test_gateway_routes import LOADING, READY, FixedDirectory
from tests.support import grpc_server
from tests.support.routes_harness import Reply, call, dense, routes

TOKEN = "the-first-of-the-tokens"
OTHER = "another-token-for-others"
MODEL = {"name": "m", "source": "serve_app:model_app"}


def tokens(*values: str) -> Tokens:
    return Tokens(TokenSource(None), frozenset(values or (TOKEN,)))


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(autouse=True)
def _no_server_wide_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tokens_config.SERVER_WIDE, raising=False)


def model_app() -> Any:
    return guarded(routes(dense()), tokens(TOKEN, OTHER), is_ready_path)


INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0] * 16}]}


@pytest.mark.parametrize("token", [TOKEN, OTHER])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_each_of_several_tokens_opens_a_model(token: str, scheme: str) -> None:
    assert (
        call(model_app(), "/v2/models/dense/infer", INFER, headers={"authorization": f"{scheme} {token}"}).status == 200
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/dense/infer",
        "/v2/models/dense",
        "/v2/models/dense/plan",
        "/v2/models/dense/stats",
        "/v1/models/dense:predict",
        "/v1/models/dense",
        "/nowhere",
        "/v2/models/dense/infer/../ready/x",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer \xff\xfe"},
    ],
)
def test_nothing_is_answered_without_a_token(path: str, headers: dict[str, str]) -> None:
    reply = call(model_app(), path, INFER, headers=headers)
    assert reply.status == 401
    assert reply.headers[b"www-authenticate"].startswith(b'Bearer realm="keras-solo"')
    assert TOKEN not in reply.error


def test_a_wrong_token_is_called_so() -> None:
    wrong = call(model_app(), "/v2/models/dense/infer", INFER, headers=bearer("nobody-has-this-one"))
    assert wrong.headers[b"www-authenticate"] == b'Bearer realm="keras-solo", error="invalid_token"'
    assert "nobody-has-this-one" not in wrong.error


@pytest.mark.parametrize("path", ["/v2/models/dense/ready", "/v2/models/dense/versions/1/ready"])
def test_health_stays_open(path: str) -> None:
    assert call(model_app(), path, method="GET").status == 200


def test_without_tokens_the_app_is_the_routes_themselves() -> None:
    app = routes(dense())
    assert guarded(app, None, is_ready_path) is app


def test_nothing_of_a_token_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        call(model_app(), "/v2/models/dense/infer", INFER, headers=bearer("a-wrong-token-in-the-log"))
        call(model_app(), "/v2/models/dense/infer", {"inputs": []}, headers=bearer())
    assert "a-wrong-token" not in caplog.text
    assert TOKEN not in caplog.text


def gateway(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
    directory: Any = FixedDirectory(READY, LOADING)
    app = GatewayRoutes(directory, Forwarder("http://127.0.0.1:9", 1000), 1000, tokens())
    return call(app, path, body, method, headers)  # type: ignore[arg-type]


GATEWAY_PATHS = [
    ("GET", "/v2"),
    ("GET", "/overview"),
    ("GET", "/openapi.json"),
    ("GET", "/v2/models/stats"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/a/load"),
    ("GET", "/v2/models/zebra"),
    ("GET", "/v2/models/b"),
    ("POST", "/v1/models/zebra:predict"),
    ("POST", "/v1/models/b:predict"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), GATEWAY_PATHS)
def test_the_gateway_tells_a_stranger_nothing(method: str, path: str) -> None:
    reply = gateway(method, path)
    assert reply.status == 401
    assert reply.headers[b"www-authenticate"]
    assert "deployed" not in reply.error
    assert gateway(method, path, bearer()).status != 401


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/live/", "/v2/health/ready", "/", "/docs", "/page/app.js"]
)
def test_the_gateways_health_and_the_pages_files_stay_open(path: str) -> None:
    assert gateway("GET", path).status in (200, 503)


def test_what_is_meant_for_a_model_is_judged_by_the_model() -> None:
    """Port 9 answers nobody: 503 means that it was passed on, without the gateway's own token."""
    assert gateway("POST", "/v1/models/a:predict", bearer(OTHER)).status == 503


def test_what_is_passed_on_carries_the_clients_token() -> None:
    asked: list[tuple[str, bytes]] = []

    class Recorder(Forwarder):
        async def get_json(self, path: str, authorization: bytes = b"") -> Any:
            asked.append((path, authorization))
            return None

    directory: Any = FixedDirectory(READY)
    app = GatewayRoutes(directory, Recorder("http://127.0.0.1:9", 1000), 1000, tokens())
    reply = call(app, "/v2/models/stats", b"", "GET", bearer())  # type: ignore[arg-type]
    assert reply.json() == {"model_stats": []}
    assert asked == [("/v2/models/a/stats", f"Bearer {TOKEN}".encode())]


@pytest.fixture(scope="module")
def grpc_url() -> Any:
    methods = grpc_server.methods_of(grpc_server.simple())
    methods.tokens = tokens(TOKEN, OTHER)
    server = grpc_server.Server(methods)
    yield server.url
    server.close()


def simple_inputs() -> list[Any]:
    inputs = [triton.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in (0, 1)]
    for one in inputs:
        one.set_data_from_numpy(np.ones((1, 16), np.int32))
    return inputs


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_grpc_with_a_token(grpc_url: str, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"}
    with triton.InferenceServerClient(grpc_url) as client:
        answer = client.infer("simple", simple_inputs(), headers=headers)
        assert (answer.as_numpy("OUTPUT0") == 2).all()
        assert client.get_model_metadata("simple", headers=headers).name == "simple"


@pytest.mark.parametrize("headers", [None, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}])
def test_grpc_without_a_token(grpc_url: str, headers: Any) -> None:
    with triton.InferenceServerClient(grpc_url) as client:
        for ask in (
            lambda: client.infer("simple", simple_inputs(), headers=headers),
            lambda: client.get_model_metadata("simple", headers=headers),
            lambda: client.get_server_metadata(headers=headers),
            lambda: client.get_model_repository_index(headers=headers),
            lambda: client.get_inference_statistics(headers=headers),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask()
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("simple")


def test_a_grpc_stream_without_a_token(grpc_url: str) -> None:
    got: list[Any] = []
    with triton.InferenceServerClient(grpc_url) as client:
        client.start_stream(lambda result, error: got.append((result, error)))
        client.async_stream_infer("simple", simple_inputs())
        client.stop_stream()
        client.start_stream(
            lambda result, error: got.append((result, error)), headers={"authorization": f"Bearer {TOKEN}"}
        )
        client.async_stream_infer("simple", simple_inputs())
        client.stop_stream()
    assert [error is None for _, error in got] == [False, True]


def test_the_grpc_gateway_passes_tokens_on_and_asks_for_its_own(grpc_url: str) -> None:
    from serve_app.grpc.gateway_calls import GatewayCalls
    from tests.http.test_gateway_routes import deployed

    async def ask(method: str, body: bytes, token: str | None) -> Any:
        directory: Any = FixedDirectory(deployed("simple"))
        calls = GatewayCalls(directory, grpc_url, tokens("the-gateways-own-token"))
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        try:
            return await calls.call(method, body, metadata)
        finally:
            if calls._channel is not None:
                await calls._channel.close()

    def code(method: str, body: bytes, token: str | None) -> Any:
        from serve_app.grpc.statuses import code_of

        try:
            asyncio.run(ask(method, body, token))
        except Exception as error:
            return code_of(error)
        return None

    named, unknown = b"\x0a\x06simple", b"\x0a\x05zebra"
    denied = grpc.StatusCode.UNAUTHENTICATED
    assert code("ModelMetadata", named, TOKEN) is None
    assert code("ModelMetadata", named, None) == denied
    assert code("ModelMetadata", unknown, TOKEN) == denied
    assert code("ModelMetadata", unknown, "the-gateways-own-token") == grpc.StatusCode.NOT_FOUND
    assert code("ServerMetadata", b"", TOKEN) == denied
    assert code("ServerMetadata", b"", "the-gateways-own-token") is None
    assert code("ServerLive", b"", None) is None
    assert code("ModelStatistics", b"", "the-gateways-own-token") is None


def test_a_file_holds_one_token_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# ours\n{TOKEN}\n\n  {OTHER}  \r\n")
    assert TokenSource(None, str(path)).read() == {TOKEN, OTHER}


def test_a_changed_file_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_config, "REREAD_S", 0.0)
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    opened = Tokens.opened(TokenSource(None, str(path)))
    assert opened is not None
    opened.check(f"Bearer {TOKEN}".encode())
    path.write_text(OTHER)
    opened.check(f"Bearer {OTHER}".encode())
    with pytest.raises(Unauthorized):
        opened.check(f"Bearer {TOKEN}".encode())
    path.unlink()
    opened.check(f"Bearer {OTHER}".encode())


@pytest.mark.parametrize(
    "content", ["", "# none\n", "short", "with a space in it, and long", "tökens-are-ascii-only-here"]
)
def test_a_file_without_a_usable_token_is_refused_unquoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Tokens.opened(TokenSource(None, str(path)))
    assert content.strip() == "" or content not in str(caught.value)


def test_the_server_wide_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ModelArgs.parse(MODEL).tokens.read() is None
    monkeypatch.setenv(tokens_config.SERVER_WIDE, TOKEN)
    assert ModelArgs.parse(MODEL).tokens.read() == {TOKEN}
    assert GatewayArgs.parse({}).tokens.read() == {TOKEN}
    # Named otherwise, or not at all: the model's own word counts.
    assert ModelArgs.parse({**MODEL, "token_env": None}).tokens.read() is None
    (tmp_path / "own").write_text(OTHER)
    assert ModelArgs.parse({**MODEL, "token_file": str(tmp_path / "own")}).tokens.read() == {OTHER}


def test_a_named_variable_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    named = ModelArgs.parse({**MODEL, "token_env": "A_TOKEN_OF_OURS"})
    with pytest.raises(ConfigError, match=r"^args\.token_env: .* not set"):
        named.check_tokens("args")
    monkeypatch.setenv("A_TOKEN_OF_OURS", TOKEN)
    named.check_tokens("args")


@pytest.mark.parametrize("key", ["token", "tokens", "bearer_token"])
@pytest.mark.parametrize("args", [(ModelArgs, MODEL), (GatewayArgs, {})])
def test_a_token_in_the_config_is_refused_and_not_printed(key: str, args: Any) -> None:
    kind, given = args
    with pytest.raises(ConfigError, match="token_env or token_file") as caught:
        kind.parse({**given, key: TOKEN})
    assert TOKEN not in str(caught.value)


def test_a_token_in_place_of_its_name_is_not_printed() -> None:
    for key in ("token_env", "token_file"):
        with pytest.raises(ConfigError) as caught:
            ModelArgs.parse({**MODEL, key: f"{TOKEN}=="}).check_tokens("args")
        assert TOKEN not in str(caught.value)
