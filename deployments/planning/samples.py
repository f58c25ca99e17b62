"""Inputs that look real: what candidates are verified on and timed with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deployments.tensors import STRING, Array, Arrays, Shape, Signature, TensorSpec

ROWS = 4
"""Distinct rows per sample: enough to catch mixed-up rows, few enough for an eager ResNet50."""

WORDS = ("the", "model", "answers", "one", "request", "at a time", "Zürich", "", "unheard-of", "42")
NUMERALS = ("1", "0", "3", "2")
PATCHES = 5
"""How many flat patches a sample image has along each side."""
SMALL_INTEGERS = 10
"""The range of integers where the model's graph shows no vocabulary."""


def samples(
    signature: Signature, shapes: tuple[Shape, ...], vocabularies: dict[int, int], words: tuple[bytes, ...], seed: int
) -> Iterator[Arrays]:
    """Yield samples for `shapes` (all axes known), the most lively first, each tamer than the one before.

    `vocabularies` maps an input's position to how many indices it may hold; `words` are strings that the model
    takes, where that is known. A model that refuses the first sample (a range check, a parser) may take a later one.
    """
    makers: list[tuple[Any, tuple[bytes, ...]]] = [(_lively, ()), (_binary, ()), (_zero, ())]
    for maker, known_words in [(_lively, words), *makers] if words else makers:
        random = np.random.default_rng(seed)
        yield tuple(
            maker(random, spec, shape, vocabularies.get(index), known_words)
            for index, (spec, shape) in enumerate(zip(signature.inputs, known(shapes), strict=True))
        )


def known(shapes: tuple[Shape, ...]) -> tuple[tuple[int, ...], ...]:
    """Return `shapes` as plain integers; every axis must be known."""
    return tuple(tuple(int(axis) for axis in shape if axis is not None) for shape in shapes)


def tiled(arrays: Arrays, rows: int) -> Arrays:
    """Return `rows` rows, the sample's own again and again: `[ROWS, ...]` to `[rows, ...]`."""
    return tuple(np.ascontiguousarray(np.take(array, np.arange(rows) % len(array), axis=0)) for array in arrays)


def _lively(
    random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], vocabulary: int | None, words: Any
) -> Array:
    if spec.dtype == STRING:
        choices = np.array(words or [word.encode() for word in WORDS], dtype=object)
        return np.array(random.choice(choices, shape), dtype=object)
    if vocabulary is not None:
        return random.integers(0, max(1, vocabulary), shape).astype(spec.dtype)
    if spec.dtype == np.bool_:
        return random.integers(0, 2, shape).astype(np.bool_)
    if spec.dtype.kind in "iu":
        return random.integers(0, 256 if _is_image(shape) else SMALL_INTEGERS, shape).astype(spec.dtype)
    return _floats(random, shape).astype(spec.dtype)


def _floats(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return rows of several kinds: standardised features, [0, 1], [-1, 1], and wider; or images."""
    kinds: tuple[Array, ...]
    if _is_image(shape):
        kinds = (_patches(random, shape), 255 * _patches(random, shape), 2 * _patches(random, shape) - 1)
    else:
        kinds = (random.standard_normal(shape), random.uniform(0, 1, shape), random.uniform(-1, 1, shape))
    kinds = (*kinds, 3 * random.standard_normal(shape))
    return np.stack([kinds[row % len(kinds)][row] for row in range(shape[0])])


def _patches(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return images in [0, 1] of flat patches with a little noise.

    Noise alone looks the same to a deep network whatever its seed: MobileNetV2's answers to two such images
    differ by 1e-7 of their size, and a broken kernel would go unseen.
    """
    rows, height, width, channels = shape
    patches = random.uniform(0, 1, (rows, PATCHES, PATCHES, channels))
    down, across = (np.arange(size) * PATCHES // size for size in (height, width))
    images = patches[:, down][:, :, across]
    return np.clip(images + 0.05 * random.standard_normal(shape), 0, 1)


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[-1] in (1, 3, 4)


def _binary(random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], *_: Any) -> Array:
    if spec.dtype == STRING:
        return np.array(random.choice(np.array([n.encode() for n in NUMERALS], dtype=object), shape), dtype=object)
    return random.integers(0, 2, shape).astype(spec.dtype)


def _zero(_random: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], *_: Any) -> Array:
    return np.full(shape, b"", dtype=object) if spec.dtype == STRING else np.zeros(shape, spec.dtype)
