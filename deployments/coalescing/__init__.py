"""Who runs with whom, and when: `make_coalescer(executor, options)`.

`switching` is the whole; `continuous` (also `off`) and `window` form batches; `waiting` is the queue, `splitting`
sizes batches by the plan's times, `admission` refuses early, `running` runs batches and isolates failures.
"""

from deployments.coalescing.counters import Counters
from deployments.coalescing.options import CoalesceOptions, Mode
from deployments.coalescing.switching import SwitchingCoalescer
from deployments.coalescing.window import ServeBatch
from deployments.execution import Executor

__all__ = ["CoalesceOptions", "Counters", "Mode", "ServeBatch", "SwitchingCoalescer", "make_coalescer"]


def make_coalescer(
    executor: Executor, options: CoalesceOptions, serve_batch: ServeBatch | None = None
) -> SwitchingCoalescer:
    """Return the coalescer of `executor`; mode `window` needs `serve_batch=ray.serve.batch`.

    Raises `ConfigError` for options that the executor or the place cannot honour.
    """
    return SwitchingCoalescer(executor, options, serve_batch)
