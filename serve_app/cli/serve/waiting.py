"""Watching a config come up: until every application runs, and until every model answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from deployments.errors import LoadError
from serve_app.cli.progress import Show
from serve_app.cli.serve.say import say
from serve_app.cli.serve.unplaced import Unplaced
from serve_app.cli.stopping import Stop
from serve_app.cluster import progress
from serve_app.cluster.following import FAILED
from serve_app.cluster.reports import reason_in
from serve_app.cluster.resources import demands_of, free
from serve_app.config.serve_yaml import ServeConfig

POLL_S = 0.25
ANSWER_S = 30.0
"""How long the front door may take to learn of a replica that runs."""
STRAIGHT_S = 5.0
"""How long to wait for an answer that does not come by way of Serve's fallback proxy."""
LOOK_S = 0.1


def wait_until_running(config: ServeConfig, stop: Stop, show: Show, *, strict: bool) -> set[str]:
    """Poll Serve until every application runs or has failed; return those that have, each said with its reason.

    Raises `LoadError` with the reason where no model can be served, where the gateway fails, and if `strict` where
    any fails.
    """
    from ray import serve as ray_serve

    said: dict[str, str] = {}
    failed: dict[str, str] = {}
    models = set(config.answering)
    unplaced = Unplaced(demands_of(config), say)
    while not stop.is_set():
        apps = ray_serve.status().applications
        for name, app in apps.items():
            if app.status in FAILED and name not in failed:
                failed[name] = _reason(app)
                if strict or name not in models or models <= failed.keys():
                    raise LoadError(f"application '{name}': {failed[name]}")
                if name not in config.problems:
                    say(f"{name}: cannot be served: {failed[name]}")
            if app.status not in FAILED and said.get(name) != app.status:
                said[name] = app.status
                say(f"{name}: {app.status.lower()}")
        if apps and all(app.status == "RUNNING" for name, app in apps.items() if name not in failed):
            return set(failed)
        steps = progress.steps((each.label, each.name, each.version) for each in config.served)
        for name, (fraction, step) in steps.items():
            show(name, fraction, step)
        unplaced.look(steps, free)
        stop.wait(POLL_S)
    return set(failed)


def wait_until_answering(config: ServeConfig, http: Mapping[str, Any], stop: Stop) -> None:
    """Wait for the front door: it learns of a running replica a moment later than Serve's controller."""
    from serve_app.cli.serve import announcement

    begun_s = time.monotonic()
    base = announcement.base_url(http)
    waiting = [f"{base}{path}/ready" for path in (*config.paths, *config.pipeline_paths)]
    waiting += [f"{base}{path}/v2/health/live" for path in config.gateway_paths]
    while waiting and not stop.wait(LOOK_S):
        passed_s = time.monotonic() - begun_s
        waiting = [url for url in waiting if not announcement.answers(url, straight=passed_s < STRAIGHT_S)]
        if waiting and passed_s > ANSWER_S:
            raise LoadError(f"{waiting[0]} does not answer, although its replica runs; see `solo doctor`")


def _reason(app: Any) -> str:
    return reason_in([app.message, *(deployment.message for deployment in app.deployments.values())])
