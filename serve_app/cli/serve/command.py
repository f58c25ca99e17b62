"""The command `solo serve`: a config, or models, which it makes a config of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.errors import ConfigError, SoloError

DEFAULT_CONFIG = "serve_config.yaml"
CONFIG_SUFFIXES = frozenset({".yaml", ".yml", ".json"})

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG | MODEL…]",
        help="A serve config (YAML), or models: a .keras or .h5 file, a SavedModel folder, module:function, a URI; "
        "name=source names one. Default: serve_config.yaml.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the models' args, e.g. labels=labels.txt."),
]
FOR_MODELS = "Models given here"


def serve(
    targets: Targets = None,
    device: Annotated[str | None, typer.Option(help="auto, gpu or cpu.", rich_help_panel=FOR_MODELS)] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, mixed_float16 or mixed_bfloat16.", rich_help_panel=FOR_MODELS),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Replicas of each model.", rich_help_panel=FOR_MODELS)
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of a GPU that a replica reserves.", rich_help_panel=FOR_MODELS),
    ] = None,
    max_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Largest batch.", rich_help_panel=FOR_MODELS)
    ] = None,
    settings: Set = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the serve config and end.", rich_help_panel=FOR_MODELS),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, over the config's.")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port, over the config's.")] = None,
    grpc_port: Annotated[int | None, typer.Option(min=0, help="gRPC port, over the config's; 0: no gRPC.")] = None,
    address: Annotated[str, typer.Option(help="Ray cluster: 'local' for one of its own, 'auto' to join.")] = "local",
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard, which `serve deploy` talks to.")] = True,
) -> None:
    """Serve models, or a config, in the foreground behind HAProxy; Ctrl-C ends every process."""
    from serve_app.cli.serve import run
    from serve_app.cluster.options import Options

    args = {"device": device, "precision": precision, "max_batch_size": max_batch_size}
    deployment: dict[str, Any] = {}
    if replicas is not None:
        deployment["num_replicas"] = replicas
    if num_gpus is not None:
        deployment["ray_actor_options"] = {"num_gpus": num_gpus}
    try:
        told = {key: value for key, value in args.items() if value is not None} | _settings(settings)
        make = _maker(targets or [], told, deployment)
        if write is not None:
            _write(make, Options(host, port, address, dashboard, grpc_port), write)
        else:
            run.serve(make, Options(host, port, address, dashboard, grpc_port))
    except SoloError as error:
        typer.secho(f"solo serve: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


def _settings(texts: Sequence[str] | None) -> dict[str, Any]:
    from serve_app.config.composing import key_value

    return dict(key_value("--set", text) for text in texts or [])


def _maker(words: Sequence[str], args: dict[str, Any], deployment: dict[str, Any]) -> Callable[[], Any]:
    """Return what makes the config of the command's words, to be called once Ray's environment is set."""
    from serve_app.cli.serve.say import say
    from serve_app.config import composing, serve_yaml

    if not words or is_config(words):
        path = Path(words[0] if words else DEFAULT_CONFIG)
        if args or deployment:
            raise ConfigError(f"{path}: --device, --set and the like are for models; a config says them itself")
        if not words:
            if not path.is_file():
                raise ConfigError(f"no {path} here; expected a config or models, e.g. `solo serve model.keras`")
            say(f"serving the config {path}")
        return lambda: serve_yaml.read(path)
    common = composing.Common(args, deployment)
    return lambda: serve_yaml.check(composing.from_sources(words, common))


def is_config(words: Sequence[str]) -> bool:
    """Return whether the words name one config: a YAML file, or a file that looks like no model."""
    if len(words) != 1:
        return False
    path = Path(words[0])
    return path.suffix in CONFIG_SUFFIXES or (path.is_file() and not path.suffix)


def _write(make: Callable[[], Any], options: Any, path: Path) -> None:
    from serve_app.cli.serve.run import with_address
    from serve_app.config import writing

    raw = with_address(make().raw, options)
    grpc = dict(raw["grpc_options"])
    if options.grpc_port is not None:
        grpc["port"] = options.grpc_port
    writing.write({**raw, "grpc_options": grpc}, path)
    typer.echo(f"wrote {path}; serve it with: solo serve {path}")
