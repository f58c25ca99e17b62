"""Pixel values, 0 to 255, to the numbers a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments.errors import InvalidInput
from deployments.tensors import Array
from serve_app.protocols.image.preprocess import CHANNELS, Color, Preprocess

# Means and deviations of ImageNet's training images, as keras.applications.imagenet_utils has them.
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)


@dataclass(frozen=True, slots=True)
class Affine:
    """`pixel * factor + offset`, one pair for all channels or one for each; None leaves pixels alone."""

    factor: Array | None
    offset: Array | None

    @classmethod
    def of(cls, preprocess: Preprocess, color: Color, dtype: np.dtype[Any]) -> Affine:
        """Return the affine map of `(pixel * scale - mean) / std`.

        Raises `InvalidInput` where a preset or the number of means and deviations does not suit `color`.
        """
        scale, mean, std = _numbers(preprocess, color, dtype)
        for key, values in (("mean", mean), ("std", std)):
            if values.ndim and len(values) != CHANNELS[color]:
                raise InvalidInput(
                    f"preprocess.{key}: expected one number or {CHANNELS[color]} for '{color}', got {len(values)}"
                )
        factor, offset = scale / std, -mean / std
        if np.all(factor == 1) and np.all(offset == 0):
            return cls(None, None)
        return cls(factor.astype(np.float32), offset.astype(np.float32))

    def apply(self, pixels: Array, dtype: np.dtype[Any]) -> Array:
        """Return uint8 `[height, width, channels]` converted, computed in float32, as `dtype`."""
        if self.factor is None:
            return pixels.astype(dtype)
        values = pixels * self.factor
        values += self.offset
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        return values.astype(dtype, copy=False)


def _numbers(preprocess: Preprocess, color: Color, dtype: np.dtype[Any]) -> tuple[float, Array, Array]:
    mode = preprocess.mode
    if mode == "tf":
        return 1 / 127.5, np.array(1.0), np.array(1.0)
    if mode == "torch":
        _expect(color, ("rgb",), mode)
        return 1 / 255, np.array(_TORCH_MEAN), np.array(_TORCH_STD)
    if mode == "caffe":
        _expect(color, ("bgr",), mode)
        return 1.0, np.array(_CAFFE_MEAN), np.array(1.0)
    untouched = preprocess.scale is None and preprocess.mean is None and preprocess.std is None
    unit = dtype.kind not in "ui" and untouched
    scale = 1 / 255 if unit else 1.0 if preprocess.scale is None else preprocess.scale
    mean = 0.0 if preprocess.mean is None else preprocess.mean
    std = 1.0 if preprocess.std is None else preprocess.std
    return scale, np.array(mean), np.array(std)


def _expect(color: Color, wanted: tuple[Color, ...], mode: str) -> None:
    if color not in wanted:
        raise InvalidInput(f"preprocess.mode '{mode}' expects color {' or '.join(wanted)}, got '{color}'")
