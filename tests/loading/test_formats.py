"""What lies at a path: models under wrong names are read, and what is none is named with what to do about it."""

from __future__ import annotations

import errno
import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from deployments import formats
from deployments.errors import ConfigError, LoadError
from deployments.loading import Source, load
from serve_app.config.args import ModelArgs
from serve_app.config.sources import check_source

X = np.ones((1, 3), np.float32)
NOBODY = 65534


def tiny() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def archive(*members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for member in members:
            file.writestr(member, "x")
    return content.getvalue()


def hdf5() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["weights"] = [1.0]
    return content.getvalue()


FILES = [
    ("m.keras", b"", "is empty"),
    ("m.keras", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "git lfs pull"),
    ("m.h5", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("m.h5", b"<!DOCTYPE html><html>Sign in", "web page"),
    ("m.keras", b"PK\x03\x04 and then nothing more", "cut off"),
    ("m.h5", b"neither this nor that", "cut off"),
    ("m.keras", archive("readme.txt"), "it holds readme.txt and no config.json"),
    ("m.zip", archive("m.keras"), "unpack it"),
    ("m.keras", archive("saved/saved_model.pb"), "an archive with a model in it"),
    ("m.pt", archive("m/data.pkl", "m/data/0"), "a PyTorch file"),
    ("m.bin", archive("m/data.pkl", "m/data/0"), "a PyTorch file"),
    ("m.pth", b"old torch", "a PyTorch file"),
    ("m.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
    ("m.pkl", pickle.dumps([1]), "a pickle"),
    ("m.h5", pickle.dumps([1]), "a pickle"),
    ("m.joblib", b"\x80\x04", "a pickle"),
    ("m.tflite", b"\x1c\0\0\0TFL3", "already converted"),
    ("frozen.pb", b"\n\x05graph", "frozen TensorFlow graph"),
    ("saved_model.pb", b"\x08\x01", "name the folder that it lies in"),
    ("m.json", b'{"class_name": "Functional"}', "an architecture without weights"),
    ("m.safetensors", b"\x10\0\0\0\0\0\0\0{}", "weights without an architecture"),
    ("m.ckpt.index", b"\0", "checkpoint"),
    ("m.py", b"import keras", "'module:function'"),
    ("m.txt", b"hello", "ends in '.txt'"),
]
FOLDERS = [
    ((), "without saved_model.pb"),
    (("checkpoint", "ckpt-1.index"), "a checkpoint"),
    (("model.json", "group1-shard1of1.bin"), "TensorFlow.js"),
    (("config.json", "tf_model.h5"), "transformers"),
    (("config.json", "metadata.json", "task.json", "model.weights.h5"), "from_preset"),
    (("digits.keras",), "did you mean"),
]


def both(path: Path) -> list[str]:
    """Return what the check of a config and the loader say of `path`."""
    with pytest.raises(ConfigError) as checked:
        check_source(ModelArgs.parse({"name": "m", "source": str(path)}), "args")
    with pytest.raises(LoadError) as loaded:
        load(Source(str(path)))
    return [str(checked.value), str(loaded.value)]


@pytest.mark.parametrize(("name", "content", "expected"), FILES, ids=[f"{f[0]}: {f[2]}" for f in FILES])
def test_a_file_that_is_no_model_is_named(name: str, content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for text in both(tmp_path / name):
        assert f"'{tmp_path / name}' " in text
        assert expected in text
        assert len(text) < 500


@pytest.mark.parametrize(("names", "expected"), FOLDERS, ids=[f[1] for f in FOLDERS])
def test_a_folder_that_is_no_model_is_named(names: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    for text in both(tmp_path):
        assert expected in text


@pytest.fixture
def _as_nobody() -> Iterator[None]:
    """Root may read everything; so be somebody else where we are root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("_as_nobody")
def test_what_may_not_be_read_is_said_to_be_so() -> None:
    folder = Path("/tmp") / f"keras-solo-unreadable-{os.getpid()}"  # one that nobody can reach
    folder.mkdir()
    try:
        path = folder / "m.keras"
        path.write_bytes(b"PK")
        path.chmod(0)
        for text in both(path):
            assert f"let it read {path}" in text
        path.chmod(0o600)
        folder.chmod(0)
        for text in both(path):
            assert "may not be read by the user that serves" in text
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize(("saved", "named"), [("m.h5", "m.keras"), ("m.keras", "m.h5"), ("m.keras", "model")])
def test_a_model_under_a_wrong_name_is_read(saved: str, named: str, tmp_path: Path) -> None:
    model = tiny()
    model.save(tmp_path / saved)
    (tmp_path / saved).rename(tmp_path / named)
    source = str(tmp_path / named)
    assert check_source(ModelArgs.parse({"name": "m", "source": source}), "args") is None
    loaded = load(Source(source))
    assert np.allclose(loaded.call(X)[0], model(X))


def test_an_unpacked_keras_file_is_read(tmp_path: Path) -> None:
    model = tiny()
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        file.extractall(tmp_path / "m")
    loaded = load(Source(str(tmp_path / "m")))
    assert np.allclose(loaded.call(X)[0], model(X))


def test_no_space_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    tiny().save(tmp_path / "m.keras")
    monkeypatch.setattr(keras.saving, "load_model", full)
    with pytest.raises(LoadError, match=f"no space left on the disk of {tmp_path}; make room"):
        load(Source(str(tmp_path / "m.keras")))


def rewritten(path: Path, change: Callable[[str, str], str]) -> None:
    """Change the texts in a `.keras` file: `change` takes a member's name and its text."""
    with zipfile.ZipFile(path) as before:
        members = {name: before.read(name) for name in before.namelist()}
    with zipfile.ZipFile(path, "w") as after:
        for name, content in members.items():
            is_text = name.endswith(".json")
            after.writestr(name, change(name, content.decode()).encode() if is_text else content)


def test_a_file_of_a_newer_keras_says_which(tmp_path: Path) -> None:
    tiny().save(tmp_path / "m.keras")
    rewritten(
        tmp_path / "m.keras",
        lambda _, text: text.replace(keras.__version__, "3.99.1").replace('"Dense"', '"DenseOfTomorrow"'),
    )
    with pytest.raises(LoadError) as raised:
        load(Source(str(tmp_path / "m.keras")))
    assert f"Keras here is {keras.__version__}, older than the file's: pip install 'keras>=3.99.1'" in str(raised.value)


def test_a_model_of_another_backend_says_which(tmp_path: Path) -> None:
    tiny().save(tmp_path / "m.keras")
    rewritten(tmp_path / "m.keras", lambda _, text: text.replace('"Dense"', '"TorchModuleWrapper"'))
    with pytest.raises(LoadError, match="TorchModuleWrapper runs on Keras's PyTorch backend alone"):
        load(Source(str(tmp_path / "m.keras")))


def test_versions_are_numbers_in_order(tmp_path: Path) -> None:
    for name in ("2", "10", "beta", "7"):
        (tmp_path / name).mkdir()
    for name in ("2", "10", "beta"):
        (tmp_path / name / "saved_model.pb").write_bytes(b"")
    assert list(formats.versions(tmp_path)) == [2, 10]


def test_the_highest_version_is_loaded(tmp_path: Path) -> None:
    models = {number: tiny() for number in (2, 10)}
    for number, model in models.items():
        (tmp_path / str(number)).mkdir()
        model.save(tmp_path / str(number) / "m.keras")
    loaded = load(Source(str(tmp_path)))
    assert np.allclose(loaded.call(X)[0], models[10](X))
