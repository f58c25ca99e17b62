"""`before`, `after`, `inputs` and `outputs` of a model's arguments: the functions around it and what clients see."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from deployments.processing.options import FunctionOptions
from deployments.tensors import STRING, TensorSpec
from serve_app.protocols.datatypes import BY_NAME

JSON = "JSON"
"""The datatype of strings that are JSON values: BYTES on the wire."""
ADDRESS = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"


class Tensor(BaseModel):
    """One tensor as clients see it, in the Open Inference Protocol's words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    datatype: str
    shape: tuple[int, ...]
    """The batch axis first, -1; further open axes are -1, too."""

    @field_validator("datatype")
    @classmethod
    def _datatype(cls, datatype: str) -> str:
        if datatype != JSON and datatype not in BY_NAME:
            raise ValueError(f"expected one of {', '.join(sorted(BY_NAME))} and {JSON}")
        return datatype

    @field_validator("shape")
    @classmethod
    def _shape(cls, shape: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if shape[:1] != (-1,) or any(axis < 1 and axis != -1 for axis in shape):
            raise ValueError("expected a shape whose first axis, the batch, is -1, and no axis of 0")
        if info.data.get("datatype") == JSON and shape != (-1,):
            raise ValueError("expected [-1] for JSON: one value a row")
        return shape

    @property
    def spec(self) -> TensorSpec:
        """The tensor as the model's own are described."""
        dtype = STRING if self.datatype == JSON else BY_NAME[self.datatype].dtype
        shape = tuple(None if axis == -1 else axis for axis in self.shape)
        return TensorSpec(self.name, dtype, shape, is_json=self.datatype == JSON)


class Function(BaseModel):
    """A function around the model: `module:function`, or that with what it is given beside the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    function: Annotated[str, Field(pattern=ADDRESS)]
    args: dict[str, Any] = {}
    per_row: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _address(cls, raw: Any) -> Any:
        return {"function": raw} if isinstance(raw, str) else raw

    def options(self, tensors: tuple[Tensor, ...]) -> FunctionOptions:
        """Return it with what is declared of it."""
        return FunctionOptions(self.function, self.args, self.per_row, tuple(tensor.spec for tensor in tensors))
