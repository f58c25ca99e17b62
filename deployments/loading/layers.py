"""What Keras keeps to itself of a model's graph: every layer, and which layer made a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def all_layers(model: Any) -> list[Any]:
    """Return the model and every layer below it, at any depth."""
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten()) if flatten is not None else list(_below(model))


def _below(layer: Any) -> Iterator[Any]:
    """Yield `layer` and what its `layers` hold: what Keras makes public, which leaves out attributes of own layers."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _below(inner)


def maker_name(tensor: Any, model: Any) -> str:
    """Return the name of the layer that makes a `KerasTensor`; the tensor's own is a counter (`keras_tensor_7`)."""
    history = getattr(tensor, "_keras_history", None)
    if history is not None:
        # Keras 2 calls it a layer, Keras 3 an operation.
        return str((history.operation if hasattr(history, "operation") else history.layer).name)
    for operation in getattr(model, "operations", ()):
        made = operation.output if isinstance(operation.output, (list, tuple)) else [operation.output]
        if any(each is tensor for each in made):
            return str(operation.name)
    return str(tensor.name)
