"""A keras-hub task's own preprocessor, as what makes the model's inputs: raw strings, pictures or sound in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deployments.model import Preprocessor
from deployments.tensors import STRING, Array, TensorSpec

_PARTS = {
    "tokenizer": TensorSpec("text", STRING, (None,)),
    "image_converter": TensorSpec("images", np.dtype(np.uint8), (None, None, None, 3)),
    "audio_converter": TensorSpec("audio", np.dtype(np.float32), (None, None)),
}
"""What a preprocessor is made of, and what people have for it."""


def of_task(model: Any, names: Sequence[str]) -> Preprocessor | None:
    """Return a task's preprocessor, which makes the inputs `names`; None where it has none, or one of several parts.

    It runs on the CPU as a graph, which is how `task.predict` runs it.
    """
    preprocessor = getattr(model, "preprocessor", None)
    if not callable(preprocessor):
        return None
    wanted = [spec for part, spec in _PARTS.items() if getattr(preprocessor, part, None) is not None]
    if len(wanted) != 1:
        return None
    (spec,) = wanted

    taken = tf.TensorSpec(spec.shape, tf.string if spec.dtype == STRING else spec.dtype)
    made = tf.function(lambda rows: preprocessor(rows), input_signature=[taken])

    ways = [made, preprocessor]

    def call(**columns: Array) -> dict[str, Array]:
        rows = tf.constant(columns[spec.name])
        with tf.device("/CPU:0"):
            try:
                result = ways[0](rows)
            except Exception:
                if len(ways) == 1:
                    raise
                result = preprocessor(rows)
                ways.pop(0)  # Python of its own, that no graph takes
        if isinstance(result, (tuple, list)):  # (x, y, sample_weight)
            result = result[0]
        if not isinstance(result, dict):
            return {names[0]: np.asarray(result)}
        return {name: np.asarray(result[name]) for name in names}

    return Preprocessor(f"preprocessor '{preprocessor.name}'", (spec,), call)
