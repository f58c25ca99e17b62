"""An answer in the Open Inference Protocol: arrays to JSON, or to JSON followed by the tensors' bytes.

The JSON is put together from bytes prepared once per model, so that only what differs per answer is formatted.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from deployments.tensors import Array, Arrays, Signature
from serve_app.protocols.datatypes import datatype_of
from serve_app.protocols.open_inference import binary, json_data
from serve_app.protocols.open_inference.classification import classify
from serve_app.protocols.open_inference.request import Wanted
from serve_app.protocols.shared_memory import BYTE_SIZE, OFFSET, REGION, Place, regions


class ResponseEncoder:
    """Encodes answers of one model version."""

    def __init__(self, name: str, version: str, signature: Signature, labels: Sequence[str] = ()) -> None:
        self._head = b'{"model_name":%b,"model_version":%b' % (orjson.dumps(name), orjson.dumps(version))
        self._names = tuple(spec.name for spec in signature.outputs)
        self._labels = labels
        self._prefixes = tuple(
            b'{"name":%b,"datatype":"%b","shape":' % (orjson.dumps(spec.name), datatype_of(spec).name.encode())
            for spec in signature.outputs
        )
        self._class_prefixes = tuple(
            b'{"name":%b,"datatype":"BYTES","shape":' % orjson.dumps(name) for name in self._names
        )

    def encode(self, outputs: Arrays, wanted: Sequence[Wanted], request_id: str | None) -> tuple[bytes, int | None]:
        """Return the body and, where it ends in binary tensors, the length of its JSON (else None).

        Raises `InvalidInput` where an output that was asked for as JSON has no JSON form.
        """
        entries: list[bytes] = []
        tensors: list[bytes | memoryview] = []
        for want in wanted:
            values = outputs[want.index]
            prefix = self._prefixes[want.index]
            if want.classes:
                values = classify(self._names[want.index], values, want.classes, self._labels)
                prefix = self._class_prefixes[want.index]
            if want.place is None:
                entries.append(_entry(prefix, values, want.is_binary, tensors))
            else:
                entries.append(_shared(prefix, values, want.place))
        text = b'%b%b,"outputs":[%b]}' % (self._head, _id(request_id), b",".join(entries))
        if not tensors:
            return text, None
        return b"".join((text, *tensors)), len(text)


def _entry(prefix: bytes, values: Array, is_binary: bool, tensors: list[bytes | memoryview]) -> bytes:
    shape = str(list(values.shape)).encode()
    if not is_binary:
        return b'%b%b,"data":%b}' % (prefix, shape, json_data.encode_data(values))
    tensor = binary.encode_tensor(values)
    tensors.append(tensor)
    return b'%b%b,"parameters":{"binary_data_size":%d}}' % (prefix, shape, len(tensor))


def _shared(prefix: bytes, values: Array, place: Place) -> bytes:
    """Write an output into shared memory and return the entry that says so."""
    content = binary.encode_tensor(values)
    regions().write(place, content)
    parameters = {REGION: place.region, BYTE_SIZE: len(content), **({OFFSET: place.offset} if place.offset else {})}
    shape = str(list(values.shape)).encode()
    return b'%b%b,"parameters":%b}' % (prefix, shape, orjson.dumps(parameters))


def _id(request_id: str | None) -> bytes:
    return b"" if request_id is None else b',"id":%b' % orjson.dumps(request_id)
