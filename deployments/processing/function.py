"""A user's function, found and looked at once, and called with its errors told apart."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments import modules
from deployments.errors import InvalidInput, LoadError, PredictionFailed, SoloError
from deployments.processing.columns import Annotation
from deployments.processing.options import FunctionOptions

_SHOWN = 300
"""Characters of an exception's text that a client may read."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that rows are given to."""

    name: str
    said: Annotation
    is_keyword: bool
    is_required: bool


@dataclass(frozen=True, slots=True)
class UserFunction:
    """The function itself, ready to be called."""

    owner: str
    """How messages call it: `before 'text:tokenize'`."""
    call: Any
    parameters: tuple[Parameter, ...]
    takes_others: bool
    """Whether it has `**kwargs`."""
    returns: Annotation

    @property
    def required(self) -> tuple[Parameter, ...]:
        """Those that must be given."""
        return tuple(parameter for parameter in self.parameters if parameter.is_required)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Call it with values by parameter.

        Raises `InvalidInput` for its `ValueError`s, which are about what the client sent and reach it, and
        `PredictionFailed` for everything else.
        """
        try:
            return self.call(*values.values()) if self._is_positional else self.call(**values)
        except SoloError:
            raise
        except ValueError as error:
            raise InvalidInput(_text(error)) from error
        except Exception as error:
            raise PredictionFailed(f"{self.owner} failed: {type(error).__name__}: {_text(error)}") from error

    @property
    def _is_positional(self) -> bool:
        return len(self.parameters) == 1 and not self.parameters[0].is_keyword and not self.takes_others


def _text(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def find(options: FunctionOptions, key: str) -> UserFunction:
    """Import and inspect the function that `key` (`before` or `after`) names; raises `LoadError`."""
    owner = f"{key} '{options.address}'"
    found = modules.named(options.address, owner)
    try:
        if inspect.isclass(found):
            found = found(**options.arguments)
        elif options.arguments:
            inspect.signature(found).bind_partial(**options.arguments)
            found = functools.partial(found, **options.arguments)
    except Exception as error:
        raise LoadError(f"{owner}: calling it with its args failed: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise LoadError(f"{owner}: an object of this class cannot be called; give it a method __call__")
    target = found.func if isinstance(found, functools.partial) else found
    if inspect.iscoroutinefunction(_code(target)):
        raise LoadError(f"{owner}: expected a plain function, got a coroutine function")
    return _inspected(owner, found, target, options)


def _inspected(owner: str, found: Any, target: Any, options: FunctionOptions) -> UserFunction:
    hints = _hints(target)
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        raise LoadError(f"{owner}: its parameters cannot be read; wrap it in a Python function") from None
    parameters, takes_others = [], False
    for name, each in signature.parameters.items():
        takes_others = takes_others or each.kind == each.VAR_KEYWORD
        if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL) or name in options.arguments:
            continue
        said = Annotation.of(hints.get(name), name, owner)
        parameters.append(Parameter(name, said, each.kind == each.KEYWORD_ONLY, each.default is each.empty))
    returns = Annotation.of(hints.get("return"), "output", owner)
    return UserFunction(owner, found, tuple(parameters), takes_others, returns)


def _code(target: Any) -> Any:
    """Return the function that runs when `target` is called."""
    return target if inspect.isroutine(target) else type(target).__call__


def _hints(target: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(_code(target), include_extras=True)
    except Exception:  # a name that exists for type checkers only
        return {}
