"""BentoML, as its documentation shows: a service class with a numpy API, one worker.

python -m bench.peers.bento MODEL PORT compiled
"""

from __future__ import annotations

import os
import sys

import bentoml
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, tracing={"sample_rate": 0.0})
class Keras:
    """JSON `{"inputs": [[...]]}` in, the bare tensor out."""

    def __init__(self) -> None:
        from bench.peers import function

        self.run = function.compiled(os.environ["BENCH_MODEL"])

    @bentoml.api(route="/predict")
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return self.run(inputs.astype(np.float32, copy=False))


if __name__ == "__main__":
    environ = {**os.environ, "BENCH_MODEL": sys.argv[1], "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "serve", "bench.peers.bento:Keras", "--host", "127.0.0.1", "--port"]
    os.execve(sys.executable, [*command, sys.argv[2]], environ)
