"""The model under planning, and what several candidates build from it, built once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from deployments.model import LoadedModel
from deployments.tensors import STRING, Arrays, Shape, Signature

T = TypeVar("T")


class Subject:
    """The model under planning; `traces` counts every time its Python code is traced into a graph."""

    def __init__(self, model: LoadedModel, device: str) -> None:
        self.device = device
        self.traces = 0
        self._model: LoadedModel | None = model
        self._shared: dict[Hashable, Any] = {}
        self.sample: Arrays = ()
        """Inputs that the model takes, set by planning: `[batch, ...]` of the smallest bucket."""
        self.signature: Signature = model.signature
        """The model's own; planning adds the bounds that it finds."""
        self.takes_any_rows = True
        """Whether a batch axis fixed at N may be padded; False where planning found that rows influence each other."""
        self.precision = model.precision
        self.weights_bytes = sum(variable_bytes(variable) for variable in model.variables)

    @property
    def model(self) -> LoadedModel:
        """The loaded model; gone after `release`."""
        assert self._model is not None, "the subject is released: planning is over"
        return self._model

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return "GPU" in self.device.upper()

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` made for `key`, made at most once while planning lasts."""
        if key not in self._shared:
            self._shared[key] = make()
        result: T = self._shared[key]
        return result

    def concrete(self, shapes: Sequence[Shape], jit_compile: bool | None = None) -> Any:
        """Return the model as a `ConcreteFunction` of one tensor per input, of exactly these shapes.

        Tracing needs no weights' copies: the function reads the model's variables.
        """
        key = ("concrete", tuple(shapes), jit_compile)
        return self.shared(key, lambda: self._trace(shapes, jit_compile))

    def _trace(self, shapes: Sequence[Shape], jit_compile: bool | None) -> Any:
        call = self.model.call

        def traced(*tensors: Any) -> tuple[Any, ...]:
            self.traces += 1
            # An Identity a output keeps an input that is passed through, or one tensor under two names, apart.
            return tuple(tf.identity(output) for output in call(*tensors))

        specs = [
            tf.TensorSpec(shape, tensor_dtype(spec.dtype), name=f"input_{index}")
            for index, (shape, spec) in enumerate(zip(shapes, self.signature.inputs, strict=True))
        ]
        with tf.device(self.device):
            concrete = tf.function(traced, jit_compile=jit_compile, autograph=False).get_concrete_function(*specs)
        # Lookup tables leave their initialisers in a collection, which copies of the graph then fail to serialise.
        for collection in concrete.graph.collections:
            concrete.graph.clear_collection(collection)
        return concrete

    def release(self) -> None:
        """Drop the model and everything shared: what the chosen runners hold stays alive through them."""
        self._shared.clear()
        self._model = None


def tensor_dtype(dtype: np.dtype[Any]) -> Any:
    """Return TensorFlow's dtype for one of a signature."""
    return tf.string if dtype == STRING else tf.as_dtype(dtype)


def variable_bytes(variable: Any) -> int:
    """Return the size of a `tf.Variable`'s value, or a Keras variable's, in bytes."""
    return int(np.prod(tuple(variable.shape), dtype=np.int64) * tf.as_dtype(variable.dtype).size)
