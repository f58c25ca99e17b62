"""The server while it is attacked: its processes, their memory, and whether it still answers."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import psutil

from serve_app.grpc.messages import ModelInferResponse
from tests.hostile.bodies import HALF, PIXELS, SIMPLE, A, infer, predict
from tests.hostile.cases import ANSWER_S
from tests.hostile.rpc import Call, Caller, good
from tests.hostile.wire import Connection
from tests.support.processes import Server

MARKS = {"replica": ":KerasReplica", "gateway": ":Gateway", "haproxy": "haproxy -"}
"""How a process's command line tells what it is."""
SETTLED_S = 30
"""How long HAProxy's processes may take to become one."""


@dataclass(frozen=True)
class Watched:
    """The processes that requests pass through, by role."""

    processes: dict[str, list[psutil.Process]]

    @classmethod
    def of(cls, server: Server) -> Watched:
        """Return the processes once HAProxy is one: Serve's last reload leaves the one before it to its connections."""
        before, found = None, cls._look(server)
        ends_s = time.monotonic() + SETTLED_S
        while (found != before or len(found["haproxy"]) > 1) and time.monotonic() < ends_s:
            time.sleep(1)
            before, found = found, cls._look(server)
        return cls(found)

    @staticmethod
    def _look(server: Server) -> dict[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = {role: [] for role in MARKS}
        for process in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                for role, mark in MARKS.items():
                    if mark in line:
                        found[role].append(process)
        assert all(found.values()), f"expected all of {list(MARKS)}, got {found}"
        return found

    def gone(self) -> list[str]:
        """Return the processes that have ended; psutil tells a process from a later one with its number."""
        return [
            f"{role} {process.pid}"
            for role, all_ in self.processes.items()
            for process in all_
            if not process.is_running()
        ]

    def rss_mb(self) -> dict[str, float]:
        """Return each role's resident memory in MB, all its processes together."""
        return {
            role: round(sum(process.memory_info().rss for process in all_) / 1e6, 1)
            for role, all_ in self.processes.items()
        }


async def good_answers(port: int, caller: Caller) -> list[str]:
    """Ask one good request in every protocol; return what was wrong with the answers."""
    connection, wrong = Connection(port), []
    try:
        for request, expected in GOOD:
            reply = await connection.ask(request.encode())
            if reply.status != 200 or expected not in reply.body:
                wrong.append(f"a good request to {request.path} got {reply.status} {reply.body[:200]!r}")
    except Exception as error:
        wrong.append(f"a good request got no answer: {type(error).__name__} {error}")
    finally:
        connection.close()
    code, details, answer = await caller.call(Call("ModelInfer", good().SerializeToString()), ANSWER_S)
    if code != grpc.StatusCode.OK or ModelInferResponse.FromString(answer).raw_output_contents[0] != (A + A).tobytes():
        wrong.append(f"a good gRPC request got {code.name} {details[:200]}")
    return wrong


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


GOOD = (
    (infer("simple", _compact(SIMPLE)), b'"data":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]'),
    (infer("half_plus_two", _compact(HALF)), b'"data":[2.5,3.0,4.5]'),
    (predict("half_plus_two", b'{"instances":[1.0,2.0,5.0]}'), b'{"predictions":[2.5,3.0,4.5]}'),
    (
        infer("half_plus_two", np.float32([1, 2]).tobytes(), ("Inference-Header-Content-Length", "0")),
        np.float32([2.5, 3]).tobytes(),
    ),
    (infer("digits", PIXELS.tobytes(), ("Inference-Header-Content-Length", "0")), b'"binary_data_size":40'),
)
