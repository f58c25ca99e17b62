"""Asks a server with KServe's SDK, in a process of its own: it cannot be imported beside tritonclient's gRPC.

    python tests/support/kserve_rest.py ADDRESS binary|json|refused

Reads the input's rows as JSON from stdin; prints `{"ready", "id", "outputs"}`, or `{"error"}`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import kserve
import numpy as np


async def main(url: str, way: str, x: np.ndarray) -> dict[str, Any]:
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    try:
        if way == "refused":
            await client.infer(url, {"inputs": []}, model_name="dense")
        tensor = kserve.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=way == "binary")
        parameters = {"binary_data_output": way == "binary"}
        request = kserve.InferRequest("dense", [tensor], request_id="k", parameters=parameters)
        ready = await client.is_model_ready(url, "dense")
        answer = await client.infer(url, request, model_name="dense")
    except Exception as error:
        return {"error": str(error)}
    finally:
        await client.close()
    return {"ready": ready, "id": answer.id, "outputs": answer.outputs[0].as_numpy().tolist()}


if __name__ == "__main__":
    rows = np.asarray(json.load(sys.stdin), np.float32)
    print(json.dumps(asyncio.run(main(f"http://{sys.argv[1]}", sys.argv[2], rows))))
