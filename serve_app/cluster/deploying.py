"""A cluster for one config: Ray started or joined, the config deployed, and all of it taken down again."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from deployments.errors import LoadError
from serve_app.cluster import auth_token, controller, ending
from serve_app.cluster.options import Options
from serve_app.cluster.resources import require_room
from serve_app.cluster.zygote.launching import Zygote
from serve_app.config import placement
from serve_app.config.serve_yaml import ServeConfig
from serve_app.front import loopback, soft_stop

LOOK_S = 0.02


@contextlib.contextmanager
def cluster(
    raw: Mapping[str, Any], config: ServeConfig, options: Options, say: Callable[[str], None], zygote: Zygote
) -> Iterator[None]:
    """Start (or join) Ray, deploy `raw`, and on leaving take down what was started; `say` takes remarks.

    The workers of a Ray that is started are forks of `zygote`, where it is one.
    """
    import ray
    from ray import serve as ray_serve
    from ray.serve.schema import ServeDeploySchema

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    schema = ServeDeploySchema.model_validate(raw)
    own = {
        "num_cpus": placement.local_cpus(config.reserving, psutil.cpu_count() or 1),
        "include_dashboard": options.dashboard,
        "runtime_env": {"worker_process_setup_hook": loopback.HOOK} if loopback.is_wanted() else None,
    }
    own = own if options.address == "local" else {}
    _start_ray(options.address, own, zygote)
    if any(model.device == "auto" for model in config.models) and not ray.cluster_resources().get("GPU"):
        say("warning: no GPU in this cluster, so models with device auto are served on the CPU; see `solo doctor`")
    children = _descendants()
    try:
        require_room(config, options, say)
        try:
            _start_serve(schema)
        except Exception as error:
            raise LoadError(f"Serve could not start: {_cause(error)}; see `solo doctor`") from error
        yield
    finally:
        children |= _descendants()
        with ending.silence(), contextlib.suppress(Exception):
            if options.address == "local":
                # Before Ray, which would kill HAProxy first, and with it whatever it has accepted.
                soft_stop.soft_stop(children, soft_stop.console(Path(os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"])))
                ending.wait_until_idle()
            else:
                for application in schema.applications:
                    ray_serve.delete(application.name)
            ray.shutdown()
        zygote.close()
        ending.end(children | _descendants())


def _start_serve(schema: Any) -> None:
    """Start Serve, and hand its controller the applications as soon as it answers: they are built meanwhile.

    What the `serve run` command does (ray/serve/scripts.py, 2.60), only that it waits for every proxy first; there is
    no public call for a whole YAML.
    """
    from ray.serve._private import api
    from ray.serve.config import gRPCOptions

    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(
            api.serve_start,
            http_options=schema.http_options.model_dump(),
            proxy_location=schema.proxy_location,
            grpc_options=gRPCOptions(**schema.grpc_options.model_dump()),
            controller_options=schema.controller_options,
        )
        while not started.done() and not controller.is_there():
            time.sleep(LOOK_S)
        if not started.done() or started.exception() is None:
            controller.apply(schema)
        started.result()


def _start_ray(address: str, own: Mapping[str, Any], zygote: Zygote) -> None:
    """Start or join Ray, a second time where a busy machine let the first try run into Ray's own limits."""
    import ray

    if address == "local":
        auth_token.keep_private()
    for attempt in (1, 2):
        try:
            with zygote.asked():
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


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
