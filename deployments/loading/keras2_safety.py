"""What a Keras 2 file may name without being trusted: layers, and TensorFlow's functions that only compute.

`tf_keras` imports whatever module a file names and takes any symbol of TensorFlow for a layer, `tf.io.write_file`
and `tf.load_op_library` among them. With `safe_mode` such a file is refused before it is read.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterator
from typing import Any

MODULES = ("keras", "tf_keras", "tensorflow", "builtins")
COMPUTING = frozenset(
    [
        "__operators__",
        "audio",
        "bitwise",
        "image",
        "linalg",
        "math",
        "nn",
        "quantization",
        "ragged",
        "random",
        "sets",
        "signal",
        "sparse",
        "strings",
    ]
)
"""TensorFlow's modules whose functions read and write nothing but tensors."""
# fmt: off
PLAIN = frozenset(
    [
        "abs", "acos", "add", "argmax", "argmin", "argsort", "asin", "atan", "atan2", "bitcast", "boolean_mask",
        "broadcast_to", "cast", "clip_by_norm", "clip_by_value", "complex", "concat", "convert_to_tensor", "cos",
        "cosh", "cumsum", "edit_distance", "einsum", "ensure_shape", "equal", "exp", "expand_dims", "eye", "fill",
        "floor", "foldl", "gather", "gather_nd", "greater", "greater_equal", "identity", "less", "less_equal",
        "linspace", "logical_and", "logical_not", "logical_or", "matmul", "maximum", "meshgrid", "minimum",
        "multiply", "negative", "norm", "not_equal", "one_hot", "ones", "ones_like", "pad", "pow", "range", "rank",
        "realdiv", "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min",
        "reduce_prod", "reduce_sum", "repeat", "reshape", "reverse", "roll", "round", "saturate_cast", "scatter_nd",
        "searchsorted", "sequence_mask", "shape", "sigmoid", "sign", "sin", "sinh", "size", "slice", "sort", "split",
        "sqrt", "square", "squeeze", "stack", "stop_gradient", "strided_slice", "subtract", "tan", "tanh",
        "tensor_scatter_nd_update", "tensordot", "tile", "top_k", "transpose", "truediv", "unique", "unstack",
        "where", "zeros", "zeros_like",
    ]
)
"""Those that stand in `tf` itself."""
# fmt: on


def code_in(architecture: Any, known: Collection[str]) -> str | None:
    """Return what in a Keras 2 architecture could do more than compute, in words; None where nothing can.

    `known` are the names of custom objects that the config vouches for.
    """
    return next((found for node in _dicts(architecture) if (found := _suspect(node, known)) is not None), None)


def _dicts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _dicts(child)


def _suspect(node: dict[str, Any], known: Collection[str]) -> str | None:
    name, module, config = node.get("class_name"), node.get("module"), node.get("config")
    if not isinstance(name, str):
        return None
    if name in ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"):
        symbol = config.get("function") if isinstance(config, dict) else None
        return None if symbol is None or _computes(str(symbol)) else f"the function 'tf.{symbol}'"
    if name == "function" and isinstance(config, str):
        # Keras writes its own functions (`relu`) as if they were Python's.
        is_keras = module == "builtins" and not hasattr(builtins, config)
        return None if config in known or is_keras else f"the function '{module}.{config}'"
    if isinstance(module, str) and module.partition(".")[0] not in MODULES and name not in known:
        return f"'{name}' of module '{module}'"
    return None


def _computes(symbol: str) -> bool:
    """Return whether a symbol of TensorFlow's (`math.add`, `compat.v1.gather`) only computes."""
    parts = symbol.removeprefix("compat.v1.").split(".")
    if len(parts) == 1:
        return parts[0] in PLAIN
    return parts[0] in COMPUTING or parts[:2] == ["keras", "backend"]
