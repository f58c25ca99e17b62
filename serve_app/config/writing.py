"""A composed serve config as a YAML file that people go on with: comments say what to change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deployments.errors import ConfigError
from serve_app.config.serve_yaml import GATEWAY_APP

_HEAD = """\
# One application per model, and the gateway at /. Serve it with `solo serve FILE`, change a running server with
# `solo deploy FILE`; on a cluster: `serve run FILE` or `serve deploy FILE`. keras-solo's docs/configuration.md explains
# every key of `args`, and Serve's documentation those of `deployments`.
"""
_SERVER = """\
proxy_location: EveryNode
http_options:
  host: {host}  # 0.0.0.0 lets other machines in; docs/security.md first
  port: {port}
grpc_options:
  port: {grpc_port}  # 0: no gRPC
  grpc_servicer_functions: {servicers}
applications:
"""
_MODEL_HINTS = {
    "device": "device: gpu  # one reserved GPU a replica; auto, the default, takes one where the cluster has any",
    "max_batch_size": "max_batch_size: 32  # a larger request is split",
    "labels": "labels: labels.txt  # class names, one a line, for answers to images",
    "version": 'version: "2"',
}
"""Keys that many models need sooner or later, as comments where they are not set."""
_REPLICAS = "    # deployments: [{name: KerasReplica, num_replicas: 2}]  # one GPU each, where device is gpu\n"


def write(raw: Mapping[str, Any], path: Path) -> None:
    """Write the config to `path`, which must not exist yet; raise `ConfigError`."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text_of(raw))
    except FileExistsError:
        raise ConfigError(f"--write: {path} exists already; expected a new file's name") from None
    except OSError as error:
        raise ConfigError(f"--write: cannot write {path}: {error.strerror}") from None


def text_of(raw: Mapping[str, Any]) -> str:
    """Return the config as commented YAML; read back it equals `raw`, but for ports and host where these lack."""
    http, grpc = raw.get("http_options") or {}, raw.get("grpc_options") or {}
    server = _SERVER.format(
        host=http.get("host", "127.0.0.1"),
        port=http.get("port", 8000),
        grpc_port=grpc.get("port", 9000),
        servicers=_flow(grpc.get("grpc_servicer_functions", [])),
    )
    return _HEAD + server + "".join(_application(app) for app in raw["applications"])


def _application(app: Mapping[str, Any]) -> str:
    is_gateway = app["import_path"] == GATEWAY_APP
    lines = [f"  - name: {_flow(app['name'])}\n", f"    import_path: {app['import_path']}\n"]
    lines.append(f"    route_prefix: {_flow(app['route_prefix'])}\n")
    if not app["args"]:
        lines.append("    args: {}\n")
    else:
        lines.append("    args:\n")
        lines += [f"      {key}: {_flow(value)}\n" for key, value in app["args"].items()]
    if not is_gateway:
        lines += [f"      # {hint}\n" for key, hint in _MODEL_HINTS.items() if key not in app["args"]]
    if "deployments" in app:
        lines.append(f"    deployments: {_flow(app['deployments'])}\n")
    elif not is_gateway:
        lines.append(_REPLICAS)
    return "".join(lines)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
