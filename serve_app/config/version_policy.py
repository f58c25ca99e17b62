"""Which of a model's versions are served: `latest N`, `all`, or a list of numbers."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from deployments.errors import ConfigError

EXPECTED = "expected 'latest', 'latest N', 'all' or a list of version numbers"


@dataclass(frozen=True)
class VersionPolicy:
    """`latest` newest ones, or all where that is None; or just the `named`, which need not all be there."""

    latest: int | None = 1
    named: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, value: object, where: str) -> VersionPolicy:
        """Return the policy that a `model.yaml` gives; raise `ConfigError`, which names `where`."""
        if value == "all":
            return cls(None)
        if isinstance(value, str) and (found := re.fullmatch(r"latest(?: +([1-9]\d*))?", value.strip())):
            return cls(int(found[1] or 1))
        is_list = isinstance(value, list) and value != []
        if is_list and all(type(entry) is int and entry >= 0 for entry in value):  # type: ignore[attr-defined]
            return cls(None, tuple(sorted(set(value))))  # type: ignore[call-overload]
        raise ConfigError(f"{where}: {EXPECTED}, got {value!r}")

    @property
    def is_single(self) -> bool:
        """Whether one version at a time is served, which then answers at the model's own path."""
        return self.latest == 1 or (self.named is not None and len(self.named) == 1)

    def choose(self, present: Collection[int]) -> list[int]:
        """Return the versions to serve of those that are `present`, ascending."""
        if self.named is not None:
            return [version for version in self.named if version in present]
        return sorted(present)[-self.latest :] if self.latest is not None else sorted(present)
