"""Sequences over several replicas: whichever is asked, the one with the states answers, and none has them twice."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.errors import UnknownSequence
from deployments.sequences import Sequences, SequenceStep
from deployments.servable import Servable
from deployments.states import States
from serve_app.lane import server
from serve_app.lane.peers import LanePeers
from tests.sequences.test_sequences import MODEL, OPTIONS, VISIBLE, Averages


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lane-", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", folder)
        yield Path(folder)


class Replica:
    """A replica's sequences, with its lane and its way to the others; all on one event loop."""

    def __init__(self, name: str) -> None:
        self.sequences = Sequences(States(MODEL, OPTIONS.states), OPTIONS, Averages().submit)
        self.servable = Servable("m", "1", VISIBLE, Averages(), 8, sequences=self.sequences)
        self.sequences.peers = LanePeers("app", name, VISIBLE)
        self.name = name
        self.opened: Any = None

    async def open(self) -> Replica:
        self.opened = await server.serve(self.servable, "app", self.name)
        return self

    async def ask(self, number: int, x: float, start: bool = False, end: bool = False) -> float:
        inputs = {"x": np.array([x], np.float32)}
        answer = await self.servable.predict(inputs, None, SequenceStep(number, start, end))
        return float(answer.outputs[0][0])


async def several(count: int) -> list[Replica]:
    return [await Replica(f"r{number}").open() for number in range(count)]


def test_any_replica_answers_for_a_sequence_of_another() -> None:
    async def run() -> None:
        replicas = await several(3)
        chosen = random.Random(0)
        seen: dict[int, list[float]] = {}
        for turn in range(200):
            number, x = chosen.randrange(1, 6), float(chosen.randrange(7))
            is_start = number not in seen or chosen.random() < 0.1
            seen[number] = [x] if is_start else [*seen[number], x]
            got = await chosen.choice(replicas).ask(number, x, start=is_start)
            assert got == pytest.approx(np.mean(seen[number]), rel=1e-5), turn
        assert sum(len(replica.sequences) for replica in replicas) == len(seen), "none has states of another's sequence"

    asyncio.run(run())


def test_a_sequence_that_is_nowhere_is_said_to_be() -> None:
    async def run() -> None:
        first, second = await several(2)
        with pytest.raises(UnknownSequence, match="sequence 3 is not under way here"):
            await first.ask(3, 1)
        await first.ask(3, 1, start=True)
        assert await second.ask(3, 3, end=True) == 2
        for replica in (first, second):
            with pytest.raises(UnknownSequence):
                await replica.ask(3, 1)

    asyncio.run(run())


def test_a_replica_that_died_takes_its_sequences_along_and_that_is_told() -> None:
    async def run() -> None:
        first, second = await several(2)
        await first.ask(1, 1, start=True)
        assert await second.ask(1, 3) == 2
        first.opened.close()
        for lane in [*(await second.sequences.peers._lanes.others("")).values()]:  # type: ignore[union-attr]
            lane.transport.abort()
        await asyncio.sleep(0.05)
        with pytest.raises(UnknownSequence, match="or its replica was replaced"):
            await second.ask(1, 5)
        assert await second.ask(1, 5, start=True) == 5

    asyncio.run(run())
