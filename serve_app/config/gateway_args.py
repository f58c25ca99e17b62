"""The arguments of `gateway_app`, as they stand under `args:` in a serve config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from deployments.errors import ConfigError
from serve_app.config.args import Args, SurfaceArgs
from serve_app.config.naming import Variable
from serve_app.config.tokens import TokenSource


class ModelDefaults(Args):
    """What a repository's models have in common, unless their own YAML says otherwise."""

    args: dict[str, Any] = Field(default_factory=dict)
    deployment: dict[str, Any] = Field(default_factory=dict)


class GatewayArgs(SurfaceArgs):
    """The gateway's arguments."""

    max_body_mb: Annotated[float, Field(gt=0)] = 64.0
    traffic: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = Field(default_factory=dict)
    strict_readiness: bool = True

    repository: str | None = None
    repository_options: dict[str, Any] = Field(default_factory=dict)
    model_defaults: ModelDefaults = ModelDefaults()
    model_control: Literal["none", "poll", "explicit"] = "none"
    model_poll_s: Annotated[float, Field(ge=0.1)] = 5.0
    model_load_limit_s: Annotated[float, Field(gt=0)] = 900.0
    admin_token_env: Variable | None = None
    admin_token_file: str | None = None

    @model_validator(mode="after")
    def _control(self) -> GatewayArgs:
        """Refuse to follow no folder, and to let whoever comes load models."""
        if self.model_control != "none" and self.repository is None:
            raise ValueError(f"repository: model_control {self.model_control} expects the folder to follow")
        if self.model_control == "explicit" and self.admin_token_env is None and self.admin_token_file is None:
            raise ValueError(
                "model_control explicit expects admin_token_env (or admin_token_file): who may load and unload models"
            )
        return self

    @property
    def admin_tokens(self) -> TokenSource:
        """Where the tokens are that load and unload models."""
        file = None if self.admin_token_file is None else str(Path(self.admin_token_file).expanduser().resolve())
        return TokenSource(self.admin_token_env, file, is_required=self.admin_token_env is not None)

    def check_tokens(self, where: str) -> None:
        """Raise `ConfigError` where the tokens, or the admin's, cannot be read here."""
        super().check_tokens(where)
        try:
            self.admin_tokens.read()
        except ConfigError as error:
            raise ConfigError(f"{where}.admin_{error}") from None

    @field_validator("traffic", mode="before")
    @classmethod
    def _traffic(cls, traffic: object) -> object:
        """Take versions that YAML reads as numbers, and refuse weights that leave nothing to choose."""
        if not isinstance(traffic, dict) or not all(isinstance(weights, dict) for weights in traffic.values()):
            raise ValueError("expected model: {version: weight}")
        for name, weights in traffic.items():
            if not any(isinstance(weight, int | float) and weight > 0 for weight in weights.values()):
                raise ValueError(f"expected a weight above 0 for '{name}'")
        return {name: {str(version): part for version, part in weights.items()} for name, weights in traffic.items()}
