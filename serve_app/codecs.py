"""The protocols of inference as codecs: what `serve_app.inference` calls on either side of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.errors import InvalidInput
from deployments.servable import Servable
from deployments.tensors import Array, Arrays
from serve_app.bodies import Headers
from serve_app.preprocess import Preprocess
from serve_app.protocols import tfserving
from serve_app.protocols.v2_request import InferRequest, RequestDecoder
from serve_app.protocols.v2_response import ResponseEncoder
from serve_app.responses import BINARY, Response

JSON_BYTES_HEADER = b"inference-header-content-length"


class OpenInference:
    """The Open Inference Protocol, JSON and binary."""

    def __init__(self, servable: Servable) -> None:
        self._decoder = RequestDecoder(servable.signature)
        self._encoder = ResponseEncoder(servable.name, servable.version, servable.signature, servable.labels)

    def decode(self, body: bytes, headers: Headers) -> InferRequest:
        """Return the request; the header Inference-Header-Content-Length says where its JSON ends."""
        header = headers.get(JSON_BYTES_HEADER)
        json_bytes = None if header is None else _json_bytes(header, len(body))
        return self._decoder.decode(body, json_bytes)

    def encode(self, outputs: Arrays, request: InferRequest) -> Response:
        """Return the answer, with the same header where it ends in binary tensors."""
        body, json_bytes = self._encoder.encode(outputs, request.wanted, request.request_id)
        if json_bytes is None:
            return Response(body)
        # Triton's own spelling; HTTP does not care, grep does.
        return Response(body, 200, BINARY, ((b"inference-header-content-length", b"%d" % json_bytes),))

    def is_quick(self, body: bytes) -> bool:  # noqa: ARG002 - conversions in C that keep the interpreter anyway
        """Return True: a thread would gain nothing."""
        return True


@dataclass(slots=True)
class Untimed:
    """A request in a protocol that has no time limits."""

    inputs: Mapping[str, Array]
    form: Any = None
    """What the answer's form depends on."""
    timeout_s: float | None = None


class TfServing:
    """TensorFlow Serving's REST predict."""

    def __init__(self, servable: Servable) -> None:
        self._signature = servable.signature
        self._signature_name = servable.signature_name

    def decode(self, body: bytes, headers: Headers) -> Untimed:  # noqa: ARG002 - the protocol has no headers
        """Return the request in row or columnar form."""
        request = tfserving.decode_predict(body, self._signature, self._signature_name)
        return Untimed(request.inputs, request)

    def encode(self, outputs: Arrays, request: Untimed) -> Response:
        """Return `predictions` or `outputs`."""
        return Response(tfserving.encode_predict(request.form, self._signature, outputs))

    def is_quick(self, body: bytes) -> bool:  # noqa: ARG002 - conversions in C that keep the interpreter anyway
        """Return True: a thread would gain nothing."""
        return True


class Images:
    """A PNG or JPEG in, the top labels out."""

    def __init__(self, servable: Servable, preprocess: Preprocess | None) -> None:
        # Pillow is imported where a model may meet an image; the gateway has no need of it.
        from serve_app.protocols import image, image_answer

        self._decode, self._answer, self.is_quick = image.decode, image_answer.answer, image.is_quick
        self._about = image_answer.Labelled(servable.name, servable.signature, servable.labels)
        self._refusal: str | None = None
        try:
            self._target = image.image_input(servable.signature, preprocess)
        except InvalidInput as error:
            if preprocess is not None:
                raise
            self._refusal = str(error)

    def decode(self, body: bytes, headers: Headers) -> Untimed:  # noqa: ARG002 - the image says what it is
        """Return the image as the model's sole input; `InvalidInput` where the model takes none."""
        if self._refusal is not None:
            raise InvalidInput(self._refusal)
        return Untimed({self._target.spec.name: self._decode(body, self._target)})

    def encode(self, outputs: Arrays, request: Untimed) -> Response:  # noqa: ARG002 - nothing to remember
        """Return the top labels, or the plain outputs."""
        return Response(self._answer(self._about, outputs))


def _json_bytes(header: bytes, body_bytes: int) -> int:
    """Return the header's value, a whole number within the body's length; raise `InvalidInput` else."""
    if not header.isdigit() or len(header) > 18 or int(header) > body_bytes:
        raise InvalidInput(
            f"Inference-Header-Content-Length: expected a whole number from 0 to {body_bytes}, the body's length, "
            f"got '{header[:40].decode('latin-1')}'"
        )
    return int(header)
