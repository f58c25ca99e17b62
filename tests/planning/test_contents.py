"""Strings that a model takes are found in its graph: what `contents` makes, the graph that opens it accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployments.loading import Source, from_keras, load
from deployments.planning.contents import contents
from deployments.planning.plan import PlanOptions, make_plan

PARSED = {
    "age": tf.io.FixedLenFeature([], tf.float32),
    "pixels": tf.io.FixedLenFeature([4], tf.int64),
    "words": tf.io.VarLenFeature(tf.string),
    "ragged": tf.io.RaggedFeature(tf.float32),
}


def each(open_one: Callable[[Any], Any], dtype: Any = tf.float32) -> Callable[[Any], Any]:
    return lambda strings: tf.map_fn(lambda one: tf.cast(open_one(one), dtype), strings, fn_output_signature=dtype)


def parsed(strings: Any) -> Any:
    found = tf.io.parse_example(strings, PARSED)
    return found["age"] + tf.reduce_sum(tf.cast(found["pixels"], tf.float32), axis=1)


OPENERS = {
    "jpeg": each(lambda one: tf.reduce_mean(tf.cast(tf.io.decode_jpeg(one, channels=3), tf.float32))),
    "image": each(lambda one: tf.reduce_mean(tf.cast(tf.io.decode_image(one, channels=3), tf.float32))),
    "png": each(lambda one: tf.reduce_mean(tf.cast(tf.io.decode_png(one), tf.float32))),
    "bmp": each(lambda one: tf.reduce_mean(tf.cast(tf.io.decode_bmp(one), tf.float32))),
    "wav": each(lambda one: tf.reduce_mean(tf.audio.decode_wav(one, desired_channels=1).audio)),
    "base64": each(lambda one: tf.reduce_mean(tf.cast(tf.io.decode_jpeg(tf.io.decode_base64(one)), tf.float32))),
    "number": lambda strings: tf.strings.to_number(strings),
    "example": parsed,
}


@pytest.mark.parametrize("name", OPENERS)
def test_a_graph_takes_what_was_made_for_it(name: str) -> None:
    function = tf.function(OPENERS[name], input_signature=[tf.TensorSpec([None], tf.string)])
    found = contents(function.get_concrete_function())
    assert len(found) > 1
    values = function(tf.constant(list(found))).numpy()
    assert np.isfinite(values).all()
    # Words, numerals and nothing are refused by all of these but one, so that they could not be planned.
    if name != "number":
        with pytest.raises(tf.errors.OpError):
            function(tf.constant(["one"]))


def test_a_graph_that_opens_no_strings_is_given_none() -> None:
    function = tf.function(tf.strings.length, input_signature=[tf.TensorSpec([None], tf.string)])
    assert contents(function.get_concrete_function()) == ()


@pytest.mark.parametrize("name", ["jpeg", "example"])
def test_a_saved_model_of_strings_is_planned(tmp_path: Path, name: str) -> None:
    module = tf.Module()
    module.serve = tf.function(OPENERS[name], input_signature=[tf.TensorSpec([None], tf.string, name="bytes")])
    tf.saved_model.save(module, tmp_path / "model", signatures={"serving_default": module.serve})
    plan = make_plan(load(Source(str(tmp_path / "model"))), PlanOptions(budget_s=1, allowed_batch_sizes=(1, 2)))
    (strings,) = plan.subject.sample
    (answers,) = plan.run((strings[:1],), 1)
    np.testing.assert_allclose(answers, module.serve(tf.constant(strings[:1])).numpy(), rtol=1e-5)
    plan.close()


def test_a_model_whose_positions_end_is_planned_with_shorter_rows() -> None:
    import keras

    tokens = keras.Input([None], dtype="int32", name="tokens")
    table = keras.layers.Embedding(50, 8)(tokens)
    positions = keras.ops.convert_to_tensor(np.ones([1, 12, 8], np.float32))
    summed = keras.layers.Lambda(lambda rows: rows + positions[:, : keras.ops.shape(rows)[1]])(table)
    model = keras.Model(tokens, keras.layers.GlobalAveragePooling1D()(summed))
    plan = make_plan(from_keras(model), PlanOptions(budget_s=1, allowed_batch_sizes=(1, 2)))
    rows = np.arange(7, dtype=np.int32)[None]
    np.testing.assert_allclose(plan.run((rows,), 1)[0], model(rows), rtol=1e-5)
    plan.close()


def test_the_cause_is_told_not_only_where_it_was_met(caplog: pytest.LogCaptureFixture) -> None:
    import keras

    class Choosy(keras.layers.Layer):
        def call(self, rows: Any) -> Any:
            if tf.executing_eagerly():
                raise ValueError("this layer wants the moon")
            return rows

    numbers = keras.Input([3])
    model = keras.Model(numbers, Choosy()(numbers))
    make_plan(from_keras(model), PlanOptions(budget_s=1)).close()
    assert "the moon" in caplog.text
