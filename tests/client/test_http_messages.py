"""The client's own HTTP: what it writes the server reads, and a broken connection means what it should."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest

from deployments.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    PredictionFailed,
    ReplicaGone,
    UnknownModel,
)
from deployments.sequences import SequenceStep
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.client.http_messages import Reply, Wire, error_of
from serve_app.client.http_way import HttpWay
from serve_app.front.haproxy import UNAVAILABLE
from serve_app.protocols.open_inference.request import RequestDecoder
from serve_app.protocols.open_inference.response import ResponseEncoder

ARRAYS = (
    np.array([[1.5, -2]], np.float32),
    np.array([[True, False]]),
    np.array([[2**63 - 1]], np.int64),
    np.array([[1.5]], ml_dtypes.bfloat16),
    np.array([["ä".encode(), b"", b"\0"]], STRING),
    np.arange(6, dtype=np.uint8).reshape(1, 2, 3)[:, :, ::2],
)
SPECS = tuple(TensorSpec(f"t{i}", array.dtype, (None, *array.shape[1:])) for i, array in enumerate(ARRAYS))
SIGNATURE = Signature(SPECS, SPECS)
WIRE = Wire("/v2/models/m", "host:1", SIGNATURE)


def test_the_server_reads_what_the_client_writes() -> None:
    message = b"".join(WIRE.encode(ARRAYS, 2.5))
    head, _, body = message.partition(b"\r\n\r\n")
    headers = dict(line.split(b": ") for line in head.lower().split(b"\r\n")[1:])
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")
    assert int(headers[b"content-length"]) == len(body)
    assert float(headers[b"x-request-timeout-seconds"]) == 2.5
    request = RequestDecoder(SIGNATURE).decode(body, int(headers[b"inference-header-content-length"]))
    assert {name: array.tolist() for name, array in request.inputs.items()} == {
        spec.name: array.tolist() for spec, array in zip(SPECS, ARRAYS, strict=True)
    }
    assert all(wanted.is_binary for wanted in request.wanted)


@pytest.mark.parametrize("step", [SequenceStep(7, True), SequenceStep('a "b"', False, True)])
def test_the_server_reads_where_in_a_sequence_a_request_stands(step: SequenceStep) -> None:
    head, _, body = b"".join(WIRE.encode(ARRAYS, None, step)).partition(b"\r\n\r\n")
    headers = dict(line.split(b": ") for line in head.lower().split(b"\r\n")[1:])
    assert RequestDecoder(SIGNATURE).decode(body, int(headers[b"inference-header-content-length"])).step == step


def test_the_client_reads_what_the_server_writes() -> None:
    asked = b"".join(WIRE.encode(ARRAYS, None))
    head, _, body = asked.partition(b"\r\n\r\n")
    json_bytes = int(head.lower().partition(b"inference-header-content-length: ")[2].split(b"\r\n")[0])
    wanted = RequestDecoder(SIGNATURE).decode(body, json_bytes).wanted
    answered, json_bytes_out = ResponseEncoder("m", "1", SIGNATURE).encode(ARRAYS, wanted, None)
    headers = {b"inference-header-content-length": str(json_bytes_out).encode()}
    outputs = WIRE.decode(Reply(200, headers, bytearray(answered)))
    for output, array in zip(outputs, ARRAYS, strict=True):
        assert output.dtype == array.dtype
        assert output.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (400, {}, b'{"error":"why"}', InvalidInput),
        (404, {}, b'{"error":"why"}', UnknownModel),
        (408, {}, b'{"error":"why"}', DeadlineExceeded),
        (500, {}, b'{"error":"why"}', PredictionFailed),
        (503, {b"retry-after": b"2"}, b'{"error":"why"}', Overloaded),
        (503, {}, b'{"error":"why"}', NotReady),
        (503, {b"retry-after": b"1"}, UNAVAILABLE, ReplicaGone),
        (500, {}, b"Internal Server Error", ReplicaGone),
        (408, {}, b"timed out", DeadlineExceeded),
        (503, {b"retry-after": b"1"}, b"Too many requests", Overloaded),
    ],
)
def test_statuses_become_domain_errors(
    status: int, headers: dict[bytes, bytes], body: bytes, error: type[Exception]
) -> None:
    raised = error_of(Reply(status, headers, bytearray(body)))
    assert type(raised) is error
    if body == b'{"error":"why"}':
        assert str(raised) == "why"


Script = Callable[[socket.socket], None]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def answer(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(ANSWER)


def answer_in_pieces(connection: socket.socket) -> None:
    connection.recv(65536)
    for start in range(0, len(ANSWER), 7):
        connection.sendall(ANSWER[start : start + 7])
        time.sleep(0.01)


def answer_in_chunks(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r")
    time.sleep(0.01)
    connection.sendall(b"\n3;name=value\r\nllo\r\n0\r")
    time.sleep(0.01)
    connection.sendall(b"\n\r\n")


def answer_without_a_length(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhel")
    time.sleep(0.01)
    connection.sendall(b"lo")
    connection.close()


def answer_and_close(connection: socket.socket) -> None:
    answer(connection)
    connection.close()


UNSIZED = (answer_in_chunks, answer_without_a_length)


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.close()


def hang_up_within(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(ANSWER[:-2])
    connection.close()


def hang_up_within_chunks(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell")
    connection.close()


def talk_otherwise(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n")
    say_nothing(connection)


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


@contextmanager
def way_to(*scripts: Script) -> Iterator[HttpWay]:
    """Serve each script on a connection of its own, in order."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for script in scripts:
                script(server.accept()[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield HttpWay("127.0.0.1", server.getsockname()[1])


def soon(wait_s: float = 5.0) -> float:
    return time.monotonic() + wait_s


Ask = Callable[[HttpWay, float | None], Reply]


def ask_async(way: HttpWay, deadline_s: float | None) -> Reply:
    return asyncio.run(way.exchange_async([b"GET / HTTP/1.1\r\n\r\n"], deadline_s))


def ask_blocking(way: HttpWay, deadline_s: float | None) -> Reply:
    return way.exchange([b"GET / HTTP/1.1\r\n\r\n"], deadline_s)


both = pytest.mark.parametrize("ask", [ask_blocking, ask_async])


@both
@pytest.mark.parametrize("script", [answer, answer_in_pieces, answer_and_close, *UNSIZED])
def test_an_answer_is_read_whole(ask: Ask, script: Script) -> None:
    """One without a length is no lost connection either: a request that ran is not sent again."""
    with way_to(script) as way:
        reply = ask(way, soon())
    assert (reply.status, bytes(reply.body)) == (200, b"hello")


@both
@pytest.mark.parametrize("script", [hang_up, hang_up_within, hang_up_within_chunks, talk_otherwise])
def test_a_lost_connection_is_a_gone_replica(ask: Ask, script: Script) -> None:
    with way_to(script) as way, pytest.raises(ReplicaGone):
        ask(way, soon())


@both
def test_silence_ends_at_the_deadline_by_hanging_up(ask: Ask) -> None:
    hung_up = threading.Event()

    def listen(connection: socket.socket) -> None:
        say_nothing(connection)
        hung_up.set()

    with way_to(listen) as way, pytest.raises(DeadlineExceeded):
        ask(way, soon(0.2))
    assert hung_up.wait(5)


@both
def test_nobody_listening_is_a_gone_replica(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ReplicaGone):
        ask(HttpWay("127.0.0.1", port), soon())


def test_a_connection_that_ended_with_its_answer_is_not_used_again() -> None:
    with way_to(answer_without_a_length, answer) as way:
        assert [bytes(ask_blocking(way, soon()).body) for _ in range(2)] == [b"hello"] * 2


def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    with way_to(answer_and_close, answer) as way:
        ask_blocking(way, soon())
        time.sleep(0.1)
        assert bytes(ask_blocking(way, soon()).body) == b"hello"


def test_a_kept_connection_is_used_again() -> None:
    def answer_twice(connection: socket.socket) -> None:
        answer(connection)
        answer(connection)

    with way_to(answer_twice) as way:
        assert ask_blocking(way, soon()).status == 200
        assert ask_blocking(way, soon()).status == 200
