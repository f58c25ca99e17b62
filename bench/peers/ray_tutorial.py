"""Ray Serve's own tutorial form: an HTTP ingress deployment that calls a model deployment by handle, default proxy.

python -m bench.peers.ray_tutorial MODEL PORT compiled|predict
"""

from __future__ import annotations

import signal
import sys

import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100)
class Model:
    def __init__(self, name: str, way: str) -> None:
        from bench.peers import function

        self.run = function.compiled(name) if way == "compiled" else function.predict(name)
        self.row = function.ROWS[name]

    def predict(self, inputs: list) -> list:
        return self.run(np.asarray(inputs, np.float32).reshape(-1, *self.row)).tolist()


@serve.deployment(max_ongoing_requests=100)
class Ingress:
    def __init__(self, model) -> None:
        self.model = model

    async def __call__(self, request: Request) -> dict:
        body = await request.json()
        return {"outputs": await self.model.predict.remote(body["inputs"])}


if __name__ == "__main__":
    name, port, way = sys.argv[1:]
    ray.init("local", include_dashboard=False, namespace="serve", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Ingress.bind(Model.bind(name, way)), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
