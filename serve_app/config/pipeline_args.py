"""The arguments of `pipeline_app`: steps in a row, each a model or a function, and how they are wired."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serve_app.config.args import ModelArgs, SurfaceArgs
from serve_app.config.functions import ADDRESS, Tensor
from serve_app.config.naming import Version

_NAME = r"^[A-Za-z0-9_-]{1,64}$"
_PIPELINES = (
    *SurfaceArgs.model_fields, "labels", "max_body_mb", "metrics", "preprocess", "sequences", "server_timing",
)  # fmt: skip
"""Keys of a model that say how clients meet it, or what it remembers of them: within a pipeline, nobody does."""
_PROCESSES = ("device", "gpu_memory_mb", "tf32")
"""Keys of a model that hold for its whole process."""


class Step(BaseModel):
    """One step. A source of an input is one of the pipeline's own inputs, `step.output`, or `step` for its sole one."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    name: Annotated[str, Field(pattern=_NAME)]
    model: str | None = None
    version: Version | None = None
    function: Annotated[str, Field(pattern=ADDRESS)] | None = None
    args: dict[str, Any] = {}
    per_row: bool | None = None
    inputs: dict[str, str] | None = None
    """Input of the model, or parameter of the function, to its source; None: by name, of the step before."""
    outputs: tuple[Tensor, ...] = ()
    """What a function returns, where that is not annotated."""
    for_each: tuple[str, ...] = ()
    """Inputs that hold several items a row, `[batch, items, …]`: the step runs once for each item."""
    condition: Annotated[str | None, Field(alias="if")] = None
    """A source of one truth a row: the step runs for the rows where it holds."""
    otherwise: float | str = 0
    """What the step's outputs are filled with in the other rows; strings with its text, 0 being the empty one."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        """Call a step that has no name like its model or function."""
        if not isinstance(raw, dict) or "name" in raw:
            return raw
        said = raw.get("model") or str(raw.get("function", "")).rpartition(":")[2]
        return {**raw, "name": re.sub(r"[^A-Za-z0-9_-]", "_", said)} if isinstance(said, str) and said else raw

    @field_validator("for_each", mode="before")
    @classmethod
    def _one(cls, raw: Any) -> Any:
        return (raw,) if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _kind(self) -> Step:
        if (self.model is None) == (self.function is None):
            raise ValueError("expected either 'model' or 'function'")
        for key in ("args", "per_row", "outputs"):
            if self.model is not None and getattr(self, key) not in ({}, None, ()):
                raise ValueError(f"{key}: expected for a function alone")
        for name in self.for_each:
            if self.inputs is not None and name not in self.inputs:
                raise ValueError(f"for_each: expected names of this step's inputs, got '{name}'")
        return self


class PipelineArgs(SurfaceArgs):
    """What one pipeline is and how it is served."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
    version: Version = "1"
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    models: tuple[ModelArgs, ...] = ()
    """The pipeline's own, in its process: no hop from step to step, and nobody else can ask them."""
    inputs: tuple[Tensor, ...] = ()
    """What clients send, where the steps do not say."""
    outputs: dict[str, str] | None = None
    """Output to its source; None: all of the last step's."""
    labels: tuple[str, ...] = ()
    max_batch_size: Annotated[int, Field(ge=1)] = 64
    max_body_mb: Annotated[float, Field(gt=0)] = 64.0
    server_timing: bool = True
    metrics: bool = True

    @model_validator(mode="after")
    def _steps(self) -> PipelineArgs:
        names = [step.name for step in self.steps]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"steps: two are called '{twice}'; expected a name of its own for each")
        return self

    @model_validator(mode="after")
    def _own_models(self) -> PipelineArgs:
        used = {step.model: step for step in self.steps if step.model is not None}
        for index, model in enumerate(self.models):
            where = f"models.{index}"
            if any(other.name == model.name for other in self.models[:index]):
                raise ValueError(f"{where}.name: expected another than '{model.name}', which is taken")
            if model.name not in used:
                raise ValueError(f"{where}.name: expected a step that uses '{model.name}'")
            if used[model.name].version is not None:
                raise ValueError(f"steps: expected no version of '{model.name}', which is the pipeline's own")
            if wrong := [key for key in _PIPELINES if key in model.model_fields_set]:
                raise ValueError(f"{where}.{wrong[0]}: expected none here, where only the pipeline asks the model")
            for key in _PROCESSES:
                if getattr(model, key) != getattr(self.models[0], key):
                    raise ValueError(f"{where}.{key}: expected the same for all models of the pipeline's process")
        return self

    @property
    def device(self) -> Literal["auto", "gpu", "cpu"]:
        """What the process runs on: a pipeline without models of its own needs no GPU."""
        return self.models[0].device if self.models else "cpu"

    @property
    def num_cpus(self) -> float:
        """How many CPUs the process reserves: it runs one model at a time on its event loop."""
        return max((model.num_cpus for model in self.models), default=0.0)

    @property
    def label(self) -> str:
        """The name, with the version where that is not the first."""
        return self.name if self.version == "1" else f"{self.name} version {self.version}"
