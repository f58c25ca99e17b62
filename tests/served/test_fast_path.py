"""The fast path in a real server: that it is taken; tests/served/test_without_fast_path.py takes it away."""

from __future__ import annotations

import http.client
import json
import re
import socket

from tests.support.processes import Server

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"


def test_the_real_server_takes_it(server: Server) -> None:
    """A body that does not come ends in our own words; Serve's wrapper would answer in plain text.

    Of a large body: HAProxy waits for all of one that fits its buffer, and no replica hears of it.
    """
    head = (
        "POST /v2/models/simple/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        "x-request-timeout-seconds: 0.5\r\ncontent-length: 10000000\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode() + b" " * 2**18)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    assert (answer.status, answer.headers["content-type"]) == (408, "application/json")
    assert json.loads(body) == {"error": "no answer within the request's 0.5 s"}
    assert re.fullmatch(UUID, answer.headers["x-request-id"])
