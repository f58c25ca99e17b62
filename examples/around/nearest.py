"""Embeddings with the nearest labels: the last hidden layer, and which known picture is most like the one sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image


def embedder(source: str = "models/digits.keras") -> keras.Model:
    """Return a classifier without its last layer: a picture to its embedding `[batch, 64]`."""
    model = keras.saving.load_model(source)
    return keras.Model(model.inputs, {"embedding": model.layers[-2].output})


class Nearest:
    """Finds, for each embedding, the known pictures that are most like it."""

    def __init__(self, pictures: str, source: str = "models/digits.keras", most: int = 3) -> None:
        paths = sorted(Path(pictures).glob("*.png"))
        known = np.stack([np.asarray(Image.open(path).convert("L"), np.float32)[..., None] / 255 for path in paths])
        self._names = [path.stem for path in paths]
        self._known = _unit(np.asarray(embedder(source)(known)["embedding"]))
        self._most = most

    def __call__(self, embedding: np.ndarray) -> list[dict[str, Any]]:
        """Return the names of the nearest, the nearest first, with the cosine of the angle between."""
        cosines = _unit(embedding) @ self._known.T
        order = np.argsort(-cosines, axis=1)[:, : self._most]
        return [
            {"nearest": self._names[best[0]], "labels": [[self._names[i], round(float(row[i]), 4)] for i in best]}
            for row, best in zip(cosines, order, strict=True)
        ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
