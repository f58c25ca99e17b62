"""What no HTTP library sends: garbage, halves of requests, lies about lengths, dawdlers, and many at once.

Each case is a list of pieces for a connection of its own. Nobody owes such a connection an answer; what is owed is an
end within `BOUND_S`, and no 5xx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.hostile.bodies import HALF, V1, A, binary_requests, infer, picture, predict
from tests.hostile.cases import Request
from tests.hostile.mutations import change_bytes, dump
from tests.support.routes_harness import tensor

BOUND_S = 45.0
"""A head must be whole within 30 s, then HAProxy answers 408."""


@dataclass(frozen=True, slots=True)
class Bytes:
    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    hang_up: bool = False
    answers: int | None = None
    """How many answers of 200 are owed; None where nothing is."""


def real_requests(rng: Random) -> list[Request]:
    model, body, length = binary_requests()[0]
    small = {"inputs": [tensor("INPUT0", A, "INT32"), tensor("INPUT1", A, "INT32")]}
    return [
        infer("simple", dump(rng, small), ("Content-Type", "application/json")),
        infer(model, body, ("Inference-Header-Content-Length", length)),
        infer("half_plus_two", bytes(8), ("Inference-Header-Content-Length", "0")),
        predict("half_plus_two", dump(rng, V1[0][1])),
        infer("digits", picture("PNG", "1", (8, 8)), ("Content-Type", "image/png")),
        Request("/v2/repository/index", b'{"ready": true}'),
        Request("/v1/models/simple%3apredict", dump(rng, V1[2][1])),
    ]


def truncated(rng: Random) -> Iterator[Bytes]:
    """Every request cut at every byte: the sender ends its side there, or hangs up."""
    for request in real_requests(rng):
        whole = request.encode()
        for cut in range(1, len(whole)):
            yield Bytes((whole[:cut],), hang_up=bool(cut % 2))
            yield Bytes((whole[:cut],), hang_up=not cut % 2)


def cut_bodies(rng: Random) -> Iterator[Request]:
    """Every body cut at every byte, honestly declared: well-formed HTTP around a damaged request."""
    for request in real_requests(rng):
        for cut in range(len(request.body)):
            yield Request(request.path, request.body[:cut], request.headers, request.method)


GARBAGE = (
    *(
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x00" * 64,
    ),
    *(
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET",
        b"*1\r\n$4\r\nPING\r\n",
    ),
    *(
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    *(
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /v2\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    *(
        b"GET /v2/models/%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"\xc3\xa9" * 9),
        b"GET " + b"/a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ),
    b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /v2/models/simple HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /v2 HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"HTTP2-Settings: AAMAAABk\r\n\r\n",
)


def garbage(rng: Random) -> Iterator[Bytes]:
    """Random bytes, other protocols, and requests with damaged heads."""
    real = [request.encode() for request in real_requests(rng)]
    while True:
        how = rng.random()
        if how < 0.2:
            sent = rng.randbytes(rng.choice((1, 16, 300, 20_000)))
        elif how < 0.5:
            sent = rng.choice(GARBAGE)
            sent = change_bytes(rng, sent) if rng.random() < 0.4 else sent
        else:
            head, _, body = rng.choice(real).partition(b"\r\n\r\n")
            sent = change_bytes(rng, head) + b"\r\n\r\n" + body
        yield Bytes((sent,), hang_up=rng.random() < 0.2)


LENGTHS = (
    *(b"Content-Length: %d" % length for length in (0, 1, 10, 1000, 2**31, 2**63, 2**64, 10**40)),
    *(
        b"Content-Length: " + value
        for value in (b"-1", b"+5", b"0x10", b"1e3", b"", b"5, 6", b"\xff", b"5 5", b"00000005")
    ),
    *(b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"X: y"),
    *(
        b"Transfer-Encoding: " + value
        for value in (b"chunked", b"xchunked", b"chunked, identity", b"gzip, chunked", b"")
    ),
    *(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"transfer-encoding:\tchunked",
    ),
)
CHUNKS = (
    *(
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"5;a=b\r\n{}   \r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
    ),
    *(
        b"0\r\n\r\n",
        b"zz\r\n{}\r\n",
        b"2\n{}\n0\n\n",
        b"7fffffff\r\n{}",
        b"2\r\n{",
        b"00000000000002\r\n{}\r\n0\r\n\r\n",
        b"\r\n",
        b"2",
    ),
    *(
        b"1\r\n{\r\n" * 500 + b"0\r\n\r\n",
        b"2;" + b"a" * 9000 + b"\r\n{}\r\n0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ),
)


def lies(rng: Random) -> Iterator[Bytes]:
    """Content-Length and Transfer-Encoding that do not say what follows."""
    paths = [request.path.encode() for request in real_requests(rng)]
    whole = real_requests(rng)[0].encode()
    while True:
        body = rng.choice((*CHUNKS, *CHUNKS, dump(rng, HALF), b"{}", whole, b""))
        head = b"POST %b HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % (rng.choice(paths), rng.choice(LENGTHS))
        split = rng.random() < 0.3
        yield Bytes((head, body) if split else (head + body,), pause_s=0.01, hang_up=rng.random() < 0.1)


def pipelines(rng: Random) -> Iterator[Bytes]:
    """Up to 40 good requests in one write, whole or with a bad one last; good ones are owed an answer each."""
    good = infer("half_plus_two", dump(rng, HALF)).encode()
    bad = (b"", b"", rng.randbytes(50), infer("simple", b"{").encode(), b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    while True:
        count = rng.choice((2, 5, 10, 40))
        yield Bytes((good * count + rng.choice(bad),), answers=count)


def dawdlers(rng: Random, step_s: float) -> Iterator[Bytes]:
    """Senders of a byte or a few at a time: whole ones are owed their answer, however late."""
    whole = infer("half_plus_two", dump(rng, HALF)).encode()
    head = whole.index(b"\r\n\r\n") + 4
    while True:
        size = rng.choice((8, 16, 32))
        slow_body = tuple(whole[at : at + size] for at in range(head, len(whole), size))
        slow_head = tuple(whole[at : min(at + size, head)] for at in range(0, head, size))
        yield Bytes((whole[:head], *slow_body), pause_s=step_s, answers=1)
        yield Bytes((*slow_head, whole[head:]), pause_s=step_s, answers=1)
        yield Bytes((*slow_head[:3], b""), pause_s=step_s)
        yield Bytes((whole[:head], slow_body[0]), pause_s=step_s, hang_up=True)
