"""No server at all: the functions that the servers call, timed one call after another in a process of their own.

    python -m bench.peers.in_process MODEL PORT CANDIDATE

CANDIDATE is what our plan chose for one row. `POST /predict` answers `model(x)`, the numbers that every server is held
against; `GET /time?way=plan|compiled|predict&seconds=S` times one of the functions.
"""

from __future__ import annotations

import http.server
import json
import sys
import time
import urllib.parse

import numpy as np

from bench.peers import function


class Functions:
    """Every way of calling one model that a server here uses."""

    def __init__(self, name: str, candidate: str) -> None:
        from deployments.loading import from_keras
        from deployments.planning.plan import PlanOptions, make_plan

        self.row = function.ROWS[name]
        self.model = function.load(name)
        plan = make_plan(from_keras(self.model), PlanOptions(allowed_batch_sizes=(1,), budget_s=0, only=(candidate,)))
        self.ways = {
            "plan": lambda x: plan.run((x,), 1)[0],
            "compiled": function.compiled(name),
            "predict": function.predict(name),
        }
        self.sample = np.random.default_rng(7).random((1, *self.row), np.float32)

    def answer(self, inputs: list) -> list:
        """Return `model(x)`; raise where any way differs."""
        x = np.asarray(inputs, np.float32).reshape(-1, *self.row)
        expected = np.asarray(self.model(x, training=False))
        for name, run in self.ways.items():
            np.testing.assert_allclose(run(x), expected, rtol=1e-3, atol=1e-5, err_msg=name)
        return expected.tolist()

    def time(self, way: str, seconds: float) -> dict[str, float]:
        """Return percentiles of one call in milliseconds; the result is brought to the host each time."""
        run, times_ns = self.ways[way], []
        for _ in range(10):
            run(self.sample)
        ends_s = time.perf_counter() + seconds
        while time.perf_counter() < ends_s:
            start_ns = time.perf_counter_ns()
            run(self.sample)
            times_ns.append(time.perf_counter_ns() - start_ns)
        p50, p90, p99 = np.percentile(times_ns, [50, 90, 99]) / 1e6
        return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "per_s": len(times_ns) / seconds, "errors": 0}


class Handler(http.server.BaseHTTPRequestHandler):
    functions: Functions

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply({"outputs": self.functions.answer(body["inputs"])})

    def do_GET(self) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        self._reply(self.functions.time(asked["way"], float(asked["seconds"])))

    def _reply(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    model, port, candidate = sys.argv[1:]
    Handler.functions = Functions(model, candidate)
    http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
