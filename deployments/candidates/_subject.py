"""The model under planning, and what several candidates build from it, built once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from deployments.files import replace_file
from deployments.model import LoadedModel
from deployments.source import Precision
from deployments.tensors import STRING, Arrays, Shape, Signature

T = TypeVar("T")


class Subject:
    """The model under planning, on one device."""

    def __init__(
        self,
        model: LoadedModel,
        device: str,
        folder: Path | None = None,
        exact: LoadedModel | None = None,
        load: Callable[[Precision], LoadedModel] | None = None,
    ) -> None:
        self.device = device
        self._folder = folder
        self._exact = exact
        """The same model in float32, where `model` computes in fewer bits."""
        self._load = load
        """Loads the same model in another precision, where a plan may choose it."""
        self._others: dict[str, Subject] = {}
        self.traces = 0
        """How often the model's Python code was traced into a graph, for whichever device."""
        self._counting = self
        self._root: Subject | None = None
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

    def on_host(self) -> Subject:
        """Return the same model as a subject on the CPU, which shares what knows no device."""
        host = self._other("host", lambda: self.model, "/CPU:0")
        host._root = self
        return host

    @property
    def root(self) -> Subject:
        """The subject whose host's one this is; itself otherwise. What knows no device is shared there."""
        return self._root or self

    def in_float32(self) -> Subject:
        """Return the same model computing in float32, from which a candidate may make its own lower precision."""
        exact = self._exact
        return self if exact is None else self._other("float32", lambda: exact, self.device)

    def in_precision(self, precision: Precision) -> Subject:
        """Return the same model loaded in another precision."""
        load = self._load
        assert load is not None, "only a plan that may choose the precision tries others"
        return self._other(precision, lambda: load(precision), self.device)

    def _other(self, key: str, model: Callable[[], LoadedModel], device: str) -> Subject:
        """Return the subject of the same model kept for `key`; its traces are counted here."""
        if key not in self._others:
            self._others[key] = Subject(model(), device, self._folder)
            self._others[key]._counting = self
        other = self._others[key]
        other.signature, other.sample = self.signature, self.sample
        return other

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` made for `key`, made at most once while planning lasts."""
        if key not in self._shared:
            self._shared[key] = make()
        result: T = self._shared[key]
        return result

    def kept(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return what `make` made for `key`, as `shared` does; kept on disk for later starts too."""
        return self.shared(("kept", key), lambda: self._read_or_make(key, make))

    def _read_or_make(self, key: str, make: Callable[[], bytes]) -> bytes:
        if self._folder is None:
            return make()
        model = self.model
        named = f"{model.fingerprint} {model.precision} {model.signature} {key} {tf.__version__}"
        path = self._folder / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.made"
        with contextlib.suppress(OSError):
            return path.read_bytes()
        made = make()
        with contextlib.suppress(OSError):
            replace_file(path, made)
        return made

    def concrete(self, shapes: Sequence[Shape], jit_compile: bool | None = None) -> Any:
        """Return the model as a `ConcreteFunction` of one tensor per input, of exactly these shapes.

        Tracing needs no weights' copies: the function reads the model's variables.
        """
        key = ("concrete", tuple(shapes), jit_compile)
        return self.shared(key, lambda: self._trace(shapes, jit_compile))

    def _trace(self, shapes: Sequence[Shape], jit_compile: bool | None) -> Any:
        call = self.model.call

        def traced(*tensors: Any) -> tuple[Any, ...]:
            self._counting.traces += 1
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
        self._model = self._exact = None
        self._load = None
        for other in self._others.values():
            other.release()
        self._others.clear()


def tensor_dtype(dtype: np.dtype[Any]) -> Any:
    """Return TensorFlow's dtype for one of a signature."""
    return tf.string if dtype == STRING else tf.as_dtype(dtype)


def variable_bytes(variable: Any) -> int:
    """Return the size of a `tf.Variable`'s value, or a Keras variable's, in bytes."""
    return int(np.prod(tuple(variable.shape), dtype=np.int64) * tf.as_dtype(variable.dtype).size)
