"""Clients without retries, and what became of every request they sent.

An answer is a 200 whose body holds what it must. A refusal is a 408, 503 or 504 in the protocol's own form. Lost is all
else: a connection that ends, a body in no protocol's form, another status, a wrong answer, silence for `HANG_S`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from tests.faults.clients import Speaker

HANG_S = 10.0
PAUSE_S = 0.02
"""What a client waits after anything but an answer, so that an outage does not count a million refusals."""
REFUSALS = (408, 503, 504)
GONE = 404
UNREACHABLE = "connection refused"

Kind = Literal["answered", "refused", "lost"]
Fate = tuple[Kind, str]
"""What became of a request, and why if it was not answered."""
Check = Callable[[dict[str, str], bytes], str | None]
"""Returns what is wrong with an answer's headers and body, None if nothing is."""


@dataclass(frozen=True)
class Target:
    """Where requests go and what they say."""

    port: int
    request: bytes
    """The whole HTTP message."""
    check: Check
    status: int = 200
    """What a right answer has: a bad request's is another."""
    model: str = ""
    row: np.ndarray | None = None
    """What clients that write the request themselves send, `[1, …]` float32, and to which model."""
    check_values: Callable[[str, np.ndarray], str | None] = lambda *_: None
    """What is wrong with their answer, by its version and values."""
    grpc_port: int = 0
    may_go: bool = False
    """Whether the model may be unloaded: then a 404 in the protocol's form is a refusal."""

    @staticmethod
    def post(port: int, path: str, body: bytes, check: Check, **headers: object) -> Target:
        """Return a POST of `body`; header names are given with `_` for `-`."""
        named = {"Host": "127.0.0.1", "Content-Length": len(body)}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return Target(port, f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body, check)

    def with_request(self, request: bytes) -> Target:
        """Return the target with another message."""
        return replace(self, request=request)

    def rewritten(self, change: Callable[[bytes], bytes]) -> Target:
        """Return the target with its head, without the empty line, changed."""
        head, end, body = self.request.partition(b"\r\n\r\n")
        return self.with_request(change(head) + end + body)

    def parts(self) -> tuple[str, dict[str, str], bytes]:
        """Return the path, the headers but for those that every library sends itself, and the body."""
        head, _, body = self.request.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        named = dict(line.split(": ", 1) for line in lines)
        return first.split()[1], {k: v for k, v in named.items() if k not in {"Host", "Content-Length"}}, body


@dataclass(slots=True)
class Sent:
    """One request and its fate; times are seconds from the load's start."""

    sent_s: float
    ended_s: float
    kind: Kind
    detail: str
    client: str = "one packet"


@dataclass
class Load:
    """`clients` closed loops against one target, from `start` to `stop`; the kinds of `ways` take turns."""

    target: Target
    """Theirs, unless there are `targets`."""
    clients: int
    wanted: int
    """The load ends after this many requests at the earliest."""
    hang_s: float = HANG_S
    ends_when_refused: bool = False
    """Whether a client ends where it cannot connect, which counts as refused: for a server that is to end."""
    ways: Sequence[str] = ("one packet",)
    """Names of `tests.faults.clients.KINDS`."""
    sent: list[Sent] = field(default_factory=list)
    killed_s: list[float] = field(default_factory=list)
    """When something was killed."""
    targets: Sequence[Target] = ()
    """Several, each by every kind of client; `clients` is their number times that of `ways`."""
    _stopping: bool = False

    async def run(self) -> None:
        """Send until `stop` was called and `wanted` requests have their fate."""
        self._started_s = time.monotonic()
        if self.targets:
            pairs = [*itertools.product(self.ways, self.targets)]
        else:
            pairs = [(way, self.target) for way in itertools.islice(itertools.cycle(self.ways), self.clients)]
        await asyncio.gather(*(self._client(way, target) for way, target in pairs))
        self.sent.sort(key=lambda sent: sent.ended_s)

    def stop(self) -> None:
        """Let the clients end, each after its present request."""
        self._stopping = True

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    async def _client(self, way: str, target: Target) -> None:
        from tests.faults.clients import KINDS

        connection = KINDS[way](target)
        while not (self._stopping and len(self.sent) >= self.wanted):
            sent_s = self.now_s
            kind, detail = await self._fate(connection)
            self.sent.append(Sent(sent_s, self.now_s, kind, detail, way))
            if detail == UNREACHABLE and self.ends_when_refused:
                return
            if kind != "answered":
                connection.close()
                await asyncio.sleep(PAUSE_S)
        connection.close()

    async def _fate(self, connection: Speaker) -> Fate:
        try:
            return await asyncio.wait_for(connection.ask(), self.hang_s)
        except asyncio.TimeoutError:
            return "lost", f"no answer in {self.hang_s:.0f} s"
        except ConnectionRefusedError:
            return "refused" if self.ends_when_refused else "lost", UNREACHABLE
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            return "lost", type(error).__name__


class Connection:
    """One keep-alive connection, opened anew where the server closed it between two requests."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self) -> Fate:
        """Send the request once and return its fate; raises `OSError` and the like where the connection ends."""
        if self._reader is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._target.port)
        assert self._reader is not None
        assert self._writer is not None
        await self._send(self._writer)
        status, headers, body = await self._answer(self._reader)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return verdict(self._target, status, headers, body)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Write the whole request at once."""
        writer.write(self._target.request)

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return int(lines[0].split()[1]), headers, await _chunks(reader)
        body = await reader.readexactly(int(headers.get("content-length", "")))
        return int(lines[0].split()[1]), headers, body

    def close(self) -> None:
        """Close, whatever is on its way."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def verdict(target: Target, status: int, headers: dict[str, str], body: bytes) -> Fate:
    """Return what an answer is, by its status, headers and body."""
    headers = {name.lower(): value for name, value in headers.items()}
    if status == target.status:
        wrong = target.check(headers, body)
        return ("answered", "") if wrong is None else ("lost", wrong)
    if (status in REFUSALS or (target.may_go and status == GONE)) and is_protocol_form(headers, body):
        return "refused", str(status)
    return "lost", f"{status} {headers.get('content-type', '')} {body[:60]!r}"


def is_protocol_form(headers: dict[str, str], body: bytes) -> bool:
    """Return whether an error is `{"error": TEXT}`, as Open Inference and TensorFlow Serving have it."""
    if not headers.get("content-type", "").startswith("application/json"):
        return False
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("error"), str)


def summary(load: Load) -> dict[str, Any]:
    """Return the counts, the longest time without an answer anywhere, and the longest that one request took."""
    kinds = Counter(sent.kind for sent in load.sent)
    details = Counter(f"{sent.kind}: {sent.detail}" for sent in load.sent if sent.kind != "answered")
    return {
        "sent": len(load.sent),
        **{kind: kinds[kind] for kind in ("answered", "refused", "lost")},
        "longest_stall_s": round(longest_stall_s(load), 2),
        "longest_wait_s": round(max((sent.ended_s - sent.sent_s for sent in load.sent), default=0.0), 2),
        "why": dict(details.most_common(6)),
        **({"by_client": by_client(load), "not_answered": not_answered(load)} if len(load.ways) > 1 else {}),
    }


def by_client(load: Load) -> dict[str, dict[str, int]]:
    """Return the counts of every kind of client."""
    counts = Counter((sent.client, sent.kind) for sent in load.sent)
    return {way: {kind: n for (client, kind), n in counts.items() if client == way} for way in load.ways}


def not_answered(load: Load, most: int = 40) -> list[str]:
    """Return each of the first `most` that were not answered, with its times relative to the kill before its end."""
    failed = [sent for sent in load.sent if sent.kind != "answered"]
    return [_told(sent, load.killed_s) for sent in failed[:most]]


def _told(sent: Sent, killed_s: list[float]) -> str:
    kill_s = max((when for when in killed_s if when <= sent.ended_s), default=sent.sent_s)
    times = f"sent {1000 * (sent.sent_s - kill_s):+.0f} ms, ended {1000 * (sent.ended_s - kill_s):+.0f} ms"
    return f"{sent.client}: {sent.kind} {sent.detail}; {times}"


def longest_stall_s(load: Load) -> float:
    """Return the longest time between two answers that follow each other."""
    times = [0.0, *(sent.ended_s for sent in load.sent if sent.kind == "answered")]
    times.append(max((sent.ended_s for sent in load.sent), default=0.0))
    return max(after - before for before, after in itertools.pairwise(times))
