"""A loaded model, independent of the file format it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployments.tensors import Arrays, Signature, TensorSpec


@dataclass(frozen=True)
class Preprocessor:
    """What a model brings along to make its inputs of what people have: a keras-hub task's own."""

    name: str
    inputs: tuple[TensorSpec, ...]
    call: Callable[..., Any]
    """Takes one array `[batch, …]` an input, by name; returns the model's inputs by name."""


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, with one uniform way to call it.

    `call` takes one tensor per input, each `[batch, ...]` in the signature's order, and returns one tensor per
    output in the signature's order: it is `model(x, training=False)` for a Keras model and the serving
    signature for a SavedModel. It may be called eagerly (the reference that every candidate is verified
    against) and inside a `tf.function` (to trace it).
    """

    signature: Signature
    call: Callable[..., tuple[Any, ...]]
    variables: tuple[Any, ...]
    """The `tf.Variable`s that `call` reads, so that they stay alive and can be counted."""
    predict: Callable[[Arrays], Arrays] | None
    """What a user would otherwise call (`model.predict`), for comparison only; None where there is none."""
    fingerprint: str
    """A hash of the model's content (weights and architecture), hex; the plan cache's key."""
    source: str
    """Where it came from, as the user wrote it."""
    samples: tuple[Mapping[str, Any], ...] = ()
    """Requests that came with the model, each input's name to its rows."""
    method_name: str = "tensorflow/serving/predict"
    """What a SavedModel's signature says that it is for."""
    preprocessor: Preprocessor | None = None
    """Makes its inputs, where the file has one."""
    precision: str = "float32"
    """What most of its work computes in: a file may have been saved under a policy of its own."""
