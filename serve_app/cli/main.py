"""The command `solo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.errors import SoloError
from serve_app.cli.bench import bench
from serve_app.cli.doctor.command import doctor
from serve_app.cli.plan.command import plan
from serve_app.cli.size.command import size

app = typer.Typer(
    name="solo",
    help="Keras models on GPUs, one prediction at a time, as fast as the machine allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main() -> None:
    """Make typer list commands even while there is one."""


@app.command()
def serve(
    config: Annotated[Path, typer.Argument(help="The serve config (YAML).")] = Path("serve_config.yaml"),
    host: Annotated[str | None, typer.Option(help="Address to listen on, over the config's.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port, over the config's.")] = None,
    address: Annotated[str, typer.Option(help="Ray cluster: 'local' for one of its own, 'auto' to join.")] = "local",
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard, which `serve deploy` talks to.")] = True,
) -> None:
    """Serve a config in the foreground behind HAProxy; Ctrl-C ends every process."""
    from serve_app.cli.serve import run
    from serve_app.cluster import options

    try:
        run.serve(config, options.Options(host, port, address, dashboard))
    except SoloError as error:
        typer.secho(f"solo serve: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


@app.command()
def environment(
    folder: Annotated[Path | None, typer.Option(help="For HAProxy's files; default ~/.cache/keras-solo/node.")] = None,
) -> None:
    """Print what every node of a cluster needs before `ray start`, for the shell's eval."""
    from serve_app.front import node

    typer.echo(node.shell(folder))


app.command()(plan)
app.command()(bench)
app.command()(doctor)
app.command()(size)
