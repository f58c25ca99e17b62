"""`solo plan MODEL`: the measurement that a replica makes at load, from a terminal, for any model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from deployments.errors import ConfigError, SoloError
from serve_app.config.args import ModelArgs
from serve_app.config.composing import key_value
from serve_app.config.naming import suggested_name

Sizes = Annotated[str | None, typer.Option(metavar="1,2,4", help="Batch sizes to plan for; default 1 to 32.")]
Budget = Annotated[float, typer.Option(help="Seconds for building, verifying and timing.")]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="An argument of a module:function factory, e.g. weights=null."),
]


def plan(
    model: Annotated[str, typer.Argument(help="A .keras or .h5 file, a SavedModel folder, or module:function.")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what GET …/plan answers.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the latencies (.png, .svg, .pdf).")] = None,
    batch_sizes: Sizes = None,
    precision: Annotated[str, typer.Option(help="float32, mixed_float16, mixed_bfloat16 or auto.")] = "float32",
    tf32: Annotated[bool, typer.Option("--tf32", help="Let GPUs round float32 products to TF32.")] = False,
    tolerance: Annotated[float | None, typer.Option(help="Largest error allowed; default: the precision's.")] = None,
    budget: Budget = 30.0,
    candidates: Annotated[
        str | None, typer.Option(metavar="session,litert", help="Try these ways only; default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, gpu or cpu.")] = "auto",
    arg: Arguments = None,
    custom_objects: Annotated[str | None, typer.Option(help="A module that registers custom layers.")] = None,
    safe_mode: Annotated[bool, typer.Option(help="Refuse models that carry code of their own.")] = True,
    signature_name: Annotated[str, typer.Option(help="Which signature of a SavedModel.")] = "serving_default",
    lengths: Annotated[
        str | None, typer.Option(metavar="16,64", help="Lengths that dynamic inner axes are padded to.")
    ] = None,
    padding_value: Annotated[float, typer.Option(help="What they are padded with.")] = 0.0,
    samples: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows that the model takes: .npz, .npy, .json or .parquet.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A plan cache to read and fill; default: measure afresh.")
    ] = None,
) -> None:
    """Measure how a model's predictions run fastest here, and print the config for it."""
    raw: dict[str, Any] = {
        "name": suggested_name(model),
        "source": model,
        "precision": precision,
        "tf32": tf32,
        "tolerance": tolerance,
        "plan_budget_s": budget,
        "device": device,
        "custom_objects": custom_objects,
        "safe_mode": safe_mode,
        "signature_name": signature_name,
        "padding_value": padding_value,
        "samples": samples,
        "plan_cache": cache,
    }
    try:
        raw["source_args"] = dict(key_value("--arg", text) for text in arg or [])
        raw |= {"allowed_batch_sizes": _sizes("--batch-sizes", batch_sizes)} if batch_sizes else {}
        raw |= {"candidates": candidates.split(",")} if candidates else {}
        raw |= {"allowed_lengths": _sizes("--lengths", lengths)} if lengths else {}
        _plan(raw, json, plot)
    except SoloError as error:
        typer.secho(f"solo plan: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


def _plan(raw: dict[str, Any], json: Path | None, plot: Path | None) -> None:
    from serve_app.cli.plan import run, table
    from serve_app.config import serve_yaml

    started_s = time.monotonic()
    args = ModelArgs.parse(raw, "model")
    serve_yaml.check_source(args, "model")
    _check_writable([path for path in (json, plot) if path is not None])
    report = run.measure(args)
    table.show(args, report)
    print(f"planned in {report['seconds']:.0f} s, {time.monotonic() - started_s:.0f} s with loading")
    if json is not None:
        json.write_bytes(orjson.dumps(report, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
        print(f"wrote {json}")
    if plot is not None:
        from serve_app.cli.plan import plot as plan_plot

        plan_plot.draw(args, report, plot)
        print(f"wrote {plot}")


def _sizes(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option}: expected whole numbers separated by commas, got '{text}'") from None


def _check_writable(paths: Sequence[Path]) -> None:
    """Raise now rather than after half a minute of measuring."""
    for path in paths:
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"cannot write {path}: no folder '{path.parent}'")
        if path.is_dir():
            raise ConfigError(f"cannot write {path}: it is a folder")
