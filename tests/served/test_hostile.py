"""A slice of `make hostile` against the suite's server: every kind of hostile input, a few dozen cases each."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.hostile.attack import attack
from tests.hostile.cases import Reply, wrong_with
from tests.hostile.kinds import KINDS, Kind
from tests.hostile.numbers import check_numbers
from tests.hostile.surface import by_hypothesis
from tests.hostile.watch import Watched
from tests.support.processes import Server

SHORT = [kind for kind in KINDS if kind.short]


@pytest.fixture(scope="module")
def watched(server: Server) -> Watched:
    return Watched.of(server)


@pytest.mark.parametrize("kind", SHORT, ids=[kind.name for kind in SHORT])
def test_hostile_input_is_refused_and_the_next_request_answered(server: Server, watched: Watched, kind: Kind) -> None:
    async def send() -> list[str]:
        async with attack(server.port, server.grpc_port, watched) as attacked:
            return (await attacked.run(kind.name, kind.some(kind.short, seed=2))).findings

    assert asyncio.run(send()) == []


def test_documents_that_hypothesis_makes_up(server: Server, watched: Watched) -> None:
    async def send() -> list[str]:
        async with attack(server.port, server.grpc_port, watched) as attacked:
            return (await attacked.run("hypothesis", by_hypothesis(Random(2), 100))).findings

    assert asyncio.run(send()) == []


def test_no_number_changes_on_its_way(server: Server, watched: Watched) -> None:
    async def send() -> list[str]:
        async with attack(server.port, server.grpc_port, watched) as attacked:
            return (await check_numbers(server.port, attacked.caller)).findings

    assert asyncio.run(send()) == []


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (500, "application/json", b'{"error":"x"}'),
        (503, "text/plain", b"no replica"),
        (400, "text/html", b"<html>"),
        (400, "application/json", b'{"error":"x","trace":"y"}'),
        (400, "application/json", b'{"error":"/home/me/model.py failed"}'),
        (200, "application/json", b'{"outputs":'),
    ],
)
def test_the_judge_is_no_fool(status: int, content_type: str, body: bytes) -> None:
    assert wrong_with(made(status, content_type, body)) is not None


def test_the_judge_lets_refusals_pass() -> None:
    assert wrong_with(made(400, "application/json", b'{"error":"x"}')) is None
    assert wrong_with(made(503, "application/json", b'{"error":"x"}')) is None


def made(status: int, content_type: str, body: bytes) -> Reply:
    return Reply(status, f"HTTP/1.1 {status} x\r\ncontent-type: {content_type}".encode(), body)
