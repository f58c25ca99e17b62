"""The replica's end of a lane."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import orjson

from deployments.errors import InvalidInput, SoloError
from deployments.events import event, failure
from deployments.servable import Servable
from serve_app.fast_path.stepping import Stepping
from serve_app.http.errors import text_of
from serve_app.lane import frames, places


class Ongoing(Protocol):
    """Who counts what a replica is at; `serve_app.fast_path.past_serve.FastPath` is the real one."""

    def began(self) -> None:
        """Count one more."""
        ...

    def ended(self) -> None:
        """Count one less."""
        ...


class Lane(asyncio.Protocol):
    """One connection to this replica: asks what comes in, as many at once as come."""

    def __init__(self, servable: Servable, digest: bytes, ongoing: Ongoing | None = None) -> None:
        self.servable = servable
        self.ongoing = ongoing
        self._digest = digest
        self._splitter = frames.Splitter()
        self._calls: dict[int, _Call] = {}
        self.transport: Any = None
        self.is_open = False

    def connection_made(self, transport: Any) -> None:
        """Say whose lane this is."""
        self.transport, self.is_open = transport, True
        transport.write(frames.plain(0, frames.HELLO, self._digest))

    def data_received(self, data: bytes) -> None:
        """Begin, or cancel, what is asked; hang up on whoever speaks something else."""
        try:
            for number, kind, body in self._splitter.feed(data):
                if kind in (frames.ASK, frames.STEP):
                    call = _Call(self, number, body, kind == frames.STEP)
                    self._calls[number] = call
                    call.begin()
                elif kind == frames.CANCEL and (known := self._calls.get(number)) is not None:
                    known.cancel()
                elif kind == frames.FORGET:
                    if self.servable.sequences is not None:
                        self.servable.sequences.forget(orjson.loads(body))
                    self.transport.write(frames.plain(number, frames.FORGET))
        except ValueError:
            self.transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Cancel what nobody waits for any more."""
        self.is_open = False
        for call in [*self._calls.values()]:
            call.cancel()

    def ended(self, number: int) -> None:
        """Forget a call."""
        self._calls.pop(number, None)


class _Call(Stepping):
    """One request and its answer."""

    __slots__ = ("_body", "_is_step", "_lane", "_number")

    def __init__(self, lane: Lane, number: int, body: memoryview, is_step: bool) -> None:
        super().__init__()
        self._lane = lane
        self._number = number
        self._body = body
        self._is_step = is_step

    def begin(self) -> None:
        if self._lane.ongoing is not None:
            self._lane.ongoing.began()
        self._begin_with(self._answer())

    async def _answer(self) -> None:
        servable = self._lane.servable
        with servable.counted() as request:
            servable.check_room()
            specs = servable.signature.inputs
            step = None
            if self._is_step:
                arrays, timeout_s, step = frames.step_in(self._body, specs)
            else:
                arrays, timeout_s = frames.asked_in(self._body, specs)
            if len(arrays) != len(specs):
                raise InvalidInput(f"expected {len(specs)} inputs, got {len(arrays)}")
            inputs = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
            request.decoded(inputs)
            deadline_s = None if timeout_s is None else request.started_ns / 1e9 + timeout_s
            if step is not None and servable.sequences is not None:
                answer = await servable.sequences.submit_here(servable.signature.check(inputs), deadline_s, step)
            else:
                answer = await servable.predict(inputs, deadline_s)
            request.answered(answer)
            pieces = frames.answer(self._number, answer)
        if self._lane.is_open:
            self._lane.transport.write(b"".join(pieces))

    def _end(self, error: BaseException | None) -> None:
        self._coroutine = self._waits = None
        self._lane.ended(self._number)
        if self._lane.ongoing is not None:
            self._lane.ongoing.ended()
        if error is None or isinstance(error, asyncio.CancelledError) or not self._lane.is_open:
            return
        if not isinstance(error, SoloError):
            failure("prediction_failed", f"a request by lane failed: {error}", error)
            error = SoloError(text_of(error))
        self._lane.transport.write(frames.error(self._number, error))


async def serve(
    servable: Servable, app_name: str, replica: str, ongoing: Ongoing | None = None
) -> asyncio.AbstractServer | None:
    """Open this replica's lane on the running loop; None where this node has no folder for lanes."""
    base = places.folder()
    if base is None:
        return None
    path = places.path(base, app_name, replica)
    digest = frames.digest(servable.signature)
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return await _bound(lambda: Lane(servable, digest, ongoing), path)
    except OSError as error:  # a folder whose name is too long for a socket's, or on a file system without them
        event("no_lane", f"model '{servable.name}': asked over HTTP alone: {error}", model=servable.name)
        return None


async def _bound(make: Callable[[], Lane], path: Path) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    # Under another name first: who looks in the folder finds only sockets that accept.
    hidden = path.with_name(f".{path.name[-8:]}")
    server = await loop.create_unix_server(make, str(hidden))
    hidden.rename(path)
    return server
