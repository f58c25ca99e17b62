"""Following a folder, over a controller that does at once, later, or never what it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from deployments.errors import Busy, LoadError, UnknownModel
from serve_app.cluster.following import Follower
from serve_app.config.composing import model_application, serve_config
from serve_app.config.repository import Repository

GATEWAY = serve_config([])["applications"][0]


class Controller:
    """Serve's controller as far as a follower sees it; `outcome` says how an application that is new to it ends."""

    def __init__(self) -> None:
        self.apps: dict[str, dict[str, Any]] = {"gateway": GATEWAY}
        self.status = {"gateway": "RUNNING"}
        self.outcome: dict[str, str] = {}
        self.applied = 0
        self.seen: list[set[str]] = []

    def configured(self) -> list[dict[str, Any]]:
        return [dict(app) for app in self.apps.values()]

    def applications(self) -> Mapping[str, Any]:
        return {name: {"status": status, "message": "E\nValueError: no good"} for name, status in self.status.items()}

    def apply(self, raw: Mapping[str, Any]) -> None:
        self.applied += 1
        new = {app["name"]: app for app in raw["applications"]}
        for name, app in new.items():
            if self.apps.get(name) != app:
                source = app["args"].get("source_revision", "")
                self.status[name] = self.outcome.get(source, "RUNNING")
        self.status = {name: self.status[name] for name in new}
        self.apps = new
        self.seen.append(set(new) - {"gateway"})

    def served(self) -> dict[str, str]:
        """Return what runs or is to run: application to the mark of its files."""
        return {name: app["args"]["source_revision"] for name, app in self.apps.items() if name != "gateway"}


class Shelf:
    """A folder: model to its versions' marks."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, str]] = {}
        self.problems: dict[str, str] = {}
        self.is_away = False
        self.versioned: set[str] = set()

    def read(self, only: str | None, args: Mapping[str, Any]) -> Repository:
        if self.is_away:
            raise LoadError("'/models' is no folder")
        found = Repository(problems=dict(self.problems))
        found.marks = {name: str(versions) for name, versions in self.models.items()}
        found.marks |= self.problems
        for name, versions in self.models.items():
            if only in (None, name):
                found.applications[name] = [
                    model_application(
                        {"name": name, "source": "x.keras", **args, "version": version, "source_revision": mark},
                        {},
                        is_versioned=name in self.versioned,
                    )
                    for version, mark in versions.items()
                ]
        return found


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def follower(controller: Controller, shelf: Shelf) -> Follower:
    return Follower(shelf.read, controller, limit_s=60)


def polls(follower: Follower, times: int = 3) -> None:
    for _ in range(times):
        follower.poll()


def test_only_what_is_the_same_twice_is_loaded(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    for mark in ("half", "nearly"):
        shelf.models["a"] = {"1": mark}
        follower.poll()
        assert controller.served() == {}
    shelf.models["a"] = {"1": "whole"}
    polls(follower, 2)
    assert controller.served() == {"a": "whole"}


def test_nothing_is_applied_while_nothing_changes(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    applied = controller.applied
    polls(follower, 5)
    assert controller.applied == applied == 1


def test_a_new_version_takes_the_place_of_the_old_at_once_where_one_is_served(
    follower: Follower, controller: Controller, shelf: Shelf
) -> None:
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    shelf.models["a"] = {"2": "y"}
    polls(follower)
    assert controller.served() == {"a": "y"}
    assert controller.apps["a"]["args"]["version"] == "2"


def test_of_several_versions_the_old_goes_only_when_the_new_runs(
    follower: Follower, controller: Controller, shelf: Shelf
) -> None:
    shelf.versioned.add("a")
    shelf.models["a"] = {"1": "x", "2": "y"}
    polls(follower)
    controller.outcome["z"] = "DEPLOYING"
    shelf.models["a"] = {"2": "y", "3": "z"}
    polls(follower)
    assert controller.served() == {"a:1": "x", "a:2": "y", "a:3": "z"}
    controller.status["a:3"] = "RUNNING"
    polls(follower, 1)
    assert controller.served() == {"a:2": "y", "a:3": "z"}


def test_one_that_fails_leaves_the_old_one_and_its_reason_until_its_files_change(
    follower: Follower, controller: Controller, shelf: Shelf
) -> None:
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    controller.outcome["bad"] = "DEPLOY_FAILED"
    shelf.models["a"] = {"2": "bad"}
    polls(follower, 5)
    assert controller.served() == {"a": "x"}
    assert (follower.failures["a"].version, follower.failures["a"].reason) == ("2", "no good")
    applied = controller.applied
    polls(follower, 5)
    assert controller.applied == applied, "what failed is not tried again"
    shelf.models["a"] = {"2": "good"}
    polls(follower)
    assert controller.served() == {"a": "good"}
    assert follower.failures == {}


def test_one_that_loads_for_ever_is_given_up_and_the_rest_go_on(controller: Controller, shelf: Shelf) -> None:
    follower = Follower(shelf.read, controller, limit_s=0)
    controller.outcome["slow"] = "DEPLOYING"
    shelf.models = {"slow": {"1": "slow"}, "quick": {"1": "quick"}}
    polls(follower)
    assert controller.served() == {"quick": "quick"}
    assert "was not ready after" in follower.failures["slow"].reason


def test_a_model_that_is_gone_twice_is_unloaded(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    shelf.models = {"a": {"1": "x"}, "b": {"1": "y"}}
    polls(follower)
    del shelf.models["a"]
    polls(follower, 1)
    assert "a" in controller.served(), "moved away for a moment, as by a rename"
    polls(follower, 1)
    assert controller.served() == {"b": "y"}
    assert "gateway" in controller.apps


def test_a_folder_that_disappears_changes_nothing(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    shelf.is_away = True
    polls(follower, 5)
    assert controller.served() == {"a": "x"}
    shelf.is_away = False
    shelf.models["b"] = {"1": "y"}
    polls(follower)
    assert controller.served() == {"a": "x", "b": "y"}


def test_a_broken_entry_is_told_and_what_serves_under_its_name_stays(
    follower: Follower, controller: Controller, shelf: Shelf
) -> None:
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    del shelf.models["a"]
    shelf.problems["a"] = "a.keras is not an archive"
    polls(follower)
    assert controller.served() == {"a": "x"}
    assert follower.failures["a"].reason == "a.keras is not an archive"
    shelf.problems.clear()
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    assert follower.failures == {}


def test_models_of_a_config_are_nobodys_to_change(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    declared = model_application({"name": "declared", "source": "y.keras"}, {})
    controller.apps["declared"] = declared
    controller.status["declared"] = "RUNNING"
    shelf.models["a"] = {"1": "x"}
    polls(follower)
    assert controller.apps["declared"] == declared
    with pytest.raises(UnknownModel):
        follower.unload("declared")


def test_load_returns_when_the_model_runs(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    shelf.models["a"] = {"1": "x"}
    follower.load("a", {"max_batch_size": 4})
    assert controller.apps["a"]["args"]["max_batch_size"] == 4
    applied = controller.applied
    follower.load("a", {"max_batch_size": 4})
    assert controller.applied == applied, "it is loaded already"
    follower.unload("a")
    assert controller.served() == {}


def test_load_says_why_it_failed(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    controller.outcome["bad"] = "DEPLOY_FAILED"
    shelf.models["a"] = {"1": "bad"}
    shelf.problems["b"] = "b/v1: a version is a number"
    with pytest.raises(LoadError, match="model 'a' version '1' could not be loaded: no good"):
        follower.load("a", {})
    assert controller.served() == {}
    with pytest.raises(LoadError, match="a version is a number"):
        follower.load("b", {})
    with pytest.raises(UnknownModel, match="Request for unknown model: 'c' is not in the repository"):
        follower.load("c", {})
    with pytest.raises(UnknownModel, match="'a' is not loaded"):
        follower.unload("a")


def test_what_is_being_loaded_is_left_alone(follower: Follower, controller: Controller, shelf: Shelf) -> None:
    controller.outcome["slow"] = "DEPLOYING"
    shelf.models["a"] = {"1": "slow"}
    loading = threading.Thread(target=follower.load, args=("a", {}))
    loading.start()
    ends_s = time.monotonic() + 10
    while "a" not in controller.served() and time.monotonic() < ends_s:
        time.sleep(0.01)
    for act in (lambda: follower.unload("a"), lambda: follower.load("a", {})):
        with pytest.raises(Busy, match="model 'a' is being loaded"):
            act()
    controller.status["a"] = "RUNNING"
    loading.join(10)
    assert not loading.is_alive()
    assert controller.served() == {"a": "slow"}
