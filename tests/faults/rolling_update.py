"""A new version of a model by `serve deploy` under load, with a spare slot and without one.

python -m tests.faults.rolling_update [--case spare_slot|no_spare_slot] [--requests N]

With `max_surge_percent: 100` Serve starts the new replica before it stops the old one, which takes a slot: here
`num_cpus`, on a machine with GPUs one of these. Without, the old one goes first, and the model is away meanwhile.
"""

from __future__ import annotations

import dataclasses
import http.client
import subprocess
import urllib.error
import urllib.request
from typing import Any

import psutil
import yaml

from tests.faults import requests
from tests.faults.client import Check, Load, Target
from tests.faults.report import Arguments, main
from tests.faults.stand import Stand, application, stand, under, until
from tests.support.processes import BIN, clean_environ

REQUESTS = 20_000
CLIENTS = 13
HANG_S = 60.0
AFTER_S = 3.0
SPARE = {"max_surge_percent": 100}


def run(deployment: dict[str, Any], hang_s: float, wanted: int, ways: tuple[str, ...]) -> dict[str, Any]:
    """Deploy version 2 while version 1 answers; return the counts, and how often each version answered."""
    apps = [
        application("numbers", "numbers", version=str(n), source_args={"scale": float(n)}, deployment=deployment)
        for n in (1, 2)
    ]
    with stand(apps[0], dashboard=True) as hurt:
        versions: dict[str, int] = {}
        target = counted(requests.numbers(hurt.port, grpc_port=hurt.server.grpc_port), versions)
        load = Load(target, CLIENTS, wanted, hang_s, ways=ways)

        def deed() -> dict[str, Any]:
            deploy(hurt, apps[1])
            until(lambda: versions.get("2", 0) > 0, 200)
            until(lambda: len(hurt.replicas("numbers")) == 1 and hurt.running("numbers") == 1)
            return {}

        return {**under(load, deed, AFTER_S), "answered_by_version": versions}


def deploy(hurt: Stand, app: dict[str, Any]) -> None:
    """Run `serve deploy` with `app` in its old version's place."""
    raw = yaml.safe_load(hurt.config.read_text())
    raw["applications"] = [app if one["name"] == app["name"] else one for one in raw["applications"]]
    hurt.config.write_text(yaml.safe_dump(raw))
    environ = {
        **clean_environ(),
        "RAY_AUTH_MODE": "token",
    }  # the cluster asks for the user's token, which the command does not send unasked
    command = [str(BIN / "serve"), "deploy", "--address", dashboard(hurt), str(hurt.config)]
    subprocess.run(command, env=environ, check=True, timeout=60, capture_output=True)


def dashboard(hurt: Stand) -> str:
    """Return the address that `serve deploy` talks to."""

    def found() -> str | None:
        ours = {process.pid for process in hurt.processes("dashboard/dashboard.py")}
        for connection in psutil.net_connections("tcp"):
            url = f"http://127.0.0.1:{tuple(connection.laddr)[1]}" if connection.laddr else ""
            if connection.pid in ours and connection.status == psutil.CONN_LISTEN and is_dashboard(url):
                return url
        return None

    return str(until(found, 60))


def is_dashboard(url: str) -> bool:
    """Return whether Ray's dashboard answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=2) as answer:
            return b"ray_version" in answer.read()
    except urllib.error.HTTPError as error:
        return error.code == http.HTTPStatus.UNAUTHORIZED
    except (OSError, http.client.HTTPException):  # gRPC answers too, with bytes that are no HTTP/1
        return False


def counted(target: Target, versions: dict[str, int]) -> Target:
    """Return the target with the good answers of each version counted in `versions`."""
    inner: Check = target.check

    def check(headers: dict[str, str], body: bytes) -> str | None:
        fault = inner(headers, body)
        if fault is None:
            version = body.partition(b'"model_version":"')[2][:1].decode()
            versions[version] = versions.get(version, 0) + 1
        return fault

    return dataclasses.replace(target, check=check)


def spare_slot(args: Arguments) -> dict[str, Any]:
    """Both versions fit at once."""
    return run(SPARE, 10.0, args.requests or REQUESTS, args.ways)


def no_spare_slot(args: Arguments) -> dict[str, Any]:
    """The old replica holds every slot."""
    return run({"ray_actor_options": {"num_cpus": psutil.cpu_count() or 1}}, HANG_S, args.requests or 0, args.ways)


if __name__ == "__main__":
    main("rolling_update", {"spare_slot": spare_slot, "no_spare_slot": no_spare_slot})
