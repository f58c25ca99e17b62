"""Reads TensorFlow SavedModels through one of their signatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployments.errors import LoadError
from deployments.fetching import checksum
from deployments.loading import fingerprint, names, serving_graph, specs, warmup_requests
from deployments.model import LoadedModel
from deployments.source import SAVED_MODEL_FILES, Source
from deployments.tensors import STRING, Signature, TensorSpec

PREDICT = "tensorflow/serving/predict"
INIT_SIGNATURE = "__saved_model_init_op"
"""Written by TensorFlow itself; runs the tables' initialisers and is no one's prediction."""


@dataclass(frozen=True)
class SignatureCall:
    """A loaded object's signature as a function of tensors in a fixed order."""

    root: Any
    """Owns variables and tables; the function alone would not keep them alive."""
    function: Callable[..., Mapping[str, Any]]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def __call__(self, *tensors: Any) -> tuple[Any, ...]:
        """Return one tensor per output."""
        named = {name: tf.convert_to_tensor(t) for name, t in zip(self.input_names, tensors, strict=True)}
        outputs = self.function(**named)
        return tuple(outputs[name] for name in self.output_names)


def load(path: Path, source: Source) -> LoadedModel:
    """Return the SavedModel's signature as a `LoadedModel`; raises `LoadError`.

    A SavedModel holds Python objects beside its graph. Those of an older Keras may no longer load (an optimizer
    whose class is gone is enough), and prediction needs none of them: then graph, variables and signature are
    loaded alone, as TensorFlow Serving does.
    """
    try:
        root = tf.saved_model.load(str(path))
    except Exception as error:
        return _from_graph(path, source, error)
    function = root.signatures.get(source.signature_name)
    if function is None:
        raise missing_signature(source, root.signatures)
    if any(op.type in serving_graph.REFERENCE_TYPES for op in function.graph.get_operations()):
        # TensorFlow 2.21 keeps no Python object for these: not listed as variables, and impossible to freeze.
        return _from_graph(path, source, LoadError("TensorFlow 1 variables"))
    return _from_objects(path, source, root, function)


def missing_signature(source: Source, present: Iterable[str]) -> LoadError:
    """Return the error that names the signatures that are there."""
    listed = ", ".join(f"'{name}'" for name in sorted(present) if name != INIT_SIGNATURE) or "none"
    return LoadError(f"'{source.uri}' has no signature '{source.signature_name}'; it has {listed}")


def _from_objects(path: Path, source: Source, root: Any, function: Any) -> LoadedModel:
    inputs = _by_name(function.structured_input_signature[1], specs.input_spec)
    input_names = tuple(spec.name for spec in inputs)
    call = SignatureCall(root, function, input_names, tuple(sorted(function.structured_outputs, key=names.natural)))
    outputs = _known_outputs(function.structured_outputs, call, inputs)
    return _model(path, source, specs.signature(inputs, outputs), call, tuple(function.variables))


def _from_graph(path: Path, source: Source, cause: Exception) -> LoadedModel:
    try:
        graph = serving_graph.read(path, checksum.of_folder(path)[:12])
        definition = graph.signatures.get(source.signature_name)
        if definition is None:
            raise missing_signature(source, graph.signatures)
        loaded = serving_graph.function(graph, definition)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(
            f"'{source.uri}' is not a SavedModel that TensorFlow {tf.__version__} can read, neither its objects "
            f"({_first_line(cause)}) nor its graph ({_first_line(error)})"
        ) from error
    inputs = _by_name(loaded.inputs, specs.input_spec)
    outputs = _known_outputs(loaded.outputs, loaded, inputs)
    return _model(path, source, specs.signature(inputs, outputs), loaded, loaded.variables)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _model(
    path: Path, source: Source, signature: Signature, call: Callable[..., tuple[Any, ...]], variables: tuple[Any, ...]
) -> LoadedModel:
    content = f"{checksum.of_folder(path)} {source.signature_name}"
    return LoadedModel(
        signature,
        call,
        variables,
        None,
        fingerprint.of_text(content),
        source.uri,
        samples=tuple(warmup_requests.read(path, source.signature_name)),
        method_name=_method_name(path, source.signature_name, signature),
    )


def _method_name(path: Path, signature_name: str, signature: Signature) -> str:
    """Return what a signature says that it is for, which a loaded object has forgotten.

    The file, which may hold all weights, is read again only for what takes strings, as classify and regress do.
    """
    if [spec.dtype for spec in signature.inputs] != [STRING]:
        return PREDICT
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = path / SAVED_MODEL_FILES[0]
    if file.is_file():
        for graph in SavedModel.FromString(file.read_bytes()).meta_graphs:
            if signature_name in graph.signature_def:
                return graph.signature_def[signature_name].method_name or PREDICT
    return PREDICT


def _by_name(tensors: Mapping[str, Any], make: Callable[..., TensorSpec]) -> list[TensorSpec]:
    """Return a spec per named tensor, sorted: a signature is a map, whose order in the file means nothing."""
    found = []
    for name in sorted(tensors, key=names.natural):
        tensor = tensors[name]
        if not isinstance(tensor, (tf.TensorSpec, tf.Tensor)):
            raise LoadError(f"'{name}' is a {type(tensor).__name__}; only dense tensors can be served")
        found.append(make(name, tensor.dtype, None if tensor.shape.rank is None else tensor.shape.as_list()))
    return found


def _known_outputs(
    outputs: Mapping[str, Any], call: Callable[..., tuple[Any, ...]], inputs: list[TensorSpec]
) -> list[TensorSpec]:
    """Return the outputs' specs; where the graph does not know an output's rank, one call on zeros tells it."""
    if all(tensor.shape.rank is not None for tensor in outputs.values()):
        return _by_name(outputs, specs.output_spec)
    tried = call(*(_zeros(spec) for spec in inputs))
    shown = {}
    for name, tensor in zip(sorted(outputs, key=names.natural), tried, strict=True):
        known = outputs[name].shape
        shape = known if known.rank is not None else tf.TensorShape([None] * tensor.shape.rank)
        shown[name] = tf.TensorSpec(shape, tensor.dtype)
    return _by_name(shown, specs.output_spec)


def _zeros(spec: TensorSpec) -> Any:
    return tf.zeros([axis or 1 for axis in spec.shape], specs.tensorflow_dtype(spec))
