"""`kill -9` what stands around the model under load: the gateway, Serve's controller, HAProxy.

python -m tests.faults.kill_infrastructure [--case gateway|controller|haproxy] [--requests N]

Model traffic passes through HAProxy alone, so only its own end may be felt.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.kill_only_replica import answered_again
from tests.faults.report import Arguments, main
from tests.faults.stand import application, kill, stand, under, until

WORDS = {
    "gateway": "ServeReplica:gateway:Gateway",
    "controller": "ray::ServeController",
    "haproxy": "bin/haproxy ",
}
"""What the command of each has in it."""
CLIENTS = 13
AFTER_S = 5.0


def run(part: str, args: Arguments) -> dict[str, Any]:
    """Kill `part`, wait until it is back; return the counts, and for how long requests failed."""
    with stand(application("numbers", "numbers")) as hurt:

        def deed() -> dict[str, Any]:
            old = hurt.processes(WORDS[part])[-1]
            load.killed_s.append(load.now_s)
            kill(old)
            new = until(lambda: [p for p in hurt.processes(WORDS[part]) if p.pid != old.pid])
            until(lambda: answered_again(load))
            until(lambda: hurt.running("numbers") == 1)
            return {"is_back": bool(new)}

        target = requests.numbers(hurt.port, grpc_port=hurt.server.grpc_port)
        load = Load(target, CLIENTS, args.requests or 0, ways=args.ways)
        return under(load, deed, AFTER_S)


if __name__ == "__main__":
    main("kill_infrastructure", {part: partial(run, part) for part in WORDS})
