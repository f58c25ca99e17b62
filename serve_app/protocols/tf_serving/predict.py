"""TensorFlow Serving's REST predict: body to arrays, arrays to body.

Source: TF Serving's RESTful API, https://www.tensorflow.org/tfx/serving/api_rest, and the error texts of its
`util/json_tensor.cc`, which clients match on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from deployments.errors import InvalidInput
from deployments.tensors import Array, Arrays, Signature, TensorSpec
from serve_app.protocols import json_numbers, json_tensors

SIGNATURE_NAME = "serving_default"
"""The one signature that a Keras model has, as `model.export` names it; a SavedModel may have another."""

_NEITHER = "Missing 'inputs' or 'instances' key"


@dataclass(frozen=True, slots=True)
class TfRequest:
    """A decoded predict request: inputs by name, `[batch, ...]` each, and the form that its answer takes."""

    inputs: dict[str, Array]
    is_row_form: bool


def decode_predict(body: bytes, signature: Signature, signature_name: str = SIGNATURE_NAME) -> TfRequest:
    """Return the request in `body`, arrays in the signature's dtypes.

    Row form (`instances`): a list with one value, or one object of named values, per row. Columnar form
    (`inputs`): one tensor, or one object of named tensors, batch axis included. Raises `InvalidInput`; shapes are
    left to `Signature.check`.
    """
    document = json_tensors.parse(body)
    if not isinstance(document, dict):
        raise InvalidInput(f"expected a JSON object with 'inputs' or 'instances', got {type(document).__name__}")
    check_signature_name(document.get("signature_name", ""), signature_name)
    is_row_form = "instances" in document
    if is_row_form == ("inputs" in document):
        raise InvalidInput(_NEITHER)
    columns = _columns(document["instances"], signature) if is_row_form else document["inputs"]
    booleans = json_numbers.may_hold_booleans(body)
    inputs = {
        spec.name: _like_keras(json_tensors.decode_values(values, spec, booleans), spec)
        for spec, values in _by_spec(columns, signature)
    }
    return TfRequest(inputs, is_row_form)


def encode_predict(request: TfRequest, signature: Signature, outputs: Arrays) -> bytes:
    """Return the answer's body: `predictions` for row form, `outputs` for columnar form.

    One output stands bare; several are objects by name. NaN and Infinity are written as these tokens.
    """
    specs = signature.outputs
    if not request.is_row_form:
        columns = [_encode(spec, array) for spec, array in zip(specs, outputs, strict=True)]
        return b'{"outputs":%b}' % (columns[0] if len(specs) == 1 else _object(specs, columns))
    if len(specs) == 1:
        return b'{"predictions":%b}' % _encode(specs[0], outputs[0])
    rows = (
        _object(specs, [_encode(spec, array[row, ...]) for spec, array in zip(specs, outputs, strict=True)])
        for row in range(len(outputs[0]))
    )
    return b'{"predictions":[%b]}' % b",".join(rows)


def check_signature_name(name: Any, known: str) -> None:
    """Raise `InvalidInput` where a request names another signature than the `known` one."""
    if not isinstance(name, str):
        raise InvalidInput("'signature_name' key must be a string value.")
    if name not in ("", known):
        raise InvalidInput(f'Serving signature name: "{name}" not found in signature def')


def _columns(instances: Any, signature: Signature) -> Any:
    """Turn rows into columns: a list of values for bare rows, an object of lists for named ones."""
    if not isinstance(instances, list):
        raise InvalidInput("Expecting 'instances' to be a list/array")
    if not instances:
        raise InvalidInput("No values in 'instances' array")
    sole = signature.inputs[0] if len(signature.inputs) == 1 else None
    if not _is_named(instances[0]) or (sole is not None and sole.is_json and instances[0].keys() != {sole.name}):
        return instances
    names = instances[0].keys()
    for index, row in enumerate(instances):
        if not _is_named(row) or row.keys() != names:
            raise InvalidInput(f"instances[{index}]: expected an object with the keys {_quoted(names)} like the first")
    if len(names) != len(signature.inputs):
        _check_names(names, signature)
    return {name: [row[name] for row in instances] for name in names}


def _by_spec(columns: Any, signature: Signature) -> list[tuple[TensorSpec, Any]]:
    """Pair each input's spec with its JSON values; a bare tensor belongs to a sole input."""
    if _is_named(columns):
        _check_names(columns, signature)
        return [(spec, columns[spec.name]) for spec in signature.inputs]
    if len(signature.inputs) > 1:
        raise InvalidInput(f"expected an object with the inputs {_input_names(signature)}, got bare values")
    return [(signature.inputs[0], columns)]


def _check_names(names: Any, signature: Signature) -> None:
    wanted = {spec.name for spec in signature.inputs}
    for name in wanted - set(names):
        raise InvalidInput(f"input '{name}' is missing; expected {_input_names(signature)}")
    for name in set(names) - wanted:
        raise InvalidInput(f"unknown input '{name}'; expected {_input_names(signature)}")


def _is_named(value: Any) -> bool:
    return isinstance(value, Mapping) and not json_tensors.is_b64(value)


def _like_keras(array: Array, spec: TensorSpec) -> Array:
    """Add a last axis of 1 where only that is missing, as Keras does for a model called on `[batch]` scalars.

    So `{"instances": [1.0, 2.0, 5.0]}` suits an input `[-1, 1]`.
    """
    if array.ndim == len(spec.shape) - 1 and spec.shape[-1] == 1:
        return array.reshape(*array.shape, 1)
    return array


def _encode(spec: TensorSpec, array: Array) -> bytes:
    if spec.is_json:
        return json_tensors.encode_json_rows(array)
    return json_tensors.encode_values(array, spec.name.endswith("_bytes"))


def _object(specs: tuple[TensorSpec, ...], values: list[bytes]) -> bytes:
    members = (b"%b:%b" % (orjson.dumps(spec.name), value) for spec, value in zip(specs, values, strict=True))
    return b"{%b}" % b",".join(members)


def _input_names(signature: Signature) -> str:
    return _quoted(spec.name for spec in signature.inputs)


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
