"""Importing the user's own modules: factories and custom layers."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from types import ModuleType
from typing import Any

import keras

from deployments.errors import LoadError
from deployments.loading import keras2


def import_module(name: str, key: str) -> ModuleType:
    """Return the module `name`, looked for in the working directory as well; `key` is the config key to blame."""
    folder = os.getcwd()
    if folder not in sys.path:
        # A console script has its own folder on the path, not the one it was started in.
        sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if not f"{name}.".startswith(f"{missing}."):
            raise LoadError(f"{key}: '{name}' imports '{missing}', which is not installed") from error
        raise LoadError(
            f"{key}: no module '{name}'; it must be installed or lie in the working directory, {folder}"
        ) from error
    except Exception as error:
        raise LoadError(f"{key}: importing '{name}' failed: {type(error).__name__}: {error}") from error


def custom_objects(module_name: str | None) -> dict[str, Any]:
    """Return the Keras classes and the functions that a module defines, by name; importing registers the rest."""
    if module_name is None:
        return {}
    module = import_module(module_name, "custom_objects")
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
    module_name, _, function_name = address.partition(":")
    function: Any = import_module(module_name, f"source '{address}'")
    for part in function_name.split("."):
        function = getattr(function, part, None)
        if function is None:
            raise LoadError(f"source '{address}': module '{module_name}' has no '{function_name}'")
    if not callable(function):
        raise LoadError(f"source '{address}': '{function_name}' is not callable")
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
