"""The command `solo`."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.bench import bench
from serve_app.cli.deploy.command import deploy
from serve_app.cli.doctor.command import doctor
from serve_app.cli.plan.command import plan
from serve_app.cli.serve.command import serve
from serve_app.cli.size.command import size

app = typer.Typer(
    name="solo",
    help="Keras models on GPUs, one prediction at a time, as fast as the machine allows.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"keras-solo {metadata.version('keras-solo')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def environment(
    folder: Annotated[Path | None, typer.Option(help="For HAProxy's files; default ~/.cache/keras-solo/node.")] = None,
) -> None:
    """Print what every node of a cluster needs before `ray start`, for the shell's eval."""
    from serve_app.front import node

    typer.echo(node.shell(folder))


app.command()(serve)
app.command()(deploy)
app.command()(plan)
app.command()(bench)
app.command()(doctor)
app.command()(size)
