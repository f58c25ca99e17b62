"""SIGTERM under load: whatever was accepted is answered.

python -m tests.faults.graceful_stop [--requests N]

A connection that is refused was never accepted; a request on an open connection that gets no answer is lost.
"""

from __future__ import annotations

import signal
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.report import Arguments, main
from tests.faults.stand import application, stand, under

CLIENTS = 13


def run(args: Arguments) -> dict[str, Any]:
    """Stop the server in the midst of a load; return the counts."""
    with stand(application("numbers", "numbers")) as hurt:

        def deed() -> dict[str, Any]:
            left = hurt.server.stop(signal.SIGTERM)
            return {"processes_left": len(left), "exit_code": hurt.server.process.returncode}

        target = requests.numbers(hurt.port, grpc_port=hurt.server.grpc_port)
        load = Load(target, CLIENTS, args.requests or 0, ends_when_refused=True, ways=args.ways)
        return under(load, deed)


if __name__ == "__main__":
    main("graceful_stop", {"json": run})
