"""What the model itself answers, eagerly: the outputs that every candidate is held against."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._elsewhere import precision_of
from deployments.candidates._subject import Subject
from deployments.device.ledger import memory_text
from deployments.errors import InvalidInput, LoadError
from deployments.lengths import dynamic_axes, padded
from deployments.planning import given
from deployments.planning.contents import contents
from deployments.planning.options import PlanOptions
from deployments.planning.samples import ROWS, samples, tiled
from deployments.planning.verification import Differs, largest_error
from deployments.planning.vocabularies import vocabularies
from deployments.tensors import Array, Arrays, TensorSpec

OPEN_LENGTHS = ((16, 23), (8, 12), (3, 5), (1, 2), (64, 80), (224, 256))
"""Pairs of lengths tried for axes that stay open: a model with strides or 'valid' windows refuses short ones, and one
with a position embedding long ones."""

LONGEST, LONGEST_S = 8192, 2.0
"""The longest sequence that is tried, and the time for trying."""

PLACES = 16
"""Places of a row that are tried with an index that is out of range: columns may index tables of different sizes."""


class NoSample(LoadError):
    """The model takes none of the inputs that were made up for it; how it runs cannot be measured."""


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs for one bucket and the model's own answer to them."""

    inputs: Arrays
    outputs: Arrays


class Reference:
    """Answers of `model(x, training=False)`; computed on a few rows, which a larger batch repeats."""

    def __init__(
        self, subject: Subject, options: PlanOptions, call: Callable[..., tuple[Any, ...]] | None = None
    ) -> None:
        self._subject = subject
        self._options = options
        self._call = call or subject.model.call
        self._vocabularies, self._contents = self._read_graph()
        self._given = self._read_given()
        self._cases: dict[int | None, list[Case]] = {}
        self._refused_length: int | None = None
        """The shortest length that was tried for open axes and refused."""
        self.is_random = False
        """Whether the model answers the same input differently each time; its values cannot be compared then."""

    def cases(self, bucket: Bucket) -> list[Case]:
        """Return the bucket's cases: one, or one for each of two lengths where an inner axis stays open.

        Raises `LoadError` where the model takes no sample, or where rows of a batch influence each other.
        """
        if bucket.length not in self._cases:
            self._cases[bucket.length] = self._make(bucket)
        return [
            Case(tiled(case.inputs, bucket.batch_size), tiled(case.outputs, bucket.batch_size))
            for case in self._cases[bucket.length]
        ]

    def check(self, case: Case, outputs: Arrays, name: str = "") -> float | None:
        """Return the largest absolute error of the outputs of `name`, None for a random model; raises `Differs`."""
        if self.is_random:
            _check_forms(outputs, case.outputs)
            return None
        limit = self._options.tolerance_of(precision_of(name))
        return largest_error(self._subject.signature, outputs, case.outputs, limit)

    def bounds(self, inputs: Arrays) -> dict[int, tuple[int, int]]:
        """Return which indices the model takes, by the input's position: those that it was seen to refuse bound it.

        `inputs` are such as the model takes, `[batch, ...]` each. XLA answers an index that is out of range as if it
        were the last, and GPUs as if its row were zeros; there the model itself does not refuse, and nothing is known.
        """
        if self._subject.is_gpu:
            return {}
        found = {}
        for index, rows in self._vocabularies.items():
            kind = inputs[index].dtype
            if rows <= 0 or (kind.kind in "iu" and rows > np.iinfo(kind).max) or not self._refuses(inputs, index, rows):
                continue
            is_wrapped = kind.kind != "u" and not self._refuses(inputs, index, -1)
            if not is_wrapped:
                found[index] = (0, rows)
            elif self._refuses(inputs, index, -rows - 1):
                found[index] = (-rows, rows)
        return found

    def _refuses(self, inputs: Arrays, index: int, value: int) -> bool:
        """Return whether the model refuses `value` wherever in the first row of that input it stands."""
        size = inputs[index][0].size
        for place in sorted({int(at) for at in np.linspace(0, size - 1, PLACES)}):
            changed = inputs[index].copy()
            changed[0].reshape(-1)[place] = value
            try:
                self._eager((*inputs[:index], changed, *inputs[index + 1 :]))
            except Exception:  # whatever a model's own code raises
                continue
            return False
        return True

    def longest(self, inputs: Arrays) -> int | None:
        """Return the most places along the open axes of sequences that the model takes; None where no end was found.

        Where it ends a table of positions ends, so only lengths of the model's own weights are tried, and those
        between the lengths that planning saw it take and refuse. `inputs` are such as it takes.
        """
        signature = self._subject.signature
        axes = [dynamic_axes(spec.shape) for spec in signature.inputs]
        if signature.is_static or any(axis != (1,) for axis in axes if axis) or self._subject.is_gpu:
            return None
        taken = max(array.shape[1] for array, axis in zip(inputs, axes, strict=True) if axis)
        ends_s = time.monotonic() + LONGEST_S
        for length in self._ends(taken):
            if time.monotonic() > ends_s:
                return None
            if not self._takes(inputs, axes, length + 1):
                return length if self._takes(inputs, axes, length) else None
        return None

    def _ends(self, taken: int) -> list[int]:
        """Return the lengths at which the model may end, ascending: those of its weights, and up to one it refused."""
        sizes = {int(variable.shape[0]) for variable in self._subject.model.variables if len(variable.shape)}
        refused = range(taken, self._refused_length) if self._refused_length else range(0)
        return sorted({size for size in sizes if taken <= size <= LONGEST} | set(refused))

    def _takes(self, inputs: Arrays, axes: list[tuple[int, ...]], length: int) -> bool:
        """Return whether the model takes one row of `length` places, which repeats what it is known to take."""
        rows = tuple(
            np.take(array[:1], np.arange(length) % array.shape[1], axis=1) if axis else array[:1]
            for array, axis in zip(inputs, axes, strict=True)
        )
        try:
            self._eager(rows)
        except Exception:  # whatever a model's own code raises
            return False
        return True

    def _make(self, bucket: Bucket) -> list[Case]:
        if bucket.is_fixed(self._subject.signature):
            return self._first_accepted(bucket.length)
        if self._given is not None:
            try:
                return self._first_of([self._given])
            except NoSample:
                if self._options.has_samples:
                    raise
        for lengths in OPEN_LENGTHS:
            try:
                return [case for length in lengths for case in self._first_accepted(length)]
            except NoSample as error:
                last = error
                self._refused_length = min(self._refused_length or max(lengths), max(lengths))
        raise last

    def _first_accepted(self, length: int | None) -> list[Case]:
        """Return the cases of the first sample that the model takes."""
        return self._first_of(self._samples(length))

    def _first_of(self, samples_: Iterable[Arrays]) -> list[Case]:
        error: Exception | None = None
        for inputs in samples_:
            try:
                return self._cases_of(inputs)
            except LoadError:
                raise
            except tf.errors.ResourceExhaustedError as exhausted:
                raise LoadError(memory_text(self._subject.device, self._subject.weights_bytes)) from exhausted
            except Exception as raised:  # whatever a model's own code raises
                error = error or raised
        if self._options.has_samples:
            whose = self._options.samples or "before"
            raise LoadError(f"samples: the model refuses the rows of '{whose}': {_said(error)}")
        raise NoSample(f"the model refuses every sample input; the first failed with {_said(error)}")

    def _samples(self, length: int | None) -> Iterator[Arrays]:
        signature, given_rows = self._subject.signature, self._given
        if given_rows is not None:
            yield tuple(self._of_length(*each, length) for each in zip(signature.inputs, given_rows, strict=True))
            if self._options.has_samples:
                return
        fixed = signature.inputs[0].shape[0]
        shapes = Bucket(fixed or ROWS, length).shapes(signature)
        yield from samples(signature, shapes, self._vocabularies, self._contents, self._options.seed)

    def _of_length(self, spec: TensorSpec, array: Array, length: int | None) -> Array:
        """Return given rows cut or padded to `length` along their open axes."""
        if length is None:
            return array
        axes = dynamic_axes(spec.shape)
        cut = array[tuple(slice(length if axis in axes else None) for axis in range(array.ndim))]
        return padded(spec, cut, length, self._options.padding_value)

    def _read_given(self) -> Arrays | None:
        """Return rows that somebody gave: the option's file, or requests that came with the model."""
        signature = self._subject.signature
        if (rows := self._options.rows) is not None:
            return given.fitted({spec.name: rows[index] for index, spec in enumerate(signature.inputs)}, signature)
        if self._options.samples is not None:
            return given.read(self._options.samples, signature)
        for request in self._subject.model.samples:
            with contextlib.suppress(InvalidInput, ValueError, TypeError):
                return given.fitted(request, signature)
        return None

    def _cases_of(self, inputs: Arrays) -> list[Case]:
        """Return one case, or one a row where batches are of one row alone, which may then influence each other."""
        if self._options.allowed_batch_sizes != (1,):
            return [self._case(inputs)]
        rows = range(len(inputs[0]))
        return [self._case(tuple(array[row : row + 1] for array in inputs)) for row in rows]

    def _case(self, inputs: Arrays) -> Case:
        outputs = self._eager(inputs)
        for spec, output in zip(self._subject.signature.outputs, outputs, strict=True):
            if output.ndim == 0 or len(output) != len(inputs[0]):
                raise LoadError(
                    f"output '{spec.name}' has shape {list(output.shape)} for {len(inputs[0])} rows; "
                    "every output needs the batch as its first axis"
                )
        if self._subject.signature.inputs[0].shape[0] is None:
            self._check_row_alone(inputs, outputs)
        else:
            self._check_padding(inputs, outputs)
        return Case(inputs, outputs)

    def _check_padding(self, inputs: Arrays, outputs: Arrays) -> None:
        """Find out whether a row among copies of itself, as padding makes them, is answered as among others."""
        padded = self._eager(tuple(np.repeat(array[:1], len(array), axis=0) for array in inputs))
        first = tuple(output[:1] for output in outputs)
        try:
            largest_error(self._subject.signature, tuple(one[:1] for one in padded), first, self._options.largest_error)
        except Differs:
            self._subject.takes_any_rows = False

    def _check_row_alone(self, inputs: Arrays, outputs: Arrays) -> None:
        alone = tuple(array[:1] for array in inputs)
        first = self._eager(alone)
        tolerance = self._options.largest_error
        try:
            largest_error(self._subject.signature, self._eager(alone), first, tolerance)
        except Differs:
            self.is_random = True
            return
        try:
            largest_error(self._subject.signature, first, tuple(output[:1] for output in outputs), tolerance)
        except Differs as error:
            raise LoadError(
                f"rows of one batch influence each other ({error}): set allowed_batch_sizes to [1]"
            ) from error

    def _eager(self, inputs: Arrays) -> Arrays:
        with tf.device(self._subject.device):
            return tuple(output.numpy() for output in self._call(*(tf.constant(array) for array in inputs)))

    def _read_graph(self) -> tuple[dict[int, int], tuple[bytes, ...]]:
        signature = self._subject.signature
        try:
            concrete = self._subject.concrete(open_shapes(signature))
            return vocabularies(self._subject, concrete), contents(concrete) if signature.has_strings else ()
        except Exception:  # a model that cannot be traced has no graph to read; the samples go without
            return {}, ()


def _said(error: Exception | None) -> str:
    """Return an error's type and cause: Keras says in the first line where it was, and lists the arguments last."""
    text = str(error).split("Arguments received by")[0].replace("\x1b[1m", "").replace("\x1b[0m", "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return repr(error)
    cause = next((line for line in lines[1:] if not line.startswith("[")), "")
    return f"{type(error).__name__}: {lines[0]}" + (f" {cause}" if "encountered when calling" in lines[0] else "")


def _check_forms(got: Arrays, want: Arrays) -> None:
    forms = [[(array.dtype, array.shape) for array in arrays] for arrays in (got, want)]
    if forms[0] != forms[1]:
        raise Differs(f"outputs are {forms[0]} instead of {forms[1]}")
