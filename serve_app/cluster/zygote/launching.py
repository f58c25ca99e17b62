"""Starts a zygote for the cluster that this process is about to start, and has Ray ask it for workers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from serve_app.cluster.zygote import worker

OFF = "0"
"""What `KERAS_SOLO_ZYGOTE` says where somebody wants every worker to import for itself."""
NAMES = ("ray", "whole")
LOG = "zygote.log"
CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from serve_app.cluster.zygote import forking
forking.main(sys.argv[2:])
"""
"""With this process's path to import by, whatever way it was started."""


class Zygote:
    """A zygote, or none: then workers import for themselves."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Have the Ray that is started in the block ask for its workers.

        By Ray's own parameter for what it runs as a worker, which `ray.init` does not pass on.
        """
        from ray._private import parameter

        theirs = getattr(parameter, "RayParams", None)
        if self._process is None or theirs is None:
            yield
            return
        parameter.RayParams = functools.partial(theirs, worker_path=worker.__file__)
        try:
            yield
        finally:
            parameter.RayParams = theirs

    def close(self) -> None:
        """Have no more workers forked, and those end that there are."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


NONE = Zygote(None)


@contextlib.contextmanager
def started(folder: Path, modules: Sequence[str], target: str = worker.RAYS_WORKER) -> Iterator[Zygote]:
    """Yield a zygote that imports `modules`; its forks run the module `target`.

    `folder` is private to this process. It is `NONE` where there can be none, or somebody wants none.
    """
    process = None
    if sys.platform == "linux" and os.environ.get(worker.ADDRESSES) != OFF:
        with contextlib.suppress(OSError):
            process = _start(folder, modules, target)
    zygote = NONE if process is None else Zygote(process)
    try:
        yield zygote
    finally:
        if process is not None:
            os.environ.pop(worker.ADDRESSES, None)
            zygote.close()
            process.wait()


def _start(folder: Path, modules: Sequence[str], target: str) -> subprocess.Popen[bytes]:
    addresses = [str(folder / f"zygote-{name}") for name in NAMES]
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in addresses]
        for one, address in zip(listening, addresses, strict=True):
            one.bind(address)
            one.listen(socket.SOMAXCONN)
        numbers = [one.fileno() for one in listening]
        log = stack.enter_context((folder / LOG).open("wb"))
        os.environ[worker.ADDRESSES] = os.pathsep.join(addresses[::-1])
        command = [sys.executable, "-c", CODE, json.dumps(sys.path), *map(str, numbers), target, *modules]
        # As `ray.init` sets it unless somebody has: the imports must see the environment that workers will have.
        environment = {"RAY_AUTH_MODE": "token", **os.environ}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=numbers
        )
