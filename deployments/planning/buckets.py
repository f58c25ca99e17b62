"""The shapes that a plan is made for."""

from __future__ import annotations

from deployments.candidates._bucket import Bucket
from deployments.errors import LoadError
from deployments.planning.options import PlanOptions
from deployments.tensors import Signature


def buckets(signature: Signature, options: PlanOptions) -> tuple[Bucket, ...]:
    """Return what a plan has to cover, smallest first.

    Raises `LoadError` for batch sizes that are not ascending positive integers. A model whose batch axis is fixed
    has that size alone.
    """
    sizes = options.allowed_batch_sizes
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        raise LoadError(f"allowed_batch_sizes: expected ascending sizes of at least 1, got {list(sizes)}")
    # A batch axis that is fixed at N takes N rows alone: fewer are padded, more are cut into several runs.
    sizes = tuple(sorted({spec.shape[0] for spec in signature.inputs if spec.shape[0] is not None})) or sizes
    lengths: tuple[int | None, ...] = (None,) if signature.is_static else (options.allowed_lengths or (None,))
    return tuple(Bucket(size, length) for length in lengths for size in sizes)
