"""A model that begins to fail every prediction, or to hang in one, under load: found out, replaced, reported.

python -m tests.faults.failing_model [--case fails|hangs|hangs_inline|bad_inputs]

`fails` and `hangs` break one replica's model by a file of its own; the next one is well. `hangs_inline` is a prediction
on the event loop, where no health check can be answered. `bad_inputs` are a client's, and no illness of the replica.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import requests
from tests.faults.client import Load
from tests.faults.clients import RAW
from tests.faults.kill_only_replica import answered_again
from tests.faults.report import Arguments, main
from tests.faults.stand import application, stand, under, until

CLIENTS = 13
HANG_S = 90.0
"""Who waits in the hung replica's queue is answered by the next one."""
TIMEOUT_S = 5.0
"""`hang_timeout_s` here; its default is 60."""
AFTER_S = 3.0
LONG_S = 15.0
"""More than the three health checks in a row that Serve wants before it replaces a replica."""


def run(word: str, args: Arguments, **options: Any) -> dict[str, Any]:
    """Tell the model `word`; return the counts, and when it was found out and replaced, in seconds after that."""
    with tempfile.TemporaryDirectory() as folder:
        model = application("switched", "switched", source_args={"folder": folder}, hang_timeout_s=TIMEOUT_S, **options)
        with stand(model) as hurt:

            def deed() -> dict[str, Any]:
                (old,) = hurt.replicas("switched")
                Path(folder, str(old.pid)).write_text(word)
                told_s = time.monotonic()
                found = until(lambda: hurt.events("unhealthy", "hung"), 120)[0]
                found_s = time.monotonic() - told_s
                until(lambda: hurt.replicas("switched")[-1:] not in ([], [old]), 120)
                until(lambda: answered_again(load))
                answered_s = time.monotonic() - told_s
                return {"event": found["event"], "found_s": round(found_s, 1), "answers_again_s": round(answered_s, 1)}

            target = requests.numbers(hurt.port, "switched", hurt.server.grpc_port)
            load = Load(target, CLIENTS, args.requests or 0, HANG_S, ways=args.ways)
            return under(load, deed, AFTER_S)


def bad_inputs(args: Arguments) -> dict[str, Any]:
    """Send nothing but inputs that the model fails on; the replica must stay, and answer the next good one."""
    with stand(application("picky", "picky")) as hurt:
        (before,) = hurt.replicas("picky")
        load = Load(requests.negative(hurt.port, "picky"), CLIENTS, args.requests or 0, ways=RAW)
        found = under(load, lambda: time.sleep(LONG_S))
        after = Load(requests.numbers(hurt.port, "picky"), CLIENTS, 100)
        after.stop()
        asyncio.run(after.run())
        replaced = hurt.replicas("picky") != [before] or bool(hurt.events("unhealthy", "hung"))
        return {**found, "replaced": replaced, "good_answered_after": sum(s.kind == "answered" for s in after.sent)}


if __name__ == "__main__":
    cases = {
        "bad_inputs": bad_inputs,
        "fails": partial(run, "fail"),
        "hangs": partial(run, "hang", inline_bound_ms=0),
        "hangs_inline": partial(run, "hang", inline_bound_ms=1000),
    }
    main("failing_model", cases)
