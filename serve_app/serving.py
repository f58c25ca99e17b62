"""`solo serve`: start Ray and Serve for one config, watch it come up, say what it serves, and end it cleanly."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deployments.errors import ConfigError, LoadError
from serve_app import environment, front_stop, loopback, placement, serve_config, serve_progress
from serve_app.grpc_options import with_grpc
from serve_app.serve_config import ServeConfig
from serve_app.serve_progress import Show

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
POLL_S = 0.25
ANSWER_S = 30.0
"""How long the front door may take to learn of a replica that runs."""


@dataclass(frozen=True)
class Options:
    """What the command line says over the config; None leaves the config's word."""

    host: str | None = None
    port: int | None = None
    address: str = "local"
    """The Ray cluster: `local` starts one, anything else is joined."""
    dashboard: bool = True
    """Ray's dashboard: ten processes, needed by `serve deploy` and `serve status`."""


def serve(path: Path, options: Options = Options()) -> None:
    """Serve the config at `path` until SIGINT or SIGTERM; every process started here is gone afterwards.

    Raises `ConfigError` before anything starts where the config is wrong, and `LoadError` where a model cannot
    be served; in both cases nothing is left running.
    """
    folder = environment.apply()
    try:
        config = serve_config.read(path)
        raw = _with_address(config.raw, options)
        _check_port(raw["http_options"], options)
        raw, remark = with_grpc(raw, raw["http_options"]["host"], environment.is_port_free, options.port is not None)
        if remark:
            _say(remark)
        environment.leave_free({raw["http_options"]["port"], raw["grpc_options"]["port"]})
        _run(raw, config, options)
    finally:
        # A HAProxy that Serve started while it shut down, out of reach since its parent is gone.
        _end(front_stop.left_behind(folder))
        environment.remove(folder)


def _run(raw: dict[str, Any], config: ServeConfig, options: Options) -> None:
    stop = threading.Event()
    _stop_on_signals(stop)
    with _cluster(raw, config, options):
        # Ray's core replaces the handlers with ones that print a stack and die (ray 2.60).
        _stop_on_signals(stop)
        with serve_progress.shown(sys.stdout, _say) as show:
            _wait_until_running(config, stop, show)
        _wait_until_answering(config, raw["http_options"], stop)
        if not stop.is_set():
            _announce(config, raw["http_options"])
        stop.wait()
        _say("stopping")


def _check_port(http: Mapping[str, Any], options: Options) -> None:
    if options.address == "local" and not environment.is_port_free(http["host"], http["port"]):
        raise ConfigError(f"http_options.port: {http['host']}:{http['port']} is taken; choose another with --port")


def _with_address(raw: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return the config with the HTTP address filled in: the option's, the config's, or the default."""
    http = dict(raw.get("http_options") or {})
    http["host"] = options.host or http.get("host", DEFAULT_HOST)
    http["port"] = options.port or http.get("port", DEFAULT_PORT)
    return {**raw, "http_options": http}


def _stop_on_signals(stop: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())


@contextlib.contextmanager
def _cluster(raw: Mapping[str, Any], config: ServeConfig, options: Options) -> Iterator[None]:
    """Start (or join) Ray, deploy `raw`, and on leaving take down what was started."""
    import ray
    from ray import serve as ray_serve
    from ray.serve._private import api
    from ray.serve.config import gRPCOptions
    from ray.serve.schema import ServeDeploySchema

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    schema = ServeDeploySchema.model_validate(raw)
    own = {
        "num_cpus": placement.local_cpus(len(config.models), psutil.cpu_count() or 1),
        "include_dashboard": options.dashboard,
        "runtime_env": {"worker_process_setup_hook": loopback.HOOK} if loopback.is_wanted() else None,
    }
    own = own if options.address == "local" else {}
    _start_ray(options.address, own)
    if any(model.device == "auto" for model in config.models) and not ray.cluster_resources().get("GPU"):
        _say("warning: no GPU in this cluster, so models with device auto are served on the CPU; see `solo doctor`")
    children = _descendants()
    try:
        _require_room(config, options)
        # What the `serve run` command does (ray/serve/scripts.py, 2.60); there is no public call for a whole YAML.
        try:
            client = api.serve_start(
                http_options=schema.http_options.model_dump(),
                proxy_location=schema.proxy_location,
                grpc_options=gRPCOptions(**schema.grpc_options.model_dump()),
                controller_options=schema.controller_options,
            )
            client.deploy_apps(schema, _blocking=False)
        except Exception as error:
            raise LoadError(f"Serve could not start: {_cause(error)}; see `solo doctor`") from error
        yield
    finally:
        children |= _descendants()
        if options.address == "local":
            # Before Serve, which would kill HAProxy first, and with it whatever it has accepted.
            front_stop.soft_stop(children, front_stop.console(Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"])))
        # Ray reports its own controller's intended end as a failure, on stderr.
        with contextlib.suppress(Exception), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            if options.address == "local":
                ray_serve.shutdown()
            else:
                for application in schema.applications:
                    ray_serve.delete(application.name)
            ray.shutdown()
        _end(children)


def _start_ray(address: str, own: Mapping[str, Any]) -> None:
    """Start or join Ray, a second time where a busy machine let the first try run into Ray's own limits."""
    import ray

    for attempt in (1, 2):
        try:
            ray.init(address, namespace="serve", log_to_driver=False, logging_level="ERROR", **own)
            return
        except Exception as error:
            # On a loaded machine the raylet gives up on its agents after some 16 s (Ray 2.60) and `init` raises.
            ray.shutdown()
            if attempt == 2 or address != "local":
                raise LoadError(f"Ray could not start: {_cause(error)}; see `solo doctor`") from error


def _cause(error: Exception) -> str:
    """Return the first line of what went wrong, which Ray's errors from another process have as their last."""
    from ray.exceptions import RayTaskError

    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[-1] if isinstance(error, RayTaskError) else lines[0]


def _require_room(config: ServeConfig, options: Options) -> None:
    """Raise `LoadError` where replicas would wait for ever; a cluster that was joined may yet grow."""
    lacks = placement.shortages(_demands(config), [node["Resources"] for node in _nodes()])
    text = "; ".join(lack.text for lack in lacks)
    if lacks and options.address == "local":
        raise LoadError(f"{text}; {placement.ADVICE}")
    if lacks:
        _say(f"warning: {text}; waiting for nodes to join")


def _demands(config: ServeConfig) -> list[placement.Demand]:
    import ray

    return placement.demands(config.pairs, ray.cluster_resources().get("GPU", 0))


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _free() -> list[Mapping[str, float]]:
    from ray._private import state

    return list(state.available_resources_per_node().values())


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _end(processes: set[psutil.Process]) -> None:
    """End what Ray left behind: HAProxy outlives a killed proxy actor."""
    _, alive = psutil.wait_procs(list(processes), timeout=2)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def _wait_until_running(config: ServeConfig, stop: threading.Event, show: Show) -> None:
    """Poll Serve until every application runs; raise `LoadError` with the reason of the first that failed."""
    from ray import serve as ray_serve

    said: dict[str, str] = {}
    unplaced = placement.Unplaced(_demands(config), _say)
    while not stop.is_set():
        apps = ray_serve.status().applications
        for name, app in apps.items():
            if app.status in {"DEPLOY_FAILED", "UNHEALTHY"}:
                raise LoadError(f"application '{name}': {_reason(app)}")
            if said.get(name) != app.status:
                said[name] = app.status
                _say(f"{name}: {app.status.lower()}")
        if apps and all(app.status == "RUNNING" for app in apps.values()):
            return
        steps = _steps(config)
        for name, (fraction, step) in steps.items():
            show(name, fraction, step)
        unplaced.look(steps, _free)
        stop.wait(POLL_S)


def _steps(config: ServeConfig) -> dict[str, tuple[float, str]]:
    """Return how far each loading model's replica last said it is."""
    from ray.experimental import internal_kv

    from deployments.replica import PROGRESS_KEY

    keys = {model.label: PROGRESS_KEY.format(name=model.name, version=model.version) for model in config.models}
    said = {label: internal_kv._internal_kv_get(key) for label, key in keys.items()}
    return {label: tuple(json.loads(text)) for label, text in said.items() if text is not None}


def _wait_until_answering(config: ServeConfig, http: Mapping[str, Any], stop: threading.Event) -> None:
    """Wait for the front door: it learns of a running replica a moment later than Serve's controller."""
    from serve_app import announcement

    ends_s = time.monotonic() + ANSWER_S
    base = announcement.base_url(http)
    waiting = [f"{base}{path}/ready" for path in config.paths]
    while waiting and not stop.wait(POLL_S):
        waiting = [url for url in waiting if not announcement.answers(url)]
        if time.monotonic() > ends_s:
            raise LoadError(f"{waiting[0]} does not answer, although its replica runs; see `solo doctor`")


_RAISED = re.compile(r"(?:[\w.]+Error|[\w.]*(?:Exit|Exception)): ", re.DOTALL)


def _reason(app: Any) -> str:
    """Return the last exception's text out of Serve's report, which carries whole stack traces."""
    texts = [app.message, *(deployment.message for deployment in app.deployments.values())]
    text = max((text or "" for text in texts), key=len)
    found = list(_RAISED.finditer(text))
    return text[found[-1].end() :].strip() if found else text.strip()


def _announce(config: ServeConfig, http: Mapping[str, Any]) -> None:
    """Print what is served, where, on what device, and a line to try it with."""
    from serve_app import announcement

    base = announcement.base_url(http)
    door = announcement.front_door(http["port"])
    _say(f"ready on {base} ({door})")
    for path, model in zip(config.paths, config.models, strict=True):
        for line in announcement.model_lines(f"{base}{path}", model.tokens):
            _say(f"  {line}")
    _say(f"the page: {base}/   metrics for Prometheus: {_metrics_url()}")


def _metrics_url() -> str:
    """Return where this node's exporter answers; Ray chose its port."""
    node = _nodes()[0]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stdout, flush=True)
