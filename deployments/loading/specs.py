"""From TensorFlow's and Keras's descriptions of a tensor to `TensorSpec`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deployments.errors import LoadError
from deployments.tensors import STRING, Shape, Signature, TensorSpec, shape_text


def input_spec(name: str, dtype: Any, shape: Iterable[int | None] | None) -> TensorSpec:
    """Return an input's spec; raises `LoadError` for what cannot be served row by row."""
    if shape is None:
        raise LoadError(
            f"input '{name}' has no known rank; save the model with an input shape, e.g. keras.Input((28, 28, 1))"
        )
    axes: Shape = tuple(shape)
    if not axes:
        raise LoadError(f"input '{name}' is a single value without a batch axis; every input needs one in front")
    return TensorSpec(name, numpy_dtype(name, dtype), axes)


def output_spec(name: str, dtype: Any, shape: Iterable[int | None]) -> TensorSpec:
    """Return an output's spec; raises `LoadError` for an output without a batch axis."""
    axes: Shape = tuple(shape)
    if not axes:
        raise LoadError(
            f"output '{name}' is a single value for the whole batch, so it cannot be split into one answer per row; "
            "leave it out of the served model or give it a batch axis"
        )
    return TensorSpec(name, numpy_dtype(name, dtype), axes)


def signature(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    """Return the signature after checking that the batch axes agree; raises `LoadError`."""
    if not inputs or not outputs:
        raise LoadError("the model has no inputs or no outputs, so there is nothing to predict")
    batches = {spec.shape[0] for spec in inputs}
    if len(batches) > 1:
        listed = ", ".join(f"'{spec.name}' {shape_text(spec.shape)}" for spec in inputs)
        raise LoadError(f"the inputs disagree on the batch axis, the first one: {listed}")
    for spec in outputs:
        if spec.shape[0] is not None and spec.shape[0] not in batches:
            raise LoadError(
                f"output '{spec.name}' has shape {shape_text(spec.shape)}: its first axis is not the batch of the "
                f"inputs, {shape_text(tuple(batches))}, so it cannot be split into one answer per row"
            )
    return Signature(tuple(inputs), tuple(outputs))


def numpy_dtype(name: str, dtype: Any) -> np.dtype[Any]:
    """Return NumPy's dtype for a TensorFlow or Keras one; strings become `STRING`, bfloat16 is ml_dtypes'."""
    kind = tf.as_dtype(dtype)
    if kind == tf.string:
        return STRING
    if kind.is_complex:
        raise LoadError(
            f"tensor '{name}' is {kind.name}, for which no protocol has a datatype; let the model take or return its "
            "parts, tf.math.real and tf.math.imag"
        )
    if kind.is_floating or kind.is_integer or kind.is_bool:
        dtype_of: np.dtype[Any] = np.dtype(kind.as_numpy_dtype)
        return dtype_of
    raise LoadError(f"tensor '{name}' has dtype {kind.name}, which cannot be sent to a server")


def tensorflow_specs(specs: Iterable[TensorSpec]) -> tuple[Any, ...]:
    """Return one `tf.TensorSpec` per spec, for tracing."""
    return tuple(tf.TensorSpec(spec.shape, tensorflow_dtype(spec), name=spec.name) for spec in specs)


def tensorflow_dtype(spec: TensorSpec) -> Any:
    """Return the `tf.DType` of a spec."""
    return tf.string if spec.dtype == STRING else tf.as_dtype(spec.dtype)
