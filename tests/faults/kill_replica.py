"""`kill -9` one of two replicas, again and again, under load: nothing may be lost.

python -m tests.faults.kill_replica [--requests N] [--kills N] [--clients all|plain|NAME,…] [--case json|…]

HAProxy sends a request again that its replica took to the grave, as far as it still has it: a request of up to 16 KiB.
`binary_replayed` raises that to 1 MiB, which a large body pays for with half a millisecond.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.report import Arguments, main
from tests.faults.stand import Stand, application, kill, stand, under, until

REQUESTS = 20_000
KILLS = 1
CLIENTS = {"json": 26, "binary": 13, "binary_replayed": 13}
SETTLE_S = 3.0
"""How long both replicas answer between two kills."""


def run(form: str, args: Arguments) -> dict[str, Any]:
    """Kill until enough requests have their fate and enough kills are done; return the counts."""
    model = "numbers" if form == "json" else "picture"
    environ = {"RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(2**20)} if form == "binary_replayed" else {}
    with stand(application(model, model, replicas=2), **environ) as hurt:
        target = getattr(requests, model)(hurt.port, grpc_port=hurt.server.grpc_port)
        load = Load(target, CLIENTS[form], args.requests or REQUESTS, ways=args.ways)
        return hurt_one_of_two(hurt, model, load, args.kills or KILLS)


def hurt_one_of_two(hurt: Stand, model: str, load: Load, kills: int = KILLS) -> dict[str, Any]:
    """Kill the older replica whenever both are there, `kills` times at least, until the load has had enough."""

    def deed() -> dict[str, Any]:
        while len(load.killed_s) < kills or len(load.sent) < load.wanted:
            until(lambda: hurt.running(model) == 2 and len(hurt.replicas(model)) == 2)
            time.sleep(SETTLE_S if load.killed_s else 0.0)
            load.killed_s.append(load.now_s)
            kill(hurt.replicas(model)[0])
            time.sleep(1.0)
        return {"kills": len(load.killed_s)}

    return under(load, deed)


FORMS = tuple(CLIENTS)

if __name__ == "__main__":
    main("kill_replica", {form: partial(run, form) for form in FORMS})
