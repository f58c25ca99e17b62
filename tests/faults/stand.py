"""The server that is hurt: its own Ray cluster and ports, its processes by role, and a load while a deed is done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.faults.client import Load, summary
from tests.support.processes import Server, model_application, solo_serve, write_config

LIMIT_S = 1200.0
"""The longest that one load may last."""
QUICK = {"plan_budget_s": 1, "max_batch_size": 4}
BEFORE_S = 2.0
"""How long the load runs before the deed."""


@dataclass(frozen=True)
class Stand:
    """A running server."""

    server: Server
    config: Path

    @property
    def port(self) -> int:
        """The front door's."""
        return self.server.port

    def processes(self, word: str) -> list[psutil.Process]:
        """Return the server's processes whose command has `word` in it, the oldest first."""
        found = []
        for process in psutil.Process(self.server.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                # Children of a fork carry their parent's title until they run something else.
                if word in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return sorted(found, key=lambda process: process.create_time())

    def replicas(self, name: str) -> list[psutil.Process]:
        """Return a model's replicas, the oldest first."""
        return self.processes(f"ServeReplica:{name}:KerasReplica")

    def running(self, name: str) -> int:
        """Return how many of a model's replicas the gateway counts as running."""
        with urllib.request.urlopen(f"{self.server.url}/overview", timeout=10) as answer:
            models = json.load(answer)["models"]
        return next(model["replicas"] for model in models if model["name"] == name)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the named events of all replicas' logs, in order of time."""
        found = [event for path in self._logs().glob("replica_*") for event in _events(path) if event["event"] in names]
        return sorted(found, key=lambda event: str(event["asctime"]))

    def _logs(self) -> Path:
        for process in self.processes("--session-dir="):
            word = next(word for word in process.cmdline() if word.startswith("--session-dir="))
            return Path(word.removeprefix("--session-dir=")) / "logs" / "serve"
        raise AssertionError("no session folder")


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        if line.startswith("{") and "event" in (event := json.loads(line)):
            yield event


@contextlib.contextmanager
def stand(*applications: Mapping[str, Any], dashboard: bool = False, **environ: str) -> Iterator[Stand]:
    """Serve `applications` and the gateway until the block ends."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        config = write_config(Path(folder), *applications)
        with solo_serve(config, Path(folder) / "log", dashboard=dashboard, **environ) as server:
            yield Stand(server, config)


def application(name: str, factory: str, replicas: int = 1, **args: Any) -> dict[str, Any]:
    """Return one model of `tests.faults.models`, its log in JSON; `deployment` in `args` adds to its deployment."""
    more = args.pop("deployment", {})
    app = model_application(name, f"tests.faults.models:{factory}", **QUICK, **args)
    logging_config = {"encoding": "JSON", "enable_access_log": False}
    app["deployments"] = [{"name": "KerasReplica", "num_replicas": replicas, "logging_config": logging_config, **more}]
    return app


def under(load: Load, deed: Callable[[], Any], after_s: float = 0.0) -> dict[str, Any]:
    """Run `load` with `deed` in its midst, `after_s` longer than the deed; return its summary, and the deed's."""
    done: dict[str, Any] = {}

    async def run() -> None:
        running = asyncio.ensure_future(load.run())
        try:
            await asyncio.sleep(BEFORE_S)
            done["deed_s"] = round(load.now_s, 2)
            done["deed"] = await asyncio.to_thread(deed)
            await asyncio.sleep(after_s)
        except Exception as error:  # what the clients saw until then is worth more than a stack
            done["deed"] = {"error": f"{type(error).__name__}: {error}"}
        finally:
            load.stop()
            await asyncio.wait_for(running, LIMIT_S)

    asyncio.run(run())
    found = {**summary(load), **(done.pop("deed") or {})}
    return {**found, "outage_s": outage_s(load, done["deed_s"])}


def outage_s(load: Load, since_s: float) -> float:
    """Return the time from the first request after `since_s` that was refused or lost to the end of the last one."""
    failed = [sent for sent in load.sent if sent.kind != "answered" and sent.ended_s >= since_s]
    if not failed:
        return 0.0
    return round(max(sent.ended_s for sent in failed) - min(sent.sent_s for sent in failed), 2)


def kill(process: psutil.Process) -> None:
    """Kill a process as the kernel does when memory runs out."""
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def until(holds: Callable[[], Any], limit_s: float = 120.0, every_s: float = 0.2) -> Any:
    """Return what `holds` returns once it is true; an error on the way counts as false."""
    ends_s = time.monotonic() + limit_s
    while time.monotonic() < ends_s:
        with contextlib.suppress(OSError, ValueError, StopIteration, KeyError):
            if found := holds():
                return found
        time.sleep(every_s)
    raise AssertionError(f"did not come true in {limit_s:.0f} s")


def closed_loop(load: Load, seconds: float) -> Load:
    """Run `load` for so long and return it."""

    async def run() -> None:
        running = asyncio.ensure_future(load.run())
        await asyncio.sleep(seconds)
        load.stop()
        await asyncio.wait_for(running, LIMIT_S)

    asyncio.run(run())
    return load


def answers_per_s(load: Load) -> float:
    """Return the rate of answers over a whole load."""
    return sum(sent.kind == "answered" for sent in load.sent) / max(sent.ended_s for sent in load.sent)
