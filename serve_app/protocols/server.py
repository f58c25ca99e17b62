"""What the Open Inference Protocol tells about the server itself, over REST and gRPC alike."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from serve_app.protocols import shared_memory

SERVER_NAME = "keras-solo"
EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics")


def server_metadata() -> dict[str, Any]:
    """Return the server's name, version and the protocol extensions that it answers."""
    extensions = [*EXTENSIONS, *(["system_shared_memory"] if shared_memory.is_on() else [])]
    return {"name": SERVER_NAME, "version": version("keras-solo"), "extensions": extensions}
