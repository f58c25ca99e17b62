"""The architecture's rules of who may import whom, held by reading every import in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted([*ROOT.glob("deployments/**/*.py"), *ROOT.glob("serve_app/**/*.py")])

RAY = {"builders", "ingress", "gateway", "client", "cli", "replica", "serving", "directory", "forwarding",
       "launcher", "serve_config", "grpc", "fast_path"}  # fmt: skip
TENSORFLOW = {"loading", "plan", "planning", "candidates", "device"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Yield the modules that `path` imports; only those executed by importing it, if asked."""
    tree = ast.parse(path.read_text())
    for node in _import_time_nodes(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _import_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _import_time_nodes(child)


def roots(modules: Iterator[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_who_may_import_whom(path: Path) -> None:
    parts, used = set(name_of(path).split(".")), roots(imports(path))
    in_deployments = name_of(path).startswith("deployments")
    if in_deployments:
        assert "serve_app" not in used, "serve_app imports deployments, never the reverse"
        assert not used & {"starlette", "fastapi", "uvicorn", "aiohttp"}, "deployments knows no HTTP"
    if "ray" in used:
        assert parts & RAY, f"ray is imported only in {sorted(RAY)}"
    if used & {"tensorflow", "keras"}:
        assert in_deployments
        assert parts & TENSORFLOW, f"TensorFlow is imported only in {sorted(TENSORFLOW)}"


def test_the_gateway_needs_no_tensorflow() -> None:
    """Follow what `serve_app.gateway` and the builders import at import time, through both packages."""
    by_name = {name_of(path).removesuffix(".__init__"): path for path in MODULES}
    seen: set[str] = set()
    todo = ["serve_app.gateway", "serve_app.builders", "serve_app.ingress", "serve_app.client", "serve_app.cli"]
    todo = [module for module in todo if module in by_name]
    assert len(todo) >= 4
    while todo:
        module = todo.pop()
        if module in seen or module not in by_name:
            continue
        seen.add(module)
        used = set(imports(by_name[module], at_import_time=True))
        assert not {name.partition(".")[0] for name in used} & {"tensorflow", "keras"}, module
        todo += used
    assert len(seen) > 10


def test_modules_stay_small() -> None:
    too_long = {name_of(p): n for p in MODULES if "_pb2" not in p.name and (n := len(p.read_text().splitlines())) > 300}
    assert not too_long
