"""What the Open Inference Protocol and Triton tell about a model: metadata, configuration, statistics.

Plain dictionaries, so that REST renders them as JSON and gRPC fills its messages from them.
"""

from __future__ import annotations

from typing import Any

from deployments.servable import Servable
from deployments.statistics import FUNCTIONS, Statistics, run_sizes
from deployments.tensors import Shape, TensorSpec
from serve_app.protocols.datatypes import datatype_of

PLATFORM = "tensorflow_keras"
"""`<project>_<format>`, as the protocol asks for."""


def metadata(servable: Servable) -> dict[str, Any]:
    """Return the model's metadata; shapes carry the batch axis, -1 for any size."""
    return {
        "name": servable.name,
        "versions": [servable.version],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in servable.signature.inputs],
        "outputs": [_tensor(spec) for spec in servable.signature.outputs],
    }


def config(servable: Servable) -> dict[str, Any]:
    """Return the model's configuration in the form of Triton's `ModelConfig`; `dims` are without the batch axis."""
    return {
        "name": servable.name,
        "platform": PLATFORM,
        "backend": "keras",
        "version_policy": {"specific": {"versions": [int(servable.version)]}} if servable.version.isdigit() else {},
        "max_batch_size": servable.max_batch_size,
        "input": [_config_tensor(spec) for spec in servable.signature.inputs],
        "output": [_config_tensor(spec) for spec in servable.signature.outputs],
        **_sequence_batching(servable),
        "parameters": {key: {"string_value": str(value)} for key, value in servable.description.items()},
    }


def statistics(servable: Servable) -> dict[str, Any]:
    """Return the model's statistics in Triton's form, counted since the replica was loaded.

    `compute_input` is reading, inflating and decoding the request, `compute_output` encoding the answer; times are
    summed over successful requests, batched rows' time once for every request that shared it. `fail_causes` and
    `replica`, whose counters these are, are additions of ours, as are `before` and `after`, the functions around it.
    Source: Triton's `docs/protocol/extension_statistics.md`.
    """
    totals, counters, cache = servable.statistics, servable.run_counters, servable.cache
    count = totals.success_count
    return {
        "name": servable.name,
        "version": servable.version,
        "last_inference": totals.last_inference_ms,
        "inference_count": totals.inference_count,
        "execution_count": count if counters is None else counters.batches,
        "inference_stats": {
            "success": _duration(count, totals.success_ns),
            "fail": _duration(totals.fail_count, totals.fail_ns),
            "queue": _duration(count, totals.queue_ns),
            "compute_input": _duration(count, totals.decode_ns),
            "compute_infer": _duration(count, totals.compute_ns + totals.batch_ns),
            "compute_output": _duration(count, totals.encode_ns),
            "cache_hit": _duration(0, 0) if cache is None else _duration(cache.hits, cache.hit_ns),
            "cache_miss": _duration(0, 0) if cache is None else _duration(cache.misses, cache.miss_ns),
            **_functions(totals),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(runs, 0),
                "compute_infer": _duration(runs, run_ns),
                "compute_output": _duration(runs, 0),
            }
            for size, (runs, run_ns) in run_sizes(counters).items()
        ],
        "fail_causes": dict(totals.fail_causes),
        "replica": servable.replica,
    }


def _sequence_batching(servable: Servable) -> dict[str, Any]:
    """Return what Triton's configuration says of a model that keeps states; nothing for others."""
    if servable.sequences is None:
        return {}
    return {"sequence_batching": {"max_sequence_idle_microseconds": int(servable.sequences.max_idle_s * 1e6)}}


def _functions(totals: Statistics) -> dict[str, Any]:
    """Return what the functions around the model took, where there are any."""
    return {
        stage: _duration(totals.success_count, getattr(totals, f"{stage}_ns"))
        for stage in FUNCTIONS
        if stage in totals.counts
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec).name, "shape": _dims(spec.shape)}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": datatype_of(spec).config_name, "dims": _dims(spec.row_shape)}


def _dims(shape: Shape) -> list[int]:
    return [-1 if axis is None else axis for axis in shape]


def _duration(count: int, total_ns: int) -> dict[str, int]:
    return {"count": count, "ns": total_ns}
