"""Rows that somebody gives: files of every form, requests that a SavedModel brings along, and models that need them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2  # noqa: F401 - registers the file that PREDICTION_LOG imports

from deployments.errors import InvalidInput, LoadError
from deployments.loading import Source, from_keras, load
from deployments.planning import given
from deployments.planning.plan import PlanOptions, make_plan
from deployments.tensors import STRING, Signature, TensorSpec

F32 = np.dtype("float32")
TWO = Signature((TensorSpec("a", F32, (None, 2)), TensorSpec("s", STRING, (None,))), (TensorSpec("y", F32, (None, 1)),))
ONE = Signature((TensorSpec("a", F32, (None, 2)),), TWO.outputs)
A = np.array([[1, 2], [3, 4]], np.float32)
QUICK = {"budget_s": 1.0, "allowed_batch_sizes": (1, 2), "only": ("session", "eager")}


def write(path: Path, said: Any) -> Path:
    path.write_text(json.dumps(said))
    return path


@pytest.mark.parametrize(
    "said",
    [
        {"instances": [{"a": [1, 2], "s": "x"}, {"a": [3, 4], "s": {"b64": base64.b64encode(b"y").decode()}}]},
        {"inputs": {"a": [[1, 2], [3, 4]], "s": ["x", "y"]}},
        {"a": [[1, 2], [3, 4]], "s": ["x", "y"]},
        [{"a": [1, 2], "s": "x"}, {"a": [3, 4], "s": "y"}],
        {
            "inputs": [
                {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
                {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]},
            ]
        },
    ],
)
def test_json_is_what_clients_send(said: Any, tmp_path: Path) -> None:
    rows, strings = given.read(write(tmp_path / "r.json", said), TWO)
    np.testing.assert_array_equal(rows, [*A, *A])
    assert rows.dtype == F32
    assert strings.tolist() == [b"x", b"y", b"x", b"y"]


def test_arrays_and_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", a=A, s=np.array([b"x", b"y"]))
    np.testing.assert_array_equal(given.read(tmp_path / "r.npz", TWO)[0][:2], A)
    np.savez(tmp_path / "one.npz", in_0=A)
    np.save(tmp_path / "one.npy", A)
    write(tmp_path / "one.json", A.tolist())
    for name in ("one.npz", "one.npy", "one.json"):
        np.testing.assert_array_equal(given.read(tmp_path / name, ONE)[0][:2], A)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": A.tolist(), "s": ["x", "y"]}), tmp_path / "r.parquet")
    rows, strings = given.read(tmp_path / "r.parquet", TWO)
    np.testing.assert_array_equal(rows[:2], A)
    assert strings[:2].tolist() == [b"x", b"y"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"a": [[1, 2]]}, "input 's' is missing"),
        ({"a": [[1, 2, 3]], "s": ["x"]}, "input 'a': expected shape"),
        ({"a": [[1, 2]], "s": ["x"], "t": [1]}, "unknown input 't'"),
        ([[1, 2]], "expected rows by input: a, s"),
        ([], "expected a list of rows"),
    ],
)
def test_what_does_not_fit_is_named(said: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=expected) as raised:
        given.read(write(tmp_path / "r.json", said), TWO)
    assert "r.json" in str(raised.value)


class Choosy(keras.layers.Layer):
    """Takes nothing but rows that add up to seven."""

    def call(self, x: Any) -> Any:
        tf.debugging.assert_near(tf.reduce_sum(x, axis=1), 7.0)
        return x * 2


def choosy() -> Any:
    x = keras.Input((2,), name="a")
    return from_keras(keras.Model(x, Choosy(name="y")(x)))


def test_a_model_that_takes_no_made_up_rows_is_planned_with_given_ones(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", np.array([[3, 4], [5, 2]], np.float32))
    plan = make_plan(choosy(), PlanOptions(**QUICK, samples=tmp_path / "r.npy"))
    assert plan.report()["candidates"]["1"][0]["status"] == "ok"
    np.testing.assert_array_equal(plan.run((np.array([[6, 1]], np.float32),), 1)[0], [[12, 2]])
    plan.close()


def test_given_rows_that_the_model_refuses_are_blamed(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", A)
    with pytest.raises(LoadError, match=r"samples: the model refuses the rows of '.*r\.npy'"):
        make_plan(choosy(), PlanOptions(**QUICK, samples=tmp_path / "r.npy"))


def test_without_rows_it_is_served_unplanned(caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(choosy(), PlanOptions(**QUICK))
    assert "samples: rows.npz" in caplog.text
    report = plan.report()
    assert report["chosen"] == {"1": "eager", "2": "eager"}
    assert report["candidates"]["1"][0]["status"].startswith("unverified: the model refuses every sample input")
    assert plan.sample is None
    assert 0 < plan.expected_s(1) < 1
    assert not plan.is_inline(1)
    np.testing.assert_array_equal(plan.run((np.array([[6, 1]], np.float32),), 1)[0], [[12, 2]])
    with pytest.raises(tf.errors.InvalidArgumentError):
        plan.run((A[:1],), 1)
    plan.close()


def positions(end: int) -> Any:
    """Return a model over token ids whose table of positions ends."""

    class Positions(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(end, shape[-1]), name="positions")

        def call(self, x: Any) -> Any:
            return x + self.table[: tf.shape(x)[1]]

    ids = keras.Input((None,), dtype="int32", name="ids")
    embedded = Positions()(keras.layers.Embedding(100, 4)(ids))
    return from_keras(keras.Model(ids, keras.layers.GlobalAveragePooling1D(name="y")(embedded)))


@pytest.mark.parametrize("end", [14, 16, 300])
def test_the_longest_sequence_is_found_and_longer_ones_refused(end: int) -> None:
    plan = make_plan(positions(end), PlanOptions(**QUICK))
    assert plan.report()["longest"] == end
    plan.signature.check({"ids": np.zeros((1, end), np.int32)})
    with pytest.raises(
        InvalidInput, match=f"input 'ids': length {end + 1} is more than the longest that the model takes, {end}"
    ):
        plan.signature.check({"ids": np.zeros((1, end + 1), np.int32)})
    plan.close()


def test_a_model_without_an_end_has_none() -> None:
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.GRU(3)(keras.layers.Embedding(50, 4)(ids)))
    plan = make_plan(from_keras(model), PlanOptions(**QUICK))
    assert plan.report()["longest"] is None
    plan.close()


def prediction_log() -> Any:
    """Return TensorFlow Serving's message class, from a description of the fields that are used here."""
    file = descriptor_pb2.FileDescriptorProto(
        name="prediction_log_of_test.proto",
        package="t",
        dependency=["tensorflow/core/framework/tensor.proto"],
        syntax="proto3",
    )

    def message(message_name: str, **fields: tuple[int, str]) -> Any:
        made = file.message_type.add(name=message_name)
        for field, (number, kind) in fields.items():
            added = made.field.add(name=field, number=number, label=1)
            added.type = 9 if kind == "string" else 11
            if kind != "string":
                added.type_name = kind
        return made

    message("ModelSpec", name=(1, "string"), signature_name=(3, "string"))
    request = message("PredictRequest", model_spec=(1, ".t.ModelSpec"))
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".tensorflow.TensorProto")
    request.field.add(name="inputs", number=2, label=3, type=11, type_name=".t.PredictRequest.InputsEntry")
    message("PredictLog", request=(1, ".t.PredictRequest"))
    message("PredictionLog", predict_log=(6, ".t.PredictLog"))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))


def test_warmup_requests_of_a_saved_model_are_its_samples(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(
        lambda a: {"y": Choosy()(a)}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a")]
    )
    folder = tmp_path / "model"
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    log = prediction_log()
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for signature, row in (("other", [9.0, 9.0]), ("serving_default", [2.0, 5.0])):
            made = log()
            made.predict_log.request.model_spec.name = "model"
            made.predict_log.request.model_spec.signature_name = signature
            made.predict_log.request.inputs["a"].CopyFrom(tf.make_tensor_proto([row]))
            writer.write(made.SerializeToString())
    model = load(Source(str(folder)))
    ((name, value),) = model.samples[0].items()
    assert (name, value.tolist()) == ("a", [[2.0, 5.0]])
    plan = make_plan(model, PlanOptions(**QUICK))
    assert plan.report()["candidates"]["1"][0]["status"] == "ok"
    np.testing.assert_array_equal(plan.sample.arrays[0][:1], [[2, 5]])
    plan.close()


def test_warmup_requests_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda a: {"y": a + 1}, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="a")])
    folder = tmp_path / "model"
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record")
    assert load(Source(str(folder))).samples == ()
