"""A hand-written uvicorn app with Starlette: what a developer writes in an afternoon.

python -m bench.peers.bare_uvicorn MODEL PORT compiled|predict|noop|read
"""

from __future__ import annotations

import io
import sys

import numpy as np
import orjson
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def app(name: str, way: str) -> Starlette:
    """Return the app; JSON `{"inputs": [[...]]}`, raw little-endian float32 (the same form out), or a PNG."""
    if way in {"noop", "read"}:
        return Starlette(routes=[Route("/predict", noop if way == "noop" else read, methods=["POST"])])
    from bench.peers import function

    run = function.compiled(name) if way == "compiled" else function.predict(name)
    row = function.ROWS[name]

    async def predict(request: Request) -> Response:
        body = await request.body()
        kind = request.headers.get("content-type")
        if kind == "image/png":
            picture = np.asarray(Image.open(io.BytesIO(body)).convert("L"), np.float32) / 255
            return Response(orjson.dumps({"outputs": run(picture.reshape(-1, *row)).tolist()}))
        if kind == "application/octet-stream":
            return Response(run(np.frombuffer(body, "<f4").reshape(-1, *row)).tobytes())
        inputs = np.asarray(orjson.loads(body)["inputs"], np.float32).reshape(-1, *row)
        answer = orjson.dumps({"outputs": run(inputs)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


async def noop(request: Request) -> Response:  # noqa: ARG001
    """Answer without reading."""
    return Response(b"{}", media_type="application/json")


async def read(request: Request) -> Response:
    """Read and view the body: the least that any server of tensors does."""
    return Response(b"%d" % np.frombuffer(await request.body(), np.uint8).size)


if __name__ == "__main__":
    model, port, way = sys.argv[1:]
    uvicorn.run(app(model, way), host="127.0.0.1", port=int(port), loop="uvloop", http="httptools", access_log=False,
                log_level="warning")  # fmt: skip
