"""The ASGI app of one model: every path that belongs to it, in one dictionary.

Raw ASGI: Starlette's routing cost 0.05 ms of a 0.46 ms request (2 cores, Ray Serve 2.60 behind HAProxy). Paths are
matched whole, whatever `root_path` says: Serve passes the full path and the route prefix as `root_path`, and
Starlette 1.10 answers the bare prefix with a redirect or a 404 then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deployments.errors import NotReady, UnknownModel
from deployments.servable import Servable
from serve_app.config.surface import Limits
from serve_app.http.asgi import Receive, Scope, Send, answer_lifespan, json_response, send_response
from serve_app.http.bodies import ClientGone
from serve_app.http.errors import error_response
from serve_app.http.inference import Inference
from serve_app.protocols.codec import Headers, Response
from serve_app.protocols.errors import MethodNotAllowed, UnknownPath
from serve_app.protocols.image.codec import Images
from serve_app.protocols.image.preprocess import Preprocess
from serve_app.protocols.open_inference import metadata
from serve_app.protocols.open_inference.codec import OpenInference
from serve_app.protocols.tf_serving import metadata as tf_serving_metadata
from serve_app.protocols.tf_serving.codec import TfServing

Endpoint = Callable[[Headers, Receive], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """What one path answers to; GET includes HEAD."""

    method: str
    endpoint: Endpoint


class ModelRoutes:
    """Answers HTTP for one model version: Open Inference Protocol under `/v2`, TensorFlow Serving's under `/v1`.

    The latter are found at `/v1/models/NAME…` where the app is mounted at `/`, and below its own prefix, where the
    gateway sends what it gets.
    """

    def __init__(self, servable: Servable, limits: Limits | None = None, preprocess: Preprocess | None = None) -> None:
        self.servable = servable
        self.inference = Inference(servable, limits or Limits())
        self._open_inference = OpenInference(servable)
        self._tf_serving = TfServing(servable)
        self._images = Images(servable, preprocess)
        self.routes = self._make_routes()

    def _make_routes(self) -> dict[str, Route]:
        prefix = f"/v2/models/{self.servable.name}"
        routes: dict[str, Route] = {}
        for model in (prefix, f"{prefix}/versions/{self.servable.version}"):
            routes[model] = Route("GET", self._metadata)
            routes[f"{model}/ready"] = Route("GET", self._ready)
            routes[f"{model}/infer"] = Route("POST", self._infer)
            routes[f"{model}/config"] = Route("GET", self._config)
            routes[f"{model}/stats"] = Route("GET", self._stats)
            routes[f"{model}/plan"] = Route("GET", self._plan)
        v1 = f"/v1/models/{self.servable.name}"
        version = f"/versions/{self.servable.version}"
        ways = (way + model for way in ("", prefix, prefix + version) for model in (v1, v1 + version))
        for model in ways:
            routes[model] = Route("GET", self._v1_status)
            routes[f"{model}/metadata"] = Route("GET", self._v1_metadata)
            routes[f"{model}:predict"] = Route("POST", self._v1_predict)
        return routes

    @property
    def prediction_paths(self) -> frozenset[str]:
        """The paths that predictions are POSTed to."""
        return frozenset(path for path, route in self.routes.items() if route.method == "POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the only `except` on its way is here."""
        if scope["type"] != "http":
            await _answer_other(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            response = await self._route(scope["method"], scope["path"]).endpoint(headers, receive)
        except ClientGone:
            return
        except Exception as error:
            response = error_response(error, headers.get(b"x-request-id", b"").decode("latin-1"))
        await send_response(response, send)

    def _route(self, method: str, path: str) -> Route:
        route = self.routes.get(path) or self.routes.get(path.rstrip("/"))
        if route is None:
            raise self._not_found(path)
        if method != route.method and (method, route.method) != ("HEAD", "GET"):
            raise MethodNotAllowed(method, path, "GET, HEAD" if route.method == "GET" else route.method)
        return route

    def _not_found(self, path: str) -> Exception:
        """Return why no route has `path`: another model, another version, or no such endpoint.

        Triton's public examples look for its words "Request for unknown model".
        """
        name, version = self.servable.name, self.servable.version
        parts = path.split("/")
        if parts[2:3] == ["models"] and len(parts) > 3:
            asked = parts[3].split(":")[0]
            if asked != name:
                return UnknownModel(f"Request for unknown model: '{asked}' is not found; here is '{name}'")
            if parts[4:5] == ["versions"] and len(parts) > 5 and (other := parts[5].split(":")[0]) != version:
                return UnknownModel(
                    f"Request for unknown model: '{name}' version '{other}' is not found; deployed: '{version}'"
                )
        return UnknownPath(f"no endpoint has the path {path}")

    async def _infer(self, headers: Headers, receive: Receive) -> Response:
        is_image = headers.get(b"content-type", b"").startswith(b"image/")
        return await self.inference.answer(headers, receive, self._images if is_image else self._open_inference)

    async def _v1_predict(self, headers: Headers, receive: Receive) -> Response:
        return await self.inference.answer(headers, receive, self._tf_serving)

    async def _metadata(self, *_: object) -> Response:
        return json_response(metadata.metadata(self.servable))

    async def _ready(self, *_: object) -> Response:
        if not self.servable.is_ready():
            raise NotReady(f"model '{self.servable.name}' is not ready")
        return json_response({"name": self.servable.name, "ready": True})

    async def _config(self, *_: object) -> Response:
        return json_response(metadata.config(self.servable))

    async def _stats(self, *_: object) -> Response:
        return json_response({"model_stats": [metadata.statistics(self.servable)]})

    async def _plan(self, *_: object) -> Response:
        if self.servable.plan_report is None:
            raise UnknownPath(f"model '{self.servable.name}' has no plan")
        return json_response(self.servable.plan_report())

    async def _v1_status(self, *_: object) -> Response:
        return Response(tf_serving_metadata.status(self.servable.version))

    async def _v1_metadata(self, *_: object) -> Response:
        servable = self.servable
        name, version, signature = servable.name, servable.version, servable.signature
        return Response(tf_serving_metadata.metadata(name, version, signature, servable.signature_name))


async def _answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await answer_lifespan(receive, send)
    elif scope["type"] == "websocket":
        # Before it is accepted this is a 403, which is all that ASGI has for "not here".
        await send({"type": "websocket.close"})
