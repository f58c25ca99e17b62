"""`kill -9` one of two replicas, again and again, under load: nothing may be lost.

python -m tests.faults.kill_replica [--requests N] [--case json|binary|binary_replayed]

HAProxy sends a request again that its replica took to the grave, as far as it still has it: a request of up to 16 KiB.
`binary_replayed` raises that to 1 MiB, which a large body pays for with half a millisecond.
"""

from __future__ import annotations

import time
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.report import main
from tests.faults.stand import Stand, application, kill, stand, under, until

REQUESTS = 20_000
CLIENTS = {"json": 16, "binary": 8, "binary_replayed": 8}
SETTLE_S = 3.0
"""How long both replicas answer between two kills."""


def run(form: str, wanted: int = REQUESTS) -> dict[str, Any]:
    """Kill until `wanted` requests have their fate; return the counts."""
    model = "numbers" if form == "json" else "picture"
    environ = {"RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(2**20)} if form == "binary_replayed" else {}
    with stand(application(model, model, replicas=2), **environ) as hurt:
        return hurt_one_of_two(hurt, model, Load(getattr(requests, model)(hurt.port), CLIENTS[form], wanted))


def hurt_one_of_two(hurt: Stand, model: str, load: Load) -> dict[str, Any]:
    """Kill the older replica whenever both are there, at least once, until the load has had enough."""

    def deed() -> dict[str, Any]:
        kills = 0
        while not kills or len(load.sent) < load.wanted:
            until(lambda: hurt.running(model) == 2 and len(hurt.replicas(model)) == 2)
            time.sleep(SETTLE_S if kills else 0.0)
            kill(hurt.replicas(model)[0])
            kills += 1
            time.sleep(1.0)
        return {"kills": kills}

    return under(load, deed)


FORMS = tuple(CLIENTS)

if __name__ == "__main__":
    main("kill_replica", {form: lambda wanted, form=form: run(form, wanted or REQUESTS) for form in FORMS})
