"""Predictions answered from the parser's calls: what clients and apps see is what uvicorn would have shown them."""

from __future__ import annotations

import ast
import asyncio
import gc
import json
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve_app.fast_path import custodian, exchange, parser
from serve_app.fast_path.custodian import NOT_HELD
from tests.support.uvicorn_server import serving

PATH = "/v2/models/m/infer"
SLOW = "/slow"
"""Answers its body 0.3 s after its head."""
WAIT_S = 45.0


class Handler:
    """Answers with the length of the body and its last byte, after doing what `does` says."""

    def __init__(self) -> None:
        self.is_open = True
        self.does: Callable[[], Any] | None = None
        self.before: Callable[[], Any] | None = None
        self.first: Callable[[], Any] | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.answer_bytes = 0
        self.tasks: list[Any] = []
        self.cancels: list[Callable[[], None]] = []
        self.cancelled = 0

    def takes(self, scope: Any) -> bool:
        return self.is_open and scope["path"] == PATH

    async def answer(self, scope: Any, receive: Any, send: Any, cancel: Any) -> None:
        assert scope["method"] == "POST"
        self.tasks.append(asyncio.current_task())
        self.cancels.append(cancel)
        try:
            told = b"early"
            if self.first is not None:
                await self.first()
            if self.before is None:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                assert not message["more_body"]
                if self.does is not None:
                    await self.does()
                told = b"%d %s" % (len(message["body"]), message["body"][-1:]) + b"." * self.answer_bytes
            length = (b"content-length", b"%d" % len(told))
            await send({"type": "http.response.start", "status": 200, "headers": [length, *self.headers]})
            await send({"type": "http.response.body", "body": told})
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def other(scope: Any, receive: Any, send: Any) -> None:
    """Answer what is no prediction, in the ordinary way."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told = b"other %d" % len(body)
    length = (b"content-length", b"%d" % len(told))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    if scope["path"] == SLOW:
        await asyncio.sleep(0.3)
    await send({"type": "http.response.body", "body": told})


class Client:
    """A raw connection, driven from beside the event loop."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.create_connection(address, WAIT_S)
        self.left = b""

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def read(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer: status, headers and body."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        head, _, self.left = self.left.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        while len(self.left) < int(headers["content-length"]):
            self._more()
        body, self.left = self.left[: int(headers["content-length"])], self.left[int(headers["content-length"]) :]
        return int(first.split()[1]), headers, body

    def is_closed(self) -> bool:
        return self.socket.recv(10) == b""

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        assert data, f"closed after {self.left[:200]!r}, {len(self.left)} bytes"
        self.left += data


def request(body: bytes = b"x", path: str = PATH, *headers: str) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture(params=["uvloop", "asyncio"])
def talk(request: pytest.FixtureRequest, handler: Handler, listening: socket.socket) -> Callable[[Any], Any]:
    """Call a function with a client of a server, in a thread beside the server's event loop; return its result."""

    async def run(work: Any) -> Any:
        async with serving(other, listening, http="httptools", timeout_keep_alive=60) as server:
            plain = server.config.http_protocol_class
            assert plain.__name__ == "HttpToolsProtocol"
            # Connections of `listening` are made by the class that the config has then.
            server.config.http_protocol_class = parser.predicting(server.config, plain, handler)
            context = SimpleNamespace(server=server, loop=asyncio.get_running_loop())
            return await asyncio.wait_for(asyncio.to_thread(work, Client(listening.getsockname()), context), 240)

    return lambda work: (uvloop if request.param == "uvloop" else asyncio).run(run(work))


def test_predictions_of_one_connection_are_answered_without_a_task(talk: Any, handler: Handler) -> None:
    def work(client: Client, context: Any) -> Any:
        answers = []
        for number in range(3):
            client.send(request(b"a" * number + b"z"))
            answers.append(client.read())
        wait_until(lambda: context.server.server_state.total_requests == len(answers))
        return answers

    answers = talk(work)
    assert [body for _, _, body in answers] == [b"1 z", b"2 z", b"3 z"]
    status, headers, _ = answers[0]
    assert status == 200
    assert {"date", "server", "content-length"} <= set(headers)
    assert "connection" not in headers
    assert handler.tasks == [None] * 3


def test_other_requests_and_refused_ones_are_uvicorns(talk: Any, handler: Handler) -> None:
    def work(client: Client, _context: Any) -> list[bytes]:
        bodies = []
        for wire in (
            request(path="/x"),
            request(path=PATH + "?a=b"),
            request(),
            request(path=PATH.replace("v2", "%762")),
        ):
            client.send(wire)
            bodies.append(client.read()[2])
        handler.is_open = False
        client.send(request(b"yes"))
        bodies.append(client.read()[2])
        client.send(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return [*bodies, client.read()[2]]

    assert talk(work) == [b"other 1", b"other 1", b"1 x", b"other 1", b"other 3", b"other 0"]


def test_what_goes_uvicorns_way_is_marked_as_asked_until_its_answer_begins(talk: Any) -> None:
    """So the custodian of a replica that dies can say 502 of a body in chunks, which could not be sent again."""

    def work(client: Client, context: Any) -> list[int]:
        marks = context.server.config.http_protocol_class.marks
        seen = [marks[NOT_HELD]]
        client.send(f"POST {SLOW} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode())
        wait_until(lambda: marks[NOT_HELD] == custodian.ASKED)
        client.send(b"0\r\n\r\n")
        wait_until(lambda: marks[NOT_HELD] == custodian.ANSWERING)
        assert client.read()[2] == b"other 3"
        wait_until(lambda: marks[NOT_HELD] == custodian.FREE)
        client.send(request(path=SLOW) + request(path=SLOW))
        wait_until(lambda: marks[NOT_HELD] == custodian.ANSWERING)
        return [*seen, *(client.read()[0] for _ in range(2))]

    assert talk(work) == [custodian.FREE, 200, 200]


def test_pipelined_requests_are_answered_in_their_order(talk: Any, handler: Handler) -> None:
    """The first waits, so that the others are there before it is answered, and queue up in uvicorn."""
    waited = []

    async def does() -> None:
        if not waited:
            waited.append(True)
            await asyncio.sleep(0.2)

    handler.does = does

    def work(client: Client, _context: Any) -> list[bytes]:
        client.send(request(b"1") + request(b"22") + request(b"333", "/x") + request(b"4444"))
        return [client.read()[2] for _ in range(4)]

    assert talk(work) == [b"1 1", b"other 2", b"other 3", b"other 4"]


def test_requests_in_one_packet_are_answered_one_by_one(talk: Any) -> None:
    def work(client: Client, _context: Any) -> list[bytes]:
        client.send(request(b"1") + request(b"22") + request(b"333", "/x") + request(b"4444"))
        return [client.read()[2] for _ in range(4)]

    assert talk(work) == [b"1 1", b"2 2", b"other 3", b"other 4"]


@pytest.mark.parametrize("behind", [request(b"n"), request(b"no", "/x")])
def test_what_follows_a_long_body_in_one_packet_is_the_next_request(talk: Any, behind: bytes) -> None:
    wire = request(b"l" * 100_000) + behind

    def work(client: Client, _context: Any) -> list[bytes]:
        client.send(wire[:50_000])
        pause()
        client.send(wire[50_000:])
        return [client.read()[2], client.read()[2]]

    assert talk(work) in ([b"100000 l", b"1 n"], [b"100000 l", b"other 1"], [b"100000 l", b"other 2"])


@pytest.mark.parametrize("count", [10, 70_000, 3_000_000])
def test_a_body_may_come_in_pieces(talk: Any, handler: Handler, count: int) -> None:
    wire = request(b"b" * count + b"e")

    def work(client: Client, _context: Any) -> Any:
        step = max(1, len(wire) // 20)
        for start in range(0, len(wire), step):
            client.send(wire[start : start + step])
            if count < 1e6:
                pause()
        first = client.read()[2]
        client.send(request(b"next"))
        return first, client.read()[2]

    assert talk(work) == (b"%d e" % (count + 1), b"4 t")


def pause() -> None:
    """Let the server read what was sent."""
    time.sleep(0.005)


def test_a_chunked_body_is_uvicorns(talk: Any) -> None:
    """It may be longer than any limit, and uvicorn reads no more of it than the app asks for."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()

    def work(client: Client, _context: Any) -> list[bytes]:
        client.send(head + b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n")
        first = client.read()[2]
        client.send(request(b"n"))
        return [first, client.read()[2]]

    assert talk(work) == [b"other 5", b"1 n"]


def test_an_answer_before_the_body_leaves_the_connection_in_order(talk: Any, handler: Handler) -> None:
    """A full queue refuses by the head: the body that still comes is nobody's, and the next request is answered."""
    handler.before = lambda: None
    wire = request(b"q" * 200_000)

    def work(client: Client, _context: Any) -> list[bytes]:
        client.send(wire[:30_000])
        bodies = [client.read()[2]]
        handler.before = None
        client.send(wire[30_000:])
        client.send(request(b"then"))
        return [*bodies, client.read()[2]]

    assert talk(work) == [b"early", b"4 n"]


def test_the_end_of_a_body_ends_no_other_wait(talk: Any, handler: Handler) -> None:
    """The app may wait for a slot before it reads."""
    slot: list[asyncio.Future[None]] = []
    order: list[str] = []

    async def first() -> None:
        slot.append(asyncio.get_running_loop().create_future())
        await slot[0]
        order.append("slot")

    handler.first = first
    wire = request(b"s" * 50_000)

    def work(client: Client, context: Any) -> bytes:
        client.send(wire[:20_000])
        wait_until(lambda: bool(slot))
        client.send(wire[20_000:])
        pause()
        pause()
        order.append("body")
        context.loop.call_soon_threadsafe(slot[0].set_result, None)
        return client.read()[2]

    assert talk(work) == b"50000 s"
    assert order == ["body", "slot"]


@pytest.mark.parametrize("where", ["in the body", "while it waits"])
def test_who_leaves_is_cancelled(talk: Any, handler: Handler, where: str) -> None:
    handler.does = lambda: asyncio.sleep(30)
    wire = request(b"w" * 100_000)

    def work(client: Client, context: Any) -> Any:
        client.send(wire[:50_000] if where == "in the body" else wire)
        pause()
        wait_until(lambda: bool(handler.tasks))
        pause()
        handler.cancels.clear()
        kept = weakref.WeakSet(context.server.server_state.connections)
        client.socket.close()
        wait_until(lambda: handler.cancelled == 1)
        wait_until(lambda: not context.server.server_state.connections)
        context.loop.call_soon_threadsafe(gc.collect)
        wait_until(lambda: not kept)
        return True

    assert talk(work)


@pytest.mark.parametrize("where", ["in the body", "while it waits", "before it waits"])
def test_an_answer_can_be_cancelled(talk: Any, handler: Handler, where: str) -> None:
    """As its time limit does; the connection stays in order, whatever of the body is still to come."""
    told: list[str] = []

    async def wait(seconds: float = 30.0) -> None:
        if where == "before it waits":
            handler.cancels[-1]()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            told.append("cancelled")
        await asyncio.sleep(0.01)  # is no part of it

    async def read_or_wait() -> None:
        # A handler that answers although its wait was cancelled, as the time limit's 408 is.
        await wait()

    handler.does = read_or_wait
    wire = request(b"w" * 1000)

    def work(client: Client, context: Any) -> Any:
        client.send(wire[:-10] if where == "in the body" else wire)
        wait_until(lambda: bool(handler.tasks))
        if where != "before it waits":
            context.loop.call_soon_threadsafe(handler.cancels[-1])
        if where == "in the body":
            status, _, body = client.read()
            return status, body, client.is_closed()
        first = client.read()[2]
        handler.does = None
        client.send(request(b"next"))
        return first, client.read()[2]

    if where == "in the body":  # what the app does not answer is a failure of ours
        assert talk(work)[0::2] == (500, True)
        assert handler.cancelled == 1
    else:
        assert talk(work) == (b"1000 w", b"4 t")
        assert told == ["cancelled"]


def test_what_has_not_come_whole_is_begun(talk: Any, handler: Handler) -> None:
    """A short body, too: whoever keeps its end back is counted, and has a time limit like others."""
    wire = request(b"short")

    def work(client: Client, context: Any) -> bytes:
        client.send(wire[:-1])
        wait_until(lambda: len(handler.tasks) == 1)
        client.send(wire[-1:])
        return client.read()[2]

    assert talk(work) == b"5 t"


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def test_a_failure_that_the_app_did_not_answer_is_a_500_in_form(talk: Any, handler: Handler) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("a secret")

    handler.does = fail

    def work(client: Client, _context: Any) -> Any:
        client.send(request())
        return *client.read(), client.is_closed()

    status, headers, body, is_closed = talk(work)
    assert (status, headers["content-type"], headers["connection"]) == (500, "application/json", "close")
    assert "secret" not in json.loads(body)["error"]
    assert is_closed


@pytest.mark.parametrize("asks", [True, False])
def test_a_connection_closes_where_either_side_says_so(talk: Any, handler: Handler, asks: bool) -> None:
    handler.headers = [] if asks else [(b"connection", b"close")]

    def work(client: Client, _context: Any) -> Any:
        client.send(request(b"x", PATH, *(["Connection: close"] if asks else [])))
        _, headers, body = client.read()
        return headers["connection"], body, client.is_closed()

    assert talk(work) == ("close", b"1 x", True)


def test_expect_continue_is_met(talk: Any) -> None:
    wire = request(b"body", PATH, "Expect: 100-continue")

    def work(client: Client, _context: Any) -> bytes:
        client.send(wire[:-4])
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100")
        client.send(wire[-4:])
        return client.read()[2]

    assert talk(work) == b"other 4"


def test_garbage_after_an_answer_is_a_400(talk: Any) -> None:
    def work(client: Client, _context: Any) -> Any:
        client.send(request())
        assert client.read()[0] == 200
        client.send(b"\x00\x01garbage\r\n\r\n")
        return client.read()[0], client.is_closed()

    assert talk(work) == (400, True)


def test_a_server_that_stops_answers_what_it_has(talk: Any, handler: Handler) -> None:
    handler.does = lambda: asyncio.sleep(0.5)

    def work(client: Client, context: Any) -> Any:
        client.send(request(b"last"))
        wait_until(lambda: bool(handler.tasks))
        context.server.should_exit = True
        _, headers, body = client.read()
        return body, headers["connection"], client.is_closed()

    assert talk(work) == (b"4 t", "close", True)


def test_a_long_answer_waits_for_a_slow_reader(talk: Any, handler: Handler) -> None:
    handler.answer_bytes = 20_000_000

    def work(client: Client, _context: Any) -> Any:
        client.send(request() + request(b"yy"))
        pause()
        return [len(client.read()[2]) for _ in range(2)]

    assert talk(work) == [20_000_003] * 2


def without(name: str) -> type:
    """Return uvicorn's class for a connection as one that has lost `name` would be."""
    known = HttpToolsProtocol
    if "." in name or name not in dir(known):
        field, _, inner = name.partition(".")

        class Another(known):  # type: ignore[misc, valid-type]
            def on_message_begin(self) -> None:
                super().on_message_begin()
                if inner:
                    names = set(dir(getattr(self, field))) - {inner}
                    setattr(self, field, SimpleNamespace(**dict.fromkeys(names - set(dir(object)))))
                else:
                    del self.__dict__[field]

        return Another
    return type("Another", (), {each: vars(known)[each] for each in vars(known) if each not in (name, "__dict__")})


INNER = [f"{field}.{name}" for field, names in parser._INNER.items() for name in names]


@pytest.mark.parametrize("name", [*parser._METHODS, *parser._FIELDS, *INNER])
def test_where_uvicorn_has_lost_a_name_it_steps_aside(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, name: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(parser, "event", lambda _, sentence, **__: told.append(sentence))

    async def made() -> None:
        config = uvicorn.Config(other)
        assert parser.predicting(config, HttpToolsProtocol, handler) is not HttpToolsProtocol
        assert not told
        another = without(name)
        assert parser.predicting(config, another, handler) is another

    asyncio.run(made())
    assert name in told[0]


def test_every_name_of_uvicorns_that_is_used_is_looked_for() -> None:
    """The names in the code are those in the lists: what is not looked for would be a 400 one day."""
    files = (parser.__file__, exchange.__file__)
    trees = [ast.parse(Path(file).read_text()) for file in files]
    used = {
        node.attr
        for tree, owner in zip(trees, ("self", "protocol"), strict=True)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner
    } | {
        node.attr
        for node in ast.walk(trees[1])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_protocol"
    }
    own = set(vars(parser._Predicting)) | {"_exchange", "handler", "cycle", "marks", "slot"}
    own |= {"_transport", "_connection"}  # `_Marking`'s
    assert used - own <= {*parser._METHODS, *parser._FIELDS}
    assert {"flow", "server_state", "scope", "on_response_complete"} <= used


def test_a_connection_of_another_kind_is_left_alone(handler: Handler) -> None:
    class Another:
        pass

    assert parser.predicting(uvicorn.Config(other), Another, handler) is Another
