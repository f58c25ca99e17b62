"""Serve's own handles to a deployment, with the two settings that it has no public word for."""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle


def open_handle(deployment: str, app_name: str) -> DeploymentHandle[Any]:
    """Return a handle that works with and without an event loop in the caller's thread."""
    handle: DeploymentHandle[Any] = DeploymentHandle(deployment, app_name)
    if hasattr(type(handle), "_init"):  # a handle itself answers to every name
        # RAY_SERVE_THROUGHPUT_OPTIMIZED would run the router in the caller's event loop, which a task has none of.
        handle._init(_run_router_in_separate_loop=True)
    return handle


def to_method(handle: DeploymentHandle[Any], name: str, *, by_reference: bool) -> DeploymentHandle[Any]:
    """Return the handle to a method; its arguments go by gRPC, or by reference through the object store.

    Where Serve has lost the setting, arguments go Serve's way, which is right for both and slower for one.
    """
    try:
        return handle.options(method_name=name, _by_reference=by_reference)
    except TypeError:
        return handle.options(method_name=name)
