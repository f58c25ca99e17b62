"""How many load at once, and that nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from deployments.planning.turns import at_once, turn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> str:
    return f"{os.getpid()}-{request.node.name}"


def test_no_more_than_the_places_run_at_once_and_all_get_their_turn(cluster: str) -> None:
    running, most, waited, lock = 0, 0, [], threading.Lock()

    def load(index: int) -> None:
        nonlocal running, most
        with turn(cluster, 30, lambda: waited.append(index), places=2):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.05)
            with lock:
                running -= 1

    threads = [threading.Thread(target=load, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 2
    assert 1 <= len(waited) <= 4


def test_behind_one_that_hangs_the_rest_go_on(cluster: str) -> None:
    with turn(cluster, 1, lambda: None, places=1):
        begun_s = time.monotonic()
        with turn(cluster, 0.5, lambda: None, places=1):
            assert time.monotonic() - begun_s >= 0.5


def test_a_process_that_dies_gives_its_turn_back(cluster: str) -> None:
    code = (
        "import os, sys; from deployments.planning.turns import turn\n"
        "with turn(sys.argv[1], 1, lambda: None, places=1): os.abort()"
    )
    subprocess.run([sys.executable, "-c", code, cluster], check=False, capture_output=True)
    told: list[str] = []
    with turn(cluster, 5, lambda: told.append("waits"), places=1):
        assert told == []


def test_at_least_two_load_at_once() -> None:
    assert at_once() >= 2
