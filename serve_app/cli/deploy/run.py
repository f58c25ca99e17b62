"""Finding the running server, joining its cluster, and applying a config to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from serve_app.cli import progress
from serve_app.cli.serve import announcement
from serve_app.cli.serve.say import say
from serve_app.cli.serve.waiting import wait_until_answering, wait_until_running
from serve_app.cli.stopping import Stop
from serve_app.cluster import controller, running
from serve_app.cluster.joining import joined
from serve_app.config import changes, serve_yaml


def deploy(path: Path, port: int | None, address: str | None) -> None:
    """Apply the config at `path` and return when every model of it answers.

    Raises `ConfigError` where the config is wrong or no server is found, before anything changes, and `LoadError`
    where a model cannot be served; the others are then served all the same.
    """
    server = None if address else running.find(_port_of(path, port))
    stop = Stop()
    with joined(server, address):
        stop.on()
        config = serve_yaml.read(path)
        lines = changes.between(controller.configured(), config.raw["applications"])
        for line in lines:
            say(line)
        http = controller.serve_details()["http_options"]
        _check_address(config.raw.get("http_options") or {}, http)
        if not lines:
            say("nothing changed")
            return
        controller.apply(config.raw)
        with progress.shown(sys.stdout, say) as show:
            wait_until_running(config, stop, show, strict=True)
        wait_until_answering(config, http, stop)
        if stop.is_set():
            say("not waited for; the server goes on with the change")
        else:
            say(f"every model answers on {announcement.base_url(http)}")


def _port_of(path: Path, port: int | None) -> int | None:
    """Return the port that the command names, or the config's where several servers leave a choice."""
    if port is not None or len(running.servers()) < 2:
        return port
    http = serve_yaml.load(path).get("http_options") or {}
    known = {server.http_port for server in running.servers()}
    return http["port"] if http.get("port") in known else None


def _check_address(wanted: Any, known: Any) -> None:
    """Say where the config asks for another address than the server has, which only a new start changes."""
    for key in ("host", "port"):
        if key in wanted and wanted[key] != known[key]:
            say(f"http_options.{key} stays {known[key]}: another takes a new start")
