"""Loading and unloading as Triton's repository API has it: who may, what a request says, and what follows a folder.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from deployments.errors import InvalidInput, ModelsAreDeclared
from deployments.events import failure
from serve_app.cluster import controller
from serve_app.cluster.directory import DeployedModel
from serve_app.cluster.following import Follower
from serve_app.config import repository
from serve_app.config.composing import Common
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.repository import Repository
from serve_app.config.tokens import Tokens

PARAMETERS = ("config", "unload_dependents")


class ModelControl:
    """One gateway's part in what is served: it follows a folder, loads what an administrator asks for, or refuses."""

    def __init__(self, args: GatewayArgs) -> None:
        self.mode = args.model_control
        self._strict_readiness = args.strict_readiness
        self.admins = Tokens.opened(args.admin_tokens)
        self._poll_s = args.model_poll_s
        self._follower: Follower | None = None
        if args.repository is not None and args.model_control != "none":
            self._folder = repository.folder(args.repository, args.repository_options)
            self._common = Common(args.model_defaults.args, args.model_defaults.deployment)
            self._follower = Follower(self._read, controller, args.model_load_limit_s)

    def follow(self, is_leader: Any) -> None:
        """Follow the folder from a thread of its own, where that was asked for, while `is_leader()` says so."""
        if self.mode == "poll" and self._follower is not None:
            threading.Thread(target=self._run, args=(is_leader,), name="keras-solo-follower", daemon=True).start()

    async def load(self, name: str, parameters: Mapping[str, Any], authorization: bytes) -> None:
        """Load a model and return when it answers; `parameters` may hold `config`, a JSON object of its args.

        Raises `ModelsAreDeclared`, `Unauthorized`, `InvalidInput`, and what `Follower.load` raises.
        """
        follower = self._allowed(name, "load", authorization)
        await asyncio.to_thread(follower.load, name, args_of(parameters))

    async def unload(self, name: str, parameters: Mapping[str, Any], authorization: bytes) -> None:
        """Take a model away after its last request."""
        follower = self._allowed(name, "unload", authorization)
        args_of(parameters)
        await asyncio.to_thread(follower.unload, name)

    def is_ready(self, deployed: Mapping[str, DeployedModel]) -> bool:
        """Return whether the server is ready: when every model is, or without `strict_readiness` when any is."""
        if not deployed:
            return self.mode == "explicit"  # what nobody has asked for yet is not missing
        return (all if self._strict_readiness else any)(model.state == "READY" for model in deployed.values())

    def index(self, deployed: Mapping[str, DeployedModel]) -> list[DeployedModel]:
        """Return the entries of the repository index, by name: what is deployed, and what could not be loaded."""
        failures = {} if self._follower is None else self._follower.failures
        broken = [
            DeployedModel(name, failed.version, "", "", "UNAVAILABLE", failed.reason, 0)
            for name, failed in failures.items()
        ]
        return sorted([*deployed.values(), *broken], key=lambda model: model.name)

    def _allowed(self, name: str, verb: str, authorization: bytes) -> Follower:
        if self.mode != "explicit" or self._follower is None:
            raise ModelsAreDeclared(name, verb, is_followed=self.mode == "poll")
        if self.admins is not None:
            self.admins.check(authorization)
        return self._follower

    def _read(self, only: str | None, args: Mapping[str, Any]) -> Repository:
        return repository.read(self._folder, self._common, only, args)

    def _run(self, is_leader: Any) -> None:
        assert self._follower is not None
        while True:
            time.sleep(self._poll_s)
            try:
                if is_leader():
                    self._follower.poll()
            except Exception as error:
                failure("repository_failed", f"the repository could not be followed: {error}", error)


def args_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's args in a load request's parameters; raise `InvalidInput` for any others than Triton's."""
    for key in parameters:
        if key not in PARAMETERS:
            raise InvalidInput(f"parameters.{key}: expected one of {', '.join(PARAMETERS)}")
    text = parameters.get("config")
    if text is None:
        return {}
    try:
        args = json.loads(text)
    except (TypeError, ValueError):
        args = None
    if not isinstance(args, dict):
        raise InvalidInput("parameters.config: expected the text of a JSON object with keys of the model's args")
    return args
