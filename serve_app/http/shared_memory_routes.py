"""Registering shared memory over HTTP, in Triton's paths; a GPU's memory is none that this server shares.

Source:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from deployments.errors import InvalidInput
from serve_app.protocols import shared_memory
from serve_app.protocols.codec import Response, json_response
from serve_app.protocols.shared_memory import turn_on

__all__ = ["METHODS", "NO_CUDA", "PATH", "answer", "turn_on"]

PATH = re.compile(r"/v2/(system|cuda)sharedmemory(?:/region/([^/]+))?/(status|register|unregister)")
METHODS = {"status": "GET", "register": "POST", "unregister": "POST"}
NO_CUDA = "CUDA shared memory is not supported; register system shared memory"


def answer(kind: str, name: str, verb: str, asked: Mapping[str, Any]) -> Response:
    """Answer one of the paths; raise `InvalidInput`, also where shared memory is off."""
    known, name = shared_memory.regions(), unquote(name)
    if kind == "cuda":
        # There is none, so there is nothing to tell of or to forget: clients ask for both before they begin.
        if verb == "register":
            raise InvalidInput(NO_CUDA)
        return json_response([]) if verb == "status" else Response(b"")
    if verb == "status":
        return json_response(known.status(name))
    if verb == "register":
        known.register(name, asked.get("key"), asked.get("offset", 0), asked.get("byte_size"))
    else:
        known.unregister(name)
    return Response(b"")
