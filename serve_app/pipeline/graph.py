"""Who waits for whom: sources by their text, and the steps in an order in which each has what it needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from deployments.errors import ConfigError
from serve_app.config.pipeline_args import PipelineArgs, Step


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from."""

    step: str | None
    """None: the client."""
    name: str | None
    """The input, or the step's output; None for a step's sole one."""

    def __str__(self) -> str:
        return ".".join(part for part in (self.step, self.name) if part)


def source(text: str, steps: Collection[str]) -> Source:
    """Return what `text` names: a step's output, or else an input of the pipeline."""
    if text in steps:
        return Source(text, None)
    step, dot, name = text.partition(".")
    return Source(step, name) if dot and step in steps else Source(None, text)


def sources_of(step: Step, before: Step | None, steps: Collection[str]) -> list[Source]:
    """Return what a step waits for; one whose inputs are not said waits for the step before."""
    said = [step.condition] if step.condition else []
    if step.inputs is not None:
        said += step.inputs.values()
    found = [source(text, steps) for text in said]
    if step.inputs is None and before is not None:
        found.append(Source(before.name, None))
    return found


def in_order(args: PipelineArgs) -> list[Step]:
    """Return the steps so that each comes after those it waits for; raises `ConfigError` naming a circle."""
    waits = waits_for(args)
    left = {step.name: step for step in args.steps}
    order: list[Step] = []
    while left:
        due = [step for name, step in left.items() if not waits[name] & left.keys()]
        if not due:
            raise ConfigError(f"steps: {_circle(waits, left)} wait for one another; expected no circle")
        order += due
        for step in due:
            del left[step.name]
    return order


def waits_for(args: PipelineArgs) -> dict[str, set[str]]:
    """Return the steps that each step waits for."""
    names = [step.name for step in args.steps]
    before: Sequence[Step | None] = (None, *args.steps)
    return {
        step.name: {found.step for found in sources_of(step, previous, names) if found.step is not None}
        for step, previous in zip(args.steps, before, strict=False)
    }


def _circle(waits: Mapping[str, set[str]], left: Mapping[str, Step]) -> str:
    at, seen = next(iter(left)), list[str]()
    while at not in seen:
        seen.append(at)
        at = next(name for name in waits[at] if name in left)
    return ", ".join(f"'{name}'" for name in seen[seen.index(at) :])
