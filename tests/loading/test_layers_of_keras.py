"""Keras's private names may be gone: the public way finds the same layers and the same names."""

from __future__ import annotations

import keras
import pytest

from deployments.loading import from_keras, layers, precision


def model() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="inner_dense")], name="inner")
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    joined = keras.layers.Concatenate(name="joined")([inner(left), right])
    outputs = [keras.layers.Dense(2, name="first")(joined), keras.layers.Dense(1, name="second")(joined)]
    return keras.Model([left, right], outputs)


def test_without_the_flat_list_the_public_one_finds_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    known = {layer.name for layer in layers.all_layers(made) if not isinstance(layer, keras.layers.InputLayer)}
    assert "inner_dense" in known
    monkeypatch.delattr(keras.layers.Layer, "_flatten_layers", raising=False)
    assert not hasattr(made, "_flatten_layers")
    assert {layer.name for layer in layers.all_layers(made)} >= known
    assert {layer.dtype_policy.name for layer in precision.apply(made, "mixed_float16").layers} == {"mixed_float16"}


def test_without_histories_outputs_have_the_same_names() -> None:
    class Bare:
        """A tensor without a history, equal to nothing but itself."""

        def __init__(self, name: str) -> None:
            self.name = name

    made = model()
    want = [spec.name for spec in from_keras(made).signature.outputs]
    assert [layers.maker_name(output, made) for output in made.outputs] == want == ["first", "second"]

    class WithoutHistory:
        operations = [type("Operation", (), {"output": [first := Bare("keras_tensor_1")], "name": "first"})()]  # noqa: RUF012

    assert layers.maker_name(WithoutHistory.first, WithoutHistory()) == "first"
    assert layers.maker_name(Bare("alone"), WithoutHistory()) == "alone"
