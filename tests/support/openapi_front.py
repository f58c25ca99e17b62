"""The whole REST surface in one process: the gateway, and models of numpy functions behind it."""

from __future__ import annotations

from typing import Any

import httpx
import orjson

from serve_app.http.asgi import Receive, Scope, Send
from serve_app.http.forwarding import Forwarder
from serve_app.http.gateway_routes import GatewayRoutes
from serve_app.http.model_routes import ModelRoutes
from tests.http.test_gateway_routes import FixedDirectory, deployed
from tests.support.routes_harness import identity, routes, servable, simple, spec

PLAN = {
    "device": "cpu",
    "precision": "float32",
    "chosen": {"1": "direct"},
    "candidates": {
        "1": [{"name": "direct", "p50_ms": 0.1, "p99_ms": 0.2, "max_abs_error": 0.0, "status": "ok"}],
    },
    "tolerance": 1e-4,
    "inline": {"1": True},
    "precisions": {"1": "float32"},
    "devices": {"1": "cpu"},
    "fastest_ms": {"1": {"cpu": 0.1}},
    "advice": None,
    "predict_p50_ms": None,
    "factor_over_predict": None,
    "traces_after_ready": 0,
    "memory": {},
    "from_cache": False,
    "seconds": 1.0,
}


def pixels() -> ModelRoutes:
    """Return a classifier of 4 x 4 gray pixels: ten scores, `[batch, 10]`."""
    model = servable(
        "pixels",
        [spec("x", "float32", 4, 4, 1)],
        [spec("scores", "float32", 10)],
        lambda x: (x.reshape(len(x), 16)[:, :10],),
        labels=tuple("0123456789"),
        plan_report=lambda: PLAN,
    )
    return routes(model)


class InProcess(Forwarder):
    """Sends to the models' apps what the real one sends to their addresses."""

    def __init__(self, apps: dict[str, ModelRoutes]) -> None:
        super().__init__("http://127.0.0.1:9", 100_000)
        self.apps = apps

    async def get_json(self, path: str, authorization: bytes = b"") -> Any:
        transport = httpx.ASGITransport(self.apps[path.split("/")[3]])  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return orjson.loads((await client.get(path)).content)


class Front:
    """Stands in for HAProxy: the path's beginning says whose a request is."""

    def __init__(self) -> None:
        self.apps = {
            "simple": routes(simple()),
            "pixels": pixels(),
            "words": routes(identity(bytes, 2, name="words")),
            "halves": routes(identity("float16", 2, name="halves")),
        }
        directory: Any = FixedDirectory(*map(deployed, self.apps))
        self.gateway = GatewayRoutes(directory, InProcess(self.apps), 100_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the model that the path names, else by the gateway."""
        parts = scope.get("path", "").split("/")
        model = None
        if parts[1:3] in (["v2", "models"], ["v1", "models"]) and len(parts) > 3:
            model = self.apps.get(parts[3].split(":")[0])
        await (model or self.gateway)(scope, receive, send)
