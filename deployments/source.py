"""Where a model comes from and how it is to be read; imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
"""What Keras layers compute in; inputs and outputs keep their declared dtypes."""

WantedPrecision = Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"]
"""What may be asked for: `auto` takes the fastest within the tolerance."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
HDF5_SUFFIXES = (".h5", ".hdf5")
MODEL_SUFFIXES = (".keras", *HDF5_SUFFIXES)
"""How the files end that hold a whole model."""
SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
"""One of these lies in a folder that is a SavedModel."""


def loaded_in(wanted: WantedPrecision) -> Precision:
    """Return the precision that a model is loaded in: where the plan chooses, it starts from float32."""
    return "float32" if wanted == "auto" else wanted


def is_saved_model(path: Path) -> bool:
    """Return whether `path` is a folder that holds a SavedModel."""
    return any((path / name).is_file() for name in SAVED_MODEL_FILES)


@dataclass(frozen=True)
class Source:
    """A model's address and the switches of its loading."""

    uri: str
    """A path or URI of a `.keras`, `.h5` or `.hdf5` file or a SavedModel folder, or `module:function`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of a `module:function` factory."""
    custom_objects: str | None = None
    """A module whose import registers custom layers; its public Keras classes are passed along as well."""
    safe_mode: bool = True
    """Whether to refuse models that carry code of their own (Lambda layers)."""
    signature_name: str = "serving_default"
    """Which signature of a SavedModel to serve."""
    sha256: str | None = None
    """What the file (or folder) must hash to; None takes what comes."""
    revision: str | None = None
    """What the server of a remote source said of it when this version was deployed; replicas take nothing else."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """fsspec's options for a remote source, e.g. `endpoint_url`."""
    cache_dir: str | None = None
    """Where this node keeps remote sources; None: `~/.cache/keras-solo/sources`."""
