"""What Ray runs as a worker: it asks the zygote for a fork and ends, or is Ray's own worker where it gets none.

Run by its path, with the standard library alone, so that it asks within 30 ms. A request is a JSON object that tells
what the process is like, and beside it are the descriptors of its three standard streams.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import runpy
import socket
import sys
from collections.abc import Iterable

ADDRESSES = "KERAS_SOLO_ZYGOTE"
"""The environment variable with the paths of the zygote's sockets: of the one with everything, then Ray's alone."""
RAYS_WORKER = "ray._private.workers.default_worker"
PLAIN = "--runtime-env-hash=0"
"""Without it the worker has a runtime environment of its own, which a fork would not have."""
HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""Whose runtime environment is a function to call first has that from this variable, in a fork too."""
NO_JOB = "f" * 8
"""Ray's job id of a worker that it starts ahead of any job."""
PATIENCE_S = 40.0
"""How long a fork may take to begin, while TensorFlow is imported on a busy machine; Ray waits for 60 s."""


def main() -> None:
    """End where a fork is the worker now; else be the worker."""
    del sys.path[0]  # this file's folder
    if (PLAIN in sys.argv or HOOK in os.environ) and is_forked(_addresses()):
        os._exit(0)
    run(RAYS_WORKER, sys.argv)


def _addresses() -> list[str]:
    """Return whom to ask, in this order.

    A replica comes with a job, and profits from waiting for all imports; the first of Ray's workers come before it,
    and nothing goes on without these.
    """
    found = os.environ.get(ADDRESSES, "").split(os.pathsep)
    return found[::-1] if os.environ.get("RAY_JOB_ID") == NO_JOB else found


def is_forked(addresses: Iterable[str]) -> bool:
    """Return whether one of the zygotes at `addresses` has begun a fork for this process."""
    asked = {
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "group": os.getpgrp(),
        "python": sys.executable,
    }
    request = json.dumps(asked).encode()
    for address in addresses:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(address)
            socket.send_fds(connection, [len(request).to_bytes(8, "little")], [0, 1, 2])
            connection.sendall(request)
            if connection.recv(1):
                return True
    return False


def run(target: str, arguments: list[str]) -> None:
    """Be the module `target`, with these arguments; return when its work is done."""
    spec = importlib.util.find_spec(target)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{target} is gone (Ray 2.60 has its worker there)")
    sys.argv[:] = [spec.origin, *arguments[1:]]
    sys.path.insert(0, os.path.dirname(spec.origin))
    runpy.run_path(spec.origin, run_name="__main__")


if __name__ == "__main__":
    main()
