"""The ASGI app at `/`: what belongs to the server and to no single model.

Models answer under `/v2/models/NAME` themselves; what arrives here under that path is a model that is unknown or
has no running replica yet. TensorFlow Serving's `/v1/models/NAME…` cannot be routed by prefix (its verb follows
the name after a colon), so it is passed on to the model's own front door.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from deployments.errors import InvalidInput
from serve_app.cluster.directory import Directory, not_ready, pick, unknown
from serve_app.cluster.model_control import ModelControl
from serve_app.cluster.resources import exporters
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.paths import OF_MODEL
from serve_app.config.tokens import Tokens
from serve_app.http import metrics_scrape, shared_memory_routes
from serve_app.http.app import HttpApp, require_method
from serve_app.http.asgi import Receive, Scope
from serve_app.http.bodies import read_body
from serve_app.http.forwarding import Forwarder
from serve_app.http.guard import authorization_of
from serve_app.openapi import document
from serve_app.page.files import page_files
from serve_app.protocols.codec import Response, json_response
from serve_app.protocols.errors import UnknownPath
from serve_app.protocols.json_tensors import BYTE_ORDER_MARK
from serve_app.protocols.server import server_metadata

_REPOSITORY = re.compile(r"^/v2/repository/models/([^/]+)/(load|unload)$")
_OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""Health, which asks for no token; so do the page's files, that hold nothing of a model."""
_V1_MODEL = re.compile(r"^/v1/models/([^/:]+)(?:/versions/([^/:]+))?")


class GatewayRoutes(HttpApp):
    """ASGI app of the server-wide endpoints, over a `Directory` of models and a `Forwarder` to their front door.

    A request for a model is judged by that model's own tokens, which its `authorization` is passed on to; `tokens`
    close what the gateway answers itself, down to the name of a model that does not exist.
    """

    def __init__(
        self,
        directory: Directory,
        forwarder: Forwarder,
        max_body_bytes: int,
        tokens: Tokens | None = None,
        control: ModelControl | None = None,
    ) -> None:
        self.control = control or ModelControl(GatewayArgs())
        self.directory = directory
        self.tokens = tokens
        self.forwarder = forwarder
        self.max_body_bytes = max_body_bytes
        self.page = page_files()
        self.routes: Mapping[str, tuple[str, Callable[[Receive, Mapping[bytes, bytes]], Awaitable[Response]]]] = {
            "/v2": ("GET", self._metadata),
            "/v2/health/live": ("GET", self._live),
            "/v2/health/ready": ("GET", self._ready),
            "/v2/models": ("GET", self._names),
            "/v2/models/stats": ("GET", self._stats),
            "/v2/repository/index": ("POST", self._index),
            "/metrics": ("GET", self._metrics),
            "/overview": ("GET", self._overview),
            "/openapi.json": ("GET", self._openapi),
        }

    async def close(self) -> None:
        """Close the connections to the front door."""
        await self.forwarder.close()

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        """Return the answer to one request."""
        path = scope["path"].rstrip("/") or "/"
        if (target := await self._target(path)) is not None:
            return await self.forwarder.forward(target, scope, receive)
        if found := _REPOSITORY.match(path):
            require_method(scope, "POST")
            return await self._control(found[1], found[2], scope, receive)
        if self.tokens is not None and path not in _OPEN and path not in self.page:
            self.tokens.check(authorization_of(scope["headers"]))
        if found := shared_memory_routes.PATH.fullmatch(path):
            require_method(scope, shared_memory_routes.METHODS[found[3]])
            asked = _json_object(await read_body(receive, dict(scope["headers"]), self.max_body_bytes))
            return shared_memory_routes.answer(found[1], found[2] or "", found[3], asked)
        if path in self.routes:
            method, endpoint = self.routes[path]
            require_method(scope, method)
            return await endpoint(receive, dict(scope["headers"]))
        if path in self.page:
            require_method(scope, "GET")
            return self.page[path].answer(dict(scope["headers"]))
        if found := _V1_MODEL.match(path):
            await self._refuse(found[1], found[2])
        if found := OF_MODEL.match(path):
            await self._refuse(found[1], found[2])
        raise UnknownPath(f"no endpoint has the path {scope['path']}")

    async def _control(self, name: str, verb: str, scope: Scope, receive: Receive) -> Response:
        """Load or unload a model; the token asked for is the administrator's alone."""
        headers = dict(scope["headers"])
        offered = authorization_of(scope["headers"])
        if self.tokens is not None and self.control.mode != "explicit":
            self.tokens.check(offered)
        asked = _json_object(await read_body(receive, headers, self.max_body_bytes))
        parameters = asked.get("parameters", {})
        if not isinstance(parameters, dict):
            raise InvalidInput("parameters: expected a JSON object")
        act = self.control.load if verb == "load" else self.control.unload
        await act(name, parameters, offered)
        self.directory.expire()
        return Response(b"")

    async def _target(self, path: str) -> str | None:
        """Return the path at which a model answers what came here, None where that is no model's affair.

        TensorFlow Serving's paths, and those of a model whose versions all have paths of their own: of these one is
        chosen. What names its version has passed the front door already, which would only send it here again.
        """
        found, is_v1 = _V1_MODEL.match(path), True
        if found is None and path not in self.routes:
            found, is_v1 = OF_MODEL.match(path), False
        if found is None or (not is_v1 and found[2] is not None):
            return None
        model = pick(await self.directory.models(), found[1], found[2], self.directory.traffic)
        if model is None or model.state != "READY" or not (is_v1 or model.is_beside_others):
            return None
        return model.route_prefix.rstrip("/") + (path if is_v1 else path[found.end() :])

    async def _refuse(self, name: str, version: str | None) -> None:
        """Raise `UnknownModel`, or `NotReady` where the model cannot answer now."""
        models = await self.directory.models()
        model = pick(models, name, version)
        if model is None:
            raise unknown(models, name, version)
        if model.state != "READY":
            raise not_ready(model)

    async def _metadata(self, *_: Any) -> Response:
        return json_response(server_metadata())

    async def _live(self, *_: Any) -> Response:
        return json_response({"live": True, "ready": await self._all_ready()})

    async def _ready(self, *_: Any) -> Response:
        ready = await self._all_ready()
        # tritonclient reads only the status, KServe's SDK only the keys.
        return Response(orjson.dumps({"live": True, "ready": ready}), 200 if ready else 503)

    async def _all_ready(self) -> bool:
        return self.control.is_ready(await self.directory.models())

    async def _index(self, receive: Receive, headers: Mapping[bytes, bytes]) -> Response:
        only_ready = _only_ready(await read_body(receive, headers, self.max_body_bytes))
        return json_response(
            [
                {"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}
                for model in self.control.index(await self.directory.models())
                if model.state == "READY" or not only_ready
            ]
        )

    async def _names(self, *_: Any) -> Response:
        """Answer the models' names, as KServe's servers do."""
        models = await self.directory.models()
        return json_response({"models": sorted({model.name for model in models.values()})})

    async def _metrics(self, *_: Any) -> Response:
        """Answer the models' metrics of every node."""
        urls = await asyncio.to_thread(exporters)
        return await metrics_scrape.scrape(self.forwarder.session, urls)

    async def _overview(self, *_: Any) -> Response:
        """Answer what the web page draws its table from; ours alone, no protocol's."""
        about, models = server_metadata(), await self.directory.models()
        rows = [
            {
                "name": model.name,
                "version": model.version,
                "path": model.route_prefix.strip("/"),
                "state": model.state,
                "reason": model.reason,
                "replicas": model.replicas,
            }
            for model in sorted(models.values(), key=lambda model: model.name)
        ]
        server = {"name": about["name"], "version": about["version"]}
        return json_response({"server": server, "ready": await self._all_ready(), "models": rows})

    async def _openapi(self, *_: Any) -> Response:
        models = await self.directory.models()
        return json_response(document.document(dict.fromkeys(model.name for model in models.values())))

    async def _stats(self, _: Receive, headers: Mapping[bytes, bytes]) -> Response:
        models = await self.directory.models()
        prefixes = [model.route_prefix for model in models.values() if model.state == "READY"]
        offered = headers.get(b"authorization", b"")
        answers = [await self.forwarder.get_json(f"{prefix.rstrip('/')}/stats", offered) for prefix in prefixes]
        # A model whose token is another one is left out, as if it were not there.
        known = [answer for answer in answers if answer is not None]
        return json_response({"model_stats": [stats for answer in known for stats in answer["model_stats"]]})


def _only_ready(body: bytes) -> bool:
    """Return the repository index's only argument, `ready`; an empty body means all models."""
    asked = _json_object(body)
    if not isinstance(asked.get("ready", False), bool):
        raise InvalidInput("ready: expected true or false in a JSON object")
    return bool(asked.get("ready", False))


def _json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`, an empty one for an empty body; raise `InvalidInput`."""
    if not body.strip():
        return {}
    try:
        asked = orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise InvalidInput("expected a JSON object")
    return asked
