"""A process that runs `before`: `python -m deployments.processing.worker DESCRIPTOR`, started by `processes`."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

from deployments.errors import LoadError, PredictionFailed, SoloError
from deployments.processing.before import make_before


def main(descriptor: int) -> None:
    """Make the function, say so, and answer batches until the other side goes away."""
    connection: Connection[Any, Any] = Connection(descriptor)
    options, model_inputs = connection.recv()
    try:
        before = make_before(options, model_inputs)
    except Exception as error:
        connection.send(error if isinstance(error, SoloError) else LoadError(f"{type(error).__name__}: {error}"))
        return
    connection.send(None)
    while True:
        try:
            arrays, count = connection.recv()
        except (EOFError, OSError):
            return
        try:
            outcome: Any = before.run(arrays, count)
        except SoloError as error:
            outcome = error
        except Exception as error:
            outcome = PredictionFailed(f"{before.function.owner} failed: {type(error).__name__}: {error}")
        connection.send(outcome)


if __name__ == "__main__":
    main(int(sys.argv[1]))
