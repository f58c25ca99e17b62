"""Puts a Keras model's layers into half precision without touching its weights."""

from __future__ import annotations

from typing import Any

from deployments.errors import LoadError
from deployments.loading.layers import all_layers
from deployments.source import PRECISIONS, Precision


def of(model: Any) -> str:
    """Return the precision that a model computes in: a lower one that any of its layers' policies names, else float32.

    A model saved under `mixed_float16` brings that policy along in its layers; a head kept in float32 is part of it.
    """
    names = {layer.dtype_policy.name for layer in model._flatten_layers()}
    for precision in PRECISIONS:
        computes_in = precision.removeprefix("mixed_")
        if precision != "float32" and names & {precision, computes_in}:
            return precision
    return "float32"


def apply(model: Any, precision: Precision) -> Any:
    """Return the same model, its float32 layers computing in `precision`.

    Keras reads a layer's policy at every call, so setting it is enough: the variables stay float32 and are cast
    where they are used, as in a model built under that policy. Layers with another policy of their own keep
    it: text and lookup layers (integers, strings), quantised layers, a head kept in float64.
    """
    if precision not in PRECISIONS:
        raise LoadError(f"precision '{precision}' is unknown; expected one of {', '.join(PRECISIONS)}")
    if precision == "float32":
        return model
    for layer in all_layers(model):
        if layer.dtype_policy.name == "float32":
            layer.dtype_policy = precision
    return model
