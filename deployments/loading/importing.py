"""Importing the user's own modules: factories and custom layers."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import keras

from deployments import modules
from deployments.errors import LoadError
from deployments.loading import keras2


def custom_objects(module_name: str | None) -> dict[str, Any]:
    """Return the Keras classes and the functions that a module defines, by name; importing registers the rest."""
    if module_name is None:
        return {}
    module = modules.import_module(module_name, "custom_objects")
    return {name: member for name, member in vars(module).items() if _is_custom(member, name, module)}


def _is_custom(member: Any, name: str, module: ModuleType) -> bool:
    if name.startswith("_"):
        return False
    if inspect.isclass(member):
        # Imported ones count too, so that one module can gather another's layers, but not Keras's own.
        return hasattr(member, "from_config") and not member.__module__.startswith(("keras.", "tf_keras."))
    return inspect.isfunction(member) and member.__module__ == module.__name__


def call_factory(address: str, arguments: dict[str, Any]) -> Any:
    """Return the Keras model that `module:function` makes of `arguments`; raises `LoadError`."""
    function = modules.named(address, f"source '{address}'")
    # Layer names are counted per process (`dense_7`); a fresh count keeps them the same at every load.
    keras.utils.clear_session(free_memory=False)
    model = _called(function, address, arguments)
    if not isinstance(model, keras.Model) and not keras2.is_keras2(model):
        raise LoadError(f"source '{address}': expected a keras.Model, got {_kind(model)}")
    return model


def _called(function: Any, address: str, arguments: dict[str, Any]) -> Any:
    shown = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    try:
        return function(**arguments)
    except Exception as error:
        raise LoadError(f"source '{address}': calling it with ({shown}) failed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}"
