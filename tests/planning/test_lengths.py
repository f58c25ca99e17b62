"""Padding and cutting of dynamic inner axes."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.errors import ConfigError, InvalidInput
from deployments.lengths import Lengths
from deployments.tensors import STRING, Signature, TensorSpec

TOKENS = TensorSpec("tokens", np.dtype("int32"), (None, None))
MASK = TensorSpec("mask", np.dtype("bool"), (None, None))
IMAGE = TensorSpec("image", np.dtype("float32"), (None, None, None, 3))
PER_TOKEN = TensorSpec("scores", np.dtype("float32"), (None, None, 2))
POOLED = TensorSpec("kind", np.dtype("float32"), (None, 4))


def signature(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = (PER_TOKEN, POOLED)) -> Signature:
    return Signature(inputs, outputs)


def test_pads_every_dynamic_axis_to_the_smallest_allowed_length_and_keeps_the_values() -> None:
    spec = signature(TOKENS, MASK)
    rows = spec.check({"tokens": np.array([[5, 6, 7], [8, 9, 1]], np.int32), "mask": np.ones((2, 3), np.bool_)})
    padded = Lengths(spec, (2, 4, 8), padding_value=0).pad(rows)
    assert padded.arrays[0].tolist() == [[5, 6, 7, 0], [8, 9, 1, 0]]
    assert padded.arrays[1].tolist() == [[True, True, True, False]] * 2
    assert (padded.count, padded.group) == (2, 4)


def test_an_image_is_padded_on_both_axes_to_its_longer_side() -> None:
    spec = signature(IMAGE)
    rows = spec.check({"image": np.ones((1, 5, 3, 3), np.float32)})
    padded = Lengths(spec, (4, 6), padding_value=-1.0).pad(rows).arrays[0]
    assert padded.shape == (1, 6, 6, 3)
    assert (padded[0, :5, :3] == 1).all()
    assert (padded[0, 5:] == -1).all()
    assert (padded[0, :, 3:] == -1).all()


def test_rows_that_already_fit_are_not_copied() -> None:
    spec = signature(TOKENS)
    tokens = np.zeros((1, 4), np.int32)
    assert Lengths(spec, (4,)).pad(spec.check({"tokens": tokens})).arrays[0] is tokens


def test_rows_of_different_lengths_share_a_group_when_padded_alike() -> None:
    spec = signature(TOKENS)
    lengths = Lengths(spec, (4, 8))
    groups = [lengths.pad(spec.check({"tokens": np.zeros((1, n), np.int32)})).group for n in (1, 3, 4, 5)]
    assert groups == [4, 4, 4, 8]


def test_strings_are_padded_with_the_empty_string() -> None:
    spec = signature(TensorSpec("words", STRING, (None, None)))
    rows = spec.check({"words": np.array([[b"a"]], dtype=object)})
    assert Lengths(spec, (2,)).pad(rows).arrays[0].tolist() == [[b"a", b""]]


def test_longer_than_the_longest_is_refused_by_name() -> None:
    spec = signature(TOKENS)
    rows = spec.check({"tokens": np.zeros((1, 9), np.int32)})
    with pytest.raises(InvalidInput, match="'tokens': length 9 is more than the longest allowed, 8"):
        Lengths(spec, (4, 8)).pad(rows)


def test_outputs_are_cut_back_to_the_requests_own_length_and_fixed_axes_left_alone() -> None:
    spec = signature(TOKENS)
    lengths = Lengths(spec, (4, 8))
    rows = spec.check({"tokens": np.zeros((2, 3), np.int32)})
    scores, kind = lengths.cut((np.zeros((2, 4, 2), np.float32), np.zeros((2, 4), np.float32)), rows)
    assert scores.shape == (2, 3, 2)
    assert kind.shape == (2, 4), "a fixed axis that happens to equal the padded length is not cut"


def test_an_output_axis_of_another_length_is_left_alone() -> None:
    spec = signature(TOKENS)
    rows = spec.check({"tokens": np.zeros((1, 3), np.int32)})
    halved = np.zeros((1, 2, 2), np.float32)
    assert Lengths(spec, (4,)).cut((halved, np.zeros((1, 4), np.float32)), rows)[0].shape == (1, 2, 2)


def test_each_image_axis_is_cut_to_its_own_size() -> None:
    spec = signature(IMAGE, outputs=(IMAGE,))
    rows = spec.check({"image": np.zeros((1, 5, 3, 3), np.float32)})
    assert Lengths(spec, (6,)).cut((np.zeros((1, 6, 6, 3), np.float32),), rows)[0].shape == (1, 5, 3, 3)


@pytest.mark.parametrize("allowed", [(), (0, 4), (8, 4), (4, 4)])
def test_lengths_that_do_not_ascend_are_refused(allowed: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="allowed_lengths"):
        Lengths(signature(TOKENS), allowed)


@pytest.mark.parametrize("value", [0.5, 2**40])
def test_a_padding_value_that_an_integer_input_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="padding_value"):
        Lengths(signature(TOKENS), (4,), value)
