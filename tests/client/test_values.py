"""What the Python client takes for an input, and what it refuses, before anything is sent."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from deployments.errors import ConfigError, DeadlineExceeded, InvalidInput, NotReady, Overloaded
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.client import Model, values


def spec(dtype: Any, *inner: int | None) -> TensorSpec:
    return TensorSpec("x", np.dtype(dtype), (None, *inner))


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([[1, 2]], "float32", np.array([[1, 2]], np.float32)),
        ([[0.1]], "float32", np.array([[0.1]], np.float32)),
        (np.array([[0.1]], np.float64), "float32", np.array([[0.1]], np.float32)),
        (np.array([[7]], ">f4"), "float32", np.array([[7]], np.float32)),
        (np.array([[250]], np.int64), "uint8", np.array([[250]], np.uint8)),
        ([[True]], "int32", np.array([[1]], np.int32)),
        (np.array([[1.5]], np.float32), ml_dtypes.bfloat16, np.array([[1.5]], ml_dtypes.bfloat16)),
        (np.array([[1.5]], ml_dtypes.bfloat16), "float32", np.array([[1.5]], np.float32)),
        ([["ä", b"\0x\0"]], STRING, np.array([["ä".encode(), b"\0x\0"]], object)),
        (np.array([["a"]]), STRING, np.array([[b"a"]], object)),
        ([[float("inf")]], "float16", np.array([[np.inf]], np.float16)),
    ],
)
def test_near_types_are_converted(value: Any, dtype: Any, expected: np.ndarray[Any, Any]) -> None:
    array = values.to_array(spec(dtype, *expected.shape[1:]), value)
    assert array.dtype == expected.dtype
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("value", "dtype", "says"),
    [
        ([[1.0]], "int32", "expected dtype int32, got float64"),
        ([[1j]], "float32", "got complex128"),
        ([[300]], "uint8", "300 is beyond uint8"),
        ([[-1]], "uint8", "-1 is beyond uint8"),
        (np.array([[2**63]], np.uint64), "int64", "9223372036854775808 is beyond int64"),
        ([[1e300]], "float32", "a value is beyond float32"),
        ([[70000]], "float16", "a value is beyond float16"),
        ([[1, 2], [3]], "float32", "a list of equal rows"),
        ([[1]], "bool", "expected dtype bool"),
        ([["1"]], "float32", "expected dtype float32"),
        ([[0]], STRING, "expected strings, got int"),
        ([[None]], STRING, "expected strings, got NoneType"),
    ],
)
def test_what_would_change_a_value_is_refused(value: Any, dtype: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match="input 'x'") as raised:
        values.to_array(spec(dtype, None), value)
    assert says in str(raised.value)


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.zeros((2, 3), np.float32)
    rows = values.to_rows(Signature((spec("f4", 3),), ()), array)
    assert rows.arrays[0] is array


def test_names_and_shapes_are_checked() -> None:
    signature = Signature((spec("f4", 3), TensorSpec("z", np.dtype("f4"), (None,))), ())
    with pytest.raises(InvalidInput, match="expected a dict of 'x', 'z'"):
        values.to_rows(signature, np.zeros((1, 3)))
    with pytest.raises(InvalidInput, match="input 'z' is missing"):
        values.to_rows(signature, {"x": np.zeros((1, 3))})
    with pytest.raises(InvalidInput, match="unknown input 'y'"):
        values.to_rows(signature, {"x": np.zeros((1, 3)), "z": [0], "y": [0]})
    with pytest.raises(InvalidInput, match="expected shape"):
        values.to_rows(signature, {"x": np.zeros((1, 4)), "z": [0]})


def test_pieces_come_together_in_order() -> None:
    rows = values.to_rows(Signature((spec("i4", 2),), ()), np.arange(22).reshape(11, 2))
    pieces = list(values.split(rows, 4))
    assert [len(piece[0]) for piece in pieces] == [4, 4, 3]
    assert (values.join(pieces)[0] == rows.arrays[0]).all()


def test_answers_are_the_callers_own() -> None:
    frozen = np.frombuffer(b"\0" * 12, np.float32).reshape(1, 3)
    array = values.to_answer(Signature((), (spec("f4", 3),)), (frozen,))
    assert isinstance(array, np.ndarray)
    array[:] = 1
    two = Signature((), (spec("f4", 3), TensorSpec("z", np.dtype("f4"), (None,))))
    assert set(values.to_answer(two, (frozen, frozen[:, 0]))) == {"x", "z"}


def test_models_and_errors_travel_between_processes() -> None:
    model = pickle.loads(pickle.dumps(Model("digits", version=3, transport="handle")))
    assert (model.name, model.version, model.transport) == ("digits", "3", "handle")
    error = pickle.loads(pickle.dumps(Overloaded("full", 2.5)))
    assert (str(error), error.retry_after_s) == ("full", 2.5)
    assert str(pickle.loads(pickle.dumps(DeadlineExceeded("late")))) == "late"


def test_an_unknown_transport_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="expected auto, http or handle, got 'grpc'"):
        Model("digits", transport="grpc")  # type: ignore[arg-type]


def test_without_a_cluster_it_says_so_and_starts_none() -> None:
    import ray

    assert not ray.is_initialized()
    with pytest.raises(NotReady, match="no Ray cluster"):
        Model("digits").predict([[1]])
    assert not ray.is_initialized()
