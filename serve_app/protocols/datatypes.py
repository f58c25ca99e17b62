"""The Open Inference Protocol's datatypes, and what each is in numpy, in JSON and in a model's configuration.

Source: https://github.com/kserve/open-inference-protocol (tensor data types); BF16 and the `TYPE_` names are
Triton's, https://github.com/triton-inference-server/common `protobuf/model_config.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from deployments.errors import ConfigError, InvalidInput
from deployments.tensors import STRING, TensorSpec


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype of the protocol."""

    name: str
    dtype: np.dtype[Any]
    config_name: str
    """Its name in a Triton model configuration."""
    typecode: str | None = None
    """The code of `array.array` whose C conversion checks JSON numbers; None where values are no numbers in JSON.

    FP16 and BF16, to which the protocol gives no JSON form, come and go as JSON numbers by way of FP32.
    """


def _number(name: str, dtype: Any, typecode: str | None) -> Datatype:
    return Datatype(name, np.dtype(dtype), f"TYPE_{name}", typecode)


DATATYPES = (
    Datatype("BOOL", np.dtype(np.bool_), "TYPE_BOOL"),
    _number("UINT8", np.uint8, "B"),
    _number("UINT16", np.uint16, "H"),
    _number("UINT32", np.uint32, "I"),
    _number("UINT64", np.uint64, "Q"),
    _number("INT8", np.int8, "b"),
    _number("INT16", np.int16, "h"),
    _number("INT32", np.int32, "i"),
    _number("INT64", np.int64, "q"),
    _number("FP16", np.float16, "f"),
    _number("FP32", np.float32, "f"),
    _number("FP64", np.float64, "d"),
    _number("BF16", ml_dtypes.bfloat16, "f"),
    Datatype("BYTES", STRING, "TYPE_STRING"),
)

BY_NAME = {datatype.name: datatype for datatype in DATATYPES}
BY_DTYPE = {datatype.dtype: datatype for datatype in DATATYPES}


def datatype_of(spec: TensorSpec) -> Datatype:
    """Return the datatype of a model's tensor; raise `ConfigError` where the protocol has none for its dtype."""
    datatype = BY_DTYPE.get(spec.dtype)
    if datatype is None:
        known = ", ".join(other.dtype.name for other in DATATYPES[:-1])
        raise ConfigError(f"tensor '{spec.name}' has dtype {spec.dtype}; the protocol knows {known} and string")
    return datatype


def require_datatype(name: str, declared: object, expected: Datatype) -> None:
    """Raise `InvalidInput` unless input `name` was declared with the datatype that its model expects."""
    if declared != expected.name:
        got = f"'{declared}'" if isinstance(declared, str) else "no string"
        raise InvalidInput(f"input '{name}': expected datatype {expected.name}, got {got}")
