"""`solo doctor`: what this machine has and lacks for serving, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from serve_app.cli.doctor import cuda, front, probes, requested, software, storage
from serve_app.cli.doctor.check import Check, can_serve

DEFAULT_CONFIG = Path("serve_config.yaml")
DEFAULT_CACHE = "~/.cache/keras-solo"
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "n/a": "dim"}


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="A serve config to check; default: serve_config.yaml, if it is here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check this machine and a config; exit status 1 if serving could not work."""
    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
    checks = examine(config)
    if json:
        answer = {"can_serve": can_serve(checks), "checks": [asdict(check) for check in checks]}
        typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        show(checks)
    raise typer.Exit(0 if can_serve(checks) else 1)


def examine(path: Path | None) -> list[Check]:
    """Return every check, for the serve config at `path` where there is one."""
    machine = probes.ask()
    config, config_checks = requested.read(path)
    if config is not None:
        config_checks += [requested.gpus(config, machine), requested.room(config, machine)]
    caches = {model.plan_cache for model in config.models} if config else {DEFAULT_CACHE}
    return [
        *software.checks(machine),
        *cuda.checks(machine),
        *front.checks(config.raw if config else {}),
        *storage.checks(sorted(cache for cache in caches if cache)),
        *config_checks,
    ]


def show(checks: Sequence[Check]) -> None:
    """Print the checks: a table on a terminal, one plain line each elsewhere."""
    if sys.stdout.isatty():
        _show_table(checks)
    else:
        for check in checks:
            advice = f"  -> {check.advice}" if check.advice else ""
            print(f"{check.status:<4}  {check.name}: {check.found}{advice}")
    print(_verdict(checks))


def _show_table(checks: Sequence[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    for check in checks:
        colour = COLOURS[check.status]
        table.add_row(Text(check.status, colour), check.name, Text(check.found), Text(check.advice, "dim"))
    Console().print(table)


def _verdict(checks: Sequence[Check]) -> str:
    fails = [check.name for check in checks if check.status == "fail"]
    warns = sum(check.status == "warn" for check in checks)
    if fails:
        return f"serving could not work: {', '.join(fails)}"
    return f"serving works{f', with {warns} warning(s)' if warns else ''}"
