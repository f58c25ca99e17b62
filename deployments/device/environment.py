"""What TensorFlow reads from its environment when it is imported; imports none itself."""

from __future__ import annotations

import os

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def prepare(kind: str, log_level: int) -> None:
    """Set the environment for a device of `kind` ("auto", "gpu", "cpu"), before TensorFlow is imported.

    `log_level` is the least that TensorFlow's native code writes (2: errors, 3: nothing but its end), unless
    somebody has set it.
    """
    os.environ.setdefault(LOG_LEVEL, str(log_level))
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if kind == "cpu":
        # Ray no longer masks GPUs from actors with num_gpus=0, and TensorFlow takes all it sees.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
