"""What differs between the applications that run and those that a config wants, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

App = Mapping[str, Any]
_WHOLE = ("import_path", "route_prefix", "deployments")


def between(before: Iterable[App], after: Iterable[App]) -> list[str]:
    """Return a line for every application that is added, removed or changed; empty where nothing is."""
    old = {app["name"]: app for app in before}
    new = {app["name"]: app for app in after}
    lines = [f"{name}: removed" for name in old if name not in new]
    for name, app in new.items():
        if name not in old:
            lines.append(f"{name}: added")
        elif found := _differences(old[name], app):
            lines.append(f"{name}: changed: {', '.join(found)}")
    return lines


def _differences(old: App, new: App) -> list[str]:
    keys = [
        key for key in ("import_path", "route_prefix", "deployments") if (old.get(key) or []) != (new.get(key) or [])
    ]
    was, is_now = old.get("args") or {}, new.get("args") or {}
    for key in dict.fromkeys([*was, *is_now]):
        if was.get(key) == is_now.get(key):
            continue
        if key == "source_revision":
            keys.append("its files")
        else:
            keys.append(f"{key} {_short(was.get(key))} -> {_short(is_now.get(key))}")
    return keys


def _short(value: Any) -> str:
    if value is None:
        return "unset"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
