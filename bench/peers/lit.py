"""LitServe, as its documentation shows: one LitAPI, one worker; batching off (its lowest latency) or on.

python -m bench.peers.lit MODEL PORT compiled|batched
"""

from __future__ import annotations

import sys

import litserve
import numpy as np


class KerasApi(litserve.LitAPI):
    """JSON `{"inputs": [[...]]}` in, `{"outputs": [[...]]}` out."""

    def setup(self, device):  # noqa: ARG002
        from bench.peers import function  # here: the process that speaks HTTP needs no TensorFlow

        sizes = function.SIZES if way == "batched" else (1,)
        self.row = function.ROWS[model]
        self.run = function.compiled(model, sizes)

    def decode_request(self, request):
        return np.asarray(request["inputs"], np.float32).reshape(-1, *self.row)

    def predict(self, x):
        return self.run(x.reshape(-1, *self.row))

    def encode_response(self, output):
        return {"outputs": output.tolist()}


model, port, way = sys.argv[1:]

if __name__ == "__main__":
    server = litserve.LitServer(
        KerasApi(max_batch_size=16 if way == "batched" else 1), accelerator="cpu", workers_per_device=1
    )
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="warning",
               access_log=False)  # fmt: skip
