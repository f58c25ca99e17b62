"""What Keras keeps to itself of a model's graph: every layer, and which layer made a tensor."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""What TensorFlow takes as a name's scope in a graph."""

log = logging.getLogger("ray.serve")


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


def make_traceable(model: Any) -> None:
    """Give layers whose names are in another alphabet one that a graph takes; inputs and outputs keep theirs.

    Keras opens a scope of the layer's name at every call, and TensorFlow's graphs know ASCII alone.
    """
    for position, layer in enumerate(all_layers(model)):
        if not SCOPE.fullmatch(str(layer.name)):
            # Keras 3 keeps the name in the open, Keras 2 behind a property.
            setattr(layer, "_name" if hasattr(layer, "_name") else "name", f"layer_{position}")


def forget_between_calls(model: Any) -> None:
    """Make stateful recurrent layers start every call from zeros: a state kept would be another client's."""
    stateful = [layer for layer in all_layers(model) if getattr(layer, "stateful", False) and hasattr(layer, "cell")]
    for layer in stateful:
        layer.stateful = False
    if stateful:
        names = ", ".join(f"'{layer.name}'" for layer in stateful)
        log.warning("stateful recurrent layers %s answer every request from zero states", names)
