"""An Open Inference Protocol request: JSON, binary, mixed or raw, to named arrays and the wanted outputs.

Source: https://github.com/kserve/open-inference-protocol (inference request JSON object) and Triton's
`docs/protocol/extension_*.md` for `parameters`. Every refusal is an `InvalidInput` that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.errors import InvalidInput
from deployments.sequences import SequenceStep
from deployments.tensors import Array, Signature, TensorSpec
from serve_app.protocols import json_tensors
from serve_app.protocols.datatypes import Datatype, datatype_of, require_datatype
from serve_app.protocols.open_inference import binary, json_data
from serve_app.protocols.open_inference.fields import (
    check_strangers,
    parameters_of,
    require_flag,
    require_integer,
    require_shape,
    step_of,
)
from serve_app.protocols.shared_memory import REGION, Place, place_of, regions

_REQUEST_MEMBERS = frozenset(("id", "model_name", "model_version", "parameters", "inputs", "outputs"))
_TENSOR_MEMBERS = frozenset(("name", "shape", "datatype", "parameters", "data"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that a request asks for."""

    index: int
    """Its place in the signature."""
    is_binary: bool
    classes: int = 0
    """How many of its best values to return as text; 0 for the tensor itself."""
    place: Place | None = None
    """Where in shared memory it goes, rather than into the answer."""


@dataclass(slots=True)
class InferRequest:
    """A decoded request."""

    inputs: dict[str, Array]
    """Arrays `[rows, ...]`, by name; views of the body where they came as binary."""
    wanted: tuple[Wanted, ...]
    request_id: str | None = None
    timeout_s: float | None = None
    step: SequenceStep | None = None


class RequestDecoder:
    """Decodes requests to one model; what the signature settles is looked up once."""

    def __init__(self, signature: Signature) -> None:
        self._inputs = {spec.name: (spec, datatype_of(spec)) for spec in signature.inputs}
        self._outputs = {spec.name: index for index, spec in enumerate(signature.outputs)}
        self._output_datatypes = tuple(datatype_of(spec) for spec in signature.outputs)
        self._all_json = tuple(Wanted(index, False) for index in range(len(signature.outputs)))
        self._all_binary = tuple(Wanted(index, True) for index in range(len(signature.outputs)))

    def decode(self, body: bytes, json_bytes: int | None) -> InferRequest:
        """Return the request in `body`, whose first `json_bytes` bytes are JSON (None: all; 0: a raw request)."""
        if json_bytes is None:
            return self._decode(body, body, len(body))
        if json_bytes == 0:
            return self._decode_raw(body)
        return self._decode(body[:json_bytes], body, json_bytes)

    def _decode_raw(self, body: bytes) -> InferRequest:
        if len(self._inputs) != 1:
            raise InvalidInput(f"a raw request needs a model with one input; this one has {len(self._inputs)}")
        ((spec, datatype),) = self._inputs.values()
        return InferRequest({spec.name: binary.decode_raw(spec, datatype, body)}, self._all_binary)

    def _decode(self, text: bytes, body: bytes, start: int) -> InferRequest:
        message = json_tensors.parse(text)
        if type(message) is not dict:
            raise InvalidInput("expected the request to be a JSON object")
        check_strangers("the request", message, _REQUEST_MEMBERS)
        parameters = parameters_of("the request", message)
        inputs = self._decode_inputs(message.get("inputs"), text, body, start)
        return InferRequest(
            inputs,
            self._wanted(message.get("outputs"), parameters),
            _id_of(message),
            _timeout_s(parameters),
            step_of(parameters) if "sequence_id" in parameters else None,
        )

    def _decode_inputs(self, tensors: Any, text: bytes, body: bytes, start: int) -> dict[str, Array]:
        if type(tensors) is not list or not tensors:
            raise InvalidInput("expected 'inputs' to be a list of tensors")
        inputs: dict[str, Array] = {}
        for tensor in tensors:
            spec, datatype = self._input_of(tensor, inputs)
            size_bytes, place = _outside(spec.name, tensor)
            shape = require_shape(spec, tensor.get("shape"))
            if place is not None:
                content = regions().read(place)
                inputs[spec.name] = binary.decode_tensor(spec.name, datatype, shape, content, 0, len(content))
            elif size_bytes is None and spec.is_json:
                inputs[spec.name] = json_data.decode_json_rows(spec.name, tensor.get("data"))
            elif size_bytes is None:
                inputs[spec.name] = json_data.decode_data(spec.name, datatype, shape, tensor.get("data"), text)
            else:
                inputs[spec.name] = binary.decode_tensor(spec.name, datatype, shape, body, start, size_bytes)
                start += size_bytes
        if start != len(body):
            raise InvalidInput(f"the body goes on for {len(body) - start} bytes past its inputs' binary data")
        return inputs

    def _input_of(self, tensor: Any, seen: Mapping[str, Array]) -> tuple[TensorSpec, Datatype]:
        name = tensor.get("name") if type(tensor) is dict else None
        if type(name) is not str:
            raise InvalidInput("expected every input to be an object with a string 'name'")
        known = self._inputs.get(name)
        if known is None:
            raise InvalidInput(f"unknown input '{name}'; expected {_quoted(self._inputs)}")
        if name in seen:
            raise InvalidInput(f"input '{name}' is given twice")
        # Four members that are all asked for leave no room for a fifth, so most requests skip the check.
        if len(tensor) != 4:
            check_strangers(f"input '{name}'", tensor, _TENSOR_MEMBERS)
        require_datatype(name, tensor.get("datatype"), known[1])
        return known

    def _wanted(self, outputs: Any, parameters: Mapping[str, Any]) -> tuple[Wanted, ...]:
        is_binary = require_flag("the request", parameters, "binary_data_output", False)
        if outputs:
            return self._selected(outputs, is_binary)
        if outputs is not None and outputs != []:
            raise InvalidInput("expected 'outputs' to be a list of outputs")
        return self._all_binary if is_binary else self._all_json

    def _selected(self, outputs: Any, is_binary: bool) -> tuple[Wanted, ...]:
        if type(outputs) is not list:
            raise InvalidInput("expected 'outputs' to be a list of outputs")
        chosen: dict[str, Wanted] = {}
        for output in outputs:
            name = output.get("name") if type(output) is dict else None
            if type(name) is not str:
                raise InvalidInput("expected every output to be an object with a string 'name'")
            if name in chosen:
                raise InvalidInput(f"output '{name}' already exists in request")
            chosen[name] = self._select(name, output, is_binary)
        return tuple(chosen.values())

    def _select(self, name: str, output: dict[str, Any], is_binary: bool) -> Wanted:
        index = self._outputs.get(name)
        if index is None:
            raise InvalidInput(f"unknown output '{name}'; expected {_quoted(self._outputs)}")
        owner = f"output '{name}'"
        check_strangers(owner, output, _TENSOR_MEMBERS)
        parameters = parameters_of(owner, output)
        classes = require_integer(owner, parameters, "classification") or 0
        place = place_of(owner, parameters)
        wanted = Wanted(index, require_flag(owner, parameters, "binary_data", is_binary), classes, place)
        if classes and self._output_datatypes[index].name == "BYTES":
            raise InvalidInput(f"output '{name}': BYTES values cannot be classified")
        return wanted


def _outside(name: str, tensor: dict[str, Any]) -> tuple[int | None, Place | None]:
    """Return the size of an input's binary data, or its place in shared memory; neither where its data is JSON."""
    if "parameters" not in tensor:
        return None, None
    owner = f"input '{name}'"
    parameters = parameters_of(owner, tensor)
    size_bytes, place = require_integer(owner, parameters, "binary_data_size"), place_of(owner, parameters)
    if (size_bytes is not None) + (place is not None) + ("data" in tensor) > 1:
        raise InvalidInput(f"{owner}: expected one of 'data', binary_data_size and {REGION}, got several")
    return size_bytes, place


def _id_of(message: dict[str, Any]) -> str | None:
    request_id = message.get("id")
    if request_id is not None and type(request_id) is not str:
        raise InvalidInput("expected 'id' to be a string")
    return request_id


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """Return the request's own time limit; 0 is none, as in Triton."""
    timeout_us = require_integer("the request", parameters, "timeout")
    return timeout_us / 1e6 if timeout_us else None


def _quoted(names: Mapping[str, Any]) -> str:
    return ", ".join(f"'{name}'" for name in names)
