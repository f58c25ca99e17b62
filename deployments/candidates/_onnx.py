"""The model as an ONNX file: the frozen graph, converted by tf2onnx once for all that run it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from deployments.candidates import _frozen
from deployments.candidates._frozen import Frozen, all_bodies, frozen, nodes
from deployments.candidates._interface import Unfit
from deployments.candidates._subject import Subject
from deployments.tensors import Shape

OPSET = 18
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
MUST_COMPILE = "_XlaMustCompile"
"""What Keras marks calls with that only XLA runs well; freezing leaves those alone, and ONNX has no calls."""


def converted(subject: Subject, shapes: tuple[Shape, ...]) -> bytes:
    """Return the model as ONNX for inputs of `shapes`, None for open axes; the inputs and outputs in their order.

    Raises `Unfit` with the op's name where it cannot be converted.
    """
    if subject.signature.has_strings:
        raise Unfit("strings have no place in ONNX Runtime's buffers")
    return _made(subject.root, f"onnx {OPSET} {shapes}", lambda: _convert(subject, shapes))


def _made(subject: Subject, key: str, make: Callable[[], bytes]) -> bytes:
    """Return what is kept for `key`; where it could not be made, the next way that asks is refused at once."""

    def attempt() -> bytes | Unfit:
        try:
            return subject.kept(key, make)
        except Unfit as unfit:
            return unfit

    made = subject.shared(("made", key), attempt)
    if isinstance(made, Unfit):
        raise Unfit(str(made))
    return made


def halved(subject: Subject, shapes: tuple[Shape, ...]) -> bytes:
    """Return the model as ONNX computing in float16, its inputs and outputs as they are; of the model in float32.

    Keras's own mixed_float16 casts up and down around each normalisation, which no runtime then folds into the
    convolution before it: ResNet50 0.85 ms against 0.59 in TF32 (H200).
    """
    exact = subject.in_float32()
    return _made(exact, f"onnx {OPSET} {shapes} float16", lambda: _halve(converted(exact, shapes)))


def _halve(content: bytes) -> bytes:
    import onnx

    convert = _float16_module().convert_float_to_float16
    try:
        with _silent():
            model = convert(onnx.load_from_string(content), keep_io_types=True)
    except Exception as error:  # whatever the converter meets in a model that nobody has seen
        raise Unfit(f"cannot be converted to float16: {type(error).__name__}: {error}") from None
    return bytes(model.SerializeToString())


def _float16_module() -> Any:
    """Return ONNX Runtime's converter to float16 by its file: its package puts its own folder on `sys.path`."""
    path = Path(runtime().__file__).parent / "transformers" / "float16.py"
    spec = importlib.util.spec_from_file_location("keras_solo_onnx_float16", path)
    if spec is None or spec.loader is None or not path.exists():
        raise Unfit("this ONNX Runtime has no converter to float16")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _convert(subject: Subject, shapes: tuple[Shape, ...]) -> bytes:
    """Return the ONNX file's bytes; raises `Unfit`."""
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise Unfit(f"needs tf2onnx: pip install 'keras-solo[onnx]' ({error})") from None
    graph = frozen(subject, shapes)
    if graph.rebuilt:
        raise Unfit("the model has captures that ONNX has no form for")
    graph_def = _without_erfc(_inlined(graph))
    looping = next((node for node in nodes(graph_def) if node.op in CALLS), None)
    if looping is not None:
        raise Unfit(f"tf2onnx cannot convert the call '{looping.name}'")
    with _silent():
        model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=list(graph.feeds),
            output_names=list(graph.fetches),
            opset=OPSET,
        )
    unknown = sorted({node.op_type for node in _flat(model.graph) if not onnx.defs.has(node.op_type, node.domain)})
    if unknown:
        raise Unfit(f"tf2onnx cannot convert {', '.join(unknown)}")
    return bytes(model.SerializeToString())


def _flat(graph: Any) -> Iterator[Any]:
    """Yield every node of an ONNX graph, those of its loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _flat(attribute.g)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep tf2onnx's progress, and what it says of ops that it does not know, out of a replica's log."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    # Else it copies the whole model before each of its optimisations, in case one fails: 7 of 23 s for ResNet50.
    os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_erfc(graph_def: Any) -> Any:
    """Return a copy with 1 - Erf(x) for each Erfc(x), which is Keras's exact GELU and has no form in ONNX."""
    if not any(node.op == "Erfc" for node in nodes(graph_def)):
        return graph_def
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    for body in all_bodies(changed):
        for node in [node for node in body if node.op == "Erfc"]:
            kind = node.attr["T"].type
            one = body.add(op="Const", name=f"{node.name}/one")
            one.attr["dtype"].type = kind
            one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.as_dtype(kind), []))
            erf = body.add(op="Erf", name=f"{node.name}/erf", input=list(node.input))
            erf.attr["T"].type = kind
            node.op = "Sub"
            is_function = body is not changed.node
            node.ClearField("input")
            node.input.extend(["/".join((node.name, one_)) + ("" if not is_function else out) for one_, out in PARTS])
    return changed


PARTS = (("one", ":output:0"), ("erf", ":y:0"))
"""How a function's body names the outputs of a Const and an Erf."""


def _inlined(graph: Frozen) -> Any:
    """Return the graph with those calls inlined that Keras marks for XLA."""
    if not any(node.op in CALLS for node in nodes(graph.graph_def)):
        return graph.graph_def
    open_def = type(graph.graph_def)()
    open_def.CopyFrom(graph.graph_def)
    # A name that TensorFlow knows already must keep its definition.
    renamed = {function.signature.name: f"{function.signature.name}_open" for function in open_def.library.function}
    for function in open_def.library.function:
        function.signature.name = renamed[function.signature.name]
        for name in (MUST_COMPILE, "_noinline"):
            function.attr.pop(name, None)
    for body in all_bodies(open_def):
        for node in body:
            node.attr.pop(MUST_COMPILE, None)
            for value in node.attr.values():
                for called in [value.func] if value.HasField("func") else value.list.func:
                    called.name = renamed.get(called.name, called.name)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(open_def, name=""), [])
    pruned = wrapped.prune(list(graph.feeds), list(graph.fetches))
    return _frozen.convert_variables_to_constants_v2(pruned).graph.as_graph_def()


def runtime() -> Any:
    """Return the module `onnxruntime`; raises `Unfit` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise Unfit(f"needs onnxruntime: pip install 'keras-solo[onnx]' ({error})") from None
    return onnxruntime


def names_of(session: Any, count: int) -> tuple[list[str], list[str]]:
    """Return a session's inputs and outputs by name, in the signature's order; raises `Unfit` where one is gone."""
    feeds = [each.name for each in session.get_inputs()]
    if len(feeds) != count:
        raise Unfit(f"{len(feeds)} of {count} inputs are left in the ONNX file: the model does not read the others")
    return feeds, [each.name for each in session.get_outputs()]


def with_shapes(content: bytes, shapes: tuple[Shape, ...]) -> bytes:
    """Return an ONNX file with its inputs' axes fixed at `shapes`: what depends on them is folded when it is loaded."""
    import onnx

    model = onnx.load_from_string(content)
    for tensor, shape in zip(model.graph.input, shapes, strict=True):
        for axis, size in zip(tensor.type.tensor_type.shape.dim, shape, strict=True):
            axis.dim_value = size or 1
    del model.graph.value_info[:]
    for tensor in model.graph.output:
        for axis in tensor.type.tensor_type.shape.dim:
            axis.Clear()
    return bytes(model.SerializeToString())
