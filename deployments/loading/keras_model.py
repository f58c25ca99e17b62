"""A Keras model in memory as a `LoadedModel`: names, shapes and one flat way to call it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import fingerprint, keras2, names, precision, preprocessors, specs
from deployments.loading.layers import forget_between_calls, make_traceable, maker_name
from deployments.model import LoadedModel
from deployments.source import Precision
from deployments.tensors import STRING, Arrays, Signature, TensorSpec

HOW_TO_FIX_SUBCLASS = (
    "Wrap it in a functional model and save that:\n"
    "    inputs = keras.Input(shape=(…), dtype=…)\n"
    "    keras.Model(inputs, model(inputs)).save('served.keras')"
)


@dataclass(frozen=True)
class Calling:
    """How the model wants its inputs: `structure` has one `KerasTensor` per leaf."""

    structure: Any
    leaf_names: tuple[str, ...]
    as_keywords: bool = False

    def pack(self, tensors: tuple[Any, ...]) -> Any:
        """Return the flat tensors in the model's own structure."""
        return keras.tree.pack_sequence_as(self.structure, tensors)

    def run(self, model: Any, tensors: tuple[Any, ...]) -> Any:
        """Return the model's outputs, in its own structure, in inference mode."""
        packed = self.pack(tensors)
        if self.as_keywords:
            return model(**packed, training=False)
        return model(packed, training=False)


def from_keras(model: Any, source: str = "memory", wanted: Precision = "float32") -> LoadedModel:
    """Return a `keras.Model` with known input shapes as a `LoadedModel`; `wanted` is what `precision` asked for.

    Nested inputs and outputs are flattened in `keras.tree`'s order (dictionaries by sorted key). Raises
    `LoadError` for a model whose inputs are unknown, sparse, ragged or without a batch axis.
    """
    if keras.backend.backend() != "tensorflow":
        raise LoadError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow")
    calling = _calling(model)
    declared = _declared_outputs(model) if is_graph(model) else None
    if declared is not None and wanted != "float32" and keras2.is_keras2(model):
        # Built under the policy, a Keras 2 model declares half precision; what it was saved with is its signature.
        declared = [(name, tf.TensorSpec(leaf.shape, _as_saved(leaf.dtype, wanted))) for name, leaf in declared]
    forget_between_calls(model)
    make_traceable(model)
    signature = _signature(model, calling, _input_specs(calling), declared)
    return LoadedModel(
        signature=signature,
        call=_flat_call(model, calling, signature),
        variables=_variables(model),
        predict=_flat_predict(model, calling, signature),
        fingerprint=fingerprint.of_keras(model),
        source=source,
        preprocessor=preprocessors.of_task(model, [spec.name for spec in signature.inputs]),
        precision=precision.of(model),
    )


def _variables(model: Any) -> tuple[Any, ...]:
    if keras2.is_keras2(model):
        # Vocabularies stand among them, and are none.
        return tuple(one for one in model.variables if isinstance(one, tf.Variable))
    return tuple(one.value for one in model.variables)


def _calling(model: Any) -> Calling:
    """Return how to call the model: by its graph for Functional and Sequential, else by its recorded shapes."""
    if is_graph(model):
        structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        paths, leaves = _leaves(structure)
        return Calling(structure, names.of_leaves(paths, [maker_name(leaf, model) for leaf in leaves]))
    return _subclass_calling(model)


def is_graph(model: Any) -> bool:
    """Return whether the model has a symbolic graph: Functional, or Sequential that knows its input."""
    if keras2.is_keras2(model):
        return bool(model._is_graph_network)
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise LoadError(f"the Sequential model '{model.name}' has no input shape. Add keras.Input first.")
        return bool(model.inputs)
    # `inputs` exists on every model; only a graph's are symbolic tensors with a history.
    return bool(getattr(model, "inputs", None)) and hasattr(model, "operations")


def _subclass_calling(model: Any) -> Calling:
    """Return how to call a subclassed model, from the shapes that Keras recorded when it was built."""
    shapes = _built_shapes(model)
    if not shapes:
        raise LoadError(
            f"the subclassed model '{type(model).__name__}' has no known input shape. {HOW_TO_FIX_SUBCLASS}"
        )
    # Keras names the shapes after `build`'s arguments: `left_shape` belongs to `call`'s `left`.
    shapes = {key.removesuffix("_shape"): value for key, value in shapes.items()}
    as_keywords = len(shapes) > 1
    dtype = model.compute_dtype if keras2.is_keras2(model) else model.input_dtype
    structure = _symbolic(shapes if as_keywords else next(iter(shapes.values())), dtype)
    paths, leaves = _leaves(structure)
    numbered = [f"input_{i + 1}" if len(leaves) > 1 else "input" for i in range(len(leaves))]
    return Calling(structure, names.of_leaves(paths, numbered), as_keywords)


def _built_shapes(model: Any) -> dict[str, Any] | None:
    """Return the shapes that a model was built with, by argument of its `build`; None where it was not."""
    if keras2.is_keras2(model):
        shape = getattr(model, "_build_input_shape", None)
        return None if shape is None else {"input_shape": keras.tree.map_structure(lambda axis: axis, shape)}
    shapes: dict[str, Any] | None = getattr(model, "_build_shapes_dict", None)
    return shapes


def _symbolic(shapes: Any, dtype: str) -> Any:
    """Return a `KerasTensor` per shape in the structure; the recorded batch size is the training run's, so open."""
    if isinstance(shapes, dict):
        return {key: _symbolic(value, dtype) for key, value in shapes.items()}
    if all(axis is None or isinstance(axis, int) for axis in shapes):
        return keras.KerasTensor((None, *shapes[1:]) if shapes else (), dtype=dtype)
    return [_symbolic(value, dtype) for value in shapes]


def _input_specs(calling: Calling) -> list[TensorSpec]:
    inputs = []
    for name, leaf in zip(calling.leaf_names, keras.tree.flatten(calling.structure), strict=True):
        if getattr(leaf, "sparse", False) or _is_ragged(leaf):
            raise LoadError(f"input '{name}' is sparse or ragged; only dense inputs can be served")
        inputs.append(specs.input_spec(name, leaf.dtype, leaf.shape))
    return inputs


def _is_ragged(leaf: Any) -> bool:
    return bool(getattr(leaf, "ragged", False)) or isinstance(getattr(leaf, "type_spec", None), tf.RaggedTensorSpec)


def _as_saved(dtype: Any, wanted: Precision) -> Any:
    """Return an output's dtype before `wanted` made its layer compute in half precision."""
    return tf.float32 if tf.as_dtype(dtype).name == wanted.removeprefix("mixed_") else dtype


def _declared_outputs(model: Any) -> list[tuple[str, Any]]:
    """Return the outputs of a model with a graph as names and `KerasTensor`s."""
    paths, leaves = _leaves(model.outputs if isinstance(model, keras.Sequential) else model.output)
    return list(zip(names.of_leaves(paths, [maker_name(leaf, model) for leaf in leaves]), leaves, strict=True))


def _signature(
    model: Any, calling: Calling, inputs: list[TensorSpec], declared: list[tuple[str, Any]] | None
) -> Signature:
    """Return the signature: as declared where that can be trusted, else as one trace finds it.

    A batch axis fixed at N is opened where a trace with an open one gives open outputs: nothing needs the N then.
    """
    if declared is not None and inputs[0].shape[0] is not None:
        opened = [spec.opened() for spec in inputs]
        with contextlib.suppress(LoadError):
            outputs = _traced_specs(model, calling, opened, declared)
            if all(spec.shape[0] is None for spec in outputs):
                return specs.signature(opened, outputs)
    if declared is None or not all(_is_trusted(leaf) for _, leaf in declared):
        return specs.signature(inputs, _traced_specs(model, calling, inputs, declared))
    outputs = [specs.output_spec(name, leaf.dtype, leaf.shape) for name, leaf in declared]
    return specs.signature(inputs, outputs)


def _is_trusted(leaf: Any) -> bool:
    """Return whether an output is what Keras declares: lookups declare integers and may answer strings, or ragged."""
    return bool(tf.as_dtype(leaf.dtype).is_floating)


def _traced_specs(
    model: Any, calling: Calling, inputs: list[TensorSpec], declared: list[tuple[str, Any]] | None
) -> list[TensorSpec]:
    """Return the outputs' specs as a trace finds them; raises `LoadError` for what is no dense tensor."""
    paths, leaves = _leaves(_traced_outputs(model, calling, inputs))
    numbered = [f"output_{i + 1}" if len(leaves) > 1 else "output" for i in range(len(leaves))]
    found_names = names.of_leaves(paths, numbered) if declared is None else [name for name, _ in declared]
    for name, leaf in zip(found_names, leaves, strict=True):
        _check_dense(name, leaf)
    return [specs.output_spec(name, leaf.dtype, leaf.shape) for name, leaf in zip(found_names, leaves, strict=True)]


def _dense(output: Any) -> Any:
    """Return a sparse output as the dense one that it stands for, any other as it is."""
    return tf.sparse.to_dense(output) if isinstance(output, tf.SparseTensor) else output


def _check_dense(name: str, output: Any) -> None:
    """Raise `LoadError` for an output that is no one tensor, whatever the model declares."""
    if not isinstance(output, (tf.Tensor, tf.TensorSpec)):
        raise LoadError(
            f"output '{name}' is a {type(output).__name__.removesuffix('Spec')}; only dense outputs can be served: "
            "let the model end in one, such as `ragged.to_tensor()`"
        )


def _traced_outputs(model: Any, calling: Calling, inputs: list[TensorSpec]) -> Any:
    """Return the symbolic outputs of one trace; a model that will not take its recorded inputs fails here."""
    traced = tf.function(lambda *tensors: keras.tree.map_structure(_dense, calling.run(model, tensors)))
    try:
        return traced.get_concrete_function(*specs.tensorflow_specs(inputs)).structured_outputs
    except Exception as error:
        shown = ", ".join(f"{spec.dtype.name}{list(spec.shape)}" for spec in inputs)
        reason = str(error).strip().splitlines()[-1].strip()
        raise LoadError(
            f"the subclassed model '{type(model).__name__}' cannot be called with {shown}: {reason}\n"
            f"{HOW_TO_FIX_SUBCLASS}"
        ) from error


def _flat_call(model: Any, calling: Calling, signature: Signature) -> Callable[..., tuple[Any, ...]]:
    in_dtypes = tuple(specs.tensorflow_dtype(spec) for spec in signature.inputs)
    out_dtypes = tuple(specs.tensorflow_dtype(spec) for spec in signature.outputs)

    def call(*tensors: Any) -> tuple[Any, ...]:
        converted = tuple(tf.convert_to_tensor(t, dtype) for t, dtype in zip(tensors, in_dtypes, strict=True))
        outputs = [_dense(out) for out in keras.tree.flatten(calling.run(model, converted))]
        for spec, out in zip(signature.outputs, outputs, strict=True):
            _check_dense(spec.name, out)
        # Under a mixed policy the layers answer in half precision; the signature keeps the declared dtype.
        return tuple(tf.cast(out, dtype) for out, dtype in zip(outputs, out_dtypes, strict=True))

    return call


def _flat_predict(model: Any, calling: Calling, signature: Signature) -> Callable[[Arrays], Arrays] | None:
    if calling.as_keywords:
        # `model.predict` passes one positional argument only.
        return None

    def predict(arrays: Arrays) -> Arrays:
        # Keras 3.15's array adapter refuses object arrays, so strings go in as tensors.
        fed = tuple(tf.constant(array) if array.dtype == STRING else array for array in arrays)
        outputs = keras.tree.flatten(model.predict(calling.pack(fed), verbose=0))
        return tuple(
            np.asarray(out).astype(spec.dtype, copy=False) for out, spec in zip(outputs, signature.outputs, strict=True)
        )

    return predict


def _leaves(structure: Any) -> tuple[list[tuple[Any, ...]], list[Any]]:
    flat = keras.tree.flatten_with_path(structure)
    return [tuple(path) for path, _ in flat], [leaf for _, leaf in flat]
