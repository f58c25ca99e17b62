"""Whatever signal comes to whom, however often, the server is asked to end once, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

SERVER = """
import signal, subprocess, sys, time
from serve_app.cli.serve import own_session

def serve():
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append("asked"))
    signal.signal(signal.SIGINT, lambda *_: asked.append("interrupted"))
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(helper.pid, flush=True)
    while not asked:
        time.sleep(0.01)
    time.sleep(0.5)
    print(*asked, flush=True)
    helper.kill()
    return {status}

sys.exit(own_session.run(serve))
"""


def started(status: int = 0) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Return the process that was started, in a group of its own, and one that its server has started."""
    command = [sys.executable, "-c", SERVER.replace("{status}", str(status))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to_group", [False, True])
def test_the_server_is_asked_once_however_often_it_is_said(number: signal.Signals, to_group: bool) -> None:
    process, helper = started()
    for _ in range(2):
        os.killpg(process.pid, number) if to_group else process.send_signal(number)
        time.sleep(0.1)
    said, complained = process.communicate(timeout=20)
    assert (said, complained, process.returncode) == ("asked\n", "", 0)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE


def test_the_servers_status_is_the_commands() -> None:
    process, _ = started(status=3)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 3


def test_what_a_killed_server_leaves_is_ended() -> None:
    process, helper = started()
    (server,) = psutil.Process(process.pid).children()
    server.kill()
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    helper.wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told by Linux alone")
def test_a_server_whose_watcher_is_killed_ends_as_asked() -> None:
    process, _ = started()
    process.kill()
    said, _ = process.communicate(timeout=20)
    assert said == "asked\n"
