"""What starts Ray is marked, and which of two workers runs a test."""

from __future__ import annotations

from pathlib import Path

import pytest

SERVED = Path(__file__).parent / "served"
SERVERS = {"server", "driven"}
"""The fixtures of tests/served/conftest.py: servers of a whole session."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a server, and those of a file, to one worker; other files go where there is time."""
    for item in items:
        servers = SERVERS & {*getattr(item, "fixturenames", ())} if item.path.is_relative_to(SERVED) else set()
        if servers:
            item.add_marker(pytest.mark.serve)
        if hasattr(getattr(item, "module", None), "server"):  # the file has one of its own by that name
            servers.discard("server")
        item.add_marker(pytest.mark.xdist_group("+".join(sorted(servers)) or str(item.path)))
