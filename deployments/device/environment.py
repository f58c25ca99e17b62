"""TensorFlow's import: what it reads from its environment then, and what it need not import."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
UNUSED = ("IPython", "matplotlib", "pandas", "sklearn")
"""What Keras imports where it finds it, for plots, data frames and scikit-learn's interface: 2.1 of 5.3 s, and no
replica draws or trains. Whoever asks for them later gets them."""


def prepare(kind: str, log_level: int) -> None:
    """Set the environment for a device of `kind` ("auto", "gpu", "cpu") and import TensorFlow.

    `log_level` is the least that TensorFlow's native code writes (2: errors, 3: nothing but its end), unless
    somebody has set it.
    """
    os.environ.setdefault(LOG_LEVEL, str(log_level))
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if kind == "cpu":
        # Ray no longer masks GPUs from actors with num_gpus=0, and TensorFlow takes all it sees.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    with _as_if_absent(UNUSED):
        import tensorflow  # noqa: F401 - and Keras with it


@contextlib.contextmanager
def _as_if_absent(packages: Sequence[str]) -> Iterator[None]:
    """Let imports of `packages`, but for those that are there already, fail within the block as if not installed."""
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
