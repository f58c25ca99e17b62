"""Batch axes, names, states and outputs as files have them are taken as they come."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import from_keras
from deployments.planning.plan import PlanOptions, make_plan

L = keras.layers
PLAIN = PlanOptions(allowed_batch_sizes=(1, 2), budget_s=0, only=("tf.function",))


def answers(model: Any, x: Any, count: int) -> Any:
    plan = make_plan(from_keras(model), PLAIN)
    rows = plan.signature.check({plan.signature.inputs[0].name: x[:count]})
    return plan, plan.run(rows.arrays, count)[0]


def test_a_fixed_batch_that_nothing_needs_is_opened() -> None:
    model = keras.Sequential([L.Dense(3)])
    model(np.ones((1, 5), np.float32))
    x = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    plan, got = answers(model, x, 2)
    assert plan.batch_sizes == (1, 2)
    np.testing.assert_allclose(got, x @ np.asarray(model.layers[0].kernel), atol=1e-5)


def test_a_fixed_batch_that_the_model_needs_is_padded_to() -> None:
    fixed = keras.Input(batch_shape=(4, 6), name="a")
    model = keras.Model(fixed, L.Reshape((3,))(keras.ops.reshape(fixed, (4, 2, 3))[:, 0]))
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    plan, got = answers(model, x, 3)
    assert plan.batch_sizes == (4,)
    assert plan.signature.inputs[0].shape == (None, 6)
    np.testing.assert_array_equal(got, x[:3, :3])


def test_rows_of_a_fixed_batch_that_influence_each_other_stay_together() -> None:
    fixed = keras.Input(batch_shape=(2, 3), name="a")
    model = keras.Model(fixed, keras.ops.flip(keras.ops.reshape(fixed, (2, 3)), 0))
    assert make_plan(from_keras(model), PLAIN).signature.inputs[0].shape == (2, 3)


def test_strings_are_answered_where_keras_declares_integers() -> None:
    index = keras.Input((3,), dtype="int32", name="a")
    model = keras.Model(index, L.StringLookup(vocabulary=["cat", "dog", "ü"], invert=True)(index))
    _, got = answers(model, np.array([[1, 2, 3]], np.int32), 1)
    assert [text.decode() for text in got[0]] == ["cat", "dog", "ü"]


def test_ragged_outputs_are_refused_by_name() -> None:
    text = keras.Input((), dtype="string", name="text")
    layer = L.TextVectorization(ragged=True, vocabulary=["a", "b"], name="words")
    with pytest.raises(LoadError, match=r"output 'words' is a RaggedTensor.*to_tensor"):
        from_keras(keras.Model(text, layer(text)))


class Sparse(L.Layer):
    def call(self, x: Any) -> Any:
        return tf.sparse.from_dense(tf.where(x > 0, x, 0.0))


class Ragged(L.Layer):
    def call(self, x: Any) -> Any:
        return tf.RaggedTensor.from_tensor(x)


class Complex(L.Layer):
    def call(self, x: Any) -> Any:
        return tf.signal.fft(tf.cast(x, tf.complex64))


def ending_in(layer: Any) -> Any:
    entry = keras.Input((4,), name="x")
    return keras.Model(entry, layer(name="y")(entry))


def test_a_sparse_output_is_served_as_the_dense_one_that_it_stands_for() -> None:
    plan = make_plan(from_keras(ending_in(Sparse)), PLAIN)
    rows = np.array([[1, -2, 0, 3]], np.float32)
    assert plan.run((rows,), 1)[0].tolist() == [[1, 0, 0, 3]]
    plan.close()


def test_a_ragged_output_that_keras_takes_for_dense_is_refused_by_name() -> None:
    with pytest.raises(LoadError, match=r"output 'y' is a RaggedTensor.*to_tensor"):
        make_plan(from_keras(ending_in(Ragged)), PLAIN)


def test_complex_outputs_are_refused_by_name() -> None:
    with pytest.raises(LoadError, match=r"'y' is complex64, for which no protocol has a datatype.*tf\.math\.real"):
        from_keras(ending_in(Complex))


def test_names_in_another_alphabet_are_kept_and_compiled() -> None:
    entry = keras.Input((4,), name="Eingang größe")
    model = keras.Model(entry, L.Dense(2, name="Ausgang ß")(L.Dense(3, name="层")(entry)), name="Modell ä")
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    want = model(x).numpy()
    plan, got = answers(model, x, 2)
    assert [spec.name for spec in (*plan.signature.inputs, *plan.signature.outputs)] == ["Eingang größe", "Ausgang ß"]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_stateful_layer_answers_every_request_from_zeros() -> None:
    fixed = keras.Input(batch_shape=(1, 4, 2), name="a")
    model = keras.Model(fixed, L.LSTM(3, stateful=True)(fixed))
    x = np.random.default_rng(1).normal(size=(1, 4, 2)).astype(np.float32)
    plan = make_plan(from_keras(model), PLAIN)
    first, second = (plan.run((x,), 1)[0].copy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() > 0
