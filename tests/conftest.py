"""What starts Ray is marked, and runs in one lane: two clusters on two cores start later at once than in turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployments.device import environment

if "PYTEST_XDIST_WORKER" in os.environ:  # many files: some of them wants TensorFlow
    environment.prepare("auto", log_level=2)

SERVED = Path(__file__).parent / "served"
SHARED = ("server", "driven", "mixed")
"""The fixtures of tests/served/conftest.py, servers of a whole session; their tests run side by side."""


def shared_server(item: pytest.Item) -> str:
    """The shared server that a test of `tests/served` uses, or ""."""
    names = {*getattr(item, "fixturenames", ())}
    if hasattr(getattr(item, "module", None), "server"):  # the file has one of its own by that name
        names.discard("server")
    return next((name for name in SHARED if name in names), "")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what starts Ray to one worker, the tests of a shared server together; other files go where there is time."""
    for item in items:
        if item.path.is_relative_to(SERVED) and shared_server(item):
            item.add_marker(pytest.mark.serve)
        served = item.get_closest_marker("serve") is not None
        item.add_marker(pytest.mark.xdist_group("served" if served else str(item.path)))
    turn = {name: position for position, name in enumerate((*SHARED, ""))}
    items.sort(key=lambda item: turn[shared_server(item)] if item.get_closest_marker("serve") else -1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fail where the groups above came to nothing: twenty servers would start beside each other, twice."""
    if getattr(session.config.option, "loadgroup", False) and not all("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("this pytest-xdist does not group the tests of this pytest: install constraints.txt")
