"""Reading a serve config and saying, before anything starts, what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployments.errors import ConfigError
from serve_app.config import paths, placement, traffic
from serve_app.config.args import ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.pipeline_args import PipelineArgs
from serve_app.config.sources import check_source

__all__ = ["ServeConfig", "check", "check_source", "read"]

MODEL_APP = "serve_app:model_app"
GATEWAY_APP = "serve_app:gateway_app"
PIPELINE_APP = "serve_app:pipeline_app"


Served = ModelArgs | PipelineArgs


@dataclass(frozen=True)
class ServeConfig:
    """A checked serve config."""

    raw: Mapping[str, Any]
    """The whole YAML, as Serve takes it."""
    models: tuple[ModelArgs, ...]
    pipelines: tuple[PipelineArgs, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    """Application to why its model's source can be none, where the others are to be served all the same."""

    def without(self, applications: Collection[str]) -> ServeConfig:
        """Return the config without these applications, by their names."""
        pairs = [(app, model) for app, model in self.pairs if app["name"] not in applications]
        left = [app for app in self.raw["applications"] if app.get("name") not in applications]
        pipelines = tuple(pipeline for app, pipeline in self._pipeline_pairs if app["name"] not in applications)
        return ServeConfig({**self.raw, "applications": left}, tuple(model for _, model in pairs), pipelines)

    @property
    def _pipeline_pairs(self) -> list[tuple[Mapping[str, Any], PipelineArgs]]:
        apps = [app for app in self.raw["applications"] if app.get("import_path") == PIPELINE_APP]
        return list(zip(apps, self.pipelines, strict=True))

    @property
    def answering(self) -> list[str]:
        """The names of the applications that answer as models: models and pipelines."""
        return [app["name"] for app, _ in (*self.pairs, *self._pipeline_pairs)]

    @property
    def served(self) -> list[Served]:
        """The models, then the pipelines."""
        return [*self.models, *self.pipelines]

    @property
    def pipeline_paths(self) -> list[str]:
        """Each pipeline's path."""
        pairs = self._pipeline_pairs
        return [paths.path_of(each.name, each.version, app.get("route_prefix", "/")) for app, each in pairs]

    @property
    def pairs(self) -> list[tuple[Mapping[str, Any], ModelArgs]]:
        """Each model's application with its checked arguments."""
        apps = [app for app in self.raw["applications"] if app.get("import_path") == MODEL_APP]
        return list(zip(apps, self.models, strict=True))

    @property
    def reserving(self) -> list[tuple[Mapping[str, Any], Served]]:
        """What reserves CPUs or GPUs: the models, and the pipelines that hold some themselves."""
        return [*self.pairs, *((app, pipeline) for app, pipeline in self._pipeline_pairs if pipeline.models)]

    @property
    def gateway_paths(self) -> list[str]:
        """The gateway's path, where there is one; empty for the root."""
        apps = [app for app in self.raw["applications"] if app.get("import_path") == GATEWAY_APP]
        return [str(app.get("route_prefix", "/")).rstrip("/") for app in apps]

    @property
    def paths(self) -> list[str]:
        """Each model's path: its own, or its version's where that is its application's prefix."""
        return [paths.path_of(model.name, model.version, app.get("route_prefix", "/")) for app, model in self.pairs]


def read(path: str | Path, *, strict: bool = True) -> ServeConfig:
    """Read and check a serve config; raise `ConfigError` naming the file, the key and what was expected."""
    raw = load(Path(path))
    try:
        return check(raw, strict=strict)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check(raw: Mapping[str, Any], *, strict: bool = True) -> ServeConfig:
    """Check every application's arguments, then names and prefixes across applications, then Serve's own schema.

    Unless `strict`, a source that can be no model is a problem of its model alone, as long as there is another.
    """
    models: list[ModelArgs] = []
    pipelines: list[PipelineArgs] = []
    problems: dict[str, str] = {}
    for where, app in _applications(raw):
        args = app.get("args") or {}
        if app.get("import_path") == GATEWAY_APP:
            GatewayArgs.parse(args, f"{where}.args").check_tokens(f"{where}.args")
        if app.get("import_path") == PIPELINE_APP:
            pipelines.append(_pipeline(app, args, [*models, *pipelines], where))
        if app.get("import_path") != MODEL_APP:
            continue
        model = ModelArgs.parse(args, f"{where}.args")
        model.check_tokens(f"{where}.args")
        check_route(model, app.get("route_prefix", "/"), f"{where}.route_prefix")
        check_unique(model, [*models, *pipelines], f"{where}.args")
        placement.check_options(app, model, where)
        try:
            check_source(model, f"{where}.args")
        except ConfigError as error:
            if strict:
                raise
            problems[app.get("name", where)] = str(error)
        models.append(model)
    _check_steps(models, pipelines)
    if problems and len(problems) == len(models):
        raise ConfigError("; ".join(problems.values()))
    _check_schema(raw)
    config = ServeConfig(raw, tuple(models), tuple(pipelines), problems)
    traffic.check_traffic(config.pairs, _applications(raw))
    return config


def _pipeline(app: Mapping[str, Any], args: Any, others: Iterable[Served], where: str) -> PipelineArgs:
    pipeline = PipelineArgs.parse(args, f"{where}.args")
    pipeline.check_tokens(f"{where}.args")
    check_route(pipeline, app.get("route_prefix", "/"), f"{where}.route_prefix")
    check_unique(pipeline, others, f"{where}.args")
    placement.check_options(app, pipeline, where)
    for index, model in enumerate(pipeline.models):
        check_source(model, f"{where}.args.models[{index}]")
    return pipeline


def _check_steps(models: Iterable[Served], pipelines: Iterable[PipelineArgs]) -> None:
    """Raise where a step names a model that is not declared beside it, or the pipeline itself."""
    applications = {model.name for model in (*models, *pipelines)}
    for pipeline in pipelines:
        declared = applications | {model.name for model in pipeline.models}
        for step in pipeline.steps:
            where = f"pipeline '{pipeline.name}', step '{step.name}'"
            if step.model == pipeline.name and step.model not in {model.name for model in pipeline.models}:
                raise ConfigError(f"{where}: expected another model than the pipeline itself")
            if step.model is not None and step.model not in declared:
                raise ConfigError(f"{where}: unknown model '{step.model}'; declared: {', '.join(sorted(declared))}")


def check_route(model: Served, prefix: str, where: str) -> None:
    """Raise unless `prefix` is where clients look: the model's path, its version's, or `/` for a single model."""
    path = paths.model_path(model.name)
    if prefix not in {path, paths.version_path(model.name, model.version), "/"}:
        raise ConfigError(
            f"{where}: expected '{path}', '{paths.version_path(model.name, model.version)}' beside other versions "
            f"(or '/' where this is the only application), got '{prefix}'"
        )


def check_unique(model: Served, others: Iterable[Served], where: str) -> None:
    """Raise where another application serves the same version of the same model."""
    if any((other.name, other.version) == (model.name, model.version) for other in others):
        raise ConfigError(
            f"{where}.name: model '{model.name}' version '{model.version}' is declared twice; expected unique names, "
            "or versions of their own"
        )


def load(path: Path) -> Mapping[str, Any]:
    """Return the YAML at `path`, a mapping, unchecked; raise `ConfigError`."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the serve config: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected a mapping with 'applications', got {type(raw).__name__}")
    return raw


def _applications(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    apps = raw.get("applications")
    if not isinstance(apps, list) or not apps:
        raise ConfigError("applications: expected a list with at least one application")
    for index, app in enumerate(apps):
        where = f"applications[{index}]"
        if not isinstance(app, Mapping):
            raise ConfigError(f"{where}: expected a mapping, got {type(app).__name__}")
        yield where, app


def _check_schema(raw: Mapping[str, Any]) -> None:
    """Let Serve's own schema judge the rest: http_options, deployments, duplicate names and prefixes."""
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        ServeDeploySchema.model_validate(raw)
    except ValidationError as error:
        details = error.errors()
        lines = [f"{'.'.join(map(str, d['loc'])) or 'config'}: {d['msg']}" for d in details]
        raise ConfigError("; ".join(lines)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
