"""Whatever can be wrong with a source ends in one `LoadError` that says what to do."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import Source, load


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of one test, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def module(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Write a module into the working directory, forgotten again after the test."""

    def write(name: str, code: str) -> None:
        (in_folder / f"{name}.py").write_text(textwrap.dedent(code))
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def tiny() -> keras.Model:
    x = keras.Input((2,), name="x")
    return keras.Model(x, keras.layers.Dense(1, name="y")(x))


def fails(source: Source, *expected: str, precision: str = "float32") -> None:
    """Check that loading raises a `LoadError` with every expected text, in a readable length."""
    with pytest.raises(LoadError) as raised:
        load(source, precision)
    text = str(raised.value)
    assert len(text) < 1000, text
    assert "Traceback" not in text
    for part in (source.uri, *expected):
        assert part in text, text


class Doubler(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * 2


def with_doubler(path: Path) -> None:
    x = keras.Input((2,), name="x")
    keras.Model(x, Doubler(name="y")(x)).save(path)


def with_lambda(path: Path) -> None:
    x = keras.Input((2,), name="x")
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda t: t + 1, output_shape=(2,))])
    keras.Model(x, inner(x)).save(path)


def test_a_missing_file() -> None:
    fails(Source("nowhere/model.keras"), "does not exist", "looked at", "module:function")


def test_a_wrong_extension(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    fails(Source(str(tmp_path / "model.onnx")), "an ONNX model", "model.save")


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_a_file_that_is_something_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    fails(Source(str(path)), "Git LFS pointer")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_that_is_cut_off(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    tiny().save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    fails(Source(str(path)), "cut off")


def test_a_keras_archive_with_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    tiny().save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"\x89HDF")
    content[start : start + 3000] = bytes(3000)
    path.write_bytes(content)
    fails(Source(str(path)), "cannot be loaded")


def test_weights_without_architecture(tmp_path: Path) -> None:
    path = tmp_path / "only.weights.h5"
    tiny().save_weights(path)
    fails(Source(str(path)), "weights but no architecture", "module:function")


def test_an_empty_folder(tmp_path: Path) -> None:
    fails(Source(str(tmp_path)), "without saved_model.pb")


def test_arguments_for_a_file(tmp_path: Path) -> None:
    fails(Source(str(tmp_path / "m.keras"), {"weights": None}), "a file takes none")


def test_an_unknown_precision(tmp_path: Path) -> None:
    tiny().save(tmp_path / "m.keras")
    fails(Source(str(tmp_path / "m.keras")), "'int4' is unknown", "mixed_float16", precision="int4")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_refused_and_the_switch_named(suffix: str, tmp_path: Path) -> None:
    with_lambda(tmp_path / f"m{suffix}")
    fails(Source(str(tmp_path / f"m{suffix}")), "Lambda layer", "`safe_mode: false`")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_loaded_with_the_switch(suffix: str, tmp_path: Path) -> None:
    with_lambda(tmp_path / f"m{suffix}")
    loaded = load(Source(str(tmp_path / f"m{suffix}"), safe_mode=False))
    np.testing.assert_array_equal(loaded.call(np.zeros((1, 2), np.float32))[0], [[1, 1]])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_custom_layer_is_named_when_missing(suffix: str, tmp_path: Path) -> None:
    with_doubler(tmp_path / f"m{suffix}")
    fails(Source(str(tmp_path / f"m{suffix}")), "'Doubler'", "`custom_objects: your_module`")


CUSTOM_MODULE = """
    import keras

    class Doubler(keras.layers.Layer):
        def call(self, x):
            return x * 2
"""


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("registration", ["", "@keras.saving.register_keras_serializable(package='shop')"])
def test_a_custom_layer_comes_from_its_module(
    suffix: str, registration: str, in_folder: Path, module: Callable[[str, str], None]
) -> None:
    code = textwrap.dedent(CUSTOM_MODULE).replace("class Doubler", f"{registration}\nclass Doubler")
    module("shop_layers", code)
    sys.path.append(str(in_folder))
    layers = importlib.import_module("shop_layers")
    x = keras.Input((2,), name="x")
    keras.Model(x, layers.Doubler(name="y")(x)).save(in_folder / f"m{suffix}")
    loaded = load(Source(f"m{suffix}", custom_objects="shop_layers"))
    np.testing.assert_array_equal(loaded.call(np.ones((1, 2), np.float32))[0], [[2, 2]])


def test_a_missing_module_of_custom_layers(tmp_path: Path) -> None:
    tiny().save(tmp_path / "m.keras")
    fails(Source(str(tmp_path / "m.keras"), custom_objects="no_such_layers"), "custom_objects", "'no_such_layers'")


def test_a_module_that_fails_on_import(tmp_path: Path, module: Callable[[str, str], None]) -> None:
    module("broken_layers", "raise RuntimeError('no licence found')")
    tiny().save(tmp_path / "m.keras")
    fails(Source(str(tmp_path / "m.keras"), custom_objects="broken_layers"), "importing 'broken_layers'", "no licence")


FACTORIES = """
    import keras

    def build(width, activation=None):
        x = keras.Input((width,), name="x")
        return keras.Model(x, keras.layers.Dense(2, activation=activation)(x))

    def nothing():
        pass

    number = 3

    def raising():
        raise OSError("the disk is gone")
"""


def test_a_factory_is_called_with_its_arguments(module: Callable[[str, str], None]) -> None:
    module("factories_a", FACTORIES)
    first = load(Source("factories_a:build", {"width": 3, "activation": "relu"}))
    second = load(Source("factories_a:build", {"width": 3}))
    assert first.signature.inputs[0].shape == (None, 3)
    # Keras counts layer names per process; clients must see the same name after every restart.
    assert first.signature.outputs[0].name == second.signature.outputs[0].name == "dense"


def test_keras_applications_load() -> None:
    loaded = load(Source("keras.applications:MobileNetV2", {"weights": None, "classes": 4, "alpha": 0.35}))
    assert loaded.signature.inputs[0].shape == (None, 224, 224, 3)
    assert loaded.signature.outputs[0].shape == (None, 4)


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        ("factories_b:nothing", {}, "expected a keras.Model, got None"),
        ("factories_b:absent", {}, "has no 'absent'"),
        ("factories_b:number", {}, "'number' is not callable"),
        ("factories_b:raising", {}, "OSError: the disk is gone"),
        ("factories_b:build", {"height": 3}, "height=3"),
        ("no_such_module:build", {}, "no module 'no_such_module'"),
    ],
)
def test_a_bad_factory(
    function: str, arguments: dict[str, object], expected: str, module: Callable[[str, str], None]
) -> None:
    module("factories_b", FACTORIES)
    fails(Source(function, arguments), expected)


def test_a_factory_module_whose_own_import_is_missing(module: Callable[[str, str], None]) -> None:
    module("factories_c", "import package_that_is_not_there")
    fails(Source("factories_c:build"), "imports 'package_that_is_not_there', which is not installed")


def test_an_unreadable_config_is_explained_briefly(tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    tiny().save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["units"] = "many"
        file.attrs["model_config"] = json.dumps(config)
    fails(Source(str(path)), "cannot be loaded")
