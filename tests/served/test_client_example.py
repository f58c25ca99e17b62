"""The Python client and a real Keras model: the same answers as Keras gives, and the example that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serve_app.client import Model
from tests.support.client_cluster import as_driver, cluster_address
from tests.support.processes import QUICK, ROOT, Server, model_application, solo_serve, write_config

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("example")
    config = write_config(folder, model_application("digits", "models/digits.keras", **QUICK))
    with solo_serve(config, folder / "log") as running:
        yield running


def test_a_hundred_tasks_read_digits(server: Server) -> None:
    # A user gives no address: `auto` finds the only cluster, and turns on the authentication that it asks for.
    example = [sys.executable, "examples/ray_tasks.py", "--address", cluster_address(server)]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(example, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    right, _, total, *_ = done.stdout.split()
    assert int(total) == 100
    assert int(right) >= 97


@pytest.mark.parametrize("transport", ["auto", "http", "handle"])
def test_a_driver_gets_what_the_model_says(server: Server, transport: Any) -> None:
    import keras

    images = np.random.default_rng(1).random((9, 28, 28, 1))
    truth = np.asarray(keras.saving.load_model(ROOT / "models/digits.keras")(images, training=False))
    with as_driver(server):
        scores = Model("digits", transport=transport).predict(images)
    assert isinstance(scores, np.ndarray)
    assert (scores.shape, scores.dtype) == ((9, 10), np.float32)
    np.testing.assert_allclose(scores, truth, atol=1e-5)
