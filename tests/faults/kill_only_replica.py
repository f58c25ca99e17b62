"""`kill -9` the only replica under load: refusals in the protocol's form or waits, and service resumes by itself.

python -m tests.faults.kill_only_replica [--requests N]
"""

from __future__ import annotations

from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.report import Arguments, main
from tests.faults.stand import application, kill, stand, under, until

CLIENTS = 13
HANG_S = 60.0
"""Waiting for the new replica is allowed here: it is started, imports TensorFlow and plans, some 20 s on two cores."""
AFTER_S = 3.0


def run(args: Arguments) -> dict[str, Any]:
    """Return the counts, and how long the model was away."""
    with stand(application("numbers", "numbers")) as hurt:

        def deed() -> dict[str, Any]:
            (old,) = hurt.replicas("numbers")
            load.killed_s.append(load.now_s)
            kill(old)
            until(lambda: load.sent and len(hurt.replicas("numbers")) == 1 and answered_again(load))
            return {}

        target = requests.numbers(hurt.port, grpc_port=hurt.server.grpc_port)
        load = Load(target, CLIENTS, args.requests or 0, HANG_S, ways=args.ways)
        return under(load, deed, AFTER_S)


def answered_again(load: Load) -> bool:
    """Return whether the last second brought answers and nothing else."""
    last = [sent for sent in load.sent[-400:] if sent.ended_s > load.now_s - 1]
    return bool(last) and all(sent.kind == "answered" for sent in last)


if __name__ == "__main__":
    main("kill_only_replica", {"json": run})
