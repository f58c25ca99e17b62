"""Whether a candidate answers what the model answers."""

from __future__ import annotations

import numpy as np

from deployments.tensors import Array, Arrays, Signature

SMALLEST_SCALE = 1e-2
"""Outputs smaller than this are compared as if they were this large: float32 noise from inner activations
around 1 is 1e-7 to 1e-6 whatever the output's size."""


class Differs(Exception):
    """The outputs are not the reference's; the text says how."""

    def __init__(self, text: str, error: float | None = None) -> None:
        super().__init__(text)
        self.error = error


def largest_error(signature: Signature, got: Arrays, want: Arrays, tolerance: float) -> float:
    """Return the largest absolute error over all outputs.

    A float output's limit is `tolerance` times the largest absolute reference value in it (at least
    `SMALLEST_SCALE`); NaN and infinities must stand in the same places; integers, booleans and strings must
    be equal. Raises `Differs` beyond that, and for another number, shape or dtype of outputs.
    """
    if len(got) != len(want):
        raise Differs(f"{len(got)} outputs instead of {len(want)}")
    return max(
        _error(spec.name, np.asarray(one), np.asarray(other), tolerance)
        for spec, one, other in zip(signature.outputs, got, want, strict=True)
    )


def _error(name: str, got: Array, want: Array, tolerance: float) -> float:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise Differs(f"output '{name}' is {got.dtype} {got.shape} instead of {want.dtype} {want.shape}")
    if want.dtype.kind in "biuOSU":
        wrong = int(np.count_nonzero(got != want))
        if wrong:
            raise Differs(f"output '{name}' has {wrong} of {want.size} values wrong")
        return 0.0
    return _float_error(name, got.astype(np.float64), want.astype(np.float64), tolerance)


def _float_error(name: str, got: Array, want: Array, tolerance: float) -> float:
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        raise Differs(f"output '{name}' has NaN or infinity where the reference has not, or the reverse", float("inf"))
    if not finite.any():
        return 0.0
    error = float(np.abs(got[finite] - want[finite]).max())
    limit = tolerance * max(SMALLEST_SCALE, float(np.abs(want[finite]).max()))
    if error > limit:
        raise Differs(f"output '{name}' is off by {error:.2g}, more than {limit:.2g}", error)
    return error
