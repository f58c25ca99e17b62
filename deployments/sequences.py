"""Requests that belong together: a recurrent model's states are kept between them, by the id that clients send.

The model takes its states as inputs and returns them as outputs; clients see neither. Steps of one sequence run one
after another, functions around the model included, in the order of their arrival; those of different sequences share
batches, as all requests do.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from deployments.errors import InvalidInput, Overloaded, UnknownSequence
from deployments.execution import Answer, Submit
from deployments.states import States
from deployments.tensors import Arrays, Rows


class Peers(Protocol):
    """The other replicas of the model on this node, each with sequences of its own."""

    async def ask(self, rows: Rows, deadline_s: float | None, step: SequenceStep) -> Answer | None:
        """Return the answer of the replica where the sequence is under way; None where it is nowhere."""
        ...

    async def forget(self, number: int | str) -> None:
        """End the sequence wherever it is under way: it begins anew here."""
        ...


class Around(Protocol):
    """The functions around the model."""

    async def submit(self, rows: Rows, deadline_s: float | None, model: Submit) -> Answer:
        """Return the answer to what clients send, `model` being asked in the middle; neither sees states."""
        ...


@dataclass(frozen=True, slots=True)
class SequenceStep:
    """Where one request stands in its sequence."""

    number: int | str
    """The sequence's id, which its client chose."""
    is_start: bool = False
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """Which of the model's tensors are states, and how long and how many are kept."""

    states: Mapping[str, str]
    """Input to the output that it becomes."""
    max_idle_s: float = 60.0
    max_sequences: int = 1024


@dataclass(slots=True)
class _Sequence:
    states: Arrays
    used_s: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Sequences:
    """The sequences of one replica; for one event loop."""

    def __init__(self, states: States, options: SequenceOptions, submit: Submit, around: Around | None = None) -> None:
        """Keep the states of the model that `submit` asks, which sees them, with functions around it or none."""
        self._states = states
        self._options = options
        self._submit = submit
        self._around = around
        self._known: OrderedDict[int | str, _Sequence] = OrderedDict()
        self.peers: Peers | None = None
        """Where else a sequence may be under way; None: nowhere."""

    @property
    def max_idle_s(self) -> float:
        """How long a sequence may be silent before it ends."""
        return self._options.max_idle_s

    def __len__(self) -> int:
        """Return how many sequences are under way."""
        return len(self._known)

    async def submit(self, rows: Rows, deadline_s: float | None, step: SequenceStep | None) -> Answer:
        """Return the answer to one step, from the replica with its states; `rows` are by what clients see.

        Raises `InvalidInput` for a request without an id, of several rows, or of a sequence that is not under way here,
        and `Overloaded` where as many as may be are.
        """
        if step is None or step.number in (0, ""):
            raise InvalidInput("this model keeps states: expected parameter 'sequence_id', a number above 0 or a text")
        if rows.count != 1:
            raise InvalidInput(f"this model keeps states: expected one row a request, got {rows.count}")
        if self.peers is not None and step.number not in self._known:
            if step.is_start:
                await self.peers.forget(step.number)
            elif (answer := await self.peers.ask(rows, deadline_s, step)) is not None:
                return answer
        return await self.submit_here(rows, deadline_s, step)

    def forget(self, number: int | str) -> None:
        """End a sequence that begins anew elsewhere."""
        self._known.pop(number, None)

    async def submit_here(self, rows: Rows, deadline_s: float | None, step: SequenceStep) -> Answer:
        """Return the answer to one step of a sequence of this replica; raises `UnknownSequence` for any other."""
        self._forget_idle()
        sequence = self._begun(step.number) if step.is_start else self._known.get(step.number)
        if sequence is None:
            raise UnknownSequence(
                f"sequence {step.number!r} is not under way here: its first request must say 'sequence_start'; or it "
                f"was idle for more than {self._options.max_idle_s:g} s, or its replica was replaced: begin it anew"
            )
        sequence.waiting += 1
        try:
            async with sequence.turn:
                return await self._step(sequence, rows, deadline_s, step)
        finally:
            sequence.waiting -= 1
            sequence.used_s = time.monotonic()
            if self._known.get(step.number) is sequence:
                self._known.move_to_end(step.number)

    async def _step(self, sequence: _Sequence, rows: Rows, deadline_s: float | None, step: SequenceStep) -> Answer:
        kept = sequence.states

        async def model(rows: Rows, deadline_s: float | None) -> Answer:
            nonlocal kept
            answer = await self._submit(self._states.checked(rows.arrays, sequence.states), deadline_s)
            kept = self._states.kept(answer.outputs)
            answer.outputs = self._states.told(answer.outputs)
            return answer

        around = self._around
        answer = await (model(rows, deadline_s) if around is None else around.submit(rows, deadline_s, model))
        sequence.states = kept
        if step.is_end and self._known.get(step.number) is sequence:
            del self._known[step.number]
        return answer

    def _begun(self, number: int | str) -> _Sequence:
        """Return a new sequence from zeros; one that is under way by this id ends."""
        if number not in self._known and len(self._known) >= self._options.max_sequences:
            raise Overloaded(f"{len(self._known)} sequences are under way, as many as may be", self._next_idle_s())
        sequence = _Sequence(self._states.zeros(1), time.monotonic())
        self._known[number] = sequence
        self._known.move_to_end(number)
        return sequence

    def _forget_idle(self) -> None:
        """End the sequences that nobody has asked for too long; the least lately asked stand first."""
        before_s = time.monotonic() - self._options.max_idle_s
        while self._known:
            number, sequence = next(iter(self._known.items()))
            if sequence.used_s > before_s or sequence.waiting:
                return
            del self._known[number]

    def _next_idle_s(self) -> float:
        first = next(iter(self._known.values()))
        return max(1.0, first.used_s + self._options.max_idle_s - time.monotonic())
