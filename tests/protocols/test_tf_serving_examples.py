"""TensorFlow Serving's classify and regress: JSON examples become what TensorFlow itself parses."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployments.errors import InvalidInput
from deployments.loading import Source, load
from deployments.planning.plan import PlanOptions, make_plan
from serve_app.protocols.codec import Untimed
from serve_app.protocols.tf_serving.examples import CLASSIFY, REGRESS, Classify, Regress, serialised
from serve_app.protocols.tf_serving.metadata import metadata

v1 = tf.compat.v1
FEATURES = {
    "whole": [1, -2, 2**62],
    "one": 7,
    "point": [0.5, 1, -3.25],
    "text": "grüße",
    "bytes": [{"b64": base64.b64encode(b"\x00\xff").decode()}, "x"],
    "flags": [True, False],
    "none": [],
}


def test_examples_are_what_tensorflow_reads() -> None:
    example = tf.train.Example.FromString(serialised(FEATURES, "examples[0]"))
    found = example.features.feature
    assert list(found["whole"].int64_list.value) == [1, -2, 2**62]
    assert list(found["one"].int64_list.value) == [7]
    assert list(found["point"].float_list.value) == [0.5, 1, -3.25]
    assert list(found["text"].bytes_list.value) == ["grüße".encode()]
    assert list(found["bytes"].bytes_list.value) == [b"\x00\xff", b"x"]
    assert list(found["flags"].int64_list.value) == [1, 0]
    assert set(found) == set(FEATURES)


@pytest.mark.parametrize("value", [None, {"a": 1}, [1, "x"], [[1]], {"b64": "?"}])
def test_what_is_no_feature_is_named(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"examples\[3\].f: expected"):
        serialised({"f": value}, "examples[3]")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel as Estimators and TF Serving's own half_plus_two were exported: classify, regress and predict."""
    folder = tmp_path_factory.mktemp("exported") / "1"
    with tf.Graph().as_default(), v1.Session() as session:
        text = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(text, {"x": tf.io.FixedLenFeature([2], tf.float32)})["x"]
        weights = v1.get_variable("w", initializer=np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
        scores = tf.matmul(parsed, weights)
        labels = tf.tile(tf.constant([["cat", "dog"]]), [tf.shape(scores)[0], 1])
        value = scores[:, :1]
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.signature_def_utils
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signature.classification_signature_def(text, labels, scores),
                "regress": signature.regression_signature_def(text, value),
                "predict": signature.predict_signature_def({"x": parsed}, {"y": scores}),
            },
        )
        builder.save()
    return folder


@cache
def served_of(path: Path, signature_name: str) -> Served:
    return Served(path, signature_name)


class Served:
    """What a codec reads of a servable, with the plan behind it."""

    def __init__(self, path: Path, signature_name: str) -> None:
        model = load(Source(str(path), signature_name=signature_name))
        self.plan = make_plan(model, PlanOptions(budget_s=1, allowed_batch_sizes=(1, 2)))
        self.signature, self.signature_name, self.method_name = self.plan.signature, signature_name, model.method_name

    def answer(self, codec: Any, document: Any) -> Any:
        request: Untimed = codec.decode(json.dumps(document).encode(), {})
        rows = self.signature.check(request.inputs)
        return json.loads(codec.encode(self.plan.run(rows.arrays, rows.count), request).body)


EXAMPLES = [{"x": [1.0, 0.0]}, {"x": [0.5, 1.5]}]


def test_labels_and_scores(exported: Path) -> None:
    served = served_of(exported, "serving_default")
    assert served.method_name == CLASSIFY
    codec = Classify(served)  # type: ignore[arg-type]
    want = {"results": [[["cat", 1.0], ["dog", 2.0]], [["cat", 5.0], ["dog", 7.0]]]}
    assert served.answer(codec, {"examples": EXAMPLES}) == want
    assert served.answer(codec, {"signature_name": "serving_default", "examples": EXAMPLES}) == want
    shared = {"context": {"x": [1.0, 0.0]}, "examples": [{}, {"x": [0.5, 1.5]}]}
    assert served.answer(codec, shared) == want
    with pytest.raises(InvalidInput, match='Serving signature name: "other" not found'):
        codec.decode(b'{"signature_name": "other", "examples": [{}]}', {})
    told = json.loads(metadata("m", "1", served.signature, served.signature_name, served.method_name))
    assert told["metadata"]["signature_def"]["signature_def"]["serving_default"]["method_name"] == CLASSIFY


def test_regressions(exported: Path) -> None:
    served = served_of(exported, "regress")
    assert served.method_name == REGRESS
    assert served.answer(Regress(served), {"examples": EXAMPLES}) == {"results": [1.0, 5.0]}  # type: ignore[arg-type]


@pytest.mark.parametrize(("codec", "kind"), [(Classify, "classification"), (Regress, "regression")])
def test_another_signature_says_what_it_is(exported: Path, codec: Any, kind: str) -> None:
    served = served_of(exported, "predict")
    with pytest.raises(
        InvalidInput, match=f"Expected {kind} signature method_name to be .*Was: tensorflow/serving/predict"
    ):
        codec(served).decode(b'{"examples": [{}]}', {})


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"examples": []}', b'{"examples": [3]}', b'{"examples": [{}], "context": 1}']
)
def test_bad_requests_are_named(exported: Path, body: bytes) -> None:
    served = served_of(exported, "regress")
    with pytest.raises(InvalidInput, match=r"example|context"):
        Regress(served).decode(body, {})  # type: ignore[arg-type]
