"""A hundred Ray tasks read digits from pictures, ask the served model, and the right answers are counted.

    make serve                                    # in one terminal
    .venv/bin/python examples/ray_tasks.py        # in another, on the same machine

Every task opens a picture of a handwritten digit, moves it by a pixel or two, as a sloppy writer would, and calls
the model by name. The tasks know neither address nor port: the model is found in the cluster they run on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ray
from PIL import Image

from serve_app.client import Model

PICTURES = Path(__file__).resolve().parent / "digits"
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1), (0, 2))


def read(picture: Path, shift: tuple[int, int]) -> np.ndarray:
    """Return a picture's pixels, moved by `shift` (down, right), as `[1, 28, 28, 1]` in 0..1."""
    pixels = np.asarray(Image.open(picture).convert("L")) / 255
    return np.roll(pixels, shift, axis=(0, 1)).reshape(1, 28, 28, 1)


# Half a core each: they mostly wait for the model.
@ray.remote(num_cpus=0.5)
def is_right(model: Model, digit: int, shift: tuple[int, int]) -> bool:
    """Return whether the model recognizes one moved digit."""
    scores = model.predict(read(PICTURES / f"{NAMES[digit]}.png", shift))
    return int(np.argmax(scores)) == digit


def main() -> None:
    parser = argparse.ArgumentParser(description="Read a hundred digits in Ray tasks and count the right answers.")
    parser.add_argument("--address", default="auto", help="of the Ray cluster that serves the model")
    parser.add_argument("--model", default="digits")
    options = parser.parse_args()
    ray.init(address=options.address, logging_level="ERROR")
    model = Model(options.model)
    tasks = [is_right.remote(model, digit, shift) for digit in range(10) for shift in SHIFTS]
    print(f"{sum(ray.get(tasks))} of {len(tasks)} digits right")


if __name__ == "__main__":
    main()
