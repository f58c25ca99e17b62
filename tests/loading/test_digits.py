"""The committed digits model reads the held-out digits, and its PNGs are among them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from deployments.loading import Source, load
from deployments.model import LoadedModel
from deployments.tensors import TensorSpec

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits.keras"


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """The training script as a module."""
    spec = importlib.util.spec_from_file_location("digits_train", ROOT / "examples" / "digits" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(Source(str(MODEL)))


def test_the_interface(model: LoadedModel) -> None:
    float32 = np.dtype(np.float32)
    assert model.signature.inputs == (TensorSpec("image", float32, (None, 28, 28, 1)),)
    assert model.signature.outputs == (TensorSpec("scores", float32, (None, 10)),)
    assert MODEL.stat().st_size < 1_000_000


def test_the_split_is_fixed_and_stratified(training: ModuleType) -> None:
    images, labels = training.held_out()
    assert images.shape == (1000, 28, 28, 1)
    assert images.min() == 0
    assert images.max() == 1
    assert np.bincount(labels).tolist() == [100] * 10
    learned, _ = training.training()
    assert len(learned) == 4000
    assert training.held_out_rows(training.digits()[1])[:5].tolist() == [0, 2, 6, 7, 13]


def test_held_out_digits_are_read_right(model: LoadedModel, training: ModuleType) -> None:
    images, labels = training.held_out()
    scores = model.call(images)[0].numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert (scores.argmax(axis=1) == labels).mean() >= 0.97


def test_every_png_is_a_held_out_digit_read_right(model: LoadedModel, training: ModuleType) -> None:
    images, labels = training.held_out()
    for digit, name in enumerate(training.NAMES):
        image = Image.open(ROOT / "examples" / "digits" / f"{name}.png")
        assert (image.mode, image.size) == ("L", (28, 28))
        pixels = (np.asarray(image, np.float32) / 255).reshape(1, 28, 28, 1)
        assert np.abs(images[labels == digit] - pixels).max(axis=(1, 2, 3)).min() < 1e-6
        assert model.call(pixels)[0].numpy().argmax() == digit
