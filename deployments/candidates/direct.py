"""A concrete function through the runtime's own entry, past the Python around it.

`ConcreteFunction.__call__` binds arguments, opens scopes and packs results: of an MLP's 0.42 ms a call that is
0.22 ms, of the XLA function's 0.31 ms it is 0.18 ms (2 cores, TF 2.21). What remains is the best way for models
that cannot be frozen: those that write their own state, and those over 2 GiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._subject import Subject
from deployments.candidates.xla import fixed_shapes
from deployments.tensors import Arrays

try:
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.framework.ops import EagerTensor
except ImportError:
    pywrap_tfe, EagerTensor = None, None


@dataclass(frozen=True)
class Direct:
    """The traced function, executed by name on flat tensors; variables are passed as they are."""

    name: str
    order: int
    with_xla: bool
    family: str
    keeps_variables: bool = True

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for every bucket, or with XLA for this one alone."""
        if not self.with_xla:
            return Runner(_calling(subject.concrete(open_shapes(subject.signature)), subject.device), is_open=True)
        concrete = subject.concrete(fixed_shapes(subject, bucket), jit_compile=True)
        return Runner(_calling(concrete, subject.device), is_open=False)


def _calling(concrete: Any, device: str) -> Any:
    """Return a runner's `run`; raises `Unfit` where TensorFlow's inside has changed."""
    try:
        function = concrete._inference_function
        context = function._bound_context
        handle, name = context._handle, function.name.decode()
        count = len(function.function_type.flat_outputs)
        attributes = tuple(item for pair in context.function_call_options.as_attrs().items() for item in pair)
        execute, captured = pywrap_tfe.TFE_Py_Execute, list(concrete.captured_inputs)
        full_device = tf.config.list_logical_devices()[0].name.rsplit("/device:", 1)[0] + "/device:" + device.strip("/")
    except AttributeError as error:
        raise Unfit(f"this TensorFlow lacks a private name: {error}") from error

    def run(arrays: Arrays) -> Arrays:
        inputs = [EagerTensor(array, full_device, None) for array in arrays]
        return tuple(
            output._numpy() for output in execute(handle, full_device, name, inputs + captured, attributes, count)
        )

    # The function's definition lives as long as the ConcreteFunction does.
    run.concrete = concrete  # type: ignore[attr-defined]
    return run


CANDIDATES = (
    Direct("tf.function-direct", 35, with_xla=False, family="traced"),
    Direct("xla-direct", 75, with_xla=True, family="xla"),
)
