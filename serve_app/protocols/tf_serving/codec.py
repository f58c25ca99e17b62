"""TensorFlow Serving's REST predict as a codec."""

from __future__ import annotations

from deployments.servable import Servable
from deployments.tensors import Arrays
from serve_app.protocols.codec import Headers, Response, Untimed
from serve_app.protocols.tf_serving import predict


class TfServing:
    """TensorFlow Serving's REST predict."""

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
