"""Ending a plain `serve run` whose config is wrong: Serve itself would report the error and then wait for ever."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator

import psutil

from deployments.errors import ConfigError
from deployments.events import event


@contextlib.contextmanager
def ends_serve_run() -> Iterator[None]:
    """On a `ConfigError`, print its one line and end the `serve run` that started this cluster, if any.

    `serve run CONFIG` builds applications in tasks of the cluster that it started itself, so the process to end is
    the nearest ancestor of this one. A cluster that somebody else started (`ray start`, `serve deploy`) has no
    such ancestor: there the error only fails its application.
    """
    try:
        yield
    except ConfigError as error:
        event("config_refused", f"bad serve config: {error}", level=logging.ERROR)
        # Ray copies a worker's stderr to the driver's terminal.
        print(f"keras-solo: bad serve config: {error}", file=sys.stderr, flush=True)
        if (launcher := _serve_run()) is not None and not _serves_already():
            launcher.send_signal(signal.SIGINT)
        raise


def is_serve_run() -> bool:
    """Return whether a `serve run` command has started this cluster."""
    return _serve_run() is not None


def _serve_run() -> psutil.Process | None:
    """Return the ancestor that is a `serve run` command."""
    for process in psutil.Process(os.getpid()).parents():
        with contextlib.suppress(psutil.Error):
            words = [os.path.basename(word) for word in process.cmdline()[:4]]
            if "serve" in words and "run" in words:
                return process
    return None


def _serves_already() -> bool:
    """Return whether an application is running: then a bad addition must not take it down."""
    from ray import serve

    return any(app.status == "RUNNING" for app in serve.status().applications.values())
