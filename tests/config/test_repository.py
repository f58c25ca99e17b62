"""A folder of models as applications: layouts, versions, settings, and what is wrong with an entry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.errors import ConfigError, LoadError
from serve_app.config import repository, serve_yaml
from serve_app.config.composing import Common, serve_config
from serve_app.config.repository import Repository
from serve_app.config.version_policy import VersionPolicy
from tests.support.processes import ROOT

DIGITS = ROOT / "models" / "digits.keras"


def put(folder: Path, *names: str, **settings: Any) -> None:
    """Place the digits model under each name; a name that ends in `/` becomes a SavedModel's folder."""
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            place.mkdir()
            (place / "saved_model.pb").write_bytes(b"")
        else:
            shutil.copy(DIGITS, place)
    for name, said in settings.items():
        (folder / name).with_suffix(".yaml").write_text(yaml.safe_dump(said))


def read(folder: Path, common: Common | None = None) -> Repository:
    return repository.read(repository.folder(str(folder)), common or Common())


def served(found: Repository) -> dict[str, list[tuple[str, str]]]:
    """Return each model's versions and their sources."""
    return {
        name: [(app["args"]["version"], Path(app["args"]["source"]).name) for app in apps]
        for name, apps in found.applications.items()
    }


def test_every_layout_is_a_model(tmp_path: Path) -> None:
    put(tmp_path, "digits.keras", "exported/", "mnist/1/", "mnist/2/", "keras_versions/3/model.keras", "one/one.keras")
    (tmp_path / "README.md").touch()
    (tmp_path / "_off").mkdir()
    put(tmp_path, "_off/x.keras", ".hidden.keras")
    found = read(tmp_path)
    assert found.problems == {}
    assert served(found) == {
        "digits": [("1", "digits.keras")],
        "exported": [("1", "exported")],
        "keras_versions": [("3", "model.keras")],
        "mnist": [("2", "2")],
        "one": [("1", "one.keras")],
    }
    config = serve_yaml.check(serve_config([app for apps in found.applications.values() for app in apps]))
    assert "/v2/models/mnist" in config.paths


@pytest.mark.parametrize(
    ("policy", "versions", "prefixes"),
    [
        ("latest", ["3"], ["/v2/models/m"]),
        ("latest 2", ["2", "3"], ["/v2/models/m/versions/2", "/v2/models/m/versions/3"]),
        ("all", ["1", "2", "3"], [f"/v2/models/m/versions/{n}" for n in (1, 2, 3)]),
        ([1, 3, 9], ["1", "3"], ["/v2/models/m/versions/1", "/v2/models/m/versions/3"]),
        ([2], ["2"], ["/v2/models/m"]),
    ],
)
def test_version_policy(tmp_path: Path, policy: Any, versions: list[str], prefixes: list[str]) -> None:
    put(tmp_path, "m/1/m.keras", "m/2/m.keras", "m/3/m.keras")
    (tmp_path / "m" / "model.yaml").write_text(yaml.safe_dump({"version_policy": policy}))
    apps = read(tmp_path).applications["m"]
    assert [app["args"]["version"] for app in apps] == versions
    assert [app["route_prefix"] for app in apps] == prefixes
    assert serve_yaml.check(serve_config(apps)).paths == prefixes


@pytest.mark.parametrize("value", ["latest 0", "newest", [], ["1"], [True], 3, {"latest": 1}])
def test_a_policy_that_is_none_says_what_is_expected(value: object) -> None:
    with pytest.raises(ConfigError, match=r"m/model\.yaml\.version_policy: expected 'latest'"):
        VersionPolicy.parse(value, "m/model.yaml.version_policy")


def test_settings_come_from_the_yaml_beside_it_over_what_all_have(tmp_path: Path) -> None:
    put(tmp_path, "a.keras", "b.keras", a={"max_batch_size": 4, "deployment": {"num_replicas": 2}})
    found = read(tmp_path, Common({"max_batch_size": 8, "device": "cpu"}, {"num_replicas": 3}))
    (a,), (b,) = found.applications["a"], found.applications["b"]
    assert (a["args"]["max_batch_size"], b["args"]["max_batch_size"]) == (4, 8)
    assert a["args"]["device"] == "cpu"
    assert [app["deployments"][0]["num_replicas"] for app in (a, b)] == [2, 3]
    # The new replica before the old one goes.
    assert a["deployments"][0]["max_surge_percent"] == 100


@pytest.mark.parametrize(
    ("names", "settings", "broken", "says"),
    [
        (["x.keras", "x/1/m.keras"], {}, "x", "two entries are called 'x': 'x.keras' and 'x/1/m.keras'"),
        (["a b.keras"], {}, "a b", r"a b\.name: expected 1 to 128 letters"),
        (["x/v1/m.keras"], {}, "x", "x/v1: a version is a number"),
        (["x/1/m.keras", "x/01/m.keras"], {}, "x", "version 1 is there twice"),
        (["x/a.keras", "x/b.keras"], {}, "x", "expected one model, got a.keras, b.keras"),
        (["x.keras"], {"x": {"labelss": []}}, "x", r"x\.yaml\.labelss: unknown key; did you mean 'labels'"),
        (["x.keras"], {"x": {"name": "y"}}, "x", r"x\.yaml\.name: the folder says it"),
        (["x.keras"], {"x": ["y"]}, "x", r"x\.yaml: expected keys of a model's args, got list"),
        (["x.keras"], {"x": {"version_policy": [7]}}, "x", "none of the versions it names is there; found 1"),
    ],
)
def test_what_is_wrong_with_an_entry_leaves_the_others_alone(
    tmp_path: Path, names: list[str], settings: dict[str, Any], broken: str, says: str
) -> None:
    put(tmp_path, *names, "good.keras", **settings)
    found = read(tmp_path)
    assert list(found.problems) == [broken]
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(found.problems[broken])
    assert list(found.applications) == ["good"]
    assert broken in found.marks


def test_a_yaml_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model.yaml").write_text("device: cpu\n")
    assert "no model beside it" in read(tmp_path).problems["x"]


def test_a_half_written_file_is_a_problem_until_it_is_whole(tmp_path: Path) -> None:
    whole = DIGITS.read_bytes()
    path = tmp_path / "x.keras"
    path.write_bytes(whole[: len(whole) // 2])
    first = read(tmp_path)
    assert "not a .keras file" in first.problems["x"]
    path.write_bytes(whole)
    second = read(tmp_path)
    assert second.problems == {}
    assert first.marks != second.marks


def test_a_replaced_file_is_another_application(tmp_path: Path) -> None:
    put(tmp_path, "x.keras")
    before = read(tmp_path).applications["x"]
    assert read(tmp_path).applications["x"] == before
    put(tmp_path, "y/x.keras")
    (tmp_path / "y" / "x.keras").rename(tmp_path / "x.keras")
    assert read(tmp_path).applications["x"] != before


def test_one_model_can_be_read_alone_with_args_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "x.keras", "y.keras", x={"max_batch_size": 4})
    folder = repository.folder(str(tmp_path))
    found = repository.read(folder, Common(), "x", {"max_batch_size": 2})
    assert list(found.applications) == ["x"]
    assert found.applications["x"][0]["args"]["max_batch_size"] == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="nowhere"):
        read(tmp_path / "nowhere")


def test_a_folder_at_a_uri_is_the_same(tmp_path: Path) -> None:
    put(tmp_path, "digits.keras", "mnist/1/m.keras", "mnist/2/m.keras", digits={"max_batch_size": 4})
    found = read(tmp_path)
    remote = repository.read(repository.folder(f"file://{tmp_path}"), Common())
    assert served(remote) == served(found)
