"""`solo serve`: start Ray and Serve for one config, watch it come up, say what it serves, and end it cleanly."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer

from deployments.errors import ConfigError, SoloError
from serve_app.cli import progress
from serve_app.cli.serve import own_session
from serve_app.cli.serve.say import say
from serve_app.cli.serve.waiting import wait_until_answering, wait_until_running
from serve_app.cli.serve.watching import Watch
from serve_app.cli.stopping import Stop
from serve_app.cluster import controller, running
from serve_app.cluster.deploying import cluster
from serve_app.cluster.ending import end
from serve_app.cluster.options import Options
from serve_app.cluster.resources import cluster_address
from serve_app.cluster.zygote import launching
from serve_app.cluster.zygote.launching import Zygote
from serve_app.config.grpc_options import with_grpc
from serve_app.config.serve_yaml import ServeConfig
from serve_app.front import environment, ports, soft_stop

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
IMPORTED = ("serve_app.ingress", "serve_app.gateway", "serve_app.builders")
"""What replicas import."""
WITH_TENSORFLOW = ("deployments.device.preloaded", "deployments.planning.from_source")
"""What models' replicas import beside, in this order."""
GPUS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""One of these is there where a GPU may be used (Linux, WSL): whether CUDA minds the fork has not been tried."""


def serve(make: Callable[[], ServeConfig], options: Options) -> int:
    """Serve the config that `make` returns until SIGINT or SIGTERM, and return the exit status.

    `make` is called when Ray's environment is set, for a config's check imports Ray.

    Every process started here is gone afterwards, and whatever went wrong has been said: 1 where the config is, before
    anything starts, or where a model cannot be served.
    """
    folder = environment.apply()
    try:
        return own_session.run(lambda: _serve(make, options, folder))
    finally:
        # A HAProxy that Serve started while it shut down, out of reach since its parent is gone.
        end(soft_stop.left_behind(folder))
        environment.remove(folder)


def _serve(make: Callable[[], ServeConfig], options: Options, folder: Path) -> int:
    modules = IMPORTED if any(path.exists() for path in GPUS) else (*WITH_TENSORFLOW, *IMPORTED)
    is_own = options.address == "local"
    with launching.started(folder, modules) if is_own else contextlib.nullcontext(launching.NONE) as zygote:
        return _serve_config(make, options, zygote)


def _serve_config(make: Callable[[], ServeConfig], options: Options, zygote: Zygote) -> int:
    try:
        config = make()
        for name, problem in config.problems.items():
            say(f"{name}: cannot be served: {problem}")
        raw = with_address(config.raw, options)
        _check_port(raw["http_options"], options)
        raw, remark = with_grpc(
            raw, raw["http_options"]["host"], ports.is_port_free, options.port is not None, options.grpc_port
        )
        if remark:
            say(remark)
        environment.leave_free({raw["http_options"]["port"], raw["grpc_options"]["port"]})
        _run(raw, config, options, zygote)
    except SoloError as error:
        typer.secho(f"solo serve: {error}", fg="red", err=True)
        return 1
    return 0


def _run(raw: dict[str, Any], config: ServeConfig, options: Options, zygote: Zygote) -> None:
    stop = Stop()
    stop.on()
    with cluster(raw, config, options, say, zygote):
        # Ray's core replaces the handlers with ones that print a stack and die (ray 2.60).
        stop.on()
        with progress.shown(sys.stdout, say) as show:
            config = config.without(wait_until_running(config, stop, show, strict=options.strict))
        wait_until_answering(config, raw["http_options"], stop)
        if not stop.is_set():
            _announce(config, raw["http_options"])
        _stay(raw["http_options"]["port"], stop)
        say("stopping")


def _stay(http_port: int, stop: Stop) -> None:
    """Be found by `solo deploy`, and say what changes, until `stop` is set."""
    with running.announced(cluster_address(), http_port):
        Watch(controller.applications, say).until(stop)


def _check_port(http: Mapping[str, Any], options: Options) -> None:
    if options.address == "local" and not ports.is_port_free(http["host"], http["port"]):
        raise ConfigError(f"http_options.port: {http['host']}:{http['port']} is taken; choose another with --port")


def with_address(raw: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return the config with the HTTP address filled in: the option's, the config's, or the default."""
    http = dict(raw.get("http_options") or {})
    http["host"] = options.host or http.get("host", DEFAULT_HOST)
    http["port"] = options.port or http.get("port", DEFAULT_PORT)
    return {**raw, "http_options": http}


def _announce(config: ServeConfig, http: Mapping[str, Any]) -> None:
    """Print what is served, where, on what device, and a line to try it with."""
    from serve_app.cli.serve import announcement

    base = announcement.base_url(http)
    door = announcement.front_door(http["port"])
    say(f"ready on {base} ({door})")
    for path, model in zip(config.paths, config.models, strict=True):
        for line in announcement.model_lines(f"{base}{path}", model.tokens):
            say(f"  {line}")
    for path, pipeline in zip(config.pipeline_paths, config.pipelines, strict=True):
        for line in announcement.pipeline_lines(f"{base}{path}", pipeline):
            say(f"  {line}")
    say(f"the page: {base}/   metrics for Prometheus: {base}/metrics")
