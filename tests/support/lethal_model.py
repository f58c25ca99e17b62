"""A model whose planning tries a candidate first that aborts its process."""

from __future__ import annotations

from typing import Any

from tests.planning.lethal_plan import install

install("abort")


def build() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
