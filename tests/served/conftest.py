"""Real servers that live for a session, each shared by all who need no more than it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client_cluster import WORDS, running_server
from tests.support.processes import (
    QUICK,
    Server,
    model_application,
    solo_serve,
    write_config,
)


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


@pytest.fixture(scope="session")
def driven() -> Iterator[Server]:
    """A `solo serve` for drivers: the numpy models, `digits`, and `words`, which waits for company (`WORDS`)."""
    # Half a CPU each leaves one for the drivers' tasks.
    digits = model_application("digits", "models/digits.keras", num_cpus=0.5, **QUICK)
    words = model_application("words", "tests.support.models:simple_string", num_cpus=0.5, **WORDS, **QUICK)
    with running_server(digits, words) as running:
        yield running
