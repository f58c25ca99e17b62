"""The command `solo serve`: a config, or models or a folder of them, which it makes a config of."""

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
        metavar="[CONFIG | MODEL… | FOLDER]",
        help="A serve config (YAML); or models: a .keras or .h5 file, a SavedModel folder, module:function, a URI; "
        "name=source names one; or a folder of models. Default: serve_config.yaml.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the models' args, e.g. labels=labels.txt."),
]
FOR_MODELS = "Models given here"
OF_FOLDERS = "A folder of models"


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
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Follow the folder: short for --model-control poll.", rich_help_panel=OF_FOLDERS),
    ] = False,
    model_control: Annotated[
        str | None, typer.Option(help="none, poll or explicit: load and unload by clients.", rich_help_panel=OF_FOLDERS)
    ] = None,
    poll: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How often to look at it.", rich_help_panel=OF_FOLDERS)
    ] = None,
    admin_token_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variable with the token that may load.", rich_help_panel=OF_FOLDERS),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the serve config and end.", rich_help_panel=FOR_MODELS),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End where any model cannot be served, instead of serving the others.")
    ] = False,
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
        gateway = _gateway(watch, model_control, poll, admin_token_env)
        make = _maker(targets or [], told, deployment, gateway, strict=strict or write is not None)
        if write is not None:
            _write(make, Options(host, port, address, dashboard, grpc_port), write)
        else:
            raise typer.Exit(run.serve(make, Options(host, port, address, dashboard, grpc_port, strict)))
    except SoloError as error:
        typer.secho(f"solo serve: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


def _settings(texts: Sequence[str] | None) -> dict[str, Any]:
    from serve_app.config.composing import key_value

    return dict(key_value("--set", text) for text in texts or [])


def _gateway(watch: bool, control: str | None, poll_s: float | None, token_env: str | None) -> dict[str, Any]:
    """Return the gateway's args that say how a folder is followed."""
    if watch and control not in (None, "poll"):
        raise ConfigError(f"--watch is --model-control poll; expected no --model-control {control} beside it")
    said = {"model_control": "poll" if watch else control, "model_poll_s": poll_s, "admin_token_env": token_env}
    return {key: value for key, value in said.items() if value is not None}


def _maker(
    words: Sequence[str], args: dict[str, Any], deployment: dict[str, Any], gateway: dict[str, Any], *, strict: bool
) -> Callable[[], Any]:
    """Return what makes the config of the command's words, to be called once Ray's environment is set."""
    from serve_app.cli.serve import folders
    from serve_app.cli.serve.say import say
    from serve_app.config import composing, serve_yaml

    if not words or is_config(words):
        path = Path(words[0] if words else DEFAULT_CONFIG)
        if args or deployment or gateway:
            raise ConfigError(f"{path}: --device, --set and the like are for models; a config says them itself")
        if not words:
            if not path.is_file():
                raise ConfigError(f"no {path} here; expected a config or models, e.g. `solo serve model.keras`")
            say(f"serving the config {path}")
        return lambda: serve_yaml.read(path, strict=strict)
    common = composing.Common(args, deployment)
    if folders.is_folder(words):
        return lambda: folders.config_of(words[0], common, gateway, say)
    if gateway:
        raise ConfigError(f"--watch, --model-control and the like are for a folder of models, got {words[0]}")
    return lambda: serve_yaml.check(composing.from_sources(words, common, strict=strict), strict=strict)


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
