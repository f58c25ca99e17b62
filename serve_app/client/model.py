"""`Model`: a deployed model as a Python object, in any process of its Ray cluster."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from deployments.errors import ConfigError, InvalidInput, NotReady, ReplicaGone, UnknownModel
from deployments.sequences import SequenceStep
from deployments.tensors import Array, Arrays, Rows, Signature
from serve_app.client import background, lookup, values
from serve_app.client.connection import Connection, Transport, connect
from serve_app.config import tokens
from serve_app.protocols.errors import Unauthorized

Answer = Array | dict[str, Array]

FRESH_S = 1.0
"""How long a description is trusted before a refused input makes the client look again for a redeployed model."""

Key = tuple[str, str, str | None, Transport, str | None]

_connections: dict[Key, Connection] = {}
"""This process's, so that every task that a worker runs finds the way open."""
_locks: dict[Key, threading.Lock] = {}


class Model:
    """A deployed model, by name: arrays in, arrays out, from tasks, actors, drivers and other deployments.

    Cheap to make and to pickle; it connects on first use, and a process connects once. `transport` is `auto`
    (HTTP to this node's front door where it is HAProxy and the arrays are small, else Serve's handle), or `http` or
    `handle` alone. HTTP offers `token`, by default the environment's `SOLO_TOKEN`, to a model that asks for one; `auto`
    goes on by the handle, which needs none, where it is not accepted.
    """

    def __init__(
        self,
        name: str,
        version: str | int | None = None,
        *,
        transport: Transport = "auto",
        token: str | None = None,
    ) -> None:
        if transport not in ("auto", "http", "handle"):
            raise ConfigError(f"transport: expected auto, http or handle, got {transport!r}")
        self.name = name
        self.version = None if version is None else str(version)
        self.transport: Transport = transport
        self._token = token
        self._asked: Connection | None = None

    def predict(self, inputs: Any, timeout_s: float | None = 60.0) -> Answer:
        """Return the outputs of `inputs`: one `[rows, ...]` array-like, or a dict of them by input name.

        A sole output comes back bare, several as a dict by name; all are writable and `[rows, ...]`, in order,
        however many rows there are. Lists and near dtypes are converted where no value changes its meaning.

        Raises, before anything is sent, `UnknownModel` and `InvalidInput`; then `Overloaded`, `PredictionFailed`,
        `DeadlineExceeded` after `timeout_s` seconds (None waits for ever; the replica drops the call too), and
        `NotReady` where no replica answers in several attempts. In a coroutine, await `predict_async` instead.
        """
        deadline_s = _deadline_s(timeout_s)
        if (connection := _connections.get(self._key())) is not None:
            try:
                rows = values.to_rows(connection.description.signature, inputs)
                if rows.count <= connection.description.max_batch_size:
                    outputs = connection.predict_once(rows.arrays, deadline_s)
                    return values.to_answer(connection.description.signature, outputs)
            except (NotReady, InvalidInput, UnknownModel, Unauthorized):
                # The long way round tries again, or raises it again.
                pass
        return background.run(self._predict(inputs, deadline_s))

    async def predict_async(self, inputs: Any, timeout_s: float | None = 60.0) -> Answer:
        """Do what `predict` does without blocking the event loop; cancelling it cancels the call."""
        return await self._predict(inputs, _deadline_s(timeout_s))

    def sequence(self, number: int | str | None = None) -> Sequence:
        """Return a sequence of a model that keeps states (`sequences` in its `args`); None: an id of its own."""
        return Sequence(self, uuid.uuid4().hex if number is None else number)

    async def ask(self, inputs: Mapping[str, Array], deadline_s: float | None) -> Arrays | None:
        """Return the outputs, in the signature's order, by a lane, where one is open and `inputs` fit.

        None: `predict_async` is to be asked, which opens what is closed, and converts. For callers that ask one model
        again and again, from one event loop.
        """
        connection = self._asked
        if connection is None or connection is not _connections.get(connection.key):
            connection = self._asked = _connections.get(self._key())
        if connection is None or not connection.may_use_lane:
            return None
        try:
            rows = connection.description.signature.check(inputs)
        except InvalidInput:
            return None
        if rows.count > connection.description.max_batch_size:
            return None
        try:
            answer = await connection.lanes().ask(rows.arrays, deadline_s)
        except ReplicaGone:
            return None
        return None if answer is None else answer.outputs

    @property
    def signature(self) -> Signature:
        """The names, dtypes and shapes of the model's inputs and outputs, as it is deployed now."""
        return self._connect(_deadline_s(60.0), time.monotonic()).description.signature

    async def _predict(self, inputs: Any, deadline_s: float | None) -> Answer:
        """Predict; where the model refuses or is gone, look whether it has been redeployed, and try once more."""
        connection = await self._open(deadline_s)
        try:
            return await _predict_with(connection, inputs, deadline_s)
        except (NotReady, InvalidInput, UnknownModel, Unauthorized):
            fresh = await asyncio.to_thread(self._connect, deadline_s, time.monotonic() - FRESH_S)
            if fresh.is_like(connection):
                raise
        return await _predict_with(fresh, inputs, deadline_s)

    async def step(self, inputs: Any, deadline_s: float | None, step: SequenceStep) -> Answer:
        """Return the answer to one step of a sequence, sent once; `Sequence` is what users have."""
        connection = await self._open(deadline_s)
        signature = connection.description.signature
        rows = values.to_rows(signature, inputs)
        return values.to_answer(signature, await connection.step(rows.arrays, deadline_s, step))

    async def _open(self, deadline_s: float | None) -> Connection:
        """Return this process's connection, or a new one, without blocking the event loop."""
        known = _connections.get(self._key())
        return await asyncio.to_thread(self._connect, deadline_s) if known is None else known

    def _connect(self, deadline_s: float | None, not_before_s: float = float("-inf")) -> Connection:
        """Return this process's connection, made anew if it was described before `not_before_s`; blocking."""
        key = self._key()
        with _locks.setdefault(key, threading.Lock()):
            known = _connections.get(key)
            if known is not None and known.described_s >= not_before_s:
                return known
            connection = connect(self.name, self.version, self.transport, deadline_s, self._offered)
            connection.key = key
            _connections[key] = connection
            return connection

    def _key(self) -> Key:
        return lookup.cluster_id(), self.name, self.version, self.transport, self._offered

    @property
    def _offered(self) -> str | None:
        return self._token or tokens.bearer()

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the way that this process has open."""
        return {**self.__dict__, "_asked": None}

    def __repr__(self) -> str:
        version = "" if self.version is None else f", version={self.version!r}"
        return f"Model({self.name!r}{version})"


class Sequence:
    """One sequence of a model that keeps states between requests: its first step begins it, from zeros.

    A step is sent once and never again by itself. Where the model says that the sequence is not under way, since it was
    idle for too long or its replica died, `restart` begins it anew.
    """

    def __init__(self, model: Model, number: int | str) -> None:
        self.model = model
        self.number = number
        """The sequence's id."""
        self._has_begun = False

    def predict(self, inputs: Any, timeout_s: float | None = 60.0, *, end: bool = False) -> Answer:
        """Return the outputs of the next step, of one row, as `Model.predict` does; `end` says that it is the last.

        Raises what `Model.predict` raises, having tried once, and `InvalidInput` for a sequence that is not under way.
        """
        return background.run(self.predict_async(inputs, timeout_s, end=end))

    async def predict_async(self, inputs: Any, timeout_s: float | None = 60.0, *, end: bool = False) -> Answer:
        """Do what `predict` does without blocking the event loop."""
        step = SequenceStep(self.number, not self._has_begun, end)
        answer = await self.model.step(inputs, _deadline_s(timeout_s), step)
        self._has_begun = not end
        return answer

    def restart(self) -> None:
        """Have the next step begin the sequence from zeros."""
        self._has_begun = False


async def _predict_with(connection: Connection, inputs: Any, deadline_s: float | None) -> Answer:
    signature = connection.description.signature
    rows = values.to_rows(signature, inputs)
    return values.to_answer(signature, await _predict_pieces(connection, rows, deadline_s))


async def _predict_pieces(connection: Connection, rows: Rows, deadline_s: float | None) -> Arrays:
    size = connection.description.max_batch_size
    return await values.by_pieces(rows, size, lambda piece: connection.predict(piece, deadline_s))


def _deadline_s(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
