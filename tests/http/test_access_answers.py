"""What answers tell about the machine: nothing. Stacks, folders and versions stay in the log."""

from __future__ import annotations

import re
from typing import Any

import pytest

from deployments.errors import NotReady, PredictionFailed
from serve_app.cluster.directory import _state
from serve_app.cluster.redaction import without_folders
from tests.support.routes_harness import call, dense, routes

INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 16], "data": [0] * 16}]}
INTERNALS = re.compile(
    rb"Traceback|\.py\b|line \d+, in|/home/|/srv/|site-packages|0x[0-9a-f]{6,}|[0-9]+\.[0-9]+\.[0-9]+"
)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError('File "/srv/app/model.py", line 3, in call at 0x7f1234567890'),
        KeyError("/home/somebody/site-packages/tensorflow 2.21.0"),
        PredictionFailed("the model failed on this input: OSError: no such file: '/srv/models/words.txt'"),
        NotReady("cannot load /srv/models/a/model.keras"),
    ],
)
def test_what_a_model_raises_tells_no_folder(error: Exception) -> None:
    model = dense()
    model.coalescer.error = error
    reply = call(routes(model), "/v2/models/dense/infer", INFER)
    assert reply.status in (500, 503)
    assert not INTERNALS.search(reply.body), reply.body
    assert not [value for value in reply.headers.values() if INTERNALS.search(value)]


REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/v2/models/dense/nothing", b""),
    ("GET", "/nowhere/at/all", b""),
    ("PUT", "/v2/models/dense/infer", b""),
    ("POST", "/v2/models/dense/infer", b"{"),
    ("POST", "/v2/models/dense/infer", b"\xff\xfe"),
    ("POST", "/v2/models/dense/infer", {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1], "data": []}]}),
    ("POST", "/v1/models/dense:predict", b'{"instances": [[[]]]}'),
    ("GET", "/v2/models/dense/versions/9", b""),
]


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_a_refusal_tells_no_internals(method: str, path: str, body: Any) -> None:
    reply = call(routes(dense()), path, body, method)
    assert 400 <= reply.status < 500
    assert list(reply.json()) == ["error"]
    assert not INTERNALS.search(reply.body), reply.body


def test_why_a_model_is_down_tells_no_folder() -> None:
    message = "cannot read '/srv/models/a/model.keras':\n no such file"
    assert _state("DEPLOY_FAILED", 0, message)[1] == "cannot read 'model.keras': no such file"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at /a/b.keras, and /c/d/e/", "at b.keras, and e"),
        ("5/3 of 1/2 and/or a/b/c", "5/3 of 1/2 and/or a/b/c"),
        ("https://example.com/a/b", "https://example.com/a/b"),
        ("node /job:localhost/replica:0", "node /job:localhost/replica:0"),
        ("/alone", "/alone"),
    ],
)
def test_only_folders_are_cut(text: str, expected: str) -> None:
    assert without_folders(text) == expected
