"""The end of a cluster: silent, and as patient as it has to be."""

from __future__ import annotations

import os
import time

import pytest

from serve_app.cluster import ending


def test_nothing_is_written_to_stderr_meanwhile_by_whatever_way(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with ending.silence():
        os.write(2, b"meanwhile ")
        os.system("echo child >&2")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_requests_are_waited_for_as_long_as_there_are_some() -> None:
    counts = iter([2, 1, 0, 5])
    ending.wait_until_none(lambda: next(counts), time.monotonic() + 10)
    assert next(counts) == 5


def test_but_not_for_ever() -> None:
    started_s = time.monotonic()
    ending.wait_until_none(lambda: 1, started_s + 0.3)
    assert 0.3 <= time.monotonic() - started_s < 5
