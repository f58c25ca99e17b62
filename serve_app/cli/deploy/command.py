"""The command `solo deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.errors import SoloError


def deploy(
    config: Annotated[Path, typer.Argument(help="The changed serve config (YAML).")] = Path("serve_config.yaml"),
    port: Annotated[int | None, typer.Option(help="HTTP port of the server, where several run here.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster that no `solo serve` of this machine started: HOST:PORT, or auto.")
    ] = None,
) -> None:
    """Apply a changed config to the running server; what did not change goes on answering untouched."""
    from serve_app.cli.deploy import run

    try:
        run.deploy(config, port, address)
    except SoloError as error:
        typer.secho(f"solo deploy: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
