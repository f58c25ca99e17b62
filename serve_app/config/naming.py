"""Names, versions and variables of a config, and what a model is called where nobody has said so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field


def _digits_as_text(version: object) -> object:
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else version


Version = Annotated[str, BeforeValidator(_digits_as_text), Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""A version, which YAML may take for a number."""
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


def suggested_name(source: str) -> str:
    """Return a name to serve `source` under: the factory's or the file's, reduced to the characters allowed.

    A folder that is a version in TensorFlow Serving's layout (`mnist/3`) is called like the folder around it.
    """
    source = source.partition("?")[0].rstrip("/") if "://" in source else source
    is_factory = ":" in source and "://" not in source and not Path(source).expanduser().exists()
    path = Path(source).expanduser()
    if is_factory:
        name = source.rpartition(":")[2].rpartition(".")[2].lower()
    elif path.stem.isdigit() and path.resolve().parent.name:
        name = path.parent.name or path.resolve().parent.name
    else:
        name = path.stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "model"
