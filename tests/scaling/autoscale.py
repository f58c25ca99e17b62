"""Autoscaling under a load curve: 1 to N replicas and back, to zero, and from zero. Two to four minutes.

    python -m tests.scaling.autoscale [--results FILE.json] [--default-policy]

Serves the sleeping model with an `autoscaling_config`, drives it with closed loops, reads the number of replicas off
`/overview` twice a second, and ends with an error where a replica too few was started, one too many is left, or any
request was refused or lost. `make scaling` runs it; pytest does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from serve_app.load import payload
from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.connection import run
from serve_app.load.request import Request
from serve_app.load.summary import summarise
from tests.support.processes import Server, model_application, solo_serve, write_config

MOST = 3
CLIENTS = 24
SETTLE_S = 120
"""How long a change may take on a busy machine: a replica imports TensorFlow, loads and plans."""
AT_ZERO = 5
"""Requests sent at once while there is no replica."""
SCALING = {
    "min_replicas": 0,
    "initial_replicas": 1,
    "max_replicas": MOST,
    "target_ongoing_requests": 6,
    "metrics_interval_s": 1,
    "look_back_period_s": 4,
    "upscale_delay_s": 2,
    "downscale_delay_s": 6,
    "downscale_to_zero_delay_s": 10,
}
BY_LOAD = {"policy": {"policy_function": "serve_app.autoscaling:ByLoad", "policy_kwargs": {"target_load": 0.7}}}


@dataclass
class Watch:
    """Reads the number of running replicas until the block ends."""

    url: str
    started_s: float = field(default_factory=time.monotonic)
    course: list[tuple[float, int]] = field(default_factory=list)
    """Seconds from the start and replicas, where they changed."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    @property
    def replicas(self) -> int:
        """The number last seen."""
        return self.course[-1][1] if self.course else -1

    @property
    def now_s(self) -> float:
        """Seconds from the start."""
        return round(time.monotonic() - self.started_s, 1)

    def wait_for(self, replicas: int) -> float:
        """Wait until so many run; return how long that took."""
        since_s = time.monotonic()
        while self.replicas != replicas:
            if time.monotonic() - since_s > SETTLE_S:
                raise SystemExit(f"expected {replicas} replicas within {SETTLE_S} s; they went {self.course}")
            time.sleep(0.1)
        return round(time.monotonic() - since_s, 1)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            with urllib.request.urlopen(f"{self.url}/overview", timeout=30) as answer:
                seen = next(model["replicas"] for model in json.load(answer)["models"])
            if seen != self.replicas:
                self.course.append((self.now_s, seen))
                print(f"{self.now_s:6.1f} s: {seen} replicas", flush=True)


def main() -> None:
    """Serve, drive, check, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path)
    parser.add_argument("--default-policy", action="store_true", help="Serve's own policy instead of ours.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app = model_application(
            "nap", "bench.scaling_models:napping", allowed_batch_sizes=[1, 2, 4], plan_budget_s=6, device="cpu",
            plan_cache=str(folder / "plans"),
        )  # fmt: skip
        scaling = SCALING if args.default_policy else {**SCALING, **BY_LOAD}
        deployment = {"name": "KerasReplica", "autoscaling_config": scaling, "ray_actor_options": {"num_cpus": 0.1}}
        config = write_config(folder, {**app, "deployments": [deployment]})
        with solo_serve(config, folder / "solo.log") as server:
            result = {
                "machine": machine.moment(),
                "policy": "Serve's" if args.default_policy else "ByLoad",
                **drive(server),
            }
    text = json.dumps(result, indent=1)
    print(text)
    if args.results:
        args.results.write_text(text + "\n")
    sys.exit("requests were refused or lost" if result["failed"] else 0)


def drive(server: Server) -> dict[str, Any]:
    """Go through the load curve and return what was seen."""
    request = payload.of_model(f"{server.url}/v2/models/nap")
    with Watch(server.url) as watch:
        watch.wait_for(1)
        phases = [load(request, 1, 5), load(request, CLIENTS, watch, MOST), load(request, CLIENTS, 10)]
        phases += [load(request, 1, watch, 1), load(request, 1, 5)]
        to_zero_s = watch.wait_for(0)
        time.sleep(2)
        first = from_zero(request)
        back_s = watch.wait_for(1)
        phases.append(load(request, 1, 5))
        to_zero_again_s = watch.wait_for(0)
    return {
        "phases": phases,
        "idle_to_zero_s": [to_zero_s, to_zero_again_s],
        "from_zero": first,
        "replica_seen_after_s": back_s,
        "course": watch.course,
        "failed": sum(sum(phase["errors"].values()) for phase in phases) + first["failed"],
    }


def load(request: Request, clients: int, lasts: float | Watch, until: int = 0) -> dict[str, Any]:
    """Drive `clients` closed loops for so many seconds, or until the watch sees `until` replicas."""
    slices, replicas = [], until
    seconds = 5.0 if isinstance(lasts, Watch) else lasts
    ends_s = time.monotonic() + SETTLE_S
    while True:
        slices.append(summarise(run(ClosedLoop(request, clients, seconds).run()), seconds, clients=clients))
        if not isinstance(lasts, Watch) or lasts.replicas == replicas:
            break
        if time.monotonic() > ends_s:
            raise SystemExit(f"expected {replicas} replicas within {SETTLE_S} s; they went {lasts.course}")
    errors: dict[str, int] = {}
    for one in slices:
        errors = {key: errors.get(key, 0) + one.errors.get(key, 0) for key in {*errors, *one.errors}}
    last = slices[-1]
    seen = {"requests": sum(one.count for one in slices), "errors": errors, "seconds": seconds * len(slices)}
    return {"clients": clients, **seen, "last_p50_ms": last.p50_ms, "last_per_s": round(last.per_s, 1)}


def from_zero(request: Request) -> dict[str, Any]:
    """Send requests at once while no replica runs, and return how long each waited and what it got."""
    with ThreadPoolExecutor(AT_ZERO) as pool:
        answers = list(pool.map(lambda _: ask(request), range(AT_ZERO)))
    return {
        "waited_s": [round(waited_s, 2) for _, waited_s, _ in answers],
        "status": [status for status, _, _ in answers],
        "server_timing": answers[0][2],
        "failed": sum(status != 200 for status, _, _ in answers),
    }


def ask(request: Request) -> tuple[int, float, str]:
    """Return status, seconds and `Server-Timing` of one request."""
    started_s = time.monotonic()
    try:
        asked = urllib.request.Request(request.url, request.body, dict(request.headers))
        with urllib.request.urlopen(asked, timeout=SETTLE_S) as answer:
            answer.read()
            status, timing = answer.status, ", ".join(answer.headers.get_all("Server-Timing") or [])
    except urllib.error.HTTPError as error:
        status, timing = error.code, error.read().decode(errors="replace")[:300]
    except OSError as error:
        status, timing = 0, str(error)
    return status, time.monotonic() - started_s, timing


if __name__ == "__main__":
    main()
