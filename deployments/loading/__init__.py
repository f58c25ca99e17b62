"""Loads a model from where it lies: `.keras`, `.h5`, a SavedModel folder, or a `module:function` factory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.model import LoadedModel
from deployments.source import Precision, Source

__all__ = ["Precision", "Source", "from_keras", "load", "localize"]


def from_keras(model: Any, source: str = "memory") -> LoadedModel:
    """Return a `keras.Model` in memory as a `LoadedModel`; see `deployments.loading.keras_model`."""
    # Imported here: the gateway reads `Source` and must not pay for TensorFlow.
    from deployments.loading import keras_model

    return keras_model.from_keras(model, source)


def load(source: Source, precision: Precision = "float32") -> LoadedModel:
    """Return the model at `source`, computing in `precision`.

    Raises `LoadError`, one readable text, for everything that can go wrong with a model.
    """
    from deployments import fetching
    from deployments.loading import dispatch

    source = localize(source) if fetching.is_remote(source.uri) else source
    loaded: LoadedModel = dispatch.load(source, precision)
    return loaded


def localize(source: Source, tell: Callable[[str], None] = lambda step: None) -> Source:  # noqa: ARG005
    """Return `source` as a path on this node with its SHA-256, downloaded if need be; factories as they are.

    `tell` takes what is under way. Raises `LoadError` where the source cannot be had or has another checksum.
    """
    # Imported here, because fetching hashes folders as this package does.
    from deployments import fetching

    if fetching.is_remote(source.uri):
        found = fetching.fetch(source, tell)
    elif (path := Path(source.uri).expanduser()).exists():
        found = fetching.at_path(path, source.sha256)
    else:
        return source
    return dataclasses.replace(source, uri=str(found.path), sha256=found.sha256)
