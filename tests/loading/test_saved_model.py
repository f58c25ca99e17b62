"""SavedModels: through their objects where these load, else through graph and signature alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deployments.errors import LoadError
from deployments.loading import Source, load
from deployments.tensors import STRING, TensorSpec

FLOAT = np.dtype(np.float32)


class Scorer(tf.Module):
    """Two signatures, a variable, a vocabulary from a file, and an output whose rank the graph does not know."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__()
        self.weight = tf.Variable([[1.0, 2.0], [3.0, 4.0]])
        initializer = tf.lookup.TextFileInitializer(
            str(vocabulary),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function
    def score(self, x: tf.Tensor, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"output_10": tf.matmul(x, self.weight), "output_2": self.table.lookup(word)}

    @tf.function
    def shape(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes = tf.shape(x) * tf.cast(self.weight[0, 0], tf.int32)
        return {"loose": tf.reshape(x, sizes)}


def write_scorer(folder: Path) -> Path:
    """Save `Scorer` under `folder` and return its path; the vocabulary's first copy is gone afterwards."""
    words = folder / "words.txt"
    words.write_text("a\nb\n")
    scorer = Scorer(words)
    x = tf.TensorSpec((None, 2), tf.float32, name="x")
    signatures = {
        "serving_default": scorer.score.get_concrete_function(x, tf.TensorSpec((None,), tf.string, name="word")),
        "shape": scorer.shape.get_concrete_function(tf.TensorSpec((None, None), tf.float32, name="x")),
        # A function of its own: another trace of `shape` would be answered by the one above.
        "fixed": tf.function(scorer.shape.python_function).get_concrete_function(
            tf.TensorSpec((3, 2), tf.float32, name="x")
        ),
    }
    tf.saved_model.save(scorer, str(folder / "scorer"), signatures)
    words.unlink()
    return folder / "scorer"


def break_objects(path: Path) -> None:
    """Give the object graph an optimizer's slot on an object that cannot hold one, as Keras 2.x left behind.

    This is what makes `tf.saved_model.load` fail on the SavedModel inside basic-pitch 0.4.0.
    """
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    variable = next(i for i, node in enumerate(nodes) if node.WhichOneof("kind") == "variable")
    optimizer = nodes.add()
    optimizer.user_object.identifier = "optimizer"
    optimizer.user_object.version.producer = 1
    optimizer.user_object.version.min_consumer = 1
    slot = nodes.add()
    slot.variable.CopyFrom(nodes[variable].variable)
    optimizer.slot_variables.add(
        original_variable_node_id=variable, slot_name="m", slot_variable_node_id=len(nodes) - 1
    )
    nodes[0].children.add(node_id=len(nodes) - 2, local_name="optimizer")
    file.write_bytes(saved.SerializeToString())
    # With tf_keras installed TensorFlow takes its optimizer for the missing one, and finds its slot in no checkpoint.
    with pytest.raises((AttributeError, AssertionError), match=r"add_slot|not bound to checkpointed values"):
        tf.saved_model.load(str(path))


def change_default(path: Path, value: int) -> None:
    """Set every int64 scalar constant of -1 in the SavedModel's functions and graph to `value`."""
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = saved.meta_graphs[0].graph_def
    bodies = [node for function in graph.library.function for node in function.node_def]
    for node in (*graph.node, *bodies):
        tensor = node.attr["value"].tensor if "value" in node.attr else None
        if tensor is not None and tensor.dtype == tf.int64.as_datatype_enum and tf.make_ndarray(tensor) == -1:
            tensor.CopyFrom(tf.make_tensor_proto(value, tf.int64))
    file.write_bytes(saved.SerializeToString())


@pytest.fixture(params=["objects", "graph"])
def scorer(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = write_scorer(tmp_path)
    if request.param == "graph":
        break_objects(path)
    return str(path)


def traced(loaded: Any) -> Any:
    specs = [
        tf.TensorSpec(spec.shape, tf.string if spec.dtype == STRING else spec.dtype) for spec in loaded.signature.inputs
    ]
    return tf.function(loaded.call).get_concrete_function(*specs)


def test_names_are_sorted_and_shapes_kept(scorer: str) -> None:
    signature = load(Source(scorer)).signature
    assert signature.inputs == (TensorSpec("word", STRING, (None,)), TensorSpec("x", FLOAT, (None, 2)))
    assert signature.outputs == (
        TensorSpec("output_2", np.dtype(np.int64), (None,)),
        TensorSpec("output_10", FLOAT, (None, 2)),
    )


def test_answers_eagerly_and_traced(scorer: str) -> None:
    loaded = load(Source(scorer))
    words, x = np.array([b"b", b"zebra"], dtype=object), np.array([[1, 0], [1, 1]], np.float32)
    for call in (loaded.call, traced(loaded)):
        indices, products = call(tf.constant(words), tf.constant(x))
        np.testing.assert_array_equal(indices, [1, -1])
        np.testing.assert_array_equal(products, [[1, 2], [4, 6]])


def test_variables_are_listed_and_read(scorer: str) -> None:
    loaded = load(Source(scorer))
    (weight,) = loaded.variables
    np.testing.assert_array_equal(weight, [[1, 2], [3, 4]])
    weight.assign(tf.zeros_like(weight))
    _, products = loaded.call(tf.constant([b"a"]), tf.ones((1, 2)))
    np.testing.assert_array_equal(products, [[0, 0]])
    assert loaded.predict is None


def test_a_traced_signature_can_be_frozen(scorer: str) -> None:
    loaded = load(Source(scorer, signature_name="shape"))
    frozen = convert_variables_to_constants_v2(traced(loaded))
    assert not [op.name for op in frozen.graph.get_operations() if "Var" in op.type]
    x = tf.constant([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(frozen(x)[0], x)


def test_an_unknown_rank_is_found_by_trying(scorer: str) -> None:
    signature = load(Source(scorer, signature_name="shape")).signature
    assert signature.outputs[0].shape == (None, None)


def test_a_fixed_batch_stays_fixed(scorer: str) -> None:
    assert load(Source(scorer, signature_name="fixed")).signature.inputs[0].shape == (3, 2)


def test_the_signature_counts_for_the_fingerprint(scorer: str) -> None:
    default, again = load(Source(scorer)), load(Source(scorer))
    assert default.fingerprint == again.fingerprint
    assert default.fingerprint != load(Source(scorer, signature_name="shape")).fingerprint


def test_a_missing_signature_lists_those_that_are_there(scorer: str) -> None:
    with pytest.raises(LoadError, match=r"no signature 'predict'; it has 'fixed', 'serving_default', 'shape'$"):
        load(Source(scorer, signature_name="predict"))


def test_half_precision_is_refused(scorer: str) -> None:
    with pytest.raises(LoadError, match="SavedModel, whose graph has its precision fixed"):
        load(Source(scorer), "mixed_float16")


def test_a_damaged_saved_model_is_explained(tmp_path: Path) -> None:
    path = write_scorer(tmp_path)
    (path / "saved_model.pb").write_bytes(b"not a protocol buffer")
    with pytest.raises(LoadError, match=r"neither its objects .* nor its graph"):
        load(Source(str(path)))


def test_missing_weights_are_explained(tmp_path: Path) -> None:
    path = write_scorer(tmp_path)
    for file in (path / "variables").iterdir():
        file.unlink()
    with pytest.raises(LoadError, match=r"neither its objects .* nor its graph"):
        load(Source(str(path)))


@pytest.mark.parametrize("broken", [False, True])
def test_an_exported_keras_model_answers_as_the_original(broken: bool, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
    original = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    original.export(str(tmp_path / "exported"), verbose=False)
    if broken:
        break_objects(tmp_path / "exported")
    loaded = load(Source(str(tmp_path / "exported")))
    assert [spec.name for spec in loaded.signature.inputs] == ["image"]
    pixels = np.random.default_rng(3).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(loaded.call(pixels)[0], original(pixels, training=False), rtol=1e-5, atol=1e-6)
    assert len(loaded.variables) == len(original.weights)


def test_functions_of_two_models_do_not_meet(tmp_path: Path) -> None:
    """Graph functions share one namespace per process, and two files may give two functions one name."""
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(write_scorer(tmp_path / name))
        break_objects(paths[-1])
    # The same file but for one constant inside its functions: -1, the index of an unknown word, becomes -7.
    shutil.copytree(paths[0], paths[1], dirs_exist_ok=True)
    change_default(paths[1], -7)
    one, two = (load(Source(str(path))) for path in paths)
    for loaded, unknown in ((one, -1), (two, -7), (one, -1)):
        np.testing.assert_array_equal(loaded.call(tf.constant([b"zebra"]), tf.ones((1, 2)))[0], [unknown])


@pytest.mark.parametrize("use_resource", [False, True])
def test_a_tensorflow_1_saved_model(use_resource: bool, tmp_path: Path) -> None:
    v1 = tf.compat.v1
    path = str(tmp_path / "old")
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 2), name="x")
        weight = v1.get_variable("w", initializer=[[1.0], [2.0]], use_resource=use_resource)
        y = tf.matmul(x, weight)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, path, {"x": x}, {"y": y})
    loaded = load(Source(path))
    np.testing.assert_array_equal(loaded.call(np.ones((1, 2), np.float32))[0], [[3]])
    assert len(loaded.variables) == 1
    frozen = convert_variables_to_constants_v2(traced(loaded))
    np.testing.assert_array_equal(frozen(tf.ones((1, 2)))[0], [[3]])
