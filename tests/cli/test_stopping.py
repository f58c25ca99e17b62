"""A stop that signals ask for, at whatever moment they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from serve_app.cli.stopping import Stop

EVERYWHERE = """
import signal, sys, threading
from serve_app.cli.stopping import Stop

depth = 0

def trace(frame, event, _):
    "Send a signal at every line of a wait and of a handler, and at every line of that signal's own handler."
    global depth
    if frame.f_code.co_filename.endswith(("stopping.py", "threading.py")) and event == "line" and depth < 2:
        depth += 1
        signal.raise_signal(signal.SIGTERM)
        depth -= 1
    return trace

stop = Stop()
stop.on()
sys.settrace(trace)
while not stop.wait(0.05):
    pass
sys.settrace(None)
print("done")
"""


def test_a_signal_may_come_at_every_line_of_a_wait_and_of_a_handler() -> None:
    """As `solo serve` gets two at once: its own, and the one that its parent hands on."""
    done = subprocess.run([sys.executable, "-c", EVERYWHERE], capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


def test_it_waits_and_tells() -> None:
    stop = Stop()
    started_s = time.monotonic()
    assert not stop.wait(0.05)
    assert time.monotonic() - started_s >= 0.05
    assert not stop.is_set()
    threading.Timer(0.05, stop.set).start()
    assert stop.wait(10)
    assert time.monotonic() - started_s < 5
    stop.set()  # once more is nothing
    assert stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_it(number: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    stop = Stop()
    try:
        stop.on()
        os.kill(os.getpid(), number)
        assert stop.wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
