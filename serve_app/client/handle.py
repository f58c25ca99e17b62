"""The way through Serve's own DeploymentHandle, without its traps; for large arrays, and where there is no HAProxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle

from deployments.errors import DeadlineExceeded, NotReady, Overloaded, PredictionFailed, SoloError
from deployments.execution import Answer
from deployments.tensors import Array, Arrays
from serve_app.client.failures import ReplicaGone

DEPLOYMENT = "KerasReplica"

GRPC_BYTES = 1 << 20
"""Larger inputs go through the object store. gRPC ends at 4 MB both ways, and is slower from about here on."""


class HandleWay:
    """Calls the replicas of one application; safe to share between threads and event loops."""

    def __init__(self, app_name: str) -> None:
        handle = DeploymentHandle(DEPLOYMENT, app_name)
        # RAY_SERVE_THROUGHPUT_OPTIMIZED would run the router in the caller's event loop, which a task has none of.
        handle._init(_run_router_in_separate_loop=True)
        self._handle = handle
        self._has_large_answers = False

    async def describe(self, deadline_s: float | None) -> Mapping[str, Any]:
        """Return the replica's `describe()`."""
        description: Mapping[str, Any] = await self._call("describe", True, deadline_s)
        return description

    async def predict(self, inputs: Mapping[str, Array], size_bytes: int, deadline_s: float | None) -> Arrays:
        """Return the outputs, in the signature's order, for checked `inputs` of `size_bytes` in all.

        Raises the domain error that the replica raised, `ReplicaGone` where it died, and `DeadlineExceeded`, having
        cancelled the call.
        """
        by_reference = self._has_large_answers or size_bytes > GRPC_BYTES
        try:
            answer: Answer = await self._call("predict", by_reference, deadline_s, inputs, _left_s(deadline_s))
        except grpc.RpcError as error:
            if by_reference or error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise ReplicaGone(f"gRPC to the replica: {error.details()}") from None
            # The answer, not the request, was over 4 MB; this model's answers go by reference from now on.
            self._has_large_answers = True
            answer = await self._call("predict", True, deadline_s, inputs, _left_s(deadline_s))
        return answer.outputs

    async def _call(self, method: str, by_reference: bool, deadline_s: float | None, *args: object) -> Any:
        handle = self._handle.options(method_name=method, _by_reference=by_reference)
        try:
            return await _finish(handle.remote(*args), deadline_s)
        except RayTaskError as error:
            raise _cause(error) from None
        except RayActorError as error:
            raise ReplicaGone(f"the replica died: {error}") from None
        except BackPressureError as error:
            raise Overloaded(f"too many calls are waiting: {error}", 1.0) from None
        except DeploymentUnavailableError as error:
            raise NotReady(f"the model cannot answer: {error}") from None
        except RequestCancelledError:
            raise ReplicaGone("the replica stopped") from None
        except RayError as error:
            # A lost object or a crashed worker: the call left no answer behind.
            raise ReplicaGone(str(error)) from None


async def _finish(response: Any, deadline_s: float | None) -> Any:
    """Return a response's result; at the deadline, or when the caller is cancelled, cancel it."""
    task = asyncio.ensure_future(_result(response))
    try:
        await asyncio.wait({task}, timeout=_left_s(deadline_s))
        if not task.done():
            raise DeadlineExceeded("the model did not answer before the deadline")
        if task.cancelled():
            # Nobody here cancelled: a stopping replica does that to what it has not begun.
            raise ReplicaGone("the replica stopped")
        return task.result()
    finally:
        if not task.done():
            response.cancel()
            task.cancel()
            # What comes of it is nobody's business, and asyncio logs what nobody looked at.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


async def _result(response: Any) -> Any:
    return await response


def _cause(error: RayTaskError) -> Exception:
    """Return the error as the replica raised it, out of Ray's wrapping."""
    cause = error.cause
    if isinstance(cause, SoloError):
        return cause
    return PredictionFailed(f"{type(cause).__name__}: {cause}")


def _left_s(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
