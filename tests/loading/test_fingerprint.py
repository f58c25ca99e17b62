"""A fingerprint stands for what a model computes: the same for the same content, another for any other."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from deployments.loading import Source, fingerprint, from_keras, load, names


def dense(units: int = 3, activation: str = "relu") -> keras.Model:
    x = keras.Input((4,), name="x")
    x_out = keras.layers.Dropout(0.5, name="drop")(keras.layers.Dense(units, activation=activation, name="y")(x))
    return keras.Model(x, x_out, name="model")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_it_is_stable_between_loads(suffix: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"m{suffix}")
    dense().save(path)
    prints = {load(Source(path)).fingerprint for _ in range(2)}
    assert len(prints) == 1
    assert len(prints.pop()) == 64


def test_it_survives_saving_again(tmp_path: Path) -> None:
    model = dense()
    for name in ("a.keras", "b.keras"):
        model.save(tmp_path / name)
    assert load(Source(str(tmp_path / "a.keras"))).fingerprint == load(Source(str(tmp_path / "b.keras"))).fingerprint


def test_one_changed_weight_changes_it() -> None:
    model = dense()
    before = from_keras(model).fingerprint
    kernel = model.get_layer("y").kernel
    kernel.assign(kernel.numpy() + np.eye(4, 3, dtype=np.float32) * 1e-6)
    assert from_keras(model).fingerprint != before


def test_the_architecture_counts() -> None:
    weights = dense().get_weights()
    prints = set()
    for activation in ("relu", "tanh"):
        model = dense(activation=activation)
        model.set_weights(weights)
        prints.add(from_keras(model).fingerprint)
    assert len(prints) == 2


def test_a_learned_vocabulary_counts() -> None:
    prints = set()
    for words in (["a b"], ["a c"], ["a c"]):
        layer = keras.layers.TextVectorization(output_sequence_length=3, name="tokens")
        layer.adapt(words)
        x = keras.Input((), dtype="string", name="x")
        prints.add(from_keras(keras.Model(x, layer(x), name="model")).fingerprint)
    assert len(prints) == 2


def test_a_hundred_megabytes_take_no_noticeable_time() -> None:
    x = keras.Input((5000,), name="x")
    model = keras.Model(x, keras.layers.Dense(5000, kernel_initializer="zeros")(x))
    started_s = time.monotonic()
    fingerprint.of_keras(model)
    # 0.27 s of CPU time where this was written; the bound only excludes copying element by element.
    assert time.monotonic() - started_s < 20


def test_names_are_cleaned() -> None:
    assert [names.clean(name) for name in ("image:0", "scope/dense/Softmax:0", "a/", "x")] == [
        "image",
        "Softmax",
        "a",
        "x",
    ]


def test_repeated_names_are_numbered_without_taking_another_ones() -> None:
    assert names.unique(["a", "a", "a_1", "a"]) == ("a", "a_2", "a_1", "a_3")


def test_the_gateway_reads_sources_without_tensorflow() -> None:
    code = "import sys; from deployments.loading import Source; Source('m.keras'); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
