"""Whether TensorFlow has begun to run in this process."""

from __future__ import annotations


def has_run() -> bool:
    """Return whether TensorFlow has started its threads here, after which no fork can use it; True if in doubt."""
    try:
        from tensorflow.python.eager import context

        return bool(context.context()._initialized)
    except (ImportError, AttributeError):
        return True
