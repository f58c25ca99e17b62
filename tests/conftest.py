"""Fixtures for every test: one real server a session, shared by all who only ask it things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import QUICK, Server, model_application, solo_serve, write_config


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the server as what starts Ray, and keep it to one worker; other files go where there is time."""
    for item in items:
        needs_server = "server" in getattr(item, "fixturenames", ())
        if needs_server:
            item.add_marker(pytest.mark.serve)
        item.add_marker(pytest.mark.xdist_group("server" if needs_server else str(item.path)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A `solo serve` with the digits model and those that public clients' examples expect."""
    folder = tmp_path_factory.mktemp("server")
    labels = [str(digit) for digit in range(10)]
    factories = ("simple", "simple_string", "half_plus_two")
    config = write_config(
        folder,
        model_application("digits", "models/digits.keras", labels=labels, **QUICK),
        *(model_application(name, f"tests.support.models:{name}", **QUICK) for name in factories),
    )
    # No driver joins this one, so that tests/served/test_exposure.py may hold it to loopback.
    with solo_serve(config, folder / "solo.log", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0") as running:
        yield running
