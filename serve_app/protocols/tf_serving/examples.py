"""TensorFlow Serving's REST classify and regress: JSON examples to serialised `tf.Example`, outputs to `results`.

Source: TF Serving's RESTful API, https://www.tensorflow.org/tfx/serving/api_rest; the answer's key is `results`, as the
server's own tests have it. A `tf.Example` is written by protobuf's wire format: three levels of messages, and no
TensorFlow where the protocols are.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from deployments.errors import InvalidInput
from deployments.servable import Servable
from deployments.tensors import STRING, Array, Arrays, TensorSpec
from serve_app.protocols import json_tensors
from serve_app.protocols.codec import Headers, Response, Untimed
from serve_app.protocols.tf_serving.predict import check_signature_name

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
"""`Feature`'s fields, of which one is set; each list has its values as field 1."""


class _Examples:
    """What both have in common: requests of examples, to a signature with the right method."""

    takes_images = False
    method = ""
    kind = ""

    def __init__(self, servable: Servable) -> None:
        self._signature = servable.signature
        self._signature_name = servable.signature_name
        self._method_name = servable.method_name

    def decode(self, body: bytes, headers: Headers) -> Untimed:  # noqa: ARG002 - the protocol has no headers
        """Return the examples as the signature's one input, `[batch]` strings."""
        if self._method_name != self.method:
            raise InvalidInput(
                f"Expected {self.kind} signature method_name to be {self.method}. Was: {self._method_name}"
            )
        document = json_tensors.parse(body)
        if not isinstance(document, dict):
            raise InvalidInput(f"expected a JSON object with 'examples', got {type(document).__name__}")
        check_signature_name(document.get("signature_name", ""), self._signature_name)
        examples, context = document.get("examples"), document.get("context", {})
        if not isinstance(examples, list) or not examples:
            raise InvalidInput("When specified, 'examples' must be a list of at least one example")
        if not isinstance(context, dict):
            raise InvalidInput("'context' must be a JSON object")
        (spec,) = self._signature.inputs
        array = np.empty(len(examples), dtype=object)
        for index, example in enumerate(examples):
            if not isinstance(example, dict):
                raise InvalidInput(f"examples[{index}]: expected a JSON object of features")
            array[index] = serialised({**context, **example}, f"examples[{index}]")
        return Untimed({spec.name: array.reshape(-1, *([1] * (len(spec.shape) - 1)))})

    def is_quick(self, body: bytes) -> bool:  # noqa: ARG002 - loops that keep the interpreter anyway
        """Return True: a thread would gain nothing."""
        return True


class Classify(_Examples):
    """Labels with scores."""

    method = CLASSIFY
    kind = "classification"

    def encode(self, outputs: Arrays, request: Untimed) -> Response:  # noqa: ARG002 - one form for all
        """Return for each example its classes as pairs of label and score; what the model lacks is empty, or 0."""
        classes, scores = (self._output(outputs, is_string) for is_string in (True, False))
        shape = next(array.shape for array in (classes, scores) if array is not None)
        labels = np.full(shape, b"", dtype=object) if classes is None else classes
        numbers = np.zeros(shape, np.float32) if scores is None else scores
        rows = [
            [[label.decode("utf-8", "replace"), score] for label, score in zip(row, values, strict=True)]
            for row, values in zip(labels.tolist(), numbers.astype(np.float32), strict=True)
        ]
        return Response(orjson.dumps({"results": rows}, option=orjson.OPT_SERIALIZE_NUMPY))

    def _output(self, outputs: Arrays, is_string: bool) -> Array | None:
        for spec, array in zip(self._signature.outputs, outputs, strict=True):
            if (spec.dtype == STRING) == is_string:
                return array.reshape(len(array), -1)
        return None


class Regress(_Examples):
    """A number each."""

    method = REGRESS
    kind = "regression"

    def encode(self, outputs: Arrays, request: Untimed) -> Response:  # noqa: ARG002 - one form for all
        """Return a value for each example."""
        values = np.asarray(outputs[0], np.float32).reshape(len(outputs[0]), -1)
        if values.shape[1] != 1:
            spec: TensorSpec = self._signature.outputs[0]
            raise InvalidInput(f"output '{spec.name}': a regression has one value for each example")
        return Response(orjson.dumps({"results": values[:, 0]}, option=orjson.OPT_SERIALIZE_NUMPY))


def serialised(features: Mapping[str, Any], where: str) -> bytes:
    """Return JSON features as a serialised `tf.Example`; raises `InvalidInput` naming `where` and the feature.

    A value or a list of them: whole numbers become int64, numbers with a point float, text and `{"b64": …}` bytes.
    """
    entries = (
        _field(1, _field(1, name.encode()) + _field(2, _feature(value, f"{where}.{name}")))
        for name, value in features.items()
    )
    return _field(1, b"".join(entries))


def _feature(value: Any, where: str) -> bytes:
    values = value if isinstance(value, list) else [value]
    if all(isinstance(each, bool | int) for each in values):
        return _field(_INT64_LIST, _field(1, b"".join(_varint(int(each) & (2**64 - 1)) for each in values)))
    if all(isinstance(each, int | float) for each in values):
        return _field(_FLOAT_LIST, _field(1, struct.pack(f"<{len(values)}f", *map(float, values))))
    return _field(_BYTES_LIST, b"".join(_field(1, _text(each, where)) for each in values))


def _text(value: Any, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if json_tensors.is_b64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise InvalidInput(f"{where}: expected base64 in 'b64'") from None
    raise InvalidInput(f'{where}: expected numbers, texts or {{"b64": …}}, all of one kind')


def _field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
