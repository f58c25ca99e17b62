"""What is sent, what comes back, and what is wrong with it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ANSWER_S = 30.0
"""No answer within it is a hang: twice what the largest body takes on two busy cores."""
REFUSALS = frozenset((400, 403, 404, 405, 408, 411, 413, 414, 415, 417, 431, 501))
"""What a refusal may say; 501 is HAProxy's answer to a Transfer-Encoding that nobody knows."""


MODEL_FAILED_TEXT = "the model failed"
MODEL_FAILED = b'{"error":"' + MODEL_FAILED_TEXT.encode()
"""A model's own failure is a 500 by design: `simple_string` turns strings into numbers, and not all of them are."""


NO_HTTP = (b"Invalid HTTP request received.", b"<html><body><h1>400 Bad request</h1>")
"""uvicorn's answer to methods that it does not know and to control characters in headers, and HAProxy's to heads that
are too long: nobody above them sees these, and HAProxy takes no other text for them (2.8)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One well-formed HTTP request: it must be answered, in the protocol's form."""

    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"

    def encode(self) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: hostile\r\nContent-Length: {len(self.body)}\r\n{fields}\r\n"
        )
        return head.encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode("latin-1")
        return ""


@dataclass
class Tally:
    """What became of one kind's cases."""

    kind: str
    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, status: str, seconds: float) -> None:
        self.cases += 1
        self.statuses[status] += 1
        self.slowest_s = max(self.slowest_s, seconds)

    def found(self, what: str, sent: bytes) -> None:
        self.findings.append(f"{what} to {sent[:600]!r}{f' … ({len(sent)} bytes)' if len(sent) > 600 else ''}")

    def row(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "cases": self.cases,
            "statuses": dict(sorted(self.statuses.items())),
            "slowest_ms": round(self.slowest_s * 1e3, 1),
            "seconds": round(self.seconds, 1),
            "findings": self.findings,
        }


def wrong_with(reply: Reply, is_head: bool = False) -> str | None:
    """Return what is wrong with the answer to a well-formed request, None for nothing."""
    content_type = reply.header("content-type")
    if reply.status == 200:
        return None if is_head else _wrong_success(reply, content_type)
    if reply.status not in REFUSALS and reply.status != 503:
        return f"status {reply.status}: {reply.body[:200]!r}"
    if reply.status == 408 and b" timed out after " in reply.body:
        # Serve's own words (2.60) to who asks by X-Request-Timeout-Seconds for less time than an answer takes.
        return None
    if is_head or reply.status == 403 or (reply.status == 400 and reply.body.startswith(NO_HTTP)):
        return None
    if content_type != "application/json":
        return f"status {reply.status} of type {content_type!r}: {reply.body[:200]!r}"
    try:
        error = json.loads(reply.body)
    except ValueError:
        return f"status {reply.status} whose body is no JSON: {reply.body[:200]!r}"
    if not isinstance(error, dict) or list(error) != ["error"] or not isinstance(error["error"], str):
        return f"status {reply.status} in another form: {reply.body[:200]!r}"
    return _leak(error["error"])


def _wrong_success(reply: Reply, content_type: str) -> str | None:
    if reply.header("content-encoding"):
        return None
    text = reply.body
    if content_type == "application/octet-stream":
        text = text[: int(reply.header("inference-header-content-length"))]
    elif content_type != "application/json":
        return None
    try:
        json.loads(text)
    except ValueError as error:
        return f"status 200 whose body is no JSON ({error}): {text[:200]!r}"
    return None


LEAKS = ("Traceback", ".py", "site-packages", "/home/", "/tmp/", "numpy", "tensorflow", "ray.", "internal error")
METHODS = re.compile(r"tensorflow/serving/(classify|regress|predict)\b")
"""What TensorFlow Serving itself calls a signature's method in its errors."""


def _leak(text: str) -> str | None:
    """Return what an error tells about the server's insides; quoted client text may hold anything but these."""
    said = METHODS.sub("", text)
    found = next((leak for leak in LEAKS if leak in said), None)
    return None if found is None else f"an error that tells about {found!r}: {text[:200]!r}"
