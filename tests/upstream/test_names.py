"""Each private name that is used here is there in the installed version; the message says where to look if not."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.upstream.names import NAMES, Private

ROOT = Path(__file__).resolve().parent.parent.parent
ALLOWED = ("front", "fast_path", "cluster", "candidates", "loading")
FEW = {"serve_app/grpc/servicer.py", "deployments/planning/vocabularies.py"}
"""Beside these rooms: Serve's gRPC proxy has to be met where it calls, a lookup layer where its table is read."""


@pytest.mark.parametrize("private", NAMES, ids=lambda private: private.name)
def test_it_is_there(private: Private) -> None:
    what = f"{private.module}.{private.name}, used in {private.used_in}"
    found = importlib.import_module(private.module)
    path, _, parameter = private.name.partition("().")
    for name in path.split("."):
        found = getattr(found, name, None)
        assert found is not None, f"{what}, is gone: {private.without}"
    if parameter:
        assert parameter in inspect.signature(found).parameters, f"{what}, is gone: {private.without}"


@pytest.mark.parametrize("private", NAMES, ids=lambda private: private.name)
def test_it_is_used_where_the_table_says_and_told_in_the_docs(private: Private) -> None:
    name = re.split(r"[.]", private.name)[-1]
    assert name in (ROOT / private.used_in).read_text()
    row = [line for line in (ROOT / "docs/architecture.md").read_text().splitlines() if f"`{name}`" in line]
    assert any(private.used_in.rpartition("/")[2] in line for line in row), f"no row for {name} in docs/architecture.md"


def test_private_names_are_used_in_their_rooms_alone() -> None:
    """What begins with an underscore and is not our own object's, or comes out of a `_private` package."""
    for path in [*ROOT.glob("serve_app/**/*.py"), *ROOT.glob("deployments/**/*.py")]:
        name = str(path.relative_to(ROOT))
        if {*path.parent.parts} & {*ALLOWED} or name in FEW or path.name.endswith("_pb2.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert "_private" not in (node.module or ""), f"{name} imports {node.module}"
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                assert _is_ours(node), f"{name}:{node.lineno} reaches for {node.attr}"


def _is_ours(node: ast.Attribute) -> bool:
    owner = node.value
    if isinstance(owner, ast.Name) and owner.id in ("self", "cls", "os", "asyncio"):
        return True
    # Another object of the same class, e.g. a connection's load.
    return isinstance(owner, ast.Name) and owner.id in ("other", "load")
