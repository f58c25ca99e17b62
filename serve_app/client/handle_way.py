"""The way through Serve's own DeploymentHandle, without its traps; for large arrays, and where there is no HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle

from deployments.errors import DeadlineExceeded, NotReady, Overloaded, PredictionFailed, ReplicaGone, SoloError
from deployments.execution import Answer
from deployments.sequences import SequenceStep
from deployments.tensors import Array, Arrays
from serve_app.cluster.handles import open_handle, to_method

DEPLOYMENTS = ("KerasReplica", "Pipeline")
"""What answers as a model."""

GRPC_BYTES = 1 << 20
"""Larger inputs go through the object store. gRPC ends at 4 MB both ways, and is slower from about here on."""


class HandleWay:
    """Calls the replicas of one application; safe to share between threads and event loops."""

    def __init__(self, app_name: str, deployment: str = DEPLOYMENTS[0]) -> None:
        handle = open_handle(deployment, app_name)
        self._describe = to_method(handle, "describe", by_reference=True)
        self._by_grpc = to_method(handle, "predict", by_reference=False)
        self._by_reference = to_method(handle, "predict", by_reference=True)
        self._has_large_answers = False

    async def describe(self, deadline_s: float | None) -> Mapping[str, Any]:
        """Return the replica's `describe()`."""
        with self._translated():
            description: Mapping[str, Any] = await _finish(self._describe.remote(), deadline_s)
            return description

    def predict_blocking(self, inputs: Mapping[str, Array], size_bytes: int, deadline_s: float | None) -> Arrays:
        """Do what `predict` does from a thread without a running event loop, and so with fewer threads involved."""
        with self._translated():
            response = self._chosen(size_bytes).remote(inputs, left_s(deadline_s))
            try:
                answer: Answer = response.result(timeout_s=left_s(deadline_s))
            except BaseException:
                # Serve's own time-out leaves the call running.
                response.cancel()
                raise
            return answer.outputs

    async def predict(
        self, inputs: Mapping[str, Array], size_bytes: int, deadline_s: float | None, step: SequenceStep | None = None
    ) -> Arrays:
        """Return the outputs, in the signature's order, for checked `inputs` of `size_bytes` in all.

        Raises the domain error that the replica raised, `ReplicaGone` where it died, and `DeadlineExceeded`, having
        cancelled the call.
        """
        with self._translated():
            response = self._chosen(size_bytes).remote(inputs, left_s(deadline_s), step)
            answer: Answer = await _finish(response, deadline_s)
            return answer.outputs

    def _chosen(self, size_bytes: int) -> DeploymentHandle[Any]:
        return self._by_reference if self._has_large_answers or size_bytes > GRPC_BYTES else self._by_grpc

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn Ray's errors into what they mean to the caller."""
        try:
            yield
        except RayTaskError as error:
            raise _cause(error) from None
        except TimeoutError:
            raise DeadlineExceeded("the model did not answer before the deadline") from None
        except BackPressureError as error:
            raise Overloaded(f"too many calls are waiting: {error}", 1.0) from None
        except DeploymentUnavailableError as error:
            raise NotReady(f"the model cannot answer: {error}") from None
        except (RayError, RequestCancelledError) as error:
            # A dead replica, a lost object, a call that a stopping replica refused: no answer is left behind.
            raise ReplicaGone(f"the replica died or stopped: {error}") from None
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                # An answer over 4 MB. This model's answers go by reference from now on.
                self._has_large_answers = True
            raise ReplicaGone(f"gRPC to the replica: {error.details()}") from None


async def _finish(response: Any, deadline_s: float | None) -> Any:
    """Return a response's result; at the deadline, or when the caller is cancelled, cancel it."""
    task = asyncio.ensure_future(_result(response))
    try:
        await asyncio.wait({task}, timeout=left_s(deadline_s))
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


def left_s(deadline_s: float | None) -> float | None:
    """Return the seconds until a deadline on `time.monotonic`'s clock, never below 0; None for no deadline."""
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
