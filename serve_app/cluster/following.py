"""Bringing what is served into line with a folder of models: a change at a time for each model, never half of one.

A model's new applications start beside its old ones (Serve starts the new replica before it stops the old, by
`max_surge_percent: 100`); when all of them run, what they replace goes, after its last request. Where one fails, or
takes longer than `limit_s`, the old ones are put back, which leaves their replicas untouched, and the reason is kept
for the index. Serve's controller holds the only state there is, so that another gateway goes on where one has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deployments.errors import Busy, LoadError, UnknownModel
from deployments.events import event
from serve_app.cluster.redaction import without_folders
from serve_app.cluster.reports import reason_of
from serve_app.config.repository import Repository
from serve_app.config.serve_yaml import MODEL_APP

App = Mapping[str, Any]
Read = Callable[[str | None, Mapping[str, Any]], Repository]
"""Returns what the folder holds, or one model of it with args of one's own."""

FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
LOOK_S = 0.25


class Cluster(Protocol):
    """What `serve_app.cluster.controller` does."""

    def configured(self) -> list[dict[str, Any]]:
        """Return the applications as they were configured."""
        ...

    def applications(self) -> Mapping[str, Any]:
        """Return the controller's details of every application, by name."""
        ...

    def apply(self, raw: Mapping[str, Any]) -> None:
        """Bring about what a serve config says."""
        ...


@dataclass(frozen=True)
class Failure:
    """A model, or a version of it, that could not be loaded."""

    version: str
    reason: str
    mark: str
    """Of the files that failed: others are tried again."""


@dataclass(frozen=True)
class Change:
    """One model on its way from some applications to others."""

    before: Sequence[App]
    after: Sequence[App]
    mark: str
    began_s: float

    @property
    def both(self) -> list[App]:
        """The new applications, and the old ones that none of them takes the place of."""
        names = {app["name"] for app in self.after}
        return [*self.after, *(app for app in self.before if app["name"] not in names)]


class Follower:
    """Follows one folder; its methods block, and may be called from any thread."""

    def __init__(self, read: Read, cluster: Cluster, limit_s: float) -> None:
        self._read = read
        self._cluster = cluster
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._changes: dict[str, Change] = {}
        self._failures: dict[str, Failure] = {}
        self._seen: dict[str, str] = {}
        """The marks of the last look: only what is the same twice is loaded, so that nothing half written is."""
        self._lost = ""

    @property
    def failures(self) -> Mapping[str, Failure]:
        """What could not be loaded, by model."""
        return dict(self._failures)

    def poll(self) -> None:
        """Look at the folder once, begin what it asks for, and go on with what was begun."""
        with self._lock:
            self._go_on()
            try:
                found = self._read(None, {})
            except LoadError as error:
                self._say_lost(str(error))
                return
            self._say_lost("")
            current = self._current()
            apps = found.applications
            begun = {name: apps[name] for name in apps if self._is_wanted(name, apps[name], found, current)}
            gone = [name for name in current if name not in found.marks and name not in self._seen]
            self._note(found.problems, found.marks)
            self._seen = dict(found.marks)
            self._begin(begun, gone, found.marks)

    def load(self, name: str, args: Mapping[str, Any]) -> None:
        """Load a model of the folder, or what has changed of it, and return when it answers.

        Raises `UnknownModel`, `Busy` while another change of it is under way, and `LoadError` with the reason.
        """
        with self._lock:
            self._refuse_busy(name)
            found = self._read(name, args)
            if name in found.problems:
                raise LoadError(without_folders(f"model '{name}' cannot be loaded: {found.problems[name]}"))
            if name not in found.applications:
                raise UnknownModel(f"Request for unknown model: '{name}' is not in the repository")
            self._failures.pop(name, None)
            if _same(self._current().get(name, []), found.applications[name]):
                return
            self._begin({name: found.applications[name]}, [], found.marks)
        while name in self._changes:
            time.sleep(LOOK_S)
            with self._lock:
                self._go_on()
        if failure := self._failures.get(name):
            raise LoadError(f"model '{name}' version '{failure.version}' could not be loaded: {failure.reason}")

    def unload(self, name: str) -> None:
        """Take a model away after its last request; raises `UnknownModel`, and `Busy` while it is being loaded."""
        with self._lock:
            self._refuse_busy(name)
            if name not in self._current():
                raise UnknownModel(f"Request for unknown model: '{name}' is not loaded")
            self._failures.pop(name, None)
            self._begin({}, [name], {})

    def _refuse_busy(self, name: str) -> None:
        if name in self._changes:
            raise Busy(f"model '{name}' is being loaded; try again when that has ended")

    def _is_wanted(self, name: str, apps: Sequence[App], found: Repository, current: Mapping[str, list[App]]) -> bool:
        mark = found.marks[name]
        failure = self._failures.get(name)
        if name in self._changes or self._seen.get(name) != mark:
            return False
        if failure is not None and failure.mark == mark:
            return False
        if not _same(current.get(name, []), apps):
            return True
        self._failures.pop(name, None)
        return False

    def _note(self, problems: Mapping[str, str], marks: Mapping[str, str]) -> None:
        """Keep what is wrong with entries that have settled, and forget what has gone."""
        for name in [name for name in self._failures if name not in marks]:
            del self._failures[name]
        for name, reason in problems.items():
            known = self._failures.get(name)
            if self._seen.get(name) == marks[name] and (known is None or known.reason != without_folders(reason)):
                event("model_refused", f"'{name}' in the repository cannot be served: {reason}", model=name)
                self._failures[name] = Failure("", without_folders(reason), marks[name])

    def _begin(self, wanted: Mapping[str, Sequence[App]], gone: Sequence[str], marks: Mapping[str, str]) -> None:
        if not wanted and not gone:
            return
        current = self._current()
        for name, apps in wanted.items():
            change = Change(current.get(name, []), apps, marks[name], time.monotonic())
            self._changes[name] = change
            current[name] = change.both
            versions = ", ".join(_version(app) for app in apps)
            event("model_change", f"model '{name}': loading version {versions}", model=name)
        for name in gone:
            del current[name]
            event("model_unload", f"model '{name}': unloading", model=name)
        self._apply(current)

    def _go_on(self) -> None:
        """End the changes that have succeeded or failed."""
        if not self._changes:
            return
        apps, current, is_changed = self._cluster.applications(), self._current(), False
        for name, change in list(self._changes.items()):
            reason = self._reason(change, apps)
            if reason is None:
                continue
            del self._changes[name]
            kept = change.before if reason else change.after
            is_changed |= not _same(current.get(name, []), kept)
            current[name] = list(kept)
            self._tell(name, change, reason)
        if is_changed:
            self._apply(current)

    def _reason(self, change: Change, apps: Mapping[str, Any]) -> str | None:
        """Return why a change failed, an empty text where it succeeded, None while it is under way."""
        states = [apps.get(app["name"], {}) for app in change.after]
        for state in states:
            if state.get("status") in FAILED:
                return _why(state) or "its replica could not be started"
        if all(state.get("status") == "RUNNING" for state in states):
            return ""
        if time.monotonic() - change.began_s > self._limit_s:
            return f"it was not ready after {self._limit_s:g} s (model_load_limit_s)"
        return None

    def _tell(self, name: str, change: Change, reason: str) -> None:
        version = _version(change.after[-1])
        if reason:
            self._failures[name] = Failure(version, reason, change.mark)
            event("model_failed", f"model '{name}' version {version} could not be loaded: {reason}", model=name)
        else:
            self._failures.pop(name, None)
            event("model_changed", f"model '{name}' version {version} is served", model=name)

    def _current(self) -> dict[str, list[App]]:
        """Return the models' applications as they are configured, by model."""
        found: dict[str, list[App]] = {}
        for app in self._cluster.configured():
            if _is_followed(app):
                found.setdefault(app["args"]["name"], []).append(app)
        return found

    def _apply(self, models: Mapping[str, Sequence[App]]) -> None:
        others = [app for app in self._cluster.configured() if not _is_followed(app)]
        self._cluster.apply({"applications": [*(app for apps in models.values() for app in apps), *others]})

    def _say_lost(self, reason: str) -> None:
        """Say once that the folder is away, and once that it is back; what is served stays as it is."""
        if bool(reason) != bool(self._lost):
            text = f"the repository is away, what is served stays: {reason}" if reason else "the repository is back"
            event("repository_lost" if reason else "repository_back", text)
        self._lost = reason


def _is_followed(app: App) -> bool:
    """Return whether an application came from a repository: only these have a mark."""
    return app.get("import_path") == MODEL_APP and "source_revision" in (app.get("args") or {})


def _same(one: Sequence[App], other: Sequence[App]) -> bool:
    keys = ("name", "route_prefix", "args", "deployments")
    return [[app.get(key) for key in keys] for app in one] == [[app.get(key) for key in keys] for app in other]


def _version(app: App) -> str:
    return str(app["args"].get("version", "1"))


def _why(state: Mapping[str, Any]) -> str:
    return without_folders(reason_of(state))
