"""Every input held against its source: names, dtypes and shapes, from the models' own metadata, before a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deployments.conversion import converts
from deployments.errors import ConfigError
from deployments.processing.function import UserFunction, find
from deployments.processing.options import FunctionOptions
from deployments.tensors import Shape, Signature, TensorSpec, dtype_name, shape_text
from serve_app.config.pipeline_args import PipelineArgs, Step
from serve_app.pipeline.graph import Source, in_order, source

Known = dict[Source, TensorSpec | None]
"""What each value is; None: only running tells."""


@dataclass(frozen=True, slots=True)
class Wired:
    """A step with its sources resolved."""

    step: Step
    sources: Mapping[str, Source]
    """Input, or parameter, to where its value comes from."""
    outputs: tuple[TensorSpec, ...]
    """Of the model, or declared of the function; empty where only running tells."""
    function: UserFunction | None
    per_row: bool
    condition: Source | None


@dataclass(frozen=True, slots=True)
class Wiring:
    """A whole pipeline, checked."""

    steps: tuple[Wired, ...]
    """In an order in which each has what it needs."""
    signature: Signature
    outputs: tuple[Source, ...]
    """Where the signature's outputs come from."""


def wire(args: PipelineArgs, models: Mapping[str, Signature]) -> Wiring:
    """Return the pipeline over `models`, by step; raises `ConfigError` that names the step and the input."""
    return _Wirer(args, models).wiring()


class _Wirer:
    def __init__(self, args: PipelineArgs, models: Mapping[str, Signature]) -> None:
        self._args = args
        self._models = models
        self._names = [step.name for step in args.steps]
        self._known: Known = {Source(None, tensor.name): tensor.spec.opened() for tensor in args.inputs}
        self._produced: dict[str, tuple[TensorSpec, ...]] = {}

    def wiring(self) -> Wiring:
        steps = tuple(self._wired(step) for step in in_order(self._args))
        used = {found for wired in steps for found in (*wired.sources.values(), wired.condition)}
        for tensor in self._args.inputs:
            if Source(None, tensor.name) not in used:
                raise ConfigError(f"inputs: no step uses '{tensor.name}'")
        inputs = tuple(spec for found, spec in self._known.items() if found.step is None and spec is not None)
        lacking = [found for found, spec in self._known.items() if found.step is None and spec is None]
        if lacking:
            raise ConfigError(f"inputs: what '{lacking[0]}' is, no step says; list it in inputs")
        names, outputs = self._outputs()
        return Wiring(steps, Signature(inputs, outputs), names)

    def _wired(self, step: Step) -> Wired:
        where = f"step '{step.name}'"
        function = None
        if step.function is not None:
            tensors = tuple(tensor.spec for tensor in step.outputs)
            function = find(FunctionOptions(step.function, step.args, step.per_row, tensors), f"{where}: function")
            wanted: dict[str, TensorSpec | None] = {each.name: each.said.spec for each in function.required}
            returned = tensors or (() if function.returns.spec is None else (function.returns.spec,))
            is_row = function.returns.is_row or any(each.said.is_row for each in function.parameters)
        else:
            model = self._models[step.name]
            wanted = {spec.name: spec for spec in model.inputs}
            returned, is_row = model.outputs, False
        sources = self._sources(step, wanted, where)
        for name, found in sources.items():
            spec = wanted.get(name)
            self._hold(
                found, several(spec) if spec is not None and name in step.for_each else spec, f"{where}: '{name}'"
            )
        condition = None if step.condition is None else self._condition(step.condition, where)
        outputs = tuple(several(spec) if step.for_each else spec.opened() for spec in returned)
        self._produced[step.name] = outputs
        per_row = is_row if step.per_row is None else step.per_row
        return Wired(step, sources, tuple(spec.opened() for spec in returned), function, per_row, condition)

    def _sources(self, step: Step, wanted: Mapping[str, TensorSpec | None], where: str) -> dict[str, Source]:
        if step.inputs is not None:
            sources = {name: source(text, self._names) for name, text in step.inputs.items()}
        else:
            sources = self._by_name(step, wanted, where)
        if lacking := [name for name in wanted if name not in sources]:
            raise ConfigError(f"{where}: input '{lacking[0]}' has no source; got {_quoted(sources) or 'none'}")
        if step.model is not None and (unknown := [name for name in sources if name not in wanted]):
            raise ConfigError(f"{where}: the model has no input '{unknown[0]}'; expected {_quoted(wanted)}")
        if wrong := [name for name in step.for_each if name not in sources]:
            raise ConfigError(f"{where}.for_each: no input '{wrong[0]}'; expected {_quoted(sources)}")
        return sources

    def _by_name(self, step: Step, wanted: Mapping[str, TensorSpec | None], where: str) -> dict[str, Source]:
        """Take the inputs of a step that says none from the step before, or from the client."""
        index = self._names.index(step.name)
        if index == 0:
            return {name: Source(None, name) for name in wanted}
        before = self._names[index - 1]
        made = [spec.name for spec in self._produced[before]]
        if len(wanted) == 1 and len(made) <= 1:
            return {next(iter(wanted)): Source(before, made[0] if made else None)}
        if missing := [name for name in wanted if name not in made]:
            raise ConfigError(
                f"{where}: step '{before}' has no output '{missing[0]}', but {_quoted(made)}; say where the inputs "
                "come from: inputs: {input: step.output}"
            )
        return {name: Source(before, name) for name in wanted}

    def _hold(self, found: Source, wanted: TensorSpec | None, where: str) -> None:
        """Raise unless what is at `found` fits; learn what the client has to send from the first who asks for it."""
        if found.step is not None:
            given = self._output(found, where)
        elif (given := self._known.get(found)) is None:
            self._known[found] = None if wanted is None else replace(wanted.opened(), name=str(found.name))
            return
        if given is None or wanted is None:
            return
        fits = len(given.shape) == len(wanted.shape) and all(map(_axis_fits, given.row_shape, wanted.row_shape))
        if not fits or not converts(wanted.dtype, given.dtype):
            raise ConfigError(f"{where}: expected {_text(wanted)}, but '{found}' is {_text(given)}")

    def _output(self, found: Source, where: str) -> TensorSpec | None:
        made = self._produced.get(str(found.step), ())
        if not made:
            return None
        if found.name is None:
            if len(made) > 1:
                raise ConfigError(f"{where}: step '{found.step}' has the outputs {_quoted(made)}: say which")
            return made[0]
        for spec in made:
            if spec.name == found.name:
                return spec
        raise ConfigError(f"{where}: step '{found.step}' has no output '{found.name}'; expected {_quoted(made)}")

    def _condition(self, text: str, where: str) -> Source:
        found = source(text, self._names)
        given = self._known.get(found) if found.step is None else self._output(found, f"{where}.if")
        if found.step is None and given is None:
            raise ConfigError(f"{where}.if: '{text}' is no step's output and not listed in inputs")
        if given is not None and (given.dtype.kind not in "biuf" or given.row_shape not in ((), (1,))):
            raise ConfigError(f"{where}.if: expected one truth or number a row, but '{text}' is {_text(given)}")
        return found

    def _outputs(self) -> tuple[tuple[Source, ...], tuple[TensorSpec, ...]]:
        if self._args.outputs is not None:
            named = {name: source(text, self._names) for name, text in self._args.outputs.items()}
        else:
            last = self._names[-1]
            named = {spec.name: Source(last, spec.name) for spec in self._produced[last]} or {last: Source(last, None)}
        specs = []
        for name, found in named.items():
            where = f"outputs: '{name}'"
            spec = self._known.get(found) if found.step is None else self._output(found, where)
            if spec is None:
                raise ConfigError(f"{where}: what '{found}' is, is not known; list it in the step's outputs")
            specs.append(replace(spec, name=name))
        return tuple(named.values()), tuple(specs)


def several(spec: TensorSpec) -> TensorSpec:
    """Return a tensor with several items a row: `[batch, items, …]`."""
    return replace(spec, shape=(None, None, *spec.row_shape))


def _axis_fits(given: int | None, wanted: int | None) -> bool:
    return given is None or wanted is None or given == wanted


def _text(spec: TensorSpec) -> str:
    shape: Shape = (None, *spec.row_shape)
    return f"{dtype_name(spec.dtype)} {shape_text(shape)}"


def _quoted(names: object) -> str:
    each = [getattr(name, "name", name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(f"'{name}'" for name in each)
