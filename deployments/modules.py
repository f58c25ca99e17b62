"""Importing the user's own modules, and the functions in them that a config names as `module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from deployments.errors import LoadError


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


def named(address: str, key: str) -> Any:
    """Return what `module:function` (or `module:Class.method`) names; raises `LoadError` unless it can be called."""
    module_name, _, name = address.partition(":")
    found: Any = import_module(module_name, key)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise LoadError(f"{key}: module '{module_name}' has no '{name}'")
    if not callable(found):
        raise LoadError(f"{key}: '{name}' is not callable")
    return found
