"""The Python client and a real Keras model: the same answers as Keras gives, and the example that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from serve_app.client import Model
from tests.support.client_cluster import as_driver, cluster_address
from tests.support.processes import ROOT, Server

pytestmark = pytest.mark.serve


def test_a_hundred_tasks_read_digits(driven: Server) -> None:
    # A user gives no address: `auto` finds the only cluster, and turns on the authentication that it asks for.
    example = [sys.executable, "examples/ray_tasks.py", "--address", cluster_address(driven)]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(example, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    right, _, total, *_ = done.stdout.split()
    assert int(total) == 100
    assert int(right) >= 97


@pytest.mark.parametrize("transport", ["auto", "http", "handle"])
def test_a_driver_gets_what_the_model_says(driven: Server, transport: Any) -> None:
    import keras

    images = np.random.default_rng(1).random((9, 28, 28, 1))
    truth = np.asarray(keras.saving.load_model(ROOT / "models/digits.keras")(images, training=False))
    with as_driver(driven):
        scores = Model("digits", transport=transport).predict(images)
    assert isinstance(scores, np.ndarray)
    assert (scores.shape, scores.dtype) == ((9, 10), np.float32)
    np.testing.assert_allclose(scores, truth, atol=1e-5)
