"""Loads a model from where it lies: `.keras`, `.h5`, a SavedModel folder, or a `module:function` factory."""

from __future__ import annotations

from typing import Any

from deployments.loading.source import Precision, Source
from deployments.model import LoadedModel

__all__ = ["Precision", "Source", "from_keras", "load"]


def from_keras(model: Any, source: str = "memory") -> LoadedModel:
    """Return a `keras.Model` in memory as a `LoadedModel`; see `deployments.loading.keras_model`."""
    # Imported here: the gateway reads `Source` and must not pay for TensorFlow.
    from deployments.loading import keras_model

    return keras_model.from_keras(model, source)


def load(source: Source, precision: Precision = "float32") -> LoadedModel:
    """Return the model at `source`, computing in `precision`.

    Raises `LoadError`, one readable text, for everything that can go wrong with a model.
    """
    from deployments.loading import dispatch

    loaded: LoadedModel = dispatch.load(source, precision)
    return loaded
