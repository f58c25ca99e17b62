"""Renames the functions in a graph's library, wherever they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def renamed(graph_def: Any, suffix: str) -> Any:
    """Return a copy of a GraphDef, every library function's name ending in `suffix`."""
    result = type(graph_def)()
    result.CopyFrom(graph_def)
    new_names = {function.signature.name: f"{function.signature.name}_{suffix}" for function in result.library.function}
    _rename_calls(result.node, new_names)
    for function in result.library.function:
        function.signature.name = new_names[function.signature.name]
        _rename_calls(function.node_def, new_names)
    for gradient in result.library.gradient:
        gradient.function_name = new_names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = new_names.get(gradient.gradient_func, gradient.gradient_func)
    return result


def _rename_calls(nodes: Iterable[Any], new_names: Mapping[str, str]) -> None:
    """Rename in place: a node calls a function as its op, or names it in an attribute (`f`, `then_branch`)."""
    for node in nodes:
        node.op = new_names.get(node.op, node.op)
        for value in node.attr.values():
            # Touching `func` where it is not set would turn the attribute into one.
            for function in [value.func] if value.HasField("func") else value.list.func:
                function.name = new_names.get(function.name, function.name)
