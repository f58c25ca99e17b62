"""NVIDIA PyTriton, a real Triton with the function as a Python model, as its documentation shows.

Its wheel carries Triton for the system's Python 3.11 (`/usr/bin/python3`) and wants numpy < 2.

    python -m bench.peers.triton MODEL PORT compiled|batched
"""

from __future__ import annotations

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers import function


def main(name: str, port: int, way: str) -> None:
    sizes = function.SIZES if way == "batched" else (1,)
    run = function.compiled(name, sizes)

    @batch
    def infer(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": run(x)}

    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as server:
        server.bind(
            model_name=name,
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=function.ROWS[name])],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(-1,))],
            config=ModelConfig(max_batch_size=sizes[-1]),
            strict=False,
        )
        server.serve()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
