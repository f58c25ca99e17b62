"""Names, dtypes and shapes of a model's inputs and outputs, and the check of a request against them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deployments.errors import InvalidInput

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = tuple[Array, ...]
Shape = tuple[int | None, ...]

STRING = np.dtype(object)
"""The dtype of string tensors: arrays of Python `bytes`."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor.

    `shape` includes the batch axis at position 0, `None` there for any number of rows; a `None` further in is
    a dynamic inner axis (sequence length, image size). Strings have dtype `STRING`.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    bounds: tuple[int, int] | None = None
    """Of an index into the model's tables: the least that it takes, and the first that is too large; None: unknown."""

    longest: int | None = None
    """The most places along a dynamic inner axis that the model was found to take; None: no end is known."""

    is_json: bool = False
    """Whether each of its strings is a JSON value, for a function around the model."""

    @property
    def row_shape(self) -> Shape:
        """The shape of one row: without the batch axis."""
        return self.shape[1:]

    def opened(self) -> TensorSpec:
        """Return the same tensor with any number of rows."""
        return replace(self, shape=(None, *self.row_shape))

    def check(self, array: Array) -> None:
        """Raise `InvalidInput`, naming this tensor, unless `array` has its dtype, rank, fixed axes and bounds."""
        if array.dtype != self.dtype:
            raise InvalidInput(
                f"input '{self.name}': expected dtype {dtype_name(self.dtype)}, got {dtype_name(array.dtype)}"
            )
        if array.ndim != len(self.shape):
            raise InvalidInput(
                f"input '{self.name}': expected {len(self.shape)} axes {shape_text(self.shape)} "
                f"(the first is the batch), got {array.ndim} axes {shape_text(array.shape)}"
            )
        for axis, (want, got) in enumerate(zip(self.shape, array.shape, strict=True)):
            if got == 0 or (want is not None and want != got):
                raise InvalidInput(
                    f"input '{self.name}': expected shape {shape_text(self.shape)}, got {shape_text(array.shape)}"
                )
            if self.longest is not None and want is None and axis and got > self.longest:
                raise InvalidInput(
                    f"input '{self.name}': length {got} is more than the longest that the model takes, {self.longest}"
                )
        if self.bounds is not None:
            least, end = self.bounds
            if array.min() < least or array.max() >= end:
                wrong = array.min() if array.min() < least else array.max()
                raise InvalidInput(f"input '{self.name}': expected indices from {least} to {end - 1}, got {wrong}")


@dataclass(frozen=True, slots=True)
class Rows:
    """A request's checked inputs: `count` rows of every input, in the signature's order.

    `arrays` are `[rows, ...]` each and may be views of the request's body. Requests of one `group` have the
    same inner shapes, so they may share a batch.
    """

    arrays: Arrays
    count: int
    group: Hashable = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    is_static: bool = field(init=False)
    """Whether no input has a dynamic inner axis, so that all requests share one group."""

    def __post_init__(self) -> None:
        """Derive `is_static`."""
        static = all(axis is not None for spec in self.inputs for axis in spec.row_shape)
        object.__setattr__(self, "is_static", static)

    @property
    def has_strings(self) -> bool:
        """Whether an input or output holds strings."""
        return any(spec.dtype == STRING for spec in (*self.inputs, *self.outputs))

    def bounded(self, bounds: Mapping[int, tuple[int, int]], longest: int | None = None) -> Signature:
        """Return the same signature with `bounds` for the inputs at these positions, and `longest` for open axes."""
        inputs = tuple(
            replace(spec, bounds=bounds.get(index), longest=longest if None in spec.row_shape else None)
            for index, spec in enumerate(self.inputs)
        )
        return Signature(inputs, self.outputs)

    def opened(self) -> Signature:
        """Return the same signature with an open batch axis: whoever runs it pads and splits to the model's own."""
        return Signature(*(tuple(spec.opened() for spec in specs) for specs in (self.inputs, self.outputs)))

    def check(self, inputs: Mapping[str, Array]) -> Rows:
        """Return the request's rows, arrays in this signature's order and uncopied.

        Raises `InvalidInput` naming the first input that is missing, unknown, or of the wrong dtype, shape or
        number of rows.
        """
        arrays = []
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is None:
                raise InvalidInput(f"input '{spec.name}' is missing; expected {self._input_names()}")
            spec.check(array)
            arrays.append(array)
        if len(inputs) != len(arrays):
            unknown = next(name for name in inputs if all(name != spec.name for spec in self.inputs))
            raise InvalidInput(f"unknown input '{unknown}'; expected {self._input_names()}")
        count = len(arrays[0])
        for spec, array in zip(self.inputs, arrays, strict=True):
            if len(array) != count:
                raise InvalidInput(
                    f"input '{spec.name}': expected {count} rows like input '{self.inputs[0].name}', got {len(array)}"
                )
        group = () if self.is_static else tuple(array.shape[1:] for array in arrays)
        return Rows(tuple(arrays), count, group)

    def _input_names(self) -> str:
        return ", ".join(f"'{spec.name}'" for spec in self.inputs)


def strings(items: Sequence[bytes]) -> Array:
    """Return a one-axis array of strings, each as it is: numpy's own string dtypes drop trailing NULs."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return a dtype's name for messages: `float32`, and `string` for `STRING`."""
    return "string" if dtype == STRING else dtype.name


def shape_text(shape: Shape) -> str:
    """Return a shape for messages and metadata order: `[-1, 28, 28, 1]`, dynamic axes as -1."""
    return str([-1 if axis is None else axis for axis in shape])
