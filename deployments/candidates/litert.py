"""LiteRT (TensorFlow Lite) with XNNPACK: the fastest on CPUs for small and mobile models."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deployments.candidates._bucket import Bucket, open_shapes
from deployments.candidates._frozen import nodes, refuse_mutation
from deployments.candidates._interface import Runner, Unfit
from deployments.candidates._subject import Subject
from deployments.candidates.xla import fixed_shapes
from deployments.tensors import Arrays, Shape

MOST_THREADS = 8
"""Beyond this, single predictions gain nothing and their neighbours lose cores."""


MOST_SAID = 64 * 1024
"""Characters of errors that an interpreter may keep; then it is made anew, in milliseconds."""


class Lite:
    """One interpreter per bucket over one converted model: MLP 3 us a call (2 cores, TF 2.21); CPU only."""

    family = "litert"
    keeps_variables = False

    def __init__(self, name: str, order: int, threads: int) -> None:
        self.name = name
        self.order = order
        self.threads = threads

    def build(self, subject: Subject, bucket: Bucket) -> Runner:
        """Return a runner over one interpreter; raises `Unfit` on GPUs, for strings, and where it has one thread."""
        if subject.is_gpu:
            raise Unfit("runs on CPUs only")
        if self.threads < 1:
            raise Unfit("one core: the same as 'litert'")
        shapes = fixed_shapes(subject, bucket)
        refuse_mutation(subject)
        content = _converted(subject, shapes)
        return Runner(_Running(lambda: _interpreter(content, self.threads, shapes)).run, is_open=False)


def _converted(subject: Subject, shapes: tuple[Shape, ...]) -> bytes:
    """Return the model as a flatbuffer, with open axes so that all buckets share it, or else for `shapes` alone.

    Lists of tensors, which loops (LSTM, GRU) collect their steps in, need the batch size at conversion.
    """
    opened = open_shapes(subject.signature)
    needs_shapes = any(node.op == "TensorListReserve" for node in nodes(subject.concrete(opened).graph.as_graph_def()))
    chosen = shapes if needs_shapes else opened
    return subject.shared(("litert", chosen), lambda: _convert(subject, chosen))


def _convert(subject: Subject, shapes: tuple[Shape, ...]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([subject.concrete(shapes)], subject.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def _interpreter(content: bytes, threads: int, shapes: tuple[Shape, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its deprecation in favour of the package ai-edge-litert, from TF 2.20 on
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
    for index, shape in zip(_input_indices(interpreter), shapes, strict=True):
        interpreter.resize_tensor_input(index, shape)
    interpreter.allocate_tensors()
    return interpreter


def _input_indices(interpreter: Any) -> list[int]:
    """Return the tensors' indices in the signature's order: `Subject` names its inputs `input_0`, and so on."""
    details = interpreter.get_input_details()
    return [int(detail["index"]) for detail in sorted(details, key=lambda detail: _position(detail["name"]))]


def _position(name: str) -> int:
    match = re.search(r"input_(\d+)", name)
    if match is None:
        raise Unfit(f"the converter renamed an input to '{name}'")
    return int(match.group(1))


class _Running:
    """Calls an interpreter's C++ wrapper: its Python methods cost 5 us around a 3 us call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._said = ""
        # An interpreter is one set of buffers, and Invoke releases the GIL.
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        # Kept: the wrapper reads the flatbuffer in place, and only the interpreter keeps that (TF 2.21).
        self._interpreter = interpreter = self._make()
        wrapper: Any = getattr(interpreter, "_interpreter", None)
        if not all(hasattr(wrapper, name) for name in ("SetTensor", "Invoke", "GetTensor")):
            raise Unfit("this LiteRT's interpreter has another inside")
        fetches = [int(detail["index"]) for detail in interpreter.get_output_details()]
        # Together: every attribute's lookup is a hundredth of a call.
        self._parts = _input_indices(interpreter), wrapper.SetTensor, wrapper.Invoke, wrapper.GetTensor, fetches

    def run(self, arrays: Arrays) -> Arrays:
        with self._lock:
            feeds, set_tensor, invoke, get_tensor, fetches = self._parts
            for index, array in zip(feeds, arrays, strict=True):
                set_tensor(index, array, 0)
            try:
                invoke(0)
            except RuntimeError as error:
                raise RuntimeError(self._fresh(str(error))) from None
            return tuple(get_tensor(index, 0) for index in fetches)

    def _fresh(self, text: str) -> str:
        """Return what this call met: the wrapper's reporter keeps what earlier ones, other clients', have met."""
        met = text.removeprefix(self._said).strip()
        self._said = text
        if len(text) > MOST_SAID:
            self._said = ""
            self._open()  # nothing empties the reporter, which every error makes longer
        return met


def all_cores() -> int:
    """Return how many threads a prediction may take; 0 where there is one core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS) if cores > 1 else 0


CANDIDATES = (
    Lite("litert", 14, threads=1),
    # Two cores halve a convolutional model: MobileNetV2 5.8 ms against 11.5 with one thread, 28 with tf.function.
    Lite("litert-threads", 16, threads=all_cores()),
)
