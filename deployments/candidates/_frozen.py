"""The model as one graph without variables: weights become constants, lookup tables are rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from deployments.candidates._bucket import open_shapes
from deployments.candidates._interface import Unfit
from deployments.candidates._subject import Subject
from deployments.tensors import Shape

try:
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2 as convert_variables_to_constants_v2,
    )
except ImportError:
    convert_variables_to_constants_v2 = None

GRAPH_LIMIT_BYTES = 2**31 - 2**26
"""A serialised protocol buffer ends at 2 GiB; the rest of the graph needs little beside the weights."""

MUTATING = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "ResourceScatterUpdate", "RngReadAndSkip")
"""Ops that write a variable: a frozen copy of it would stand still and answer differently from the model."""

CONTROL_FLOW = ("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase")


@dataclass(frozen=True)
class Frozen:
    """A graph that computes the model from its inputs alone."""

    graph_def: Any
    feeds: tuple[str, ...]
    """Tensor names of the inputs, in the signature's order."""
    fetches: tuple[str, ...]
    """Tensor names of the outputs, in the signature's order."""
    rebuilt: tuple[tuple[str, Callable[[], tuple[Any, Any]]], ...]
    """Tensor names of captures that cannot be frozen (lookup tables), with what makes their replacement and
    its initialiser in the current graph."""

    @cached_property
    def loaded(self) -> tuple[Any, list[Any]]:
        """A `tf.Graph` with this graph in it, shared by all its sessions, and the initialisers each must run first."""
        graph, initialisers, replacements = tf.Graph(), [], {}
        with graph.as_default():
            for name, make in self.rebuilt:
                replacements[name], initialiser = make()
                initialisers.append(initialiser)
            tf.import_graph_def(self.graph_def, name="", input_map=replacements)
        graph.finalize()
        return graph, initialisers


def frozen(subject: Subject, shapes: Sequence[Shape], lower_control_flow: bool = False) -> Frozen:
    """Return the model frozen for `shapes`, made once for all candidates that ask for the same.

    `lower_control_flow` turns `While` and `If` into the old Switch and Merge ops, which run in parallel but
    which the single-threaded executor refuses. Raises `Unfit` where the model cannot be frozen faithfully.
    """
    if convert_variables_to_constants_v2 is None:
        raise Unfit("this TensorFlow has no convert_variables_to_constants_v2")
    if subject.weights_bytes > GRAPH_LIMIT_BYTES:
        raise Unfit(f"{subject.weights_bytes / 2**30:.1f} GiB of weights do not fit into a graph (2 GiB)")
    lower = lower_control_flow and has_control_flow(subject)
    return subject.root.shared(("frozen", tuple(shapes), lower), lambda: _freeze(subject, shapes, lower))


def has_control_flow(subject: Subject) -> bool:
    """Return whether the model loops or branches; where it does not, both kinds of freezing are one."""
    concrete = subject.concrete(open_shapes(subject.signature))
    return any(node.op in CONTROL_FLOW for node in nodes(concrete.graph.as_graph_def()))


def _freeze(subject: Subject, shapes: Sequence[Shape], lower_control_flow: bool) -> Frozen:
    refuse_mutation(subject)
    concrete = subject.concrete(shapes)
    function = convert_variables_to_constants_v2(concrete, lower_control_flow=lower_control_flow)
    graph_def = function.graph.as_graph_def()
    # A session places every op anew: on the GPU where it has one, for the host's ways on the CPU.
    for body in all_bodies(graph_def):
        for node in body:
            node.device = ""
    count = len(subject.signature.inputs)
    feeds = tuple(tensor.name for tensor in concrete.inputs[:count])
    captured = dict(zip((tensor.name for tensor in concrete.inputs[count:]), concrete.captured_inputs, strict=True))
    rebuilt = tuple(
        (tensor.name, _rebuilder(captured[tensor.name], tensor, graph_def))
        for tensor in function.inputs
        if tensor.name not in feeds
    )
    return Frozen(graph_def, feeds, tuple(tensor.name for tensor in function.outputs), rebuilt)


def nodes(graph_def: Any) -> list[Any]:
    """Return all nodes of a graph and of the functions it calls, at any depth."""
    return [node for body in bodies(graph_def) for node in body]


def bodies(graph_def: Any) -> Iterator[Any]:
    """Yield the nodes of a graph, and those of each function it calls, at any depth; a library may hold many others."""
    library = {function.signature.name: function.node_def for function in graph_def.library.function}
    waiting = [graph_def.node]
    seen: set[str] = set()
    while waiting:
        body = waiting.pop()
        yield body
        for node in body:
            for name in _called(node) - seen:
                seen.add(name)
                waiting.append(library.get(name, ()))


def all_bodies(graph_def: Any) -> list[Any]:
    """Return the nodes of a graph, and those of each function in its library, called or not, to be changed in place."""
    return [graph_def.node, *(function.node_def for function in graph_def.library.function)]


def _called(node: Any) -> set[str]:
    """Return the names of the functions that a node may call: its own op, or any of its attributes."""
    values = node.attr.values()
    listed = (function.name for value in values for function in value.list.func)
    return {node.op, *(value.func.name for value in values), *listed}


def refuse_mutation(subject: Subject) -> None:
    """Raise `Unfit` for a model that writes variables."""
    concrete = subject.concrete(open_shapes(subject.signature))
    for node in nodes(concrete.graph.as_graph_def()):
        if node.op in MUTATING:
            raise Unfit(f"the model writes its own state ({node.op} '{node.name}')")


def _rebuilder(capture: Any, placeholder: Any, graph_def: Any) -> Callable[[], tuple[Any, Any]]:
    """Return what makes a capture's replacement: a table with the same content, or a constant."""
    if placeholder.dtype != tf.resource:
        value = capture.numpy()
        return lambda: (tf.constant(value), None)
    finds = [node for node in nodes(graph_def) if node.op == "LookupTableFindV2"]
    types = {(node.attr["Tin"].type, node.attr["Tout"].type) for node in finds}
    for key_type, value_type in types:
        exported = _exported(capture, tf.as_dtype(key_type), tf.as_dtype(value_type))
        if exported is not None:
            return lambda: _table(*exported)
    raise Unfit(f"resource '{placeholder.name}' cannot be frozen")


def _exported(handle: Any, key_type: Any, value_type: Any) -> tuple[Any, Any] | None:
    try:
        keys, values = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=key_type, Tvalues=value_type)
    except tf.errors.InvalidArgumentError:
        return None
    return keys.numpy(), values.numpy()


def _table(keys: Any, values: Any) -> tuple[Any, Any]:
    """Return a static table's handle and initialiser in the current graph."""
    keys, values = tf.constant(keys), tf.constant(values)
    handle = tf.raw_ops.HashTableV2(key_dtype=keys.dtype, value_dtype=values.dtype)
    return handle, tf.raw_ops.InitializeTableV2(table_handle=handle, keys=keys, values=values)
