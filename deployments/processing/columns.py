"""What a function's parameters take: a tensor each, and the form in which Python likes it."""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import orjson

from deployments.errors import InvalidInput, LoadError
from deployments.tensors import STRING, Array, TensorSpec

Form = Literal["array", "text", "bytes", "json"]
_SCALARS: Mapping[Any, Form] = {str: "text", bytes: "bytes", dict: "json"}
_LISTS = (list, collections.abc.Sequence)
_PLAIN = tuple((value,) for value in (Any, object, str, int, float, bool))
"""What a dict that is one JSON value may hold, by its annotation."""
_TENSOR = re.compile(r"\s*([A-Za-z_]\w*)\s*\[([-\d\s,]*)\]\s*")


@dataclass(frozen=True, slots=True)
class Column:
    """One tensor as a function takes it: `array` as it is, else a list with a `str`, `bytes` or JSON value a row."""

    spec: TensorSpec
    form: Form = "array"

    def values(self, array: Array) -> Any:
        """Return all rows of `array`, `[rows, …]`; raises `InvalidInput` for what is no UTF-8, or no JSON."""
        if self.form == "array":
            return array
        return [self._value(item, row) for row, item in enumerate(array.reshape(len(array)).tolist())]

    def _value(self, item: bytes, row: int) -> Any:
        try:
            if self.form == "text":
                return item.decode()
            return orjson.loads(item) if self.form == "json" else item
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input '{self.spec.name}': row {row} is no UTF-8 text: {error}") from None
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"input '{self.spec.name}': row {row} is no JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotation says: a form, whether it is one row's, and the tensor where it names one."""

    form: Form = "array"
    is_row: bool = False
    spec: TensorSpec | None = None

    @classmethod
    def of(cls, annotation: Any, name: str, owner: str) -> Annotation:
        """Read `str`, `bytes`, `dict`, lists of these, and `Annotated[np.ndarray, "float32[-1, 8]"]`."""
        if get_origin(annotation) is Annotated:
            _, *notes = get_args(annotation)
            text = next((note for note in notes if isinstance(note, str)), None)
            return cls() if text is None else cls(spec=tensor(text, name, owner))
        if (form := _scalar(annotation)) is not None:
            return cls(form, True, _of_form(form, name))
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin in _LISTS and len(arguments) == 1 and (form := _scalar(arguments[0])) is not None:
            return cls(form, False, _of_form(form, name))
        return cls(is_row=annotation in (int, float, bool))


def _scalar(annotation: Any) -> Form | None:
    """Return the form of one row's value; a dict of anything but plain values is none, for it names columns."""
    if (form := _SCALARS.get(annotation)) is not None:
        return form
    is_mapping = get_origin(annotation) in (dict, collections.abc.Mapping)
    return "json" if is_mapping and get_args(annotation)[1:] in _PLAIN else None


def _of_form(form: Form, name: str) -> TensorSpec:
    return TensorSpec(name, STRING, (None,), is_json=form == "json")


def tensor(text: str, name: str, owner: str) -> TensorSpec:
    """Return what `float32[-1, 8]` declares: a numpy dtype or `string`, and a shape with the batch axis first."""
    found = _TENSOR.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        axes = [int(axis) for axis in found[2].split(",") if axis.strip()]
        dtype = STRING if found[1] == "string" else np.dtype(found[1])
        if not axes or axes[0] != -1 or any(axis < 1 and axis != -1 for axis in axes):
            raise ValueError
    except (ValueError, TypeError):
        expected = "expected a dtype and a shape whose first axis, the batch, is -1, such as 'float32[-1, 8]'"
        raise LoadError(f"{owner}: '{name}': {expected}, got {text!r}") from None
    return TensorSpec(name, dtype, tuple(None if axis == -1 else axis for axis in axes))


def column(spec: TensorSpec, said: Annotation, owner: str) -> Column:
    """Return `spec` in the form that the annotation says; raises `LoadError` where the two contradict each other."""
    if spec.is_json:
        return Column(spec, "json")
    if said.form == "array":
        return Column(spec)
    is_flat = len(spec.shape) == 1 or spec.row_shape == (1,)
    if spec.dtype != STRING or not is_flat:
        raise LoadError(f"{owner}: '{spec.name}' is annotated as {said.form}, but declared as no string a row")
    return Column(replace(spec, is_json=said.form == "json"), said.form)
