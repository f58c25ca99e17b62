"""`ModelInferRequest` to named arrays, arrays to `ModelInferResponse`; the messages are `serve_app.grpc.messages`'.

Tensors come as `raw_input_contents`, all of them or none and in the inputs' order, or as typed `contents`; answers
always carry `raw_output_contents`, the only form that every client reads. Source:
https://github.com/kserve/open-inference-protocol (gRPC); parameters are Triton's.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from deployments.errors import InvalidInput, UnknownModel
from deployments.servable import Servable
from deployments.tensors import Array, Arrays
from serve_app.grpc.messages import ModelInferResponse
from serve_app.protocols.datatypes import Datatype, datatype_of, require_datatype
from serve_app.protocols.open_inference import binary
from serve_app.protocols.open_inference.classification import classify
from serve_app.protocols.open_inference.fields import require_integer, require_shape, step_of
from serve_app.protocols.open_inference.request import InferRequest, Wanted
from serve_app.protocols.shared_memory import BYTE_SIZE, OFFSET, REGION, Place, place_of, regions

_CONTENTS = {
    "BOOL": ("bool_contents", np.bool_),
    "UINT8": ("uint_contents", np.uint32),
    "UINT16": ("uint_contents", np.uint32),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "INT8": ("int_contents", np.int32),
    "INT16": ("int_contents", np.int32),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", object),
}
"""Datatype to the field of `InferTensorContents` that holds it, and its type there; FP16 and BF16 have none."""


class GrpcCodec:
    """Decodes requests to one model version and encodes its answers; what the signature settles is looked up once."""

    def __init__(self, servable: Servable) -> None:
        self._name, self._version, self._labels = servable.name, servable.version, servable.labels
        signature = servable.signature
        self._inputs = {spec.name: (spec, datatype_of(spec)) for spec in signature.inputs}
        self._outputs = {spec.name: index for index, spec in enumerate(signature.outputs)}
        self._output_types = tuple((spec.name, datatype_of(spec).name) for spec in signature.outputs)
        self._all = tuple(Wanted(index, True) for index in range(len(signature.outputs)))

    def is_known(self, name: str, version: str) -> bool:
        """Return whether `name` is this model and `version` empty or this one."""
        return name == self._name and version in ("", self._version)

    def require_known(self, name: str, version: str) -> None:
        """Raise `UnknownModel` unless `is_known`."""
        if name != self._name:
            raise UnknownModel(f"Request for unknown model: '{name}' is not found; here is '{self._name}'")
        if version not in ("", self._version):
            raise UnknownModel(
                f"Request for unknown model: '{name}' version '{version}' is not found; deployed: '{self._version}'"
            )

    def decode(self, request: Any) -> InferRequest:
        """Return a `ModelInferRequest` as named arrays `[rows, ...]`; raise `UnknownModel` or `InvalidInput`."""
        self.require_known(request.model_name, request.model_version)
        parameters = _parameters(request.parameters)
        timeout_us = require_integer("the request", parameters, "timeout")
        inputs = self._decode_inputs(request.inputs, request.raw_input_contents)
        wanted = self._wanted(request.outputs) if request.outputs else self._all
        step = step_of(parameters) if "sequence_id" in parameters else None
        return InferRequest(inputs, wanted, request.id, timeout_us / 1e6 if timeout_us else None, step)

    def encode(self, outputs: Arrays, request: InferRequest) -> Any:
        """Return the wanted outputs as a `ModelInferResponse`."""
        response = ModelInferResponse(model_name=self._name, model_version=self._version, id=request.request_id or "")
        for want in request.wanted:
            values = outputs[want.index]
            name, datatype = self._output_types[want.index]
            if want.classes:
                values, datatype = classify(name, values, want.classes, self._labels), "BYTES"
            output = response.outputs.add(name=name, datatype=datatype, shape=values.shape)
            content = binary.encode_tensor(values)
            if want.place is not None:
                _share(output, content, want.place)
            # Clients find an output's bytes by its number, so that one in shared memory has an empty entry.
            response.raw_output_contents.append(b"" if want.place is not None else bytes(content))
        return response

    def _decode_inputs(self, tensors: Any, raw: Any) -> dict[str, Array]:
        shared = {tensor.name for tensor in tensors if REGION in tensor.parameters}
        if raw and len(raw) != len(tensors) - len(shared):
            raise InvalidInput(
                f"raw_input_contents: expected one entry for each of the {len(tensors) - len(shared)} inputs, "
                f"got {len(raw)}"
            )
        inputs: dict[str, Array] = {}
        bodies = iter(raw)
        for tensor in tensors:
            spec, datatype = self._input_of(tensor, inputs)
            shape = require_shape(spec, list(tensor.shape))
            owner = f"input '{spec.name}'"
            place = place_of(owner, _parameters(tensor.parameters)) if tensor.parameters else None
            if place is not None:
                if tensor.HasField("contents"):
                    raise InvalidInput(f"{owner}: expected either contents or {REGION}, got both")
                content = regions().read(place)
                inputs[spec.name] = binary.decode_tensor(spec.name, datatype, shape, content, 0, len(content))
            elif not raw:
                inputs[spec.name] = _decode_contents(spec.name, datatype, shape, tensor)
            elif tensor.HasField("contents"):
                raise InvalidInput(f"input '{spec.name}': expected either contents or raw_input_contents, got both")
            else:
                body = next(bodies)
                inputs[spec.name] = binary.decode_tensor(spec.name, datatype, shape, body, 0, len(body))
        return inputs

    def _input_of(self, tensor: Any, seen: Mapping[str, Array]) -> tuple[Any, Datatype]:
        known = self._inputs.get(tensor.name)
        if known is None:
            raise InvalidInput(f"unknown input '{tensor.name}'; expected {_quoted(self._inputs)}")
        if tensor.name in seen:
            raise InvalidInput(f"input '{tensor.name}' is given twice")
        require_datatype(tensor.name, tensor.datatype, known[1])
        return known

    def _wanted(self, tensors: Any) -> tuple[Wanted, ...]:
        chosen: dict[str, Wanted] = {}
        for tensor in tensors:
            index = self._outputs.get(tensor.name)
            if index is None:
                raise InvalidInput(f"unknown output '{tensor.name}'; expected {_quoted(self._outputs)}")
            if tensor.name in chosen:
                raise InvalidInput(f"output '{tensor.name}' is asked for twice")
            owner = f"output '{tensor.name}'"
            parameters = _parameters(tensor.parameters)
            classes = require_integer(owner, parameters, "classification") or 0
            if classes and self._output_types[index][1] == "BYTES":
                raise InvalidInput(f"{owner}: BYTES values cannot be classified")
            chosen[tensor.name] = Wanted(index, True, classes, place_of(owner, parameters))
        return tuple(chosen.values())


def _decode_contents(name: str, datatype: Datatype, shape: list[int], tensor: Any) -> Array:
    if datatype.name not in _CONTENTS:
        raise InvalidInput(f"input '{name}': {datatype.name} has no typed contents; expected raw_input_contents")
    field, wide = _CONTENTS[datatype.name]
    others = [other.name for other, _ in tensor.contents.ListFields() if other.name != field]
    if others:
        raise InvalidInput(f"input '{name}': expected {field} for {datatype.name}, got {others[0]}")
    values = getattr(tensor.contents, field)
    if len(values) != prod(shape):
        raise InvalidInput(
            f"input '{name}': expected {prod(shape)} values in {field} for shape {shape}, got {len(values)}"
        )
    array: Array = np.fromiter(values, wide, len(values))
    return _narrow(name, array, datatype).reshape(shape)


def _narrow(name: str, array: Array, datatype: Datatype) -> Array:
    """Return 8- and 16-bit integers out of the 32-bit field that they travel in; raise where one does not fit."""
    if array.dtype == datatype.dtype:
        return array
    limits = np.iinfo(datatype.dtype)
    if array.size and (array.max() > limits.max or array.min() < limits.min):
        raise InvalidInput(f"input '{name}': a value is beyond the range of {datatype.name}")
    return array.astype(datatype.dtype)


def _share(output: Any, content: bytes | memoryview, place: Place) -> None:
    """Write an output into shared memory, and say so in its message."""
    regions().write(place, content)
    output.parameters[REGION].string_param = place.region
    output.parameters[BYTE_SIZE].int64_param = len(content)
    if place.offset:
        output.parameters[OFFSET].int64_param = place.offset


def _parameters(parameters: Any) -> dict[str, Any]:
    """Return a map of `InferParameter` as plain values."""
    plain = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        plain[name] = None if choice is None else getattr(parameter, choice)
    return plain


def _quoted(names: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in names)
