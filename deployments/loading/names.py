"""Tensor names: taken from the model, freed of TensorFlow's noise, made unique."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any


def clean(name: str) -> str:
    """Return a tensor's name without its output number and scopes: `scope/image:0` becomes `image`.

    Keras 2 names its outputs after the op (`dense/Softmax:0`), Keras 3 after the layer; a slash would also not
    survive in a URL or a TensorFlow Serving key.
    """
    bare = name.split(":", 1)[0].rstrip("/")
    return bare.rsplit("/", 1)[-1] or "tensor"


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in order, repeated ones numbered: `lstm, lstm, lstm` becomes `lstm, lstm_1, lstm_2`."""
    wanted = list(names)
    taken: set[str] = set()
    result = []
    for name in wanted:
        candidate, number = name, 0
        # A number must not push aside a name that another tensor really has.
        while candidate in taken or (number and candidate in wanted):
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        result.append(candidate)
    return tuple(result)


def of_leaves(paths: Sequence[tuple[Any, ...]], fallbacks: Sequence[str]) -> tuple[str, ...]:
    """Return one unique name per leaf of a nested structure.

    A leaf that sits directly under a dictionary key is named by that key, which is what the model's author
    wrote; every other leaf by its fallback (the layer's name).
    """
    chosen = [
        path[-1] if path and isinstance(path[-1], str) else clean(fallback)
        for path, fallback in zip(paths, fallbacks, strict=True)
    ]
    return unique(chosen)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which `output_2` comes before `output_10`."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
