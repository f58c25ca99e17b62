"""What of Ray's is not public may be gone: a display goes dark, a handle takes Serve's way, and nothing fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.experimental import internal_kv
from ray.serve.handle import DeploymentHandle

from deployments.errors import NotReady
from serve_app.cluster import controller, handles, progress, resources


@pytest.mark.parametrize("name", ["_internal_kv_put", "_internal_kv_get"])
def test_without_rays_store_no_progress_is_shown_and_no_load_fails(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(internal_kv, name)
    progress.teller("m", "1")(0.5, "batch size 1: session")
    assert progress.steps([("m", "m", "1")]) == {}


def test_progress_comes_back_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    store: dict[str, str] = {}
    monkeypatch.setattr(internal_kv, "_internal_kv_put", store.__setitem__)
    monkeypatch.setattr(internal_kv, "_internal_kv_get", store.get)
    tell = progress.teller("m", "1")
    tell(0.5, "batch size 1 done")
    tell(None, "batch size 2: session")
    assert progress.steps([("m", "m", "1"), ("other", "other", "1")]) == {"m": (0.5, "batch size 2: session")}


def test_without_its_setting_a_handle_goes_serves_way() -> None:
    class Handle:
        def options(self, *, method_name: str) -> str:
            return method_name

    handle: Any = Handle()
    assert handles.to_method(handle, "predict", by_reference=True) == "predict"


def test_a_handle_that_cannot_be_prepared_is_a_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = next(kind for kind in DeploymentHandle.__mro__ if "_init" in vars(kind))
    monkeypatch.delattr(owner, "_init")
    assert handles.open_handle("KerasReplica", "digits").deployment_name == "KerasReplica"


def test_without_rays_state_what_is_free_is_told_for_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import state

    monkeypatch.delattr(state, "available_resources_per_node")
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 2.0})
    assert resources.free() == [{"CPU": 2.0}]


def test_a_controller_without_the_call_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_actor", lambda *_, **__: SimpleNamespace())
    with pytest.raises(NotReady, match="has no get_serve_instance_details"):
        controller.serve_details()


def test_without_a_cluster_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(NotReady, match=r"ray\.init"):
        controller.serve_details()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)

    def nobody(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(ray, "get_actor", nobody)
    with pytest.raises(NotReady, match="solo serve"):
        controller.serve_details()


@pytest.mark.parametrize(
    ("host", "expected"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), (None, "127.0.0.1"), ("10.0.0.5", "10.0.0.5")]
)
def test_the_address_of_the_front_door(host: str | None, expected: str) -> None:
    assert controller.http_address({"http_options": {"host": host, "port": 8123}}) == (expected, 8123)
    assert controller.grpc_address({"grpc_options": None}) == "127.0.0.1:9000"
