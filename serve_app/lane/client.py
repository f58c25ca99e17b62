"""The asking end: one model's lanes on this node, the least busy first."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import orjson

from deployments.errors import DeadlineExceeded, ReplicaGone
from deployments.execution import Answer
from deployments.sequences import SequenceStep
from deployments.tensors import Arrays, Signature
from serve_app.lane import frames, places

LOOK_S = 1.0
"""How often the folder is looked at for replicas that are new."""
HELLO_S = 1.0


class Lanes:
    """The lanes to one application's replicas; for one event loop."""

    def __init__(self, app_name: str, signature: Signature) -> None:
        self._app_name = app_name
        self._signature = signature
        self._digest = frames.digest(signature)
        self._lanes: dict[str, _Lane] = {}
        self._refused: set[str] = set()
        """Of replicas that answer for something else: an older or newer model under this name."""
        self._looked_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def ask(self, arrays: Arrays, deadline_s: float | None) -> Answer | None:
        """Return the answer to checked `arrays`, in the signature's order; None where there is no lane.

        Raises what the replica raises, `DeadlineExceeded`, and `ReplicaGone` where the replica died.
        """
        self._look_if_due()
        if self._looking is not None and not self._lanes:
            await asyncio.shield(self._looking)
        lane = self._least_busy()
        return None if lane is None else await lane.ask(arrays, deadline_s, self._signature)

    async def others(self, own: str) -> dict[str, _Lane]:
        """Return the lanes to all replicas but the one whose socket is `own`, by socket; looks at the folder first."""
        self._look_if_due()
        if self._looking is not None:
            await asyncio.shield(self._looking)
        return {path: lane for path, lane in self._lanes.items() if path != own}

    def close(self) -> None:
        """Hang up."""
        for lane in [*self._lanes.values()]:
            lane.transport.abort()

    def _least_busy(self) -> _Lane | None:
        lanes = self._lanes
        if len(lanes) < 2:
            return next(iter(lanes.values()), None)
        return min(lanes.values(), key=lambda lane: (len(lane.waiting), lane.asked))

    def _look_if_due(self) -> None:
        if time.monotonic() - self._looked_s > LOOK_S and self._looking is None:
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            base = places.folder()
            known = set() if base is None else places.found(base, self._app_name)
            self._refused &= known
            for path in known - self._lanes.keys() - self._refused:
                await self._connect(path)
        finally:
            self._looked_s, self._looking = time.monotonic(), None

    async def _connect(self, path: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, lane = await loop.create_unix_connection(lambda: _Lane(lambda: self._lanes.pop(path, None)), path)
        except OSError:  # a replica's that was killed: nobody listens, and the file stays
            self._refused.add(path)
            return
        try:
            told = await asyncio.wait_for(lane.hello, HELLO_S)
        except (asyncio.TimeoutError, ReplicaGone):
            lane.transport.abort()
            return
        if told == self._digest:
            self._lanes[path] = lane
        else:
            self._refused.add(path)
            lane.transport.abort()


class _Lane(asyncio.Protocol):
    """One connection."""

    def __init__(self, forget: Any) -> None:
        self.transport: Any = None
        self.waiting: dict[int, asyncio.Future[tuple[int, memoryview]]] = {}
        self.hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked = 0
        self._forget = forget
        self._numbers = itertools.count(1)
        self._splitter = frames.Splitter()
        self._loop = asyncio.get_running_loop()

    async def ask(
        self, arrays: Arrays, deadline_s: float | None, signature: Signature, step: SequenceStep | None = None
    ) -> Answer:
        """Return the replica's answer, to a step of a sequence of its own where one is given."""
        number = next(self._numbers)
        timeout_s = None if deadline_s is None else deadline_s - time.monotonic()
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("the request's deadline has passed")
        if step is None:
            pieces = frames.ask(number, arrays, timeout_s)
        else:
            pieces = frames.ask_step(number, arrays, timeout_s, step)
        self.waiting[number] = future = self._loop.create_future()
        self.asked += 1
        self.transport.write(b"".join(pieces))
        timer = None if timeout_s is None else self._loop.call_later(timeout_s, _expire, future)
        try:
            kind, body = await future
        except (asyncio.CancelledError, DeadlineExceeded):
            self._cancel(number)
            raise
        finally:
            self.waiting.pop(number, None)
            if timer is not None:
                timer.cancel()
        if kind == frames.ERROR:
            raise frames.error_in(body)
        return frames.answer_in(body, signature.outputs)

    async def forget(self, sequence: int | str) -> None:
        """Have the replica end a sequence, and return once it has."""
        number = next(self._numbers)
        self.waiting[number] = future = self._loop.create_future()
        self.transport.write(frames.plain(number, frames.FORGET, orjson.dumps(sequence)))
        try:
            await future
        finally:
            self.waiting.pop(number, None)

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand each answer to who waits for it."""
        try:
            for number, kind, body in self._splitter.feed(data):
                if kind == frames.HELLO and not self.hello.done():
                    self.hello.set_result(bytes(body))
                elif (future := self.waiting.get(number)) is not None and not future.done():
                    future.set_result((kind, body))
        except ValueError:
            self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Tell everyone who waits."""
        self._forget()
        gone = ReplicaGone("the replica died or stopped")
        left: list[asyncio.Future[Any]] = [self.hello, *self.waiting.values()]
        for future in left:
            if not future.done():
                future.set_exception(gone)
                future.exception()  # nobody may look at it, which asyncio would log

    def _cancel(self, number: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(frames.plain(number, frames.CANCEL))


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("the model did not answer before the deadline"))
