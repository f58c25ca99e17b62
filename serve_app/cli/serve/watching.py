"""What changes on a server that runs, said on its console: models deployed, replaced, removed, or out of order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serve_app.cli.stopping import Stop
from serve_app.config import changes

LOOK_S = 2.0
"""How often the controller is asked: a call of about 2 ms."""

Look = Callable[[], Mapping[str, Any]]
"""Returns the controller's details of every application, by name."""


class Watch:
    """Compares what the controller says with what it said before."""

    def __init__(self, look: Look, say: Callable[[str], None]) -> None:
        self._look = look
        self._say = say
        self._known = look()

    def until(self, stop: Stop) -> None:
        """Look and speak until `stop` is set; a controller that is away has nothing to say."""
        while not stop.wait(LOOK_S):
            try:
                self.once()
            except Exception:
                continue

    def once(self) -> None:
        """Say what has changed since the last look."""
        now = self._look()
        for line in changes.between(_configs(self._known), _configs(now)):
            self._say(line)
        for name, app in now.items():
            was = self._known.get(name, {}).get("status")
            if app["status"] != was:
                self._say(f"{name}: {app['status'].lower()}{_why(app)}")
        self._known = now


def _configs(apps: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [app["deployed_app_config"] for app in apps.values() if app.get("deployed_app_config")]


def _why(app: Mapping[str, Any]) -> str:
    lines = (app.get("message") or "").strip().splitlines()
    return f": {lines[-1]}" if lines and app["status"] in {"DEPLOY_FAILED", "UNHEALTHY"} else ""
