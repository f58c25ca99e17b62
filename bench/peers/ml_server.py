"""MLServer, as its documentation shows: a custom runtime, no parallel workers (its lowest latency).

python -m bench.peers.ml_server MODEL PORT compiled
"""

from __future__ import annotations

import asyncio
import os
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers import function


class KerasRuntime(MLModel):
    """Open Inference Protocol in and out."""

    async def load(self) -> bool:
        self._row = function.ROWS[self.name]
        self._run = function.compiled(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = self._run(x.reshape(-1, *self._row))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


async def main(name: str, port: int) -> None:
    settings = Settings(host="127.0.0.1", http_port=port, grpc_port=port + 1000, metrics_port=port + 2000, debug=False,
                        parallel_workers=0, metrics_endpoint=None, use_structured_logging=False)  # fmt: skip
    server = MLServer(settings)
    await server.start([ModelSettings(name=name, implementation=KerasRuntime)])


if __name__ == "__main__":
    os.environ.setdefault("MLSERVER_LOGGING_SETTINGS", "")
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
