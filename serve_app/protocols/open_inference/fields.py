"""The small members of a request (parameters, shapes, flags), each checked for its type and named when wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.errors import InvalidInput
from deployments.sequences import SequenceStep
from deployments.tensors import TensorSpec, shape_text

_NOTHING: Mapping[str, Any] = {}
_SCALARS = (str, int, float, bool)
MAX_DEPTH = 100
"""Triton's limit of nesting; orjson itself stops at 1024."""
_MAX_INTEGER = 2**63 - 1


def parameters_of(owner: str, member: dict[str, Any]) -> Mapping[str, Any]:
    """Return the `parameters` of a request, an input or an output: names to strings, numbers or booleans.

    Raises `InvalidInput` for other values.
    """
    parameters = member.get("parameters")
    if parameters is None:
        return _NOTHING
    if type(parameters) is not dict:
        raise InvalidInput(f"{owner}: expected 'parameters' to be an object")
    for name, value in parameters.items():
        if type(value) not in _SCALARS:
            raise InvalidInput(f"{owner}: expected parameter '{name}' to be a string, a number or a boolean")
    return parameters


def require_flag(owner: str, parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a boolean parameter, or `default` where it is not given."""
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise InvalidInput(f"{owner}: expected parameter '{name}' to be a boolean")
    return value


def require_integer(owner: str, parameters: Mapping[str, Any], name: str) -> int | None:
    """Return a parameter that is a whole number of 0 or more, None where it is not given."""
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise InvalidInput(f"{owner}: expected parameter '{name}' to be a whole number from 0")
    return value


def step_of(parameters: Mapping[str, Any]) -> SequenceStep:
    """Return where a request stands in its sequence, by Triton's parameters `sequence_id`, `_start` and `_end`."""
    number = parameters["sequence_id"]
    if type(number) is not str:
        number = require_integer("the request", parameters, "sequence_id") or 0
    flags = (require_flag("the request", parameters, f"sequence_{name}", False) for name in ("start", "end"))
    return SequenceStep(number, *flags)


def require_shape(spec: TensorSpec, shape: Any) -> list[int]:
    """Return a declared shape: as many whole numbers of 1 or more as `spec` has axes, the batch being the first."""
    if type(shape) is not list:
        raise InvalidInput(f"input '{spec.name}': expected 'shape' to be a list of whole numbers")
    if len(shape) != len(spec.shape):
        raise InvalidInput(
            f"input '{spec.name}': expected {len(spec.shape)} axes {shape_text(spec.shape)} (the first is the batch), "
            f"got {len(shape)} axes in 'shape'"
        )
    for axis in shape:
        if type(axis) is not int or not 0 <= axis <= _MAX_INTEGER:
            raise InvalidInput(f"input '{spec.name}': expected 'shape' to be a list of whole numbers, each 1 or more")
    if 0 in shape:
        # Beside an axis of 0 numpy refuses huge ones with an error of its own, so no array is made of either.
        raise InvalidInput(f"input '{spec.name}': expected shape {shape_text(spec.shape)}, got {shape}")
    return shape


def check_strangers(owner: str, member: dict[str, Any], known: frozenset[str]) -> None:
    """Let members that the protocol does not know pass unread, as Triton does, unless nested too deeply."""
    for name in member:
        if name not in known and _is_deep(member[name]):
            raise too_deep(f"{owner}: member '{name}'")


def too_deep(owner: str) -> InvalidInput:
    """Return the error for nesting over the limit, in Triton's words."""
    return InvalidInput(f"{owner}: JSON nesting depth exceeds maximum allowed limit ({MAX_DEPTH})")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> Any:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()
