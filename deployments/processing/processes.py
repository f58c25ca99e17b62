"""`before` in processes of its own, where Python would hold the replica's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from deployments.errors import LoadError, PredictionFailed, SoloError
from deployments.processing.options import FunctionOptions
from deployments.tensors import Arrays, TensorSpec

CALM_S = 5.0
"""How long a process may take to end once its work is over."""


class BeforeProcess:
    """One process, started with its first batch or by `start`, and again after it died; for one thread at a time."""

    def __init__(self, options: FunctionOptions, model_inputs: Sequence[TensorSpec], limit_s: float) -> None:
        self._options = options
        self._model_inputs = tuple(model_inputs)
        self._limit_s = limit_s
        self._owner = f"before '{options.address}'"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    def start(self) -> None:
        """Start the process and wait until its function is made; raises `LoadError`."""
        ours, theirs = Pipe()
        try:
            # Not multiprocessing's own start, which runs the main module again: here that is Ray's.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployments.processing.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        finally:
            theirs.close()
        self._connection = ours
        try:
            outcome = self._asked((self._options, self._model_inputs))
        except PredictionFailed as error:
            raise LoadError(str(error)) from None
        if outcome is not None:
            self.stop()
            raise outcome

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the model's inputs for `count` rows; raises as `Before.run` does, or says how the process ended."""
        if self._connection is None:
            self.start()
        outcome = self._asked((arrays, count))
        if isinstance(outcome, SoloError):
            raise outcome
        columns: Arrays = outcome
        return columns

    def stop(self) -> None:
        """End the process."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if connection is not None:
            connection.close()
        if process is not None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(CALM_S)
                return
            process.kill()
            process.wait()

    def _asked(self, said: Any) -> Any:
        assert self._connection is not None
        try:
            self._connection.send(said)
            if self._connection.poll(self._limit_s):
                return self._connection.recv()
            how = f"took more than {self._limit_s:.0f} s and was ended"
        except (EOFError, OSError):
            how = f"ended its process ({self._exit_status()})"
        self.stop()
        raise PredictionFailed(f"{self._owner} {how}; its process is started again")

    def _exit_status(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(CALM_S)
            return f"signal {-status}" if status < 0 else f"exit status {status}"
        return "its connection was closed"
