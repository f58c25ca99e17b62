"""Keras models from every format: names, shapes, dtypes, structures, and answers equal to the model's own."""

from __future__ import annotations

from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import Source, from_keras, load
from deployments.model import LoadedModel
from deployments.tensors import STRING, TensorSpec


def mlp() -> keras.Model:
    image = keras.Input((6,), name="features")
    x = keras.layers.Dense(5, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="scores")(x))


def two_in_two_out() -> keras.Model:
    user, item = keras.Input((4,), name="user"), keras.Input((), dtype="int32", name="item")
    joined = keras.layers.Concatenate()([user, keras.layers.Embedding(7, 2)(item)])
    return keras.Model(
        [user, item], [keras.layers.Dense(1, name="rating")(joined), keras.layers.Dense(2, name="pair")(joined)]
    )


def with_dicts() -> keras.Model:
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    outputs = {"total": keras.layers.Add(name="sum_layer")([left, right]), "first": keras.layers.Dense(1)(left)}
    return keras.Model({"right": right, "left": left}, outputs)


def text() -> keras.Model:
    words = keras.Input((), dtype="string", name="sentence")
    tokens = keras.layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=4)(words)
    return keras.Model(words, keras.layers.Embedding(5, 2, name="vectors")(tokens))


def lookup() -> keras.Model:
    word = keras.Input((2,), dtype="string", name="word")
    return keras.Model(word, keras.layers.StringLookup(vocabulary=["a", "b"], name="index")(word))


def flags() -> keras.Model:
    flag = keras.Input((3,), dtype="bool", name="flag")
    count = keras.Input((3,), dtype="int64", name="count")
    same = keras.layers.Identity(dtype="bool", name="same")(flag)
    return keras.Model([flag, count], [same, keras.layers.Add(dtype="int64", name="twice")([count, count])])


def dynamic() -> keras.Model:
    series = keras.Input((None, 2), name="series")
    states = keras.layers.LSTM(3, return_state=True, name="lstm")(series)
    return keras.Model(series, states)


MODELS = {maker.__name__: maker for maker in (mlp, two_in_two_out, with_dicts, text, lookup, flags, dynamic)}
MODELS["sequential"] = lambda: keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])


def example(spec: TensorSpec, rows: int = 3) -> np.ndarray:
    """Return reproducible values that fit a spec, dynamic inner axes as 5."""
    rng = np.random.default_rng(5)
    shape = (rows, *(5 if axis is None else axis for axis in spec.row_shape))
    if spec.dtype == STRING:
        return rng.choice(np.array([b"a", b"good b", b"bad"], dtype=object), shape)
    if spec.dtype.kind in "biu":
        return rng.integers(0, 2 if spec.dtype.kind == "b" else 5, shape).astype(spec.dtype)
    return rng.normal(size=shape).astype(spec.dtype)


def assert_answers(loaded: LoadedModel, original: keras.Model) -> None:
    """Check `call`, eagerly and traced, and `predict` against the original model."""
    arrays = tuple(example(spec) for spec in loaded.signature.inputs)
    tensors = tuple(tf.constant(array) for array in arrays)
    shape = original.inputs[0] if isinstance(original, keras.Sequential) else original.input
    structure = keras.tree.pack_sequence_as(shape, tensors)
    expected = [np.asarray(out) for out in keras.tree.flatten(original(structure, training=False))]
    assert loaded.predict is not None
    ways = (loaded.call(*tensors), tf.function(loaded.call)(*tensors), loaded.predict(arrays))
    for outputs in ways:
        assert len(outputs) == len(loaded.signature.outputs)
        for spec, got, want in zip(loaded.signature.outputs, outputs, expected, strict=True):
            got = np.asarray(got)
            spec.check(got)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_a_saved_model_answers_as_the_original(name: str, suffix: str, tmp_path: Path) -> None:
    original = MODELS[name]()
    path = tmp_path / f"model{suffix}"
    original.save(path)
    loaded = load(Source(str(path)))
    assert loaded.source == str(path)
    assert_answers(loaded, original)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_memory_answers_as_itself(name: str) -> None:
    original = MODELS[name]()
    assert_answers(from_keras(original), original)


def names_of(specs: tuple[TensorSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def test_names_come_from_layers_in_the_models_order() -> None:
    signature = from_keras(two_in_two_out()).signature
    assert names_of(signature.inputs) == ["user", "item"]
    assert names_of(signature.outputs) == ["rating", "pair"]
    assert signature.inputs[1] == TensorSpec("item", np.dtype(np.int32), (None,))


def test_names_come_from_dictionary_keys_sorted() -> None:
    signature = from_keras(with_dicts()).signature
    assert names_of(signature.inputs) == ["left", "right"]
    assert names_of(signature.outputs) == ["first", "total"]


def test_outputs_of_one_layer_are_numbered() -> None:
    signature = from_keras(dynamic()).signature
    assert names_of(signature.outputs) == ["lstm", "lstm_1", "lstm_2"]
    assert signature.inputs[0].shape == (None, None, 2)
    assert not signature.is_static


def test_nested_structures_are_flattened() -> None:
    a, b, c = (keras.Input((2,), name=name) for name in "abc")
    model = keras.Model([a, [b, c]], {"deep": [a, keras.layers.Add(name="added")([b, c])]})
    loaded = from_keras(model)
    assert names_of(loaded.signature.inputs) == ["a", "b", "c"]
    assert names_of(loaded.signature.outputs) == ["a", "added"]
    assert_answers(loaded, model)


def test_a_fixed_batch_that_nothing_needs_is_opened() -> None:
    x = keras.Input(batch_shape=(4, 2), name="x")
    signature = from_keras(keras.Model(x, keras.layers.Dense(1, name="y")(x))).signature
    assert signature.inputs[0].shape == (None, 2)
    assert signature.outputs[0].shape == (None, 1)


@pytest.mark.parametrize(("policy", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_half_precision_models_keep_their_dtypes(policy: str, dtype: type) -> None:
    x = keras.Input((4,), dtype=policy, name="x")
    loaded = from_keras(keras.Model(x, keras.layers.Dense(2, dtype=policy)(x)))
    assert loaded.signature.inputs[0].dtype == loaded.signature.outputs[0].dtype == np.dtype(dtype)
    (out,) = loaded.call(np.ones((1, 4), dtype))
    assert out.numpy().dtype == np.dtype(dtype)


def test_prediction_is_inference() -> None:
    x = keras.Input((100,), name="x")
    loaded = from_keras(keras.Model(x, keras.layers.Dropout(0.9)(keras.layers.GaussianNoise(0.9)(x))))
    ones = np.ones((2, 100), np.float32)
    np.testing.assert_array_equal(tf.function(loaded.call)(ones)[0], ones)


def test_variables_are_tensorflow_variables_that_call_reads() -> None:
    keras.utils.set_random_seed(3)  # some random weights give the same answer as none: every unit dead
    loaded = from_keras(mlp())
    before = loaded.call(np.ones((1, 6), np.float32))[0].numpy()
    assert all(isinstance(variable, tf.Variable) for variable in loaded.variables)
    for variable in loaded.variables:
        variable.assign(tf.zeros_like(variable))
    assert not np.allclose(loaded.call(np.ones((1, 6), np.float32))[0], before)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_precision_is_what_layers_compute_in(policy: str, tmp_path: Path) -> None:
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            seen.append((self.compute_dtype, x.dtype.name))
            return x

    x = keras.Input((4,), name="x")
    dense = keras.layers.Dense(3, name="dense")
    keras.Model(x, Spy(name="spy")(dense(x))).save(tmp_path / "m.keras")
    with keras.saving.custom_object_scope({"Spy": Spy}):
        exact = load(Source(str(tmp_path / "m.keras")))
        half = load(Source(str(tmp_path / "m.keras")), policy)
    seen.clear()
    ones = np.full((1, 4), 1.001, np.float32)
    outputs = half.call(ones)[0]
    dtype = policy.removeprefix("mixed_")
    assert seen == [(dtype, dtype)]
    assert outputs.dtype == tf.float32
    assert half.signature == exact.signature
    assert half.fingerprint != exact.fingerprint
    reference = exact.call(ones)[0]
    assert not np.array_equal(outputs, reference)
    np.testing.assert_allclose(outputs, reference, rtol=0.05, atol=0.02)


def test_precision_leaves_text_layers_alone(tmp_path: Path) -> None:
    original = text()
    original.save(tmp_path / "text.keras")
    loaded = load(Source(str(tmp_path / "text.keras")), "mixed_bfloat16")
    words = np.array([b"good bad"], dtype=object)
    np.testing.assert_allclose(loaded.call(words)[0], original(tf.constant(words)), rtol=0.01)


def test_sparse_inputs_are_refused() -> None:
    x = keras.Input((4,), sparse=True, name="x")
    with pytest.raises(LoadError, match="'x' is sparse"):
        from_keras(keras.Model(x, keras.layers.Dense(2)(x)))


def test_an_input_without_a_batch_axis_is_refused() -> None:
    x = keras.Input(batch_shape=(), name="x")
    with pytest.raises(LoadError, match="'x' is a single value without a batch axis"):
        from_keras(keras.Model(x, x * 2))


def test_an_output_without_a_batch_axis_is_refused() -> None:
    x = keras.Input((4,), name="x")
    with pytest.raises(LoadError, match="single value for the whole batch"):
        from_keras(keras.Model(x, keras.ops.sum(x)))


def test_an_output_whose_first_axis_is_not_the_batch_is_refused() -> None:
    x = keras.Input((4,), name="x")
    with pytest.raises(LoadError, match=r"shape \[4\].*not the batch"):
        from_keras(keras.Model(x, keras.ops.sum(x, axis=0)))


def test_a_sequential_model_without_input_is_refused() -> None:
    with pytest.raises(LoadError, match="no input shape"):
        from_keras(keras.Sequential([keras.layers.Dense(2)]))
