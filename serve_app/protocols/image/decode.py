"""Images, for people: a picture's bytes to a model's input.

Foreign bytes meet Pillow here, so the format and the size are checked from the header before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from deployments.errors import InvalidInput
from deployments.tensors import Array, Signature, TensorSpec, shape_text
from serve_app.protocols.image.codec import looks_like_picture
from serve_app.protocols.image.pixels import Affine
from serve_app.protocols.image.preprocess import CHANNELS, Color, Preprocess

MAX_PIXELS = 1 << 25
"""Pixels of the largest image taken: 33 million, a 32-megapixel camera's. Its decoding takes 100 MB."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
FORMATS = "PNG, JPEG, WebP, BMP, GIF or TIFF"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_SIZE = struct.Struct(">II")
"""Width and height, where the format has them first: bytes 16 to 23 of every PNG."""
_QUICK_SIDE = 128
_COLOR_OF_CHANNELS: dict[int, Color] = {1: "grayscale", 3: "rgb", 4: "rgba"}
_PILLOW_MODES = {"grayscale": "L", "rgb": "RGB", "bgr": "RGB", "rgba": "RGBA"}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Where the axes of an image input are, and how its pixels are converted.

    `height` and `width` are None where the model takes any; `layout` is `NHWC`, `NCHW` or `NHW` (grayscale without an
    axis of channels).
    """

    spec: TensorSpec
    layout: str
    height: int | None
    width: int | None
    color: Color
    preprocess: Preprocess
    affine: Affine


def image_input(signature: Signature, preprocess: Preprocess | None = None) -> ImageInput:
    """Return how an image becomes the sole input of a model; work for start-up, not for each request.

    Raises `InvalidInput` where the model has several inputs, none that looks like an image, or another number of
    channels than `preprocess` says.
    """
    if len(signature.inputs) > 1:
        names = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
        raise InvalidInput(f"an image fits only a model with one input; this one has {names}")
    spec, preprocess = signature.inputs[0], preprocess or Preprocess()
    if spec.dtype.kind not in "fuiV":
        raise InvalidInput(f"input '{spec.name}': expected numbers to take an image, got dtype {spec.dtype.name}")
    layout = _layout(spec, preprocess)
    channels = {"NHWC": spec.shape[-1], "NCHW": spec.shape[1], "NHW": 1}[layout]
    height, width = {"NHWC": spec.shape[1:3], "NCHW": spec.shape[2:4], "NHW": spec.shape[1:3]}[layout]
    color = preprocess.color or _color(3 if channels is None else channels, preprocess)
    if channels not in (None, CHANNELS[color]):
        raise InvalidInput(f"preprocess.color: expected a color of {channels} channels, got '{color}'")
    affine = Affine.of(preprocess, color, spec.dtype)
    return ImageInput(spec, layout, height, width, color, preprocess, affine)


def decode(body: bytes, target: ImageInput) -> Array:
    """Return a picture as `[1, height, width, channels]` (or the input's layout), in the input's dtype.

    Of an animation the first frame counts. EXIF orientation is applied, transparency laid over the background, 16-bit
    gray brought to 8 bits. Dynamic
    height and width keep the image's own. Raises `InvalidInput` for anything that is not a whole image of at most
    `MAX_PIXELS`.
    """
    image = _open(body)
    try:
        # Lets libjpeg skip detail that the resize would drop: twice the target is as Pillow's thumbnails have it.
        if target.height and target.width and target.preprocess.resize != "nearest":
            side = 2 * max(target.height, target.width)
            image.draft("L" if target.color == "grayscale" else "RGB", (side, side))
        pixels = _resize(_convert(ImageOps.exif_transpose(image), target), target)
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's decoders raise half a dozen classes on damaged files; each of them means damaged bytes.
        raise InvalidInput(f"expected a whole {FORMATS} image, got a damaged one: {error}") from None
    return _to_array(pixels, target)


def is_quick(body: bytes) -> bool:
    """Return whether decoding takes well under a millisecond, told from the first bytes: a small PNG.

    A digit takes 0.2 ms, a photograph 12 ms, a PNG at the limit a second and most of it without the interpreter.
    """
    if not looks_like_picture(body):
        return True
    return body.startswith(_PNG_START) and (len(body) < 24 or max(_SIZE.unpack_from(body, 16)) <= _QUICK_SIDE)


def _layout(spec: TensorSpec, preprocess: Preprocess) -> str:
    counts = {None, *CHANNELS.values()}
    if len(spec.shape) == 3:
        return "NHW"
    if len(spec.shape) == 4:
        for layout, axis in (("NHWC", 3), ("NCHW", 1)):
            if preprocess.layout in (None, layout) and spec.shape[axis] in counts:
                return layout
    raise InvalidInput(
        f"input '{spec.name}' of shape {shape_text(spec.shape)} is no image; expected [batch, height, width, channels] "
        "with 1, 3 or 4 channels"
    )


def _color(channels: int, preprocess: Preprocess) -> Color:
    if channels == 3 and preprocess.mode == "caffe":
        return "bgr"
    return _COLOR_OF_CHANNELS[channels]


def _open(body: bytes) -> Image.Image:
    """Read the header alone; pixels stay undecoded."""
    try:
        image = Image.open(io.BytesIO(body), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise InvalidInput(f"the image is too large; expected at most {MAX_PIXELS} pixels") from None
    except Exception:
        raise InvalidInput(f"expected a {FORMATS} image; the body is none") from None
    if image.width * image.height > MAX_PIXELS:
        raise InvalidInput(
            f"the image is too large; expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}"
        )
    return image


def _convert(image: Image.Image, target: ImageInput) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit gray: Pillow's own conversion to 8 bits clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    mode = _PILLOW_MODES[target.color]
    if image.has_transparency_data and mode != "RGBA":
        shade = target.preprocess.background
        behind = Image.new("RGBA", image.size, (shade, shade, shade, 255))
        image = Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, target: ImageInput) -> Image.Image:
    size = (target.width or image.width, target.height or image.height)
    if image.size == size:
        return image
    method, block = _FILTERS[target.preprocess.resize], target.preprocess
    if block.fit == "crop":
        return ImageOps.fit(image, size, method)
    if block.fit == "pad":
        shade = block.background
        color = {"L": shade, "RGB": (shade,) * 3, "RGBA": (shade, shade, shade, 255)}[image.mode]
        return ImageOps.pad(image, size, method, color)
    return image.resize(size, method)


def _to_array(image: Image.Image, target: ImageInput) -> Array:
    pixels = np.asarray(image)
    if pixels.ndim == 2 and target.layout != "NHW":
        pixels = pixels[:, :, None]
    if target.color == "bgr":
        pixels = pixels[:, :, ::-1]
    if target.preprocess.invert:
        pixels = 255 - pixels
    array = target.affine.apply(pixels, target.spec.dtype)
    if target.layout == "NCHW":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array[None])
