"""A no-op ASGI app under Serve's direct ingress behind HAProxy: the least that any request through Serve costs.

python -m bench.peers.serve_noop MODEL PORT noop
"""

from __future__ import annotations

import signal
import sys

from serve_app.front import environment

folder = environment.apply()

import ray  # noqa: E402
from ray import serve  # noqa: E402


async def answer(scope, receive, send):
    """Read the body, answer two bytes."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@serve.deployment(max_ongoing_requests=4096, logging_config={"enable_access_log": False})
@serve.ingress()
class Noop:
    def __serve_build_asgi_app__(self):
        return answer


if __name__ == "__main__":
    ray.init("local", include_dashboard=False, namespace="serve", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(Noop.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
    environment.remove(folder)
