"""Making the functions, trying them on samples before the first request, and joining them to the model."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from deployments.coalescing import CoalesceOptions
from deployments.errors import LoadError, SoloError
from deployments.processing.after import After, make_after
from deployments.processing.around import Around, Inner
from deployments.processing.before import Before
from deployments.processing.columns import Column
from deployments.processing.options import ProcessingOptions
from deployments.processing.processes import BeforeProcess
from deployments.processing.results import WrongResult
from deployments.processing.stage import Run, Stage
from deployments.tensors import STRING, Array, Arrays, Signature

T = TypeVar("T")
RunModel = Callable[[Arrays], Arrays]
_WORDS = {"text": (b"a short text", b"another one"), "json": (b"{}", b"{}")}


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of one model, tried, and the signature that clients see."""

    signature: Signature
    before: Before | None
    after: After | None
    runs_before: tuple[Run, ...] = ()
    """Where `before` runs: once for each process, or once in this one."""

    def join(self, inner: Inner, options: CoalesceOptions, inline_bound_ms: float) -> Around:
        """Return the model with its functions around it."""
        before = Stage(self.runs_before, options, inline_bound_ms) if self.runs_before else None
        after = None if self.after is None else Stage([self.after.run], options, inline_bound_ms)
        return Around(inner, before, after, self.after is not None and self.after.needs_request)


def make_functions(
    options: ProcessingOptions,
    model: Signature,
    *,
    run_model: RunModel,
    model_sample: Arrays,
    samples: Arrays | None = None,
    prepared: Before | None = None,
    limit_s: float = 60.0,
) -> Functions:
    """Find the functions, and run them on samples as far as there are any.

    `model_sample` are rows that the model takes, empty where none are known; `samples` rows as clients send them;
    `prepared` is the `before`, made already. Raises `LoadError` for a function that does not exist, takes
    or returns what cannot be, or does not return within `limit_s` seconds.
    """
    inputs = tuple(spec.opened() for spec in model.inputs) if prepared is None else prepared.inputs
    columns = [Column(spec) for spec in inputs] if prepared is None else list(prepared.columns.values())
    asked, made = _tried(prepared, columns, samples, model_sample, limit_s)
    after = None
    outputs = tuple(spec.opened() for spec in model.outputs)
    if options.after is not None:
        after = within(limit_s, "after", functools.partial(make_after, options.after, outputs, columns))
        after = _tried_after(after, run_model, asked, made, limit_s)
        outputs = after.returns
    runs: tuple[Run, ...] = () if prepared is None else (prepared.run,)
    if options.before is not None and options.before_processes:
        processes = [BeforeProcess(options.before, model.inputs, limit_s) for _ in range(options.before_processes)]
        for process in processes:
            process.start()
        runs = tuple(process.run for process in processes)
    return Functions(Signature(inputs, outputs), prepared, after, runs)


def _tried(
    before: Before | None, columns: Sequence[Column], samples: Arrays | None, model_sample: Arrays, limit_s: float
) -> tuple[Arrays | None, Arrays | None]:
    """Return rows as clients send them, and the model's inputs for them; None where no rows are known that pass."""
    if before is None:
        rows = _two(model_sample) if model_sample else None
        return rows, rows
    for rows in [_two(samples)] if samples is not None else _guesses(columns):
        try:
            made = within(limit_s, before.function.owner, functools.partial(before.run, rows, 2))
        except (WrongResult, LoadError) as error:
            raise LoadError(str(error)) from error
        except SoloError as error:
            if samples is not None:
                raise LoadError(f"{before.function.owner} refuses the samples: {error}") from error
            continue
        if all(array.dtype != object or spec.dtype == STRING for array, spec in zip(made, before.returns, strict=True)):
            return rows, made
    return None, _two(model_sample) if model_sample else None


def _tried_after(after: After, run_model: RunModel, asked: Arrays | None, made: Arrays | None, limit_s: float) -> After:
    """Return `after` with what it returns, tried on an answer of the model."""
    owner = after.function.owner
    if made is None or (after.needs_request and asked is None):
        if not after.returns:
            raise LoadError(
                f"{owner}: what it returns is not known, and there are no samples to try it on: list it in outputs, "
                "annotate what it returns (list[str], list[dict]), or give samples"
            )
        return after
    arrays = (*run_model(made), *(asked or ())) if after.needs_request else run_model(made)
    try:
        if not after.returns:
            after = replace(after, returns=within(limit_s, owner, functools.partial(after.found, arrays, 2)))
        within(limit_s, owner, functools.partial(after.run, arrays, 2))
    except SoloError as error:
        raise LoadError(f"{owner}, tried on an answer of the model: {error}") from error
    return after


def _guesses(columns: Sequence[Column]) -> Iterator[Arrays]:
    """Yield rows that such inputs may hold: what a function refuses of these, it may refuse rightly."""
    yield tuple(_guess(column) for column in columns)


def _guess(column: Column) -> Array:
    spec = column.spec
    shape = [2, *(8 if axis is None else axis for axis in spec.row_shape)]
    if spec.dtype == STRING:
        words: Array = np.array(_WORDS.get(column.form, (b"", b"")), dtype=object)
        return np.array(np.broadcast_to(words.reshape(2, *[1] * (len(shape) - 1)), shape))
    random = np.random.default_rng(0)
    if spec.dtype.kind in "iu":
        return np.asarray(random.integers(0, 2, shape), spec.dtype)
    return np.asarray(random.random(shape), spec.dtype)


def _two(arrays: Arrays) -> Arrays:
    """Return two rows: enough to see whether a function keeps them apart."""
    return tuple(np.take(array, np.arange(2) % len(array), axis=0) for array in arrays)


def within(limit_s: float, owner: str, call: Callable[[], T]) -> T:
    """Return what `call` returns; raise `LoadError` where that takes too long. Its thread is left to itself then."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=run, name=owner, daemon=True)
    thread.start()
    thread.join(limit_s)
    if not outcome:
        raise LoadError(f"{owner} did not return within {limit_s:.0f} s")
    is_well, value = outcome[0]
    if not is_well:
        raise value
    result: T = value
    return result
