"""A lane between two processes' ends: every array comes as it went, and what breaks is told apart."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from deployments.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    Overloaded,
    PredictionFailed,
    ReplicaGone,
    UnknownModel,
)
from deployments.execution import Answer
from deployments.servable import Servable
from deployments.tensors import STRING, Rows, Signature, TensorSpec
from serve_app.lane import frames, places, server
from serve_app.lane.blocking import BlockingLanes
from serve_app.lane.client import Lanes
from tests.support.routes_harness import spec

SIGNATURE = Signature((spec("x", "float32", 4), spec("s", bytes)), (spec("y", "float32", 4), spec("t", bytes)))
DTYPES = ("float32", "float64", "int8", "uint16", "int64", "bool", "float16")


class Model:
    """Answers `x + 1` and the strings backwards; does as the first string says."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.deadlines: list[float | None] = []

    async def submit(self, rows: Rows, deadline_s: float | None = None) -> Answer:
        x, words = rows.arrays
        self.deadlines.append(deadline_s)
        if words[0] == b"wait":
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if words[0] in ERRORS:
            raise ERRORS[words[0]]
        backwards = np.empty(len(words), dtype=object)
        backwards[:] = [word[::-1] for word in words]
        return Answer((x + 1, backwards), 11, 22, rows.count)


ERRORS: dict[bytes, Exception] = {
    b"invalid": InvalidInput("no such word"),
    b"full": Overloaded("full", 2.5),
    b"late": DeadlineExceeded("late"),
    b"failed": PredictionFailed("the model failed"),
    b"unknown": UnknownModel("gone"),
    b"loading": NotReady("not yet"),
    b"bug": RuntimeError("/secret/path"),
}


class Replica:
    """A lane's end on an event loop of its own thread."""

    def __init__(self, app: str, name: str, signature: Signature = SIGNATURE, ongoing: Any = None) -> None:
        self.model = Model()
        self.servable = Servable("m", "1", signature, self.model, 8)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.opened = self._run(server.serve(self.servable, app, name, ongoing))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def die(self) -> None:
        """Hang up on everyone, as a process that ends does."""

        async def close() -> None:
            self.opened.close()
            for task in [*self.opened.sockets]:
                task.close()

        self._run(close())
        for connection in [*LANES]:
            if connection.servable is self.servable:
                self.loop.call_soon_threadsafe(connection.transport.abort)


LANES: list[server.Lane] = []


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short name: a socket's ends at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="lane-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def lanes(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", str(base))
    made = server.Lane.connection_made

    def keep(self: server.Lane, transport: Any) -> None:
        LANES.append(self)
        made(self, transport)

    monkeypatch.setattr(server.Lane, "connection_made", keep)
    yield
    LANES.clear()


def asked(*words: str, value: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    return np.full((len(words), 4), value, np.float32), np.array([word.encode() for word in words], dtype=object)


def by_coroutine(*requests: Any, deadline_s: float | None = None) -> list[Any]:
    async def run() -> list[Any]:
        lanes = Lanes("app", SIGNATURE)
        try:
            return await asyncio.gather(*(lanes.ask(each, deadline_s) for each in requests), return_exceptions=True)
        finally:
            lanes.close()

    return asyncio.run(run())


def by_thread(*requests: Any, deadline_s: float | None = None) -> list[Any]:
    lanes, answers = BlockingLanes("app", SIGNATURE), []
    for each in requests:
        try:
            answers.append(lanes.ask(each, deadline_s))
        except Exception as error:
            answers.append(error)
    lanes.close()
    return answers


BOTH = pytest.mark.parametrize("ask", [by_coroutine, by_thread])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: arrays_of.arrays(
                dtype, arrays_of.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)
            )
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(1, 40), max_size=8),
)
def test_arrays_come_as_they_went_however_they_are_cut(sent: list[np.ndarray], cuts: list[int]) -> None:
    specs = [TensorSpec(f"t{i}", array.dtype, (None,) * array.ndim) for i, array in enumerate(sent)]
    data = b"".join([*frames.ask(7, tuple(sent), 1.5), frames.plain(8, frames.CANCEL)])
    splitter, found, at = frames.Splitter(), [], 0
    for cut in [*cuts, len(data)]:
        found += [(number, kind, bytes(body)) for number, kind, body in splitter.feed(data[at : at + cut])]
        at += cut
    (number, kind, body), cancelled = found
    assert (number, kind, cancelled[:2]) == (7, frames.ASK, (8, frames.CANCEL))
    got, timeout_s = frames.asked_in(memoryview(body), specs)
    assert timeout_s == 1.5
    for array, back in zip(sent, got, strict=True):
        np.testing.assert_array_equal(array, back)
        assert back.dtype == array.dtype


def test_strings_and_bfloat16_come_too() -> None:
    sent = (np.array([[b"", "ü".encode()], [b"\0", b"x" * 1000]], dtype=object), np.ones((2, 3), ml_dtypes.bfloat16))
    specs = [TensorSpec("s", STRING, (None, 2)), TensorSpec("b", sent[1].dtype, (None, 3))]
    body = memoryview(b"".join(frames.ask(1, sent, None)))[frames.HEAD.size :]
    (strings, halves), timeout_s = frames.asked_in(body, specs)
    assert strings.tolist() == sent[0].tolist()
    np.testing.assert_array_equal(halves, sent[1])
    assert timeout_s is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_rubbish_is_refused_in_words(rubbish: bytes) -> None:
    try:
        frames.asked_in(memoryview(bytes(8) + rubbish), SIGNATURE.inputs)
    except InvalidInput:
        pass
    with pytest.raises(ValueError, match="a frame of"):
        list(frames.Splitter().feed(b"\xff" * 32))


@BOTH
def test_answers_and_what_they_cost(ask: Any) -> None:
    Replica("app", "r1")
    (answer, again) = ask(asked("ab", "cd", value=1), asked("x"))
    np.testing.assert_array_equal(answer.outputs[0], np.full((2, 4), 2, np.float32))
    assert answer.outputs[1].tolist() == [b"ba", b"dc"]
    assert (answer.queue_ns, answer.compute_ns, answer.batch_rows) == (11, 22, 2)
    assert again.outputs[1].tolist() == [b"x"]


@BOTH
def test_errors_are_what_the_replica_raised(ask: Any) -> None:
    replica = Replica("app", "r1")
    answers = ask(*(asked(word.decode()) for word in ERRORS))
    for raised, got in zip(ERRORS.values(), answers, strict=True):
        if isinstance(raised, RuntimeError):
            assert isinstance(got, PredictionFailed)
            assert "secret" not in str(got)
        else:
            assert (type(got), str(got)) == (type(raised), str(raised))
    assert answers[1].retry_after_s == 2.5
    assert replica.servable.statistics.fail_count == len(ERRORS)


@BOTH
def test_a_wrong_shape_is_the_clients(ask: Any) -> None:
    Replica("app", "r1")
    (got,) = ask((np.zeros((1, 3), np.float32), asked("a")[1]))
    assert isinstance(got, InvalidInput)
    assert "input 'x'" in str(got)


@BOTH
def test_large_arrays(ask: Any) -> None:
    wide = Signature((spec("x", "float32", None), spec("s", bytes)), SIGNATURE.outputs)
    assert frames.digest(wide) != frames.digest(SIGNATURE)
    Replica("app", "r1")
    rows = 200_000
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    words = np.full(rows, b"ab", dtype=object)
    (answer,) = ask((x, words))
    np.testing.assert_array_equal(answer.outputs[0], x + 1)


@BOTH
def test_no_lane_is_no_answer(ask: Any) -> None:
    assert ask(asked("a")) == [None]
    Replica("app", "r1", Signature(SIGNATURE.inputs, SIGNATURE.inputs))
    assert ask(asked("a")) == [None], "another model under this name is not asked"
    Replica("other", "r1")
    assert ask(asked("a")) == [None]


@BOTH
def test_a_file_of_a_killed_replica_is_passed_over(ask: Any, base: Path) -> None:
    Replica("app", "alive")
    left = places.path(base / "lanes", "app", "killed")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left))
    for answer in ask(*[asked("ab")] * 6):
        assert answer.outputs[1].tolist() == [b"ba"]


@BOTH
def test_the_deadline_goes_along_and_ends_the_wait(ask: Any) -> None:
    replica = Replica("app", "r1")
    started_s = time.monotonic()
    (late,) = ask(asked("wait"), deadline_s=started_s + 0.3)
    assert isinstance(late, DeadlineExceeded)
    assert 0.25 < time.monotonic() - started_s < 5
    _until(lambda: replica.model.cancelled == 1)
    assert replica.model.deadlines[0] == pytest.approx(started_s + 0.3, abs=0.2)
    (past,) = ask(asked("a"), deadline_s=time.monotonic() - 1)
    assert isinstance(past, DeadlineExceeded)


def _until(condition: Any) -> None:
    ends_s = time.monotonic() + 5
    while not condition() and time.monotonic() < ends_s:
        time.sleep(0.01)
    assert condition()


class Count:
    """What Serve's count of a replica's requests would show."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def began(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def ended(self) -> None:
        self.now -= 1


def test_requests_are_in_the_replicas_count_however_they_end() -> None:
    count = Count()
    Replica("app", "r1", ongoing=count)
    by_coroutine(*[asked("a")] * 4, *(asked(word.decode()) for word in ERRORS))
    by_coroutine(asked("wait"), asked("wait"), deadline_s=time.monotonic() + 0.3)
    assert count.most >= 2
    _until(lambda: count.now == 0)


@BOTH
def test_replicas_share(ask: Any) -> None:
    replicas = [Replica("app", f"r{number}") for number in range(3)]
    ask(*[asked("a")] * 30)
    assert [len(replica.model.deadlines) for replica in replicas] == [10, 10, 10]


def test_a_cancelled_request_is_cancelled_at_the_replica() -> None:
    replica = Replica("app", "r1")

    async def run() -> None:
        lanes = Lanes("app", SIGNATURE)
        task = asyncio.ensure_future(lanes.ask(asked("wait"), None))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        answer = await lanes.ask(asked("ab"), None)
        assert answer is not None
        assert answer.outputs[1].tolist() == [b"ba"]
        lanes.close()

    asyncio.run(run())
    _until(lambda: replica.model.cancelled == 1)


@BOTH
def test_a_replica_that_dies_is_told(ask: Any) -> None:
    replica = Replica("app", "r1")
    threading.Timer(0.3, replica.die).start()
    (gone,) = ask(asked("wait"))
    assert isinstance(gone, ReplicaGone)


def test_a_client_that_leaves_ends_its_requests() -> None:
    replica = Replica("app", "r1")
    (path,) = places.found(Path(os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"], "lanes"), "app")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"".join(frames.ask(1, asked("wait"), None)))
        _until(lambda: replica.model.deadlines)
    _until(lambda: replica.model.cancelled == 1)


def test_rubbish_ends_a_connection_alone() -> None:
    Replica("app", "r1")
    (path,) = places.found(Path(os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"], "lanes"), "app")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(path)
        connection.sendall(b"\xff" * 100)
        while connection.recv(1000):
            pass
    assert by_thread(asked("ab"))[0].outputs[1].tolist() == [b"ba"]


def test_a_lane_is_its_owners(base: Path) -> None:
    Replica("app", "r1")
    assert (base / "lanes").stat().st_mode & 0o777 == 0o700
    (path,) = places.found(base / "lanes", "app")
    assert len(path) < 107


def test_a_folder_whose_name_is_too_long_has_no_lanes(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("RAY_SERVE_HAPROXY_SERVER_STATE_BASE", str(deep))
    assert Replica("app", "r1").opened is None
    assert by_thread(asked("a")) == by_coroutine(asked("a")) == [None]
