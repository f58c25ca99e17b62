"""SIGTERM under load: whatever was accepted is answered.

python -m tests.faults.graceful_stop [--requests N]

A connection that is refused was never accepted; a request on an open connection that gets no answer is lost.
"""

from __future__ import annotations

import signal
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.report import main
from tests.faults.stand import application, stand, under

CLIENTS = 8


def run(wanted: int | None = None) -> dict[str, Any]:
    """Stop the server in the midst of a load; return the counts."""
    with stand(application("numbers", "numbers")) as hurt:

        def deed() -> dict[str, Any]:
            left = hurt.server.stop(signal.SIGTERM)
            return {"processes_left": len(left), "exit_code": hurt.server.process.returncode}

        load = Load(requests.numbers(hurt.port), CLIENTS, wanted or 0, ends_when_refused=True)
        return under(load, deed)


if __name__ == "__main__":
    main("graceful_stop", {"json": run})
