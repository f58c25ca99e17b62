"""A concrete `tf.function`, as TensorFlow's guides advise."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._interface import Runner
from deployments.candidates._subject import Subject
from deployments.tensors import Arrays


class Function:
    """One graph with open axes, on the model's own variables."""

    name = "tf.function"
    order = 40
    family = "traced"
    keeps_variables = True

    def build(self, subject: Subject, bucket: Bucket) -> Runner:  # noqa: ARG002 - one runner serves all
        """Return a runner around one `ConcreteFunction` for every bucket."""
        return Runner(calling(subject.concrete(open_shapes(subject.signature)), subject.device), is_open=True)


def calling(concrete: Any, device: str) -> Any:
    """Return a runner's `run` that calls `concrete` on `device` with constants made of its arrays."""

    def run(arrays: Arrays) -> Arrays:
        with tf.device(device):
            outputs = concrete(*(tf.constant(array) for array in arrays))
        return tuple(output.numpy() for output in outputs)

    return run


CANDIDATES = (Function(),)
