"""Buckets for dynamic inner axes (sequence length, image size): padded up before a run, cut back after it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments.errors import ConfigError, InvalidInput
from deployments.execution import Answer, Submit
from deployments.tensors import STRING, Array, Arrays, Rows, Shape, Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class Lengths:
    """The allowed lengths of a signature's dynamic inner axes.

    One request has one length: all its dynamic axes are padded to the smallest allowed length that holds the
    longest of them, so an image of 200 by 150 pixels becomes 224 by 224. Rows of different lengths that are
    padded to the same one share a batch.
    """

    signature: Signature
    allowed: tuple[int, ...]
    """Ascending, at least one."""
    padding_value: float = 0.0
    """Fills the new places, cast to each input's dtype; strings are padded with the empty string."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` unless the lengths ascend from 1 or more and every input can hold the padding."""
        if not self.allowed or self.allowed[0] < 1 or list(self.allowed) != sorted(set(self.allowed)):
            raise ConfigError(f"allowed_lengths: expected ascending lengths of at least 1, got {list(self.allowed)}")
        for spec in self.signature.inputs:
            if spec.dtype.kind in "iu" and not _fits(self.padding_value, spec.dtype):
                raise ConfigError(f"padding_value {self.padding_value} does not fit input '{spec.name}' ({spec.dtype})")

    def pad(self, rows: Rows) -> Rows:
        """Return `rows` padded to their allowed length, which is their group.

        Raises `InvalidInput`, naming the input, where one is longer than the largest allowed length.
        """
        length = self._length(rows.arrays)
        arrays = tuple(
            padded(spec, array, length, self.padding_value)
            for spec, array in zip(self.signature.inputs, rows.arrays, strict=True)
        )
        return Rows(arrays, rows.count, length)

    def cut(self, outputs: Arrays, rows: Rows) -> Arrays:
        """Return `outputs` of the padded run cut to the request's own lengths; `rows` are as before `pad`.

        An output axis is cut where the model declares it dynamic and it came back as long as the padding made
        it; its own length is that of the same axis of an input, or the request's longest. Views.
        """
        length = self._length(rows.arrays)
        return tuple(
            output[self._kept(spec, output, length, rows.arrays)]
            for spec, output in zip(self.signature.outputs, outputs, strict=True)
        )

    async def through(self, submit: Submit, rows: Rows, deadline_s: float | None) -> Answer:
        """Return what `submit` answers to `rows` padded, cut back to their own lengths."""
        answer = await submit(self.pad(rows), deadline_s)
        answer.outputs = self.cut(answer.outputs, rows)
        return answer

    def _length(self, arrays: Arrays) -> int:
        longest, name = max((size, spec.name) for spec, _, size in self._dynamic(arrays))
        position = bisect_left(self.allowed, longest)
        if position == len(self.allowed):
            raise InvalidInput(f"input '{name}': length {longest} is more than the longest allowed, {self.allowed[-1]}")
        return self.allowed[position]

    def _dynamic(self, arrays: Arrays) -> list[tuple[TensorSpec, int, int]]:
        """Return every dynamic inner axis: its input, its number, and its size in `arrays`."""
        return [
            (spec, axis, array.shape[axis])
            for spec, array in zip(self.signature.inputs, arrays, strict=True)
            for axis in dynamic_axes(spec.shape)
        ]

    def _kept(self, spec: TensorSpec, output: Array, length: int, arrays: Arrays) -> tuple[slice, ...]:
        own = {axis: size for _, axis, size in self._dynamic(arrays)}
        longest = max(own.values())
        axes = dynamic_axes(spec.shape)
        return tuple(
            slice(own.get(axis, longest)) if axis in axes and size == length else slice(None)
            for axis, size in enumerate(output.shape)
        )


def padded(spec: TensorSpec, array: Array, length: int, value: float) -> Array:
    """Return `array` with its dynamic inner axes filled up to `length`: with `value`, or the empty string."""
    axes = dynamic_axes(spec.shape)
    shape = tuple(length if axis in axes else size for axis, size in enumerate(array.shape))
    if shape == array.shape:
        return array
    filled = np.full(shape, b"" if spec.dtype == STRING else value, dtype=spec.dtype)
    filled[tuple(slice(size) for size in array.shape)] = array
    return filled


def dynamic_axes(shape: Shape) -> tuple[int, ...]:
    """Return the positions of the dynamic inner axes."""
    return tuple(axis for axis, size in enumerate(shape) if axis > 0 and size is None)


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max
