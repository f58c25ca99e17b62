"""Golden bytes: whole HTTP requests and the exact answers to them, one pair of files a case.

`NAME.request` and `NAME.response` under `tests/golden/v2/` are HTTP/1.1 messages, bodies included. The requests with
tensors are tritonclient 2.73's own bytes. The models compute in whole numbers, so every machine answers alike. To
see what changed, run `python -m tests.protocols.test_open_inference_golden` (it rewrites the responses) and read the
diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.http.model_routes import ModelRoutes
from tests.support.routes_harness import BFLOAT16, call, identity, routes, simple, simple_string

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v2"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.request"))

APPS: dict[str, ModelRoutes] = {
    "simple": routes(simple(), server_timing=False),
    "simple_string": routes(simple_string(), server_timing=False),
    "floats": routes(identity("float32", 4, name="floats", labels=("a", "b", "c", "d")), server_timing=False),
    "halves": routes(identity(BFLOAT16, 4, name="halves", version="2"), server_timing=False),
}


def answer(request: bytes) -> bytes:
    """Return the HTTP/1.1 response to an HTTP/1.1 request."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    method, path, _ = line.split(" ")
    headers = dict(field.split(": ", 1) for field in fields)
    reply = call(APPS[path.split("/")[3]], path, body, method, headers)
    lines = [b"HTTP/1.1 %d" % reply.status, *(b"%b: %b" % item for item in reply.headers.items())]
    return b"\r\n".join(lines) + b"\r\n\r\n" + reply.body


def test_there_are_golden_cases() -> None:
    assert len(NAMES) >= 15


@pytest.mark.parametrize("name", NAMES)
def test_answers_byte_for_byte(name: str) -> None:
    assert answer((GOLDEN / f"{name}.request").read_bytes()) == (GOLDEN / f"{name}.response").read_bytes()


if __name__ == "__main__":
    for each in NAMES:
        (GOLDEN / f"{each}.response").write_bytes(answer((GOLDEN / f"{each}.request").read_bytes()))
