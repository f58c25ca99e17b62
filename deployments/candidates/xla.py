"""The whole model compiled by XLA, one executable per bucket."""

from __future__ import annotations

from deployments.candidates._bucket import Bucket
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._subject import Subject
from deployments.candidates.function import calling


def fixed_shapes(subject: Subject, bucket: Bucket) -> tuple[tuple[int | None, ...], ...]:
    """Return the bucket's shapes; raises `Unfit` where one is open, since XLA compiles for fixed ones.

    Nor has XLA strings: a graph of ragged ones made it abort the process (TensorFlow 2.21).
    """
    if subject.signature.has_strings:
        raise Unfit("strings are not supported here")
    if not bucket.is_fixed(subject.signature):
        raise Unfit("needs fixed shapes: give allowed_lengths for the dynamic inner axes")
    return bucket.shapes(subject.signature)


class Xla:
    """`tf.function(jit_compile=True)`: MLP 0.3 ms, but MobileNetV2 9 times slower than the plain function."""

    name = "xla"
    order = 80
    family = "xla"
    keeps_variables = True

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner for this bucket alone; XLA compiles in its first call."""
        concrete = subject.concrete(fixed_shapes(subject, bucket), jit_compile=True)
        return Runner(calling(concrete, subject.device), is_open=False)


CANDIDATES = (Xla(),)
