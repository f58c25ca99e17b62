"""TensorFlow Serving's REST paths over one model, for the model's own ASGI app.

The gateway passes `/v1/models/NAME…` on unread, since only the replica knows the dtypes that decoding needs; a model
mounted at `/` answers the same paths with no hop.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from deployments.errors import InvalidInput, UnknownModel
from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import Array
from serve_app.bodies import inflate_body, read_body
from serve_app.errors import MethodNotAllowed, UnknownPath
from serve_app.protocols import tfserving, tfserving_metadata
from serve_app.protocols.tfserving import SIGNATURE_NAME
from serve_app.responses import Receive, Response, Scope

Infer = Callable[[Mapping[str, Array], float | None], Awaitable[Answer]]

PREFIX = "/v1/models/"

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<end>|/metadata|:predict|:classify|:regress)/?"
)


class TfServingRoutes:
    """Answers `/v1/models/NAME[/versions/N][:predict|/metadata]`; `infer` defaults to the servable's `predict`.

    `:classify` and `:regress` get the 400 that TF Serving gives a model without such a signature: a Keras model has
    only one to predict.
    """

    def __init__(
        self,
        servable: Servable,
        max_body_bytes: int,
        infer: Infer | None = None,
        signature_name: str = SIGNATURE_NAME,
    ) -> None:
        self.servable = servable
        self.max_body_bytes = max_body_bytes
        self.infer = servable.predict if infer is None else infer
        self.signature_name = signature_name
        self._status = tfserving_metadata.status(servable.version)
        self._metadata = tfserving_metadata.metadata(
            servable.name, servable.version, servable.signature, signature_name
        )

    async def respond(self, path: str, scope: Scope, receive: Receive, deadline_s: float | None = None) -> Response:
        """Answer one request; `path` starts with `/v1/models/`.

        Raises the domain's and HTTP's errors for the caller's one `except`.
        """
        found = _PATH.fullmatch(path)
        if found is None:
            raise UnknownPath(f"Malformed request: {scope['method']} {path}")
        self._require_known(found)
        end = found["end"]
        _allow(scope, path, "POST" if end.startswith(":") else "GET")
        if end == ":predict":
            return await self._predict(scope, receive, deadline_s)
        if end in (":classify", ":regress"):
            raise InvalidInput(
                f"Expected a signature whose method_name is tensorflow/serving/{end[1:]}; a Keras model has only "
                "tensorflow/serving/predict"
            )
        return Response(self._metadata if end else self._status)

    async def _predict(self, scope: Scope, receive: Receive, deadline_s: float | None) -> Response:
        headers = dict(scope["headers"])
        body = await read_body(receive, headers, self.max_body_bytes)
        if encoding := headers.get(b"content-encoding"):
            body = await inflate_body(body, encoding, self.max_body_bytes)
        signature = self.servable.signature
        request = tfserving.decode_predict(body, signature, self.signature_name)
        answer = await self.infer(request.inputs, deadline_s)
        return Response(tfserving.encode_predict(request, signature, answer.outputs))

    def _require_known(self, found: re.Match[str]) -> None:
        name, version, label = found["name"], found["version"], found["label"]
        if name != self.servable.name:
            raise UnknownModel(f"Servable not found for request: Latest({name})")
        if label is not None:
            raise UnknownModel(f"Servable not found for request: no version of model {name} has the label {label}")
        if version is not None and version != self.servable.version:
            raise UnknownModel(f"Servable not found for request: Specific({name}, {version})")


def _allow(scope: Scope, path: str, method: str) -> None:
    if scope["method"] != method and not (method == "GET" and scope["method"] == "HEAD"):
        raise MethodNotAllowed(scope["method"], path, method)
