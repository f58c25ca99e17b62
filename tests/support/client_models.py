"""Models made of numpy functions behind the real routes, coalescer and Serve, for what no Keras model does on cue."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from ray.serve import Application

from deployments.coalescing import CoalesceOptions, make_coalescer
from deployments.replica import ModelReplica
from deployments.servable import Servable
from deployments.tensors import Signature, TensorSpec
from serve_app.config.surface import Limits
from serve_app.http.model_routes import ModelRoutes

Function = Callable[..., tuple[np.ndarray[Any, Any], ...]]
ANSWER_VALUES = 150_000
"""Of `wide`: the answer to a full batch of 8 rows is over gRPC's 4 MB."""


def spec(name: str, dtype: str, *inner: int | None) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), (None, *inner))


def sleep(seconds: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any]]:
    if seconds.min() < 0:
        raise ArithmeticError("this model cannot turn back time")
    time.sleep(float(seconds.max()))
    return (seconds,)


def die_once(marker: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any]]:
    """Kill this process at the first call ever whose marker is not yet a file."""
    if marker[0, 0] and not (path := Path(os.environ["DIE_FOLDER"], f"{marker[0, 0]}")).exists():
        path.touch()
        os._exit(1)
    return (np.full((len(marker), 1), os.getpid(), np.int64),)


def models(shape: int) -> dict[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], Function]]:
    return {
        "double": ((spec("x", "f4", shape),), (spec("y", "f4", shape),), lambda x: (x * 2,)),
        "several": (
            (spec("a", "i4", 4), spec("b", "i4", 4)),
            (spec("sum", "i4", 4), spec("difference", "i4", 4)),
            lambda a, b: (a + b, a - b),
        ),
        "wide": (
            (spec("x", "f4", None),),
            (spec("y", "f4", ANSWER_VALUES),),
            lambda x: (np.repeat(x.max(axis=1, keepdims=True), ANSWER_VALUES, axis=1),),
        ),
        "slow": ((spec("seconds", "f4", 1),), (spec("seconds", "f4", 1),), sleep),
        "mortal": ((spec("marker", "i8", 1),), (spec("pid", "i8", 1),), die_once),
    }


class NumpyExecutor:
    batch_sizes = (1, 2, 4, 8)
    runs_on_host = True

    def __init__(self, function: Function) -> None:
        self.function = function

    def run(self, arrays: tuple[np.ndarray[Any, Any], ...], count: int) -> tuple[np.ndarray[Any, Any], ...]:
        return self.function(*arrays)

    def expected_s(self, count: int) -> float:
        return 0.0001

    def is_inline(self, count: int) -> bool:
        return False


@serve.deployment(name="KerasReplica", max_ongoing_requests=4096, ray_actor_options={"num_cpus": 0})
@serve.ingress()
class NumpyReplica(ModelReplica):
    def __init__(self, name: str, kind: str, shape: int) -> None:
        inputs, outputs, function = models(shape)[kind]
        size = NumpyExecutor.batch_sizes[-1]
        coalescer = make_coalescer(NumpyExecutor(function), CoalesceOptions(max_batch_size=size))
        self.servable = Servable(name, "1", Signature(inputs, outputs), coalescer, size)

    def __serve_build_asgi_app__(self) -> ModelRoutes:
        return ModelRoutes(self.servable, Limits())

    async def check_health(self) -> None:
        """Be well: a sleeping model is no sick one."""

    def describe(self) -> dict[str, Any]:
        servable = self.servable
        return {
            "name": servable.name,
            "version": servable.version,
            "signature": servable.signature,
            "max_batch_size": servable.max_batch_size,
        }


def app(args: Mapping[str, Any]) -> Application:
    """Build an application as a user's own builder might: `name`, and `kind` where that differs from it."""
    deployment = NumpyReplica.options(num_replicas=args.get("replicas", 1))
    return deployment.bind(args["name"], args.get("kind", args["name"]), args.get("shape", 16))
