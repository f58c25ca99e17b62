"""A hash of what a model is: its architecture, weights and vocabularies, but not where or when it was saved."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deployments.fetching.checksum import of_folder
from deployments.loading.layers import all_layers


def of_keras(model: Any) -> str:
    """Return the SHA-256, in hex, of a Keras model's class, config, weights and assets.

    The config holds the dtype policies, so the same file at another precision has another fingerprint. Seeds
    and compile state are left out: they differ between loads and no prediction depends on them.
    """
    digest = hashlib.sha256()
    digest.update(_config_text(model).encode())
    for weight in model.weights:
        if not hasattr(weight, "numpy"):
            continue  # Keras 2 lists a vocabulary here; its assets are hashed below
        value = np.ascontiguousarray(weight.numpy())
        digest.update(f"\n{getattr(weight, 'path', weight.name)} {value.dtype} {value.shape}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    for layer in _layers_with_assets(model):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            digest.update(of_folder(Path(folder)).encode())
    return digest.hexdigest()


def of_text(text: str) -> str:
    """Return the SHA-256, in hex, of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _config_text(model: Any) -> str:
    """Return class and config as canonical JSON; a subclassed model without a config counts by its class."""
    kind = type(model)
    try:
        config = model.get_config()
    except NotImplementedError:
        config = {}
    return f"{kind.__module__}.{kind.__qualname__} " + json.dumps(config, sort_keys=True, default=_stable_text)


def _stable_text(value: Any) -> str:
    """Return text for what JSON cannot hold, without the address in a default `repr`."""
    if isinstance(value, np.ndarray):
        return str(value.tolist())
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _layers_with_assets(model: Any) -> list[Any]:
    """Return the layers that keep state in files (vocabularies) instead of weights."""
    return [layer for layer in all_layers(model) if hasattr(layer, "save_assets")]
