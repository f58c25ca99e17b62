"""Images to inputs and scores to answers, with real PNG and JPEG files made by Pillow."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deployments.errors import InvalidInput, PredictionFailed
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.protocols.image import decode as image
from serve_app.protocols.image.answer import Labelled, answer
from serve_app.protocols.image.preprocess import Preprocess

OUT = (TensorSpec("y", np.dtype("float32"), (None, 3)),)


def signature(*shape, dtype="float32") -> Signature:
    return Signature((TensorSpec("x", np.dtype(dtype), (None, *shape)),), OUT)


def encode(pixels, mode=None, kind="PNG", **options) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels), mode)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def decode(body, signature, **block):
    array = image.decode(body, image.image_input(signature, Preprocess(**block)))
    (checked,) = signature.check({"x": array}).arrays
    return checked


RGB = np.array([[[255, 0, 0], [0, 128, 255]]], np.uint8)


def test_floats_are_zero_to_one_by_default():
    assert np.allclose(decode(encode(RGB), signature(1, 2, 3)), RGB[None] / 255)


def test_integers_keep_their_pixels():
    array = decode(encode(RGB), signature(1, 2, 3, dtype="uint8"))
    assert array.tolist() == RGB[None].tolist()
    assert array.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", ml_dtypes.bfloat16])
def test_the_inputs_dtype_is_met(dtype):
    assert decode(encode(RGB), signature(1, 2, 3, dtype=dtype)).dtype == np.dtype(dtype)


def test_layouts():
    assert np.allclose(decode(encode(RGB), signature(3, 1, 2)), RGB.transpose(2, 0, 1)[None] / 255)
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    assert np.allclose(decode(encode(gray), signature(2, 3)), gray[None] / 255)
    assert np.allclose(decode(encode(gray), signature(2, 3, 1))[..., 0], gray[None] / 255)
    # Both ends may be channels: declared as the first, they are.
    assert np.allclose(decode(encode(gray[:, :1]), signature(3, 2, 1), layout="NCHW").shape, (1, 3, 2, 1))


def test_dynamic_axes_keep_the_images_own():
    assert decode(encode(np.zeros((5, 7, 3), np.uint8)), signature(None, None, 3)).shape == (1, 5, 7, 3)
    assert decode(encode(np.zeros((5, 7, 3), np.uint8)), signature(None, 14, 3)).shape == (1, 5, 14, 3)


def test_colors():
    luma = 0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]
    assert np.allclose(decode(encode(RGB), signature(1, 2, 1))[0, ..., 0] * 255, luma, atol=1)
    gray = np.array([[10, 200]], np.uint8)
    assert np.allclose(decode(encode(gray), signature(1, 2, 3)) * 255, gray[None, ..., None])
    assert np.allclose(decode(encode(RGB), signature(1, 2, 3), color="bgr") * 255, RGB[None, ..., ::-1])
    rgba = np.array([[[1, 2, 3, 4]]], np.uint8)
    assert decode(encode(rgba), signature(1, 1, 4, dtype="uint8")).tolist() == [rgba.tolist()]
    palette = Image.fromarray(RGB).quantize(2)
    assert np.allclose(decode(encode(palette), signature(1, 2, 3)), RGB[None] / 255)


def test_cmyk_jpeg():
    body = encode(Image.new("CMYK", (4, 4), (0, 0, 0, 0)), kind="JPEG")
    assert decode(body, signature(4, 4, 3)).min() > 0.98


def test_transparency_is_laid_over_the_background():
    clear = np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    assert decode(encode(clear), signature(1, 2, 1))[0, 0, :, 0].tolist() == [1, 0]
    assert decode(encode(clear), signature(1, 2, 1), background=0)[0, 0, :, 0].tolist() == [0, 0]
    keyed = encode(np.array([[7, 0]], np.uint8), transparency=7)
    assert decode(keyed, signature(1, 2, 1))[0, 0, :, 0].tolist() == [1, 0]


def test_16_bit_gray_is_scaled_not_clipped():
    deep = np.array([[0, 0x7FFF, 0xFFFF]], np.uint16)
    assert decode(encode(deep), signature(1, 3, 1, dtype="uint8"))[0, 0, :, 0].tolist() == [0, 127, 255]


def test_invert_and_affine_numbers():
    gray = encode(np.array([[0, 255]], np.uint8))
    assert decode(gray, signature(1, 2, 1), invert=True)[0, 0, :, 0].tolist() == [1, 0]
    assert np.allclose(decode(gray, signature(1, 2, 1), mean=55, std=2)[0, 0, :, 0], [-27.5, 100])
    assert np.allclose(decode(gray, signature(1, 2, 1), scale=1)[0, 0, :, 0], [0, 255])
    assert decode(gray, signature(1, 2, 1, dtype="int8"), mean=128)[0, 0, :, 0].tolist() == [-128, 127]
    mean = decode(encode(RGB), signature(1, 2, 3), scale=1, mean=[1, 2, 3])
    assert np.allclose(mean, RGB[None] - np.array([1, 2, 3.0]))


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_presets_are_those_of_keras_applications(mode):
    imagenet_utils = pytest.importorskip("keras.src.applications.imagenet_utils")
    want = imagenet_utils.preprocess_input(RGB[None].astype("float32"), "channels_last", mode)
    assert np.allclose(decode(encode(RGB), signature(1, 2, 3), mode=mode), want, atol=1e-5)


def test_resize_and_fit():
    left_dark = np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 2, axis=0)
    assert np.allclose(decode(encode(left_dark), signature(1, 2, 1), resize="box")[0, 0, :, 0], [0, 1])
    wide = np.zeros((10, 20, 3), np.uint8)
    wide[:, 5:15] = 255
    assert decode(encode(wide), signature(10, 10, 3), fit="crop").min() == 1
    padded = decode(encode(wide), signature(20, 20, 3), fit="pad", background=0)
    assert padded[0, :5].max() == 0
    assert padded[0, 7, 10].min() == 1


def test_large_jpeg_shrinks_close_to_the_exact_resize():
    ramp = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (480, 1))
    got = decode(encode(ramp, kind="JPEG", quality=95), signature(28, 28, 1))[0, ..., 0]
    want = np.asarray(Image.fromarray(ramp).resize((28, 28), Image.Resampling.BILINEAR)) / 255
    assert np.abs(got - want).max() < 0.02


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90° counter-clockwise
    stored = np.zeros((16, 32), np.uint8)
    stored[:, 16:] = 255
    upright = decode(encode(stored, kind="JPEG", exif=exif), signature(32, 16, 1))[0, ..., 0]
    assert upright[:12].max() < 0.1
    assert upright[20:].min() > 0.9


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


@pytest.mark.parametrize("size", [(100_000, 100_000), (8192, 8192), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_by_their_header(size):
    with pytest.raises(InvalidInput, match="too large"):
        decode(png_of_size(*size), signature(28, 28, 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<svg/>",
        encode(RGB, kind="PPM"),
        encode(RGB, kind="TIFF")[:60],
        encode(RGB, kind="WEBP")[:30],
        png_of_size(28, 28),
        png_of_size(0, 28),
        encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:3000],
        encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), kind="JPEG")[:1500],
    ],
)
def test_anything_but_a_whole_picture_is_refused(body):
    with pytest.raises(InvalidInput, match="PNG, JPEG, WebP, BMP, GIF or TIFF"):
        decode(body, signature(28, 28, 1))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data):
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8)
    body = bytearray(encode(pixels, kind=data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        array = decode(bytes(body), signature(28, 28, 1))
    except InvalidInput:
        return
    assert array.shape == (1, 28, 28, 1)


def test_only_small_pngs_are_quick():
    assert image.is_quick(encode(np.zeros((28, 28), np.uint8)))
    assert not image.is_quick(encode(np.zeros((28, 4000), np.uint8)))
    assert not image.is_quick(encode(np.zeros((4000, 28), np.uint8)))
    assert not image.is_quick(encode(np.zeros((28, 28), np.uint8), kind="JPEG"))
    assert image.is_quick(b"not an image at all")
    assert image.is_quick(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("shape", "dtype", "text"),
    [
        ((784,), "float32", "is no image"),
        ((28, 28, 2), "float32", "is no image"),
        ((4, 28, 28, 3), "float32", "is no image"),
        ((28, 28, 1), STRING, "expected numbers"),
        ((28, 28, 1), "bool", "expected numbers"),
    ],
)
def test_other_inputs_take_no_image(shape, dtype, text):
    with pytest.raises(InvalidInput, match=text):
        image.image_input(signature(*shape, dtype=dtype))


def test_several_inputs_take_no_image():
    pair = Signature(signature(28, 28, 1).inputs * 2, OUT)
    with pytest.raises(InvalidInput, match="only a model with one input"):
        image.image_input(pair)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"color": "grayscale"}, "expected a color of 3 channels"),
        ({"mean": (1, 2)}, "expected one number or 3"),
        ({"mode": "caffe", "color": "rgb"}, "expects color bgr"),
        ({"mode": "torch", "color": "bgr"}, "expects color rgb"),
        ({"layout": "NCHW"}, "is no image"),
    ],
)
def test_blocks_that_contradict_the_input_are_refused_at_start(block, text):
    with pytest.raises(InvalidInput, match=text):
        image.image_input(signature(28, 28, 3), Preprocess(**block))


@pytest.mark.parametrize("block", [{"mode": "tf", "scale": 1}, {"std": 0}, {"resize": "cubic"}, {"colour": "rgb"}])
def test_wrong_blocks_are_refused(block):
    with pytest.raises(ValueError, match=r"expected|greater|be one|Input should|Extra|permitted"):
        Preprocess(**block)


def test_top_labels_descend():
    about = Labelled("digits", signature(28, 28, 1), ("zero", "one", "two"))
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    assert json.loads(answer(about, (scores,), top=2)) == {
        "model_name": "digits",
        "label": "one",
        "score": 0.7,
        "top": [{"label": "one", "score": 0.7}, {"label": "two", "score": 0.2}],
    }
    assert len(json.loads(answer(about, (scores,)))["top"]) == 3
    unnamed = json.loads(answer(Labelled("digits", signature(28, 28, 1)), (scores.astype(ml_dtypes.bfloat16),)))
    assert unnamed["label"] == "1"


def test_a_sole_probability_with_two_labels():
    about = Labelled("cats", signature(28, 28, 1), ("cat", "dog"))
    got = json.loads(answer(about, (np.array([[0.25]], np.float32),)))
    assert (got["label"], got["score"]) == ("cat", 0.75)


def test_infinite_logits_stay_and_nan_is_an_error():
    about = Labelled("m", signature(28, 28, 1))
    assert json.loads(answer(about, (np.array([[-np.inf, 2]], np.float32),)))["top"][1]["score"] == -math.inf
    with pytest.raises(PredictionFailed, match="NaN"):
        answer(about, (np.array([[np.nan, 2]], np.float32),))


def test_other_outputs_are_plain():
    outputs = (TensorSpec("mask", np.dtype("int32"), (None, 2, 2)), TensorSpec("text", STRING, (None,)))
    about = Labelled("m", Signature(signature(28, 28, 1).inputs, outputs))
    got = json.loads(answer(about, (np.array([[[1, 2], [3, 4]]], np.int32), np.array([b"a"], object))))
    assert got["outputs"] == [
        {"name": "mask", "datatype": "INT32", "shape": [1, 2, 2], "data": [[[1, 2], [3, 4]]]},
        {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP"])
def test_other_formats_are_the_same_picture(kind):
    pixels = np.zeros((28, 28), np.uint8)
    pixels[8:20, 8:20] = 255
    options = {"lossless": True} if kind == "WEBP" else {}
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, kind, **options)
    wanted = decode(encode(pixels), signature(28, 28, 1))
    np.testing.assert_allclose(decode(file.getvalue(), signature(28, 28, 1)), wanted, atol=0.01)


def test_an_animation_is_its_first_frame():
    frames = [Image.fromarray(np.full((28, 28), shade, np.uint8)) for shade in (255, 0)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert decode(file.getvalue(), signature(28, 28, 1)).min() > 0.99


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_every_format_that_has_it(kind):
    pixels = np.zeros((28, 28), np.uint8)
    pixels[:14] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, kind, exif=exif)
    array = decode(file.getvalue(), signature(28, 28, 1))
    assert array[0, :12].max() < 0.1 < 0.9 < array[0, 16:].min()
