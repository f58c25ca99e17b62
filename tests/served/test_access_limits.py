"""Limits of a real front door, by raw sockets: bodies refused unread, heads too long, and what headers tell."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.processes import Server

pytestmark = pytest.mark.serve

PATH = "/v2/models/half_plus_two/infer"


def talk(server: Server, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send `pieces` and return the answer's status, headers and body, read to the end of the connection or the body."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                # The server has answered and hung up already.
                break
        received = b""
        while b"\r\n\r\n" not in received:
            if not (more := connection.recv(65536)):
                break
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
        return int(lines[0].split()[1]), headers, body


def head(*fields: str, method: str = "POST", path: str = PATH) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: t", *fields, "", "")).encode()


@pytest.mark.parametrize("size", [64 * 2**20 + 1, 10**13, 10**30])
def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(server: Server, size: int) -> None:
    status, headers, body = talk(server, head(f"Content-Length: {size}"))
    # HAProxy refuses by itself what fits no 64-bit number.
    assert status == (413 if size < 2**63 else 400)
    if status == 413:
        assert headers["content-type"] == "application/json"
        assert "over the limit" in json.loads(body)["error"]


def test_a_chunked_body_is_refused_once_it_is_too_large(server: Server) -> None:
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    status, _, body = talk(server, head("Transfer-Encoding: chunked"), *[chunk] * 66)
    assert status == 413
    assert list(json.loads(body)) == ["error"]


def test_a_head_is_bounded(server: Server) -> None:
    assert talk(server, head(f"x-long: {'a' * 12_000}", method="GET", path="/v2/health/live"))[0] == 200
    assert talk(server, head(f"x-long: {'a' * 20_000}", method="GET", path="/v2/health/live"))[0] in (400, 431)
    assert talk(server, head(method="GET", path="/" + "a" * 20_000))[0] in (400, 414)


def test_headers_name_no_software(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/models/half_plus_two", "/nowhere"):
        _, headers, _ = talk(server, head(method="GET", path=path))
        assert not {"server", "x-powered-by", "via"} & set(headers)


def test_no_origin_may_read_answers_unless_configured(server: Server) -> None:
    for path in ("/v2", "/v2/models/half_plus_two"):
        fields = ("Origin: https://other.example", "Access-Control-Request-Method: POST")
        for method in ("GET", "OPTIONS"):
            _, headers, _ = talk(server, head(*fields, method=method, path=path))
            assert not [name for name in headers if name.startswith("access-control")]
