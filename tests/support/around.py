"""A model of numpy with users' functions around it, without Ray, TensorFlow or a plan."""

from __future__ import annotations

from typing import Any

import numpy as np

from deployments.coalescing import CoalesceOptions, make_coalescer
from deployments.processing.around import Around, Inner
from deployments.processing.before import make_before
from deployments.processing.options import FunctionOptions, ProcessingOptions
from deployments.processing.starting import Functions, make_functions
from deployments.servable import Servable
from deployments.tensors import Arrays, Signature, TensorSpec

OPTIONS = CoalesceOptions(max_batch_size=8)
WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, -1]], np.float32)
MODEL = Signature(
    (TensorSpec("x", np.dtype(np.float32), (None, 4)),), (TensorSpec("scores", np.dtype(np.float32), (None, 3)),)
)
OPEN = Signature(
    (TensorSpec("x", np.dtype(np.float32), (None, None)),), (TensorSpec("scores", np.dtype(np.float32), (None, 3)),)
)


class NumpyExecutor:
    """`scores = x @ WEIGHTS`, with as many places as WEIGHTS has rows; `answer(x)` where they are open."""

    batch_sizes = (1, 2, 4, 8)
    runs_on_host = True

    def __init__(self, is_open: bool = False) -> None:
        self.is_open = is_open
        self.shapes: list[tuple[int, ...]] = []

    def run(self, arrays: Arrays, count: int) -> Arrays:
        (x,) = arrays
        assert len(x) == count
        self.shapes.append(x.shape)
        return (answer(x),) if self.is_open else (x @ WEIGHTS,)

    def expected_s(self, count: int) -> float:
        return 1e-4 + count * 1e-6

    def is_inline(self, count: int) -> bool:
        return True


def answer(x: np.ndarray) -> np.ndarray:
    """Return what the open model answers: each row's sum, length and last place."""
    return np.stack([x.sum(axis=1), np.full(len(x), x.shape[1]), x[:, -1]], axis=1).astype(np.float32)


def function(name: str, *tensors: TensorSpec, per_row: bool | None = None, **arguments: Any) -> FunctionOptions:
    return FunctionOptions(f"tests.support.functions:{name}", arguments, per_row, tensors)


def functions(
    before: FunctionOptions | None = None,
    after: FunctionOptions | None = None,
    model: Signature = MODEL,
    processes: int = 0,
    limit_s: float = 10.0,
    samples: Arrays | None = None,
) -> Functions:
    return make_functions(
        ProcessingOptions(before, after, processes),
        model,
        run_model=lambda arrays: NumpyExecutor(model is OPEN).run(arrays, len(arrays[0])),
        model_sample=(np.ones((1, 4), np.float32),),
        samples=samples,
        prepared=None if before is None else make_before(before, model.inputs),
        limit_s=limit_s,
    )


def around(made: Functions, model: Signature = MODEL, options: CoalesceOptions = OPTIONS) -> Around:
    executor = NumpyExecutor(model is OPEN)
    return made.join(Inner(model, make_coalescer(executor, options)), options, inline_bound_ms=1.0)


def servable(made: Functions, model: Signature = MODEL, **options: Any) -> Servable:
    return Servable("around", "1", made.signature, around(made, model), 8, **options)
