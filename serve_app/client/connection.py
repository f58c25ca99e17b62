"""One process's way to one deployed model: where it is, what it takes, and how a checked piece gets there and back."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

from deployments.errors import NotReady, ReplicaGone
from deployments.sequences import SequenceStep
from deployments.tensors import Array, Arrays, Signature
from serve_app.client import background, http_messages, lookup, values
from serve_app.client.handle_way import HandleWay, left_s
from serve_app.client.http_messages import Wire
from serve_app.client.http_way import HttpWay
from serve_app.client.lookup import Place
from serve_app.lane.blocking import BlockingLanes
from serve_app.lane.client import Lanes
from serve_app.protocols.errors import Unauthorized

Transport = Literal["auto", "http", "handle"]

HTTP_BYTES = 4 << 20
"""Up to this HTTP to the node's front door is the fastest way, beyond it the handle with the object store: 3.6 ms
against 13 ms at 0.6 MB, 20 against 23 at 4.8 MB, 28 against 22 at 9.6 MB (bench/client.py, 2 busy cores)."""

RETRY_WAITS_S = (0.05, 0.2, 0.8, 1.6)
"""Between attempts. HAProxy takes up to 0.75 s to notice a dead replica, Serve's controller 2 s; a request that
kills every replica it meets must not do so for ever."""


@dataclass(frozen=True)
class Description:
    """What a model takes, as its replica tells."""

    signature: Signature
    max_batch_size: int


class Connection:
    """Ways to one model, opened when first needed."""

    def __init__(self, place: Place, transport: Transport, token: str | None = None) -> None:
        if transport == "http" and place.front_door is None:
            raise NotReady(
                f"model '{place.name}': transport 'http' needs an HAProxy on this node; start Serve with `solo serve`"
            )
        self.place = place
        self.token = token
        self.http = None if place.front_door is None or transport == "handle" else HttpWay(*place.front_door)
        self._falls_back = transport == "auto"
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, Lanes] = WeakKeyDictionary()
        self._handle: HandleWay | None = None
        self._lock = threading.Lock()
        self._blocking: BlockingLanes | None = None
        self.key: Any = None
        """Under what the process knows it."""
        self.wire: Wire
        self.description: Description
        self.described_s = float("-inf")

    def is_like(self, other: Connection) -> bool:
        """Return whether what failed on `other` would fail here: the same model, reached the same way."""
        same_way = (self.http is None) == (other.http is None)
        return same_way and (self.place, self.description) == (other.place, other.description)

    def describe(self, deadline_s: float | None) -> None:
        """Learn what the model takes, from a replica; blocking."""
        self.description = self._describe_by_http(deadline_s) or self._describe_by_handle(deadline_s)
        if self.http is not None:
            self.wire = Wire(self.place.path, self.http.host, self.description.signature, self.token)
        self.described_s = time.monotonic()

    def _describe_by_http(self, deadline_s: float | None) -> Description | None:
        if self.http is None:
            return None
        request = http_messages.get_request(f"{self.place.path}/config", self.http.host, self.token)
        try:
            return Description(*http_messages.decode_config(self.http.exchange(request, deadline_s)))
        except ReplicaGone:
            if not self._falls_back:
                raise
            return None
        except Unauthorized:
            if not self._falls_back:
                raise
            # Inside the cluster a handle needs no token.
            self.http = None
            return None

    def _describe_by_handle(self, deadline_s: float | None) -> Description:
        found = background.run(self._opened_handle().describe(deadline_s))
        return Description(found["signature"], found["max_batch_size"])

    def predict_once(self, piece: Arrays, deadline_s: float | None) -> Arrays:
        """Return the outputs of one piece, blocking this thread and waking no other; no retries."""
        if self.may_use_lane:
            if self._blocking is None:
                self._blocking = BlockingLanes(self.place.app_name, self.description.signature)
            if (answer := self._blocking.ask(piece, deadline_s)) is not None:
                return answer.outputs
        size_bytes = values.size_bytes(piece)
        if (http := self._http_for(size_bytes)) is not None:
            return self.wire.decode(http.exchange(self.wire.encode(piece, left_s(deadline_s)), deadline_s))
        if asyncio._get_running_loop() is not None:
            raise ReplicaGone("Serve's handle does not block where an event loop runs")
        return self._opened_handle().predict_blocking(self._named(piece), size_bytes, deadline_s)

    async def predict(self, piece: Arrays, deadline_s: float | None) -> Arrays:
        """Return the outputs of one piece; sent again, a bounded number of times, where a replica dies under it."""
        for attempt, wait_s in enumerate((*RETRY_WAITS_S, None)):
            try:
                return await self._attempt(piece, deadline_s, attempt)
            except ReplicaGone as error:
                remaining_s = left_s(deadline_s)
                if wait_s is None or (remaining_s is not None and remaining_s <= wait_s):
                    raise NotReady(
                        f"model '{self.place.name}': no replica answered in {attempt + 1} attempts; last: {error}"
                    ) from None
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def step(self, piece: Arrays, deadline_s: float | None, step: SequenceStep) -> Arrays:
        """Return the outputs of one step of a sequence; sent once, since no step is to be taken twice."""
        try:
            if self.http is not None:
                request = self.wire.encode(piece, left_s(deadline_s), step)
                return self.wire.decode(await self.http.exchange_async(request, deadline_s))
            handle = await asyncio.to_thread(self._opened_handle)
            return await handle.predict(self._named(piece), values.size_bytes(piece), deadline_s, step)
        except ReplicaGone as error:
            raise NotReady(
                f"model '{self.place.name}': sequence {step.number!r} ended with its replica: {error}"
            ) from None

    async def _attempt(self, piece: Arrays, deadline_s: float | None, attempt: int) -> Arrays:
        if attempt == 0 and self.may_use_lane:
            answer = await self.lanes().ask(piece, deadline_s)
            if answer is not None:
                return answer.outputs
        size_bytes = values.size_bytes(piece)
        # A way that failed twice may be gone itself; the handle finds replicas without it.
        http = self._http_for(size_bytes)
        if http is not None and not (self._falls_back and attempt > 1):
            request = self.wire.encode(piece, left_s(deadline_s))
            return self.wire.decode(await http.exchange_async(request, deadline_s))
        handle = self._handle
        if handle is None:
            # Opening it asks the controller, with blocking calls.
            handle = await asyncio.to_thread(self._opened_handle)
        return await handle.predict(self._named(piece), size_bytes, deadline_s)

    @property
    def may_use_lane(self) -> bool:
        """Whether the model's replicas may be asked directly."""
        return self._falls_back and self.place.has_lane

    def lanes(self) -> Lanes:
        """Return the lanes to this node's replicas, for the running loop."""
        loop = asyncio.get_running_loop()
        lanes = self._lanes.get(loop)
        if lanes is None:
            lanes = self._lanes[loop] = Lanes(self.place.app_name, self.description.signature)
        return lanes

    def _http_for(self, size_bytes: int) -> HttpWay | None:
        """Return the front door where it is the way for a piece of this size."""
        return self.http if size_bytes <= HTTP_BYTES or not self._falls_back else None

    def _named(self, piece: Arrays) -> dict[str, Array]:
        names = (spec.name for spec in self.description.signature.inputs)
        return dict(zip(names, piece, strict=True))

    def _opened_handle(self) -> HandleWay:
        with self._lock:
            self._handle = self._handle or HandleWay(self.place.app_name, self.place.deployment)
            return self._handle


def connect(
    name: str, version: str | None, transport: Transport, deadline_s: float | None, token: str | None = None
) -> Connection:
    """Find a model and learn what it takes, blocking; raises `UnknownModel`, `NotReady` and `Unauthorized`."""
    connection = Connection(lookup.find(name, version), transport, token)
    connection.describe(deadline_s)
    return connection
