"""What `solo serve` says once it is ready, read back from the server itself over HTTP."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from serve_app.config.pipeline_args import PipelineArgs
from serve_app.config.tokens import BY_SERVER, TokenSource
from serve_app.front.haproxy import BY_PROXY

INLINE_VALUES = 32
"""Up to this many values a curl line can carry the input itself."""
LOOKS, LOOK_S = 10, 0.1
"""HAProxy that is just handing over may be listening under no process for a moment."""


def front_door(port: int) -> str:
    """Say which process accepts connections on `port`: it should be HAProxy."""
    for _ in range(LOOKS):
        if name := _listener(port):
            if "haproxy" in name:
                return "HAProxy, straight to each model's replica"
            return f"through {name}, not HAProxy: several times slower; see `solo doctor`"
        time.sleep(LOOK_S)
    return "nobody seems to listen; see `solo doctor`"


def _listener(port: int) -> str:
    """Return the name of the process that listens on `port`; empty while HAProxy hands over to its successor."""
    for connection in psutil.net_connections("tcp"):
        # An address is (host, port) for every socket that listens; psutil's types allow for others.
        listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,)
        if listens and connection.pid:
            try:
                return psutil.Process(connection.pid).name()
            except psutil.NoSuchProcess:
                continue
    return ""


def base_url(http: Mapping[str, Any]) -> str:
    """Return where a client on this machine reaches the server."""
    host = "127.0.0.1" if http["host"] in {"0.0.0.0", "::"} else http["host"]
    return f"http://{host}:{http['port']}"


def answers(url: str, *, straight: bool) -> bool:
    """Return whether `url` answers 200; if `straight`, from the replica, not by way of Serve's fallback proxy.

    That one steps in while HAProxy does not know the replica yet, takes ten times as long, and loses a request's trace.
    """
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return not (straight and BY_PROXY in answer.headers.get("server-timing", ""))
    except (OSError, ValueError):
        return False


def model_lines(url: str, source: TokenSource = BY_SERVER) -> list[str]:
    """Return the lines about the model at `url`: what it is, how it runs, and a curl line that works.

    Where `source` holds tokens one of them is used here, and named, not shown, in the line.
    """
    token = min(source.read() or (), default=None)
    about, plan = _get(url, token), _get(f"{url}/plan", token)
    shapes = ", ".join(f"{t['name']} {t['datatype']} {t['shape']}" for t in about["inputs"])
    chosen = plan["chosen"].get("1") or next(iter(plan["chosen"].values()))
    return [
        f"{about['name']} version {about['versions'][0]}: {shapes} on {plan['device']}, {plan['precision']}",
        f"  runs as {chosen}{_speed(plan, chosen)}",
        f"  {curl_line(url, about)}{'' if token is None else f' -H {source.header()}'}",
    ]


def pipeline_lines(url: str, pipeline: PipelineArgs) -> list[str]:
    """Return the lines about the pipeline at `url`: what it takes, its steps, and a curl line."""
    token = min(pipeline.tokens.read() or (), default=None)
    about = _get(url, token)
    shapes = ", ".join(f"{t['name']} {t['datatype']} {t['shape']}" for t in about["inputs"])
    return [
        f"{about['name']} version {about['versions'][0]}: {shapes}, a pipeline",
        f"  {' -> '.join(step.name for step in pipeline.steps)}",
        f"  {curl_line(url, about)}{'' if token is None else f' -H {pipeline.tokens.header()}'}",
    ]


def _speed(plan: dict[str, Any], chosen: str) -> str:
    row = next((c for c in plan["candidates"].get("1", []) if c["name"] == chosen and c.get("p50_ms")), None)
    if row is None:
        return ""
    factor = plan.get("factor_over_predict")
    return f", {row['p50_ms']:.3f} ms" + (f", {factor:,.0f} x faster than model.predict" if factor else "")


def curl_line(url: str, about: dict[str, Any]) -> str:
    """Return a curl command that gets a prediction from the model described by its metadata."""
    inputs = about["inputs"]
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 4 and inputs[0]["datatype"] != "BYTES":
        pictures = sorted(Path("examples", about["name"]).glob("*.png"))
        picture = next((p for p in pictures if p.stem == "seven"), pictures[0] if pictures else Path("picture.png"))
        return f"curl --data-binary @{picture} -H 'Content-Type: image/png' {url}/infer"
    tensors = [_example(tensor) for tensor in inputs]
    if any(len(tensor["data"]) > INLINE_VALUES for tensor in tensors):
        return f"curl {url}"
    return f"curl -d '{json.dumps({'inputs': tensors})}' {url}/infer"


def _example(tensor: dict[str, Any]) -> dict[str, Any]:
    shape = [1 if axis < 0 else axis for axis in tensor["shape"]]
    value: Any = {"BYTES": "text", "BOOL": True}.get(tensor["datatype"], 0)
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": [value] * math.prod(shape)}


def _get(url: str, token: str | None = None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return json.load(answer)
