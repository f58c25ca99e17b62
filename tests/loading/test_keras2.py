"""Files that Keras 2 wrote load through `tf_keras`, answer the same, and look like any other model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tf_keras

from deployments.errors import LoadError
from deployments.loading import Source, load
from deployments.loading.keras2_safety import code_in
from deployments.source import Precision
from tests.support import keras2_models

L = tf_keras.layers
SUFFIXES = (".keras", ".h5")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "make",
    [make for make in keras2_models.ALL if make is not keras2_models.text],
)
def test_the_answers_are_keras_2s(make: Any, suffix: str, tmp_path: Path) -> None:
    tf_keras.utils.set_random_seed(1)
    model = make()
    model.save(path := tmp_path / f"m{suffix}")
    before = path.read_bytes()
    loaded = load(Source(str(path)))
    random = np.random.default_rng(1)
    inputs = [
        random.normal(size=(2, *(a or 4 for a in spec.shape[1:]))).astype(np.float32)
        for spec in loaded.signature.inputs
    ]
    wanted = model(dict(zip("lr", inputs, strict=True)) if make is keras2_models.several else inputs[0], training=False)
    wanted = [wanted["all"], wanted["sum"]] if make is keras2_models.several else [wanted]
    for got, want in zip(loaded.call(*inputs), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert loaded.predict is not None
    np.testing.assert_allclose(loaded.predict(tuple(inputs))[0], wanted[0], rtol=1e-5, atol=1e-6)
    assert path.read_bytes() == before
    assert load(Source(str(path))).fingerprint == loaded.fingerprint


def test_names_are_the_layers_and_the_dictionaries(tmp_path: Path) -> None:
    keras2_models.recurrent().save(tmp_path / "m.keras")
    keras2_models.several().save(tmp_path / "n.keras")
    one, two = (load(Source(str(tmp_path / f"{name}.keras"))).signature for name in "mn")
    assert [spec.name for spec in (*one.inputs, *one.outputs)] == ["series", "scores"]
    assert [spec.name for spec in (*two.inputs, *two.outputs)] == ["l", "r", "all", "sum"]


def test_vocabularies_come_along(tmp_path: Path) -> None:
    text = L.TextVectorization(output_sequence_length=4)
    text.adapt(["the model answers", "one request"])
    words = L.Input((1,), dtype="string", name="text")
    model = tf_keras.Model(words, L.Embedding(9, 2)(text(words)))
    model.save(tmp_path / "m.keras")
    loaded = load(Source(str(tmp_path / "m.keras")))
    asked = np.array([[b"one model"], [b"unheard of"]], dtype=object)
    np.testing.assert_allclose(loaded.call(asked)[0], model(asked), atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_lower_precision_computes_in_it(precision: Precision, suffix: str, tmp_path: Path) -> None:
    tf_keras.backend.clear_session()
    model = keras2_models.convolutions()
    model.save(tmp_path / f"m{suffix}")
    exact, half = (load(Source(str(tmp_path / f"m{suffix}")), wanted) for wanted in ("float32", precision))
    x = np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype(np.float32)
    assert half.precision == precision
    got, want = half.call(x)[0].numpy(), exact.call(x)[0].numpy()
    assert half.signature == exact.signature
    assert got.dtype == np.float32
    assert 0 < np.abs(got - want).max() < 0.1
    assert half.fingerprint != exact.fingerprint


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_python_code_runs_only_where_it_is_trusted(suffix: str, tmp_path: Path) -> None:
    model = tf_keras.Sequential([L.Input((2,)), L.Lambda(lambda x: x * 3.0)])
    model.save(path := tmp_path / f"m{suffix}")
    with pytest.raises(LoadError, match="safe_mode: false"):
        load(Source(str(path)))
    assert load(Source(str(path), safe_mode=False)).call(np.ones((1, 2), np.float32))[0].numpy().tolist() == [[3, 3]]


@pytest.mark.parametrize(
    "symbol", ["io.write_file", "load_op_library", "raw_ops.WriteFile", "py_function", "compat.v1.load_library"]
)
def test_functions_that_do_more_than_compute_are_refused(symbol: str, tmp_path: Path) -> None:
    keras2_models.functions().save(path := tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = members["config.json"].decode().replace('"function": "nn.relu"', f'"function": "{symbol}"')
    members["config.json"] = text.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert symbol in text
    with pytest.raises(LoadError, match=f"tf.{symbol}"):
        load(Source(str(path)))


def test_modules_that_are_not_kerass_are_refused() -> None:
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
    assert code_in([call], ()) == "the function 'os.system'"
    assert (
        code_in({"class_name": "Popen", "module": "subprocess", "config": {}}, ()) == "'Popen' of module 'subprocess'"
    )
    assert code_in({"class_name": "Mine", "module": "my.layers", "config": {}}, {"Mine"}) is None
    relu = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
    assert code_in(relu, ()) is None


def test_a_custom_layer_is_named_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "older_layers.py").write_text(
        "import tf_keras\nclass Twice(tf_keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import older_layers

    tf_keras.Sequential([L.Input((2,)), older_layers.Twice()]).save(tmp_path / "m.keras")
    with pytest.raises(LoadError, match="custom_objects: your_module"):
        load(Source(str(tmp_path / "m.keras")))
    loaded = load(Source(str(tmp_path / "m.keras"), custom_objects="older_layers"))
    assert loaded.call(np.ones((1, 2), np.float32))[0].numpy().tolist() == [[2, 2]]


def test_what_says_keras_2_but_is_not_is_tried_with_keras_3(tmp_path: Path) -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(path := tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        assert json.loads(file.attrs["model_config"])
        file.attrs["keras_version"] = "2.4.0"
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(load(Source(str(path))).call(x)[0], model(x), atol=1e-6)
