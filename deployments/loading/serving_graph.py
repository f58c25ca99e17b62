"""A SavedModel's graph and signature without its Python objects, as TensorFlow Serving sees them.

The graph is restored in a session by its own saver, then rebuilt inside a `tf.function` on variables and tables
of this process. So it behaves like any other model: callable eagerly, traceable, its variables listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployments.errors import LoadError
from deployments.loading import graph_functions, names

v1 = tf.compat.v1
SERVING_TAGS = ["serve"]
REFERENCE_TYPES = ("VariableV2", "Variable")
"""TensorFlow 1's variables, whose output is the value itself; those since are read through a handle."""
TABLE_TYPES = ("HashTableV2", "MutableHashTableV2")


@dataclass(frozen=True)
class ServingGraph:
    """A restored graph: definition, signatures, and the values of its state by tensor name."""

    graph_def: Any
    signatures: Mapping[str, Any]
    variables: Mapping[str, Any]
    """Tensor name of the handle to value, an array."""
    references: Mapping[str, Any]
    """Tensor name to value of TensorFlow 1's variables."""
    tables: Mapping[str, tuple[Any, Any]]
    """Tensor name of the handle to keys and values, arrays."""


@dataclass(frozen=True)
class GraphFunction:
    """One signature of a `ServingGraph`: call it with its inputs, for its outputs, in the order of the names."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    concrete: Callable[..., tuple[Any, ...]]
    variables: tuple[Any, ...]
    tables: tuple[Any, ...]
    """Held so that they live as long as the function, which knows them by bare handles."""

    def __call__(self, *tensors: Any) -> tuple[Any, ...]:
        """Return one tensor per output."""
        return tuple(self.concrete(*(tf.convert_to_tensor(tensor) for tensor in tensors)))


def read(path: Path, suffix: str) -> ServingGraph:
    """Return the SavedModel at `path`, its state read out, its functions renamed; raises what TensorFlow raises.

    `suffix` must differ between models: functions share one namespace per process, and TensorFlow's numbering
    (`__inference_signature_wrapper_42`) repeats from one file to the next.
    """
    graph = tf.Graph()
    # On the CPU: the session only lends its restore ops and must not claim GPU memory.
    config = v1.ConfigProto(device_count={"GPU": 0})
    with graph.as_default(), v1.Session(graph=graph, config=config) as session:
        meta = v1.saved_model.load(session, SERVING_TAGS, str(path))
        return ServingGraph(
            graph_def=graph_functions.renamed(meta.graph_def, suffix),
            signatures=dict(meta.signature_def),
            variables=_variable_values(session, graph),
            references=_reference_values(session, graph),
            tables=_table_contents(session, graph),
        )


def function(graph: ServingGraph, definition: Any) -> GraphFunction:
    """Return one signature of the graph as a function on variables of this process."""
    input_names = sorted(definition.inputs, key=names.natural)
    output_names = sorted(definition.outputs, key=names.natural)
    inputs = {name: _tensor_spec(name, definition.inputs[name]) for name in input_names}
    fetches = [_tensor_name(name, definition.outputs[name]) for name in output_names]
    pruned = v1.graph_util.extract_sub_graph(graph.graph_def, [fetch.split(":")[0] for fetch in fetches])
    state = _State.of(pruned, graph)

    def run(*tensors: Any) -> tuple[Any, ...]:
        fed = {definition.inputs[name].name: tensor for name, tensor in zip(input_names, tensors, strict=True)}
        present = {node.name for node in pruned.node}
        fed = {name: tensor for name, tensor in fed.items() if name.split(":")[0] in present}
        return tuple(tf.graph_util.import_graph_def(pruned, fed | state.captured(), fetches, name=""))

    # Not `tf.function`: only `wrap_function` registers the imported graph's own function library.
    concrete = v1.wrap_function(run, [inputs[name] for name in input_names])
    outputs = dict(zip(output_names, concrete.structured_outputs, strict=True))
    return GraphFunction(inputs, outputs, concrete, state.all_variables, tuple(state.tables.values()))


@dataclass(frozen=True)
class _State:
    """The variables and tables that a pruned graph uses, by the tensor name of their handles."""

    variables: Mapping[str, Any]
    references: Mapping[str, Any]
    tables: Mapping[str, Any]

    @staticmethod
    def of(pruned: Any, graph: ServingGraph) -> _State:
        used = {f"{node.name}:0" for node in pruned.node}
        return _State(
            variables={name: _variable(value) for name, value in graph.variables.items() if name in used},
            references={name: _variable(value) for name, value in graph.references.items() if name in used},
            tables={name: _table(*content) for name, content in graph.tables.items() if name in used},
        )

    @property
    def all_variables(self) -> tuple[Any, ...]:
        return (*self.variables.values(), *self.references.values())

    def captured(self) -> dict[str, Any]:
        """Return handles and references' values as tensors of the function graph being traced."""
        traced = v1.get_default_graph()
        for variable in self.all_variables:
            # By its handle alone the function would not know the variable, and freezing could not find it.
            traced.watch_variable(variable)
        handles = {name: variable.handle for name, variable in self.variables.items()}
        handles |= {name: table.resource_handle for name, table in self.tables.items()}
        captured = {name: traced.capture(handle) for name, handle in handles.items()}
        return captured | {name: variable.read_value() for name, variable in self.references.items()}


def _variable_values(session: Any, graph: Any) -> dict[str, Any]:
    """Return the restored variables; those no checkpoint holds stay out (nothing that is served reads them)."""
    operations = [op for op in graph.get_operations() if op.type == "VarHandleOp"]
    handles = {op.outputs[0].name: (op.outputs[0], tf.as_dtype(op.get_attr("dtype"))) for op in operations}
    held = session.run({name: tf.raw_ops.VarIsInitializedOp(resource=handle) for name, (handle, _) in handles.items()})
    reads = {
        name: tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
        for name, (handle, dtype) in handles.items()
        if held[name]
    }
    return dict(session.run(reads))


def _reference_values(session: Any, graph: Any) -> dict[str, Any]:
    references = {op.outputs[0].name: op.outputs[0] for op in graph.get_operations() if op.type in REFERENCE_TYPES}
    held = session.run({name: v1.is_variable_initialized(ref) for name, ref in references.items()})
    return dict(session.run({name: ref for name, ref in references.items() if held[name]}))


def _variable(value: Any) -> Any:
    return tf.Variable(value, trainable=False)


def _table_contents(session: Any, graph: Any) -> dict[str, tuple[Any, Any]]:
    exports = {
        op.outputs[0].name: tf.raw_ops.LookupTableExportV2(
            table_handle=op.outputs[0],
            Tkeys=tf.as_dtype(op.get_attr("key_dtype")),
            Tvalues=tf.as_dtype(op.get_attr("value_dtype")),
        )
        for op in graph.get_operations()
        if op.type in TABLE_TYPES
    }
    return {name: (pair.keys, pair.values) for name, pair in session.run(exports).items()}


def _table(keys: Any, values: Any) -> Any:
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.constant(values))
    # The default is never used: the graph's own find op brings its default along as an input.
    default = tf.zeros([], initializer.value_dtype)
    return tf.lookup.StaticHashTable(initializer, default)


def _tensor_spec(name: str, info: Any) -> Any:
    _tensor_name(name, info)
    return tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))


def _tensor_name(name: str, info: Any) -> str:
    if info.WhichOneof("encoding") != "name":
        raise LoadError(f"'{name}' is a sparse or composite tensor; only dense ones can be served")
    return str(info.name)
