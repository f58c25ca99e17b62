"""Real servers that live for a session, each shared by all who need no more than it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import shared_server
from tests.support import cases
from tests.support.client_cluster import WORDS, running_server
from tests.support.processes import (
    QUICK,
    ROOT,
    Server,
    model_application,
    solo_serve,
    write_config,
)

RUNNING: dict[str, ExitStack] = {}
"""The shared servers that run, and how each is stopped."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stop a shared server after the last test that uses it (tests/conftest.py puts these side by side)."""
    for name in [*RUNNING]:
        if nextitem is None or name != shared_server(nextitem):
            RUNNING.pop(name).close()


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
    RUNNING["server"] = stack = ExitStack()
    with stack:
        yield stack.enter_context(solo_serve(config, folder / "solo.log", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"))


@pytest.fixture(scope="session")
def driven() -> Iterator[Server]:
    """A `solo serve` for drivers: the numpy models, `digits`, and `words`, which waits for company (`WORDS`)."""
    # Half a CPU each leaves one for the drivers' tasks.
    digits = model_application("digits", "models/digits.keras", num_cpus=0.5, **QUICK)
    words = model_application("words", "tests.support.models:simple_string", num_cpus=0.5, **WORDS, **QUICK)
    RUNNING["driven"] = stack = ExitStack()
    with stack:
        yield stack.enter_context(running_server(digits, words))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Files as people have them (`tests.support.cases`), and models that cannot be served or are lethal to try."""
    folder = tmp_path_factory.mktemp("mixed")
    broken = folder / "broken.keras"
    broken.write_bytes(
        (ROOT / "models" / "digits.keras").read_bytes().replace(b"model.weights.h5", b"model.waights.h5")
    )
    lethal = {"candidates": ["lethal", "session-single"], "plan_budget_s": 3, "max_batch_size": 2}
    config = write_config(
        folder,
        *(model_application(name, source, num_cpus=0.1, **args, **QUICK) for name, source, args in cases.servable()),
        model_application("missing", str(folder / "missing.keras"), num_cpus=0.1, **QUICK),
        model_application("broken", str(broken), num_cpus=0.1, **QUICK),
        model_application("lethal", "tests.support.lethal_model:build", num_cpus=0.1, **lethal),
    )
    config.write_text(config.read_text().replace("args: {}", "args: {strict_readiness: false}"))
    RUNNING["mixed"] = stack = ExitStack()
    with stack:
        yield stack.enter_context(solo_serve(config, folder / "log"))
