"""The stages of a request as OpenTelemetry spans, below the span that Serve opens for the request.

Off unless Serve's own tracing is on (`tracing_config:` in the serve config), and then only for sampled requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from deployments.statistics import STAGES, Stages

WAY = ("decode", "before", "queue", "batch", "compute", "after", "encode")
"""The stages of a model with functions around it, in the order of time."""
Recorder = Callable[[Stages, int], None]


def recorder() -> Recorder | None:
    """Return what turns one request's stages and its batch's rows into spans; None where tracing is off."""
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
    except ImportError:
        return None
    # Serve sets this provider before it builds the app, where tracing is on (ray 2.60).
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        return None
    tracer = trace.get_tracer("keras-solo")

    def record(stages: Stages, batch_rows: int) -> None:
        if not trace.get_current_span().is_recording():
            return
        # The stages were measured on the monotonic clock, spans are on the wall's.
        at_ns = time.time_ns() - stages.total_ns
        for stage in WAY if stages.before_ns or stages.after_ns else STAGES:
            span = tracer.start_span(f"solo.{stage}", start_time=at_ns, attributes={"solo.batch_rows": batch_rows})
            at_ns += getattr(stages, f"{stage}_ns")
            span.end(end_time=at_ns)

    return record
