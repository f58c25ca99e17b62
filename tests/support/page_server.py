"""The gateway and real models in one uvicorn process without Ray, for tests of the page: seconds, not half a minute.

Routes are HAProxy's: the longest prefix wins. The models' states are the test's to change over `POST /test/state`,
for what a browser shows must be seen with a model down, loading or gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from serve_app.front.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
KINDS = (
    "mlp", "cnn", "lstm", "gru", "transformer", "embedding", "text", "several", "custom", "regularised", "seeded",
    "any_length", "mobilenet_v2",
)  # fmt: skip
"""Of `tests.support.architectures`; one of the large ones."""


class FixedDirectory:
    """The models that are served here, in the states that the test wants."""

    def __init__(self, models: dict[str, Any]) -> None:
        self.fixed = models
        self.traffic: dict[str, dict[str, float]] = {}

    async def models(self) -> Mapping[str, Any]:
        return self.fixed


def digits() -> Any:
    """Return the digits model with a real plan, made within seconds."""
    from deployments import loading
    from deployments.coalescing import CoalesceOptions, make_coalescer
    from deployments.planning.plan import PlanOptions, make_plan
    from deployments.servable import Servable

    model = loading.load(loading.Source(str(ROOT / "models" / "digits.keras")), "float32")
    plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1, 4), budget_s=6.0))
    coalescer = make_coalescer(plan, CoalesceOptions(max_batch_size=4), None)
    labels = tuple("0123456789")
    return Servable("digits", "1", model.signature, coalescer, 4, labels=labels, plan_report=plan.report)


def kinds() -> list[Any]:
    """Return every kind of model of the correctness matrix, planned without being timed."""
    from deployments.coalescing import CoalesceOptions, make_coalescer
    from deployments.loading.keras_model import from_keras
    from deployments.planning.plan import PlanOptions, make_plan
    from deployments.servable import Servable
    from tests.support import architectures

    made = []
    for name in KINDS:
        model = from_keras(architectures.build(name))
        plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1, 2), budget_s=0, only=("tf.function",)))
        coalescer = make_coalescer(plan, CoalesceOptions(max_batch_size=2))
        made.append(Servable(name, "1", plan.signature, coalescer, 2, plan_report=plan.report))
    return made


def plain(count: int | None) -> list[Any]:
    """Return models of numpy functions, which start at once: one of each kind, or so many."""
    from tests.support import routes_harness as harness

    if count is None:
        return [harness.simple(), harness.simple_string(), harness.identity("float16", 4, name="half")]
    return [harness.identity("float32", 4, name=f"model-{number:02}") for number in range(count)]


def servables(which: str) -> list[Any]:
    """Return the models of a server of that kind; see `page_server`."""
    if which == "kinds":
        return kinds()
    if which == "digits":
        return [*plain(None), digits()]
    return plain(int(which) if which.isdigit() else None)


def application(which: str, token: str | None = None) -> Any:
    """Return the ASGI app: the gateway, and each model's own routes below its prefix."""
    from serve_app.cluster.directory import DeployedModel
    from serve_app.config.tokens import Tokens, TokenSource
    from serve_app.http.forwarding import Forwarder
    from serve_app.http.gateway_routes import GatewayRoutes
    from serve_app.http.guard import guarded, is_ready_path
    from serve_app.http.model_routes import ModelRoutes

    served = servables(which)
    models = {s.name: DeployedModel(s.name, "1", s.name, f"/v2/models/{s.name}", "READY", "", 1) for s in served}
    directory = FixedDirectory(models)
    tokens = None if token is None else Tokens(TokenSource(None), frozenset({token}))
    gateway = GatewayRoutes(directory, Forwarder("http://127.0.0.1:9", 1000), 1000, tokens)  # type: ignore[arg-type]
    routes = {f"/v2/models/{one.name}": guarded(ModelRoutes(one), tokens, is_ready_path) for one in served}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path == "/test/state":
            change = json.loads((await receive())["body"])
            old = models[change["name"]]
            models[change["name"]] = DeployedModel(
                old.name, "1", old.name, old.route_prefix, change["state"], change["reason"], change["replicas"]
            )
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        prefix = next((p for p in routes if path == p or path.startswith(f"{p}/")), None)
        down = prefix is not None and models[prefix.rsplit("/", 1)[1]].state != "READY"
        await (gateway if prefix is None or down else routes[prefix])(scope, receive, send)

    return app


class PageServer:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port, self.url = process, port, f"http://127.0.0.1:{port}"

    def set_state(self, name: str, state: str, reason: str = "", replicas: int = 0) -> None:
        """Give a model another state."""
        body = json.dumps({"name": name, "state": state, "reason": reason, "replicas": replicas}).encode()
        urllib.request.urlopen(f"{self.url}/test/state", body, timeout=5).close()

    def get_json(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def page_server(
    log: Path, port: int | None = None, which: str = "digits", token: str | None = None
) -> Iterator[PageServer]:
    """Run the server until the block ends.

    `which`: `plain`, three models of numpy functions; `digits`, these and the digits model; `kinds`, every kind of the
    correctness matrix; a number, so many models of numpy functions.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "tests.support.page_server", str(port), which]
    command += [] if token is None else [token]
    environ = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)
    server = PageServer(process, port)
    try:
        _wait(server, log)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def _wait(server: PageServer, log: Path) -> None:
    ends_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{server.url}/v2/health/live", timeout=5).close()
            return
        if server.process.poll() is not None or time.monotonic() > ends_s:
            raise AssertionError(f"the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


if __name__ == "__main__":
    import uvicorn

    app = application(*sys.argv[2:])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", lifespan="off")
