"""TensorFlow Serving's REST API: its paths below a model, and predict as a codec; see `examples` for the others."""

from __future__ import annotations

from deployments.servable import Servable
from deployments.tensors import Arrays
from serve_app.protocols.codec import Headers, Response, Route, Untimed
from serve_app.protocols.tf_serving import metadata, predict
from serve_app.protocols.tf_serving.examples import Classify, Regress


class TfServing:
    """TensorFlow Serving's REST predict."""

    takes_images = False

    def __init__(self, servable: Servable) -> None:
        self._signature = servable.signature
        self._signature_name = servable.signature_name

    def decode(self, body: bytes, headers: Headers) -> Untimed:  # noqa: ARG002 - the protocol has no headers
        """Return the request in row or columnar form."""
        request = predict.decode_predict(body, self._signature, self._signature_name)
        return Untimed(request.inputs, request)

    def encode(self, outputs: Arrays, request: Untimed) -> Response:
        """Return `predictions` or `outputs`."""
        return Response(predict.encode_predict(request.form, self._signature, outputs))

    def is_quick(self, body: bytes) -> bool:  # noqa: ARG002 - conversions in C that keep the interpreter anyway
        """Return True: a thread would gain nothing."""
        return True


def _metadata(servable: Servable) -> Response:
    name, version = servable.name, servable.version
    signature, signature_name = servable.signature, servable.signature_name
    return Response(metadata.metadata(name, version, signature, signature_name, servable.method_name))


PREFIX = "/v1/models/{name}"
ROUTES = (
    Route("", tells=lambda servable: Response(metadata.status(servable.version))),
    Route("/metadata", tells=_metadata),
    Route(":predict", predicts=TfServing),
    Route(":classify", predicts=Classify),
    Route(":regress", predicts=Regress),
)
