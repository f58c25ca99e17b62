"""Where models answer: their paths, those of their versions, and the import paths that a serve config names."""

from __future__ import annotations

import re

MODELS_PREFIX = "/v2/models/"
OF_MODEL = re.compile(rf"^{MODELS_PREFIX}([^/]+)(?:/versions/([^/]+))?")
"""Matches the path of a model, or of one version, and what lies below it."""


def model_path(name: str) -> str:
    """Return the path of a model."""
    return f"{MODELS_PREFIX}{name}"


def version_path(name: str, version: str) -> str:
    """Return the path of one version of a model."""
    return f"{MODELS_PREFIX}{name}/versions/{version}"


def path_of(name: str, version: str, prefix: str) -> str:
    """Return the path at which the application with route prefix `prefix` answers for the model."""
    versioned = version_path(name, version)
    return versioned if prefix.rstrip("/") == versioned else model_path(name)
