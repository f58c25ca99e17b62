"""The config that a plan recommends: which batch sizes pay, and whether to coalesce."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from serve_app.config.args import ModelArgs

PAYS = 0.9
"""A larger batch pays where it takes at most this share of the time per row of the best smaller one."""
DEFAULT_BUDGET_S = ModelArgs.model_fields["plan_budget_s"].default
COPIED = (
    "source_args", "custom_objects", "safe_mode", "signature_name", "precision", "tf32", "tolerance",
    "allowed_lengths", "padding_value", "candidates",
)  # fmt: skip
"""What is passed on from the command line where it is not the default."""


def stanza(args: ModelArgs, report: Mapping[str, Any]) -> str:
    """Return the YAML of one application, a list item that fits under `applications:`."""
    sizes = paying_sizes(per_row_ms(report)) or [1]
    given = args.model_dump(exclude_defaults=True, mode="json")
    settings = {
        "name": args.name,
        "source": args.source,
        **{key: given[key] for key in COPIED if key in given},
        **({"device": "gpu"} if args.device == "gpu" else {}),
        **({"plan_budget_s": args.plan_budget_s} if args.plan_budget_s > DEFAULT_BUDGET_S else {}),
        "allowed_batch_sizes": sizes,
        "coalesce": "continuous" if len(sizes) > 1 else "off",
    }
    application = {
        "name": args.name,
        "import_path": "serve_app:model_app",
        "route_prefix": f"/v2/models/{args.name}",
        "args": settings,
    }
    text: str = yaml.safe_dump([application], sort_keys=False, default_flow_style=None, width=110)
    return text


def per_row_ms(report: Mapping[str, Any]) -> dict[int, float]:
    """Return the chosen candidate's time per row, by batch size; with lengths, the longest counts."""
    times: dict[int, float] = {}
    for key, name in report["chosen"].items():
        size = int(key.partition("x")[0])
        row = next(row for row in report["candidates"][key] if row["name"] == name)
        if row["p50_ms"] is not None:
            times[size] = max(times.get(size, 0.0), row["p50_ms"] / size)
    return times


def paying_sizes(times: Mapping[int, float]) -> list[int]:
    """Return the batch sizes up to the last that pays; smaller ones stay, so that little is padded."""
    sizes = sorted(times)
    last = 0
    best = float("inf")
    for index, size in enumerate(sizes):
        if times[size] <= PAYS * best or index == 0:
            last, best = index, times[size]
    return sizes[: last + 1]
