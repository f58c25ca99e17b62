"""What a config says about the functions around a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class FunctionOptions:
    """One function: where it is, what it is given beside the rows, and what is declared of it."""

    address: str
    """`module:function`, or `module:Class` of which one object is made at start and then called."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments: the function's at every call, or the class's, once."""
    per_row: bool | None = None
    """Whether it is called with one row at a time; None: as its annotations say."""
    tensors: tuple[TensorSpec, ...] = ()
    """What goes in (`before`) or comes out (`after`), where that is declared rather than annotated."""


@dataclass(frozen=True, slots=True)
class ProcessingOptions:
    """The functions around one model."""

    before: FunctionOptions | None = None
    after: FunctionOptions | None = None
    before_processes: int = 0
    """How many processes of its own `before` runs in; 0: in the replica's."""
    preprocessor: bool = True
    """Whether a preprocessor that the model brings along stands before it, where there is no `before`."""

    def __bool__(self) -> bool:
        """Return whether there is any function."""
        return self.before is not None or self.after is not None
