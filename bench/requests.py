"""What one row looks like to each contender, and what each contender's answer says."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import numpy as np

from bench.contenders import MODELS, ROOT, Contender
from serve_app.load.request import Request

SHAPES = {"mlp": (16,), "digits": (28, 28, 1), "mobilenet": (224, 224, 3), "pixels": (224, 224, 3)}
INPUTS = {"mlp": "x", "digits": "image", "mobilenet": "input_layer", "pixels": "x"}
"""What the models call their input; peers call it x."""
PICTURE = ROOT / "examples/digits/seven.png"
assert set(SHAPES) == set(MODELS)


def make(contender: Contender, model: str, form: str, base: str) -> Request:
    """Return one seeded random row for `model` as this server takes it; `form` is json, binary or png (a seven)."""
    row = np.random.default_rng(7).random((1, *SHAPES[model]), np.float32)
    url = base + contender.path.format(model=model)
    if form == "png":
        return Request(url, PICTURE.read_bytes(), {"Content-Type": "image/png"})
    if contender.protocol == "v2":
        return _v2(row, "x" if contender.module else INPUTS[model], form, url)
    if form == "binary":
        return Request(url, row.tobytes(), {"Content-Type": "application/octet-stream"})
    return Request(url, json.dumps({"inputs": row.tolist()}).encode(), {"Content-Type": "application/json"})


def _v2(row: np.ndarray, name: str, form: str, url: str) -> Request:
    tensor = {"name": name, "datatype": "FP32", "shape": list(row.shape)}
    if form == "json":
        body = json.dumps({"inputs": [{**tensor, "data": row.ravel().tolist()}]}).encode()
        return Request(url, body, {"Content-Type": "application/json"})
    tensor["parameters"] = {"binary_data_size": row.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(url, head + row.tobytes(), headers)


def ask(request: Request, timeout_s: float = 60) -> tuple[bytes, Any]:
    """Return body and headers of the answer; raises `OSError` unless it is a 200."""
    asked = urllib.request.Request(request.url, request.body, dict(request.headers))
    with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
        return answer.read(), answer.headers


def check(contender: Contender, form: str, request: Request, expected: np.ndarray) -> None:
    """Ask once and hold the answer against `expected`; raises `RuntimeError` where it is another."""
    body, headers = ask(request)
    if contender.way in ("noop", "read"):
        return
    if form == "png":
        if (found := _best(json.loads(body))) != "7":
            raise RuntimeError(f"{contender.name} reads the picture of a seven as {found}")
        return
    try:
        got = _values(contender, form, body, headers)
    except (ValueError, LookupError, TypeError) as error:
        raise RuntimeError(f"{contender.name} answers {form} with something unreadable: {body[:80]!r}") from error
    if got.size != expected.size or not np.allclose(got, expected.ravel(), rtol=1e-3, atol=1e-5):
        raise RuntimeError(f"{contender.name} answers {form} with other numbers than model(x): {got[:4]}")


def _values(contender: Contender, form: str, body: bytes, headers: Any) -> np.ndarray:
    if form == "binary":
        start = int(headers.get("Inference-Header-Content-Length") or 0)
        return np.frombuffer(body[start:], "<f4")
    told = json.loads(body)
    if contender.protocol == "v2":
        return np.array(told["outputs"][0]["data"], float).ravel()
    return np.array(told if isinstance(told, list) else told["outputs"], float).ravel()


def _best(told: dict[str, Any]) -> str:
    return str(told["label"]) if "label" in told else str(int(np.argmax(told["outputs"][0])))
