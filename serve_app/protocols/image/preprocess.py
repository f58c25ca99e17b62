"""How an image becomes a model's input: the `preprocess` block of a model's arguments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Color = Literal["grayscale", "rgb", "bgr", "rgba"]

CHANNELS: dict[Color, int] = {"grayscale": 1, "rgb": 3, "bgr": 3, "rgba": 4}


class Preprocess(BaseModel):
    """Conversion of a decoded image, 0 to 255 a channel, to the numbers a model was trained on.

    The value of a channel is `(pixel * scale - mean) / std`. Without `mode`, `scale`, `mean` and `std` a
    floating-point input gets 0 to 1 (`scale: 1/255`) and an integer input 0 to 255. Models that rescale in their own
    first layer, as Keras's EfficientNet and MobileNetV3 do, want `scale: 1`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["tf", "caffe", "torch"] | None = None
    """The presets of `keras.applications`: tf is -1 to 1, torch and caffe are ImageNet's mean (and deviation)."""
    scale: float | None = None
    mean: tuple[float, ...] | float | None = None
    """One number, or one for each channel, in the channels' final order."""
    std: tuple[Annotated[float, Field(gt=0)], ...] | Annotated[float, Field(gt=0)] | None = None
    color: Color | None = None
    """Inferred from the input's number of channels: 1 grayscale, 3 rgb, 4 rgba."""
    layout: Literal["NHWC", "NCHW"] | None = None
    """Inferred: the last axis holds the channels if its size may be a number of channels, else the first one."""
    resize: Literal["nearest", "bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    """All but nearest average over the area that shrinks to a pixel, as `antialias=True` in TensorFlow does."""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """What happens to another aspect ratio: distorted, cut at the longer side, or bordered with `background`."""
    background: Annotated[int, Field(ge=0, le=255)] = 255
    """The gray behind transparent pixels and around a padded image."""
    invert: bool = False
    """Whether dark and light change places: for models trained on white ink, fed with dark ink on paper."""

    @model_validator(mode="after")
    def _preset_stands_alone(self) -> Preprocess:
        """Refuse a preset beside what it would override."""
        for key in ("scale", "mean", "std"):
            if self.mode is not None and getattr(self, key) is not None:
                raise ValueError(f"{key}: expected either mode or scale, mean and std, got both")
        return self
