"""The house's rules: which room may import which, and which packages; held by reading every import, lazy ones too."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted([*ROOT.glob("deployments/**/*.py"), *ROOT.glob("serve_app/**/*.py")])

CONTRACTS = "errors events tensors source formats model execution"
"""What `deployments` says to everybody; every room of `serve_app` may import these."""

ROOMS: Mapping[str, str] = {
    # serve_app, top down: what a room may import of its own package, then of `deployments` beside the contracts.
    "serve_app.cli": "builders fast_path grpc http client cluster config page openapi observe load protocols front"
    " deployments.candidates deployments.coalescing deployments.device deployments.loading deployments.planning"
    " deployments.replica deployments.fetching deployments.statistics",
    "serve_app": "builders",
    "serve_app.builders": "pipeline ingress gateway cluster config"
    " deployments.replica deployments.sequences deployments.processing deployments.loading deployments.planning"
    " deployments.fetching",
    "serve_app.pipeline": "ingress client cluster config observe deployments.processing deployments.conversion"
    " deployments.replica deployments.servable",
    "serve_app.ingress": "fast_path grpc lane http cluster config observe front deployments.replica"
    " deployments.sequences deployments.servable",
    "serve_app.gateway": "fast_path grpc http cluster config",
    "serve_app.fast_path": "http",
    "serve_app.grpc": "http cluster config protocols deployments.servable",
    "serve_app.http": "cluster config page openapi protocols deployments.servable deployments.statistics",
    "serve_app.client": "lane cluster config protocols front deployments.conversion deployments.sequences",
    "serve_app.lane": "fast_path http protocols deployments.servable deployments.sequences",
    "serve_app.cluster": "config front",
    "serve_app.observe": "autoscaling deployments.servable deployments.statistics deployments.coalescing",
    "serve_app.config": "protocols deployments.processing deployments.fetching",
    "serve_app.page": "protocols",
    "serve_app.openapi": "protocols",
    "serve_app.load": "protocols",
    "serve_app.protocols": "deployments.sequences deployments.servable deployments.statistics",
    "serve_app.front": "",
    "serve_app.autoscaling": "",
    # deployments: likewise.
    "deployments.replica": "servable sequences states response_cache health processing planning coalescing fetching"
    " device execution tensors formats source errors events",
    "deployments.servable": "sequences response_cache statistics execution lengths tensors errors",
    "deployments.processing": "planning coalescing execution lengths states model conversion modules tensors errors",
    "deployments.health": "execution tensors errors events",
    "deployments.planning": "candidates device loading lengths model tensors source files errors events",
    "deployments.coalescing": "execution tensors errors",
    "deployments.loading": "fetching modules model tensors formats source errors events",
    "deployments.fetching": "source errors events",
    "deployments.device": "tensors errors events",
    "deployments.candidates": "device model tensors source files errors events",
    "deployments.response_cache": "execution tensors",
    "deployments.sequences": "states execution tensors errors",
    "deployments.states": "tensors errors",
    "deployments.statistics": "execution",
    "deployments.lengths": "execution tensors errors",
    "deployments.model": "tensors",
    "deployments.execution": "tensors",
    "deployments.conversion": "tensors errors",
    "deployments.modules": "errors",
    "deployments.tensors": "errors",
    "deployments.formats": "source errors",
    "deployments.files": "",
    "deployments.source": "",
    "deployments.errors": "",
    "deployments.events": "",
    "deployments": "",
}
"""Room to the rooms that it may import. Whoever needs another arrow hands a callable in, or moves the idea down."""

ALONE: Mapping[str, str] = {
    "typer": "cli",
    "rich": "cli",
    "matplotlib": "cli",
    "uvicorn": "fast_path",
    "httptools": "fast_path",
    "starlette": "fast_path http",
    "aiohttp": "http",
    "yarl": "http",
    "grpc": "grpc client front",
    "google": "grpc",
    "opentelemetry": "observe",
    "prometheus_client": "observe",
    "pydantic": "config protocols",
    "yaml": "cli config",
    "PIL": "protocols",
    "ml_dtypes": "protocols",
    "psutil": "cli cluster front",
    "ray": "cli builders pipeline ingress gateway fast_path grpc client cluster config replica",
    "tensorflow": "candidates planning loading device",
    "onnx": "candidates",
    "onnxruntime": "candidates",
    "tf2onnx": "candidates",
    "keras": "loading planning",
    "tf_keras": "loading",
    "h5py": "loading",
    "fsspec": "fetching",
    "filelock": "fetching planning",
    "pyarrow": "planning",
}
"""Package to the rooms that may import it; numpy and orjson are everybody's, packaging is `solo doctor`'s."""
ANYWHERE = {"numpy", "orjson", "packaging"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """Return the room that a module of ours lies in: the package's folder or file; None for others' modules."""
    package, _, rest = module.partition(".")
    if package not in ("serve_app", "deployments"):
        return None
    room = f"{package}.{rest.partition('.')[0]}"
    return room if room in ROOMS else package


def imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Yield the names that `path` imports, with their modules; only those executed by importing it, if asked."""
    tree = ast.parse(path.read_text())
    for node in _import_time_nodes(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _import_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _import_time_nodes(child)


def allowed_rooms(room: str) -> set[str]:
    package = room.partition(".")[0]
    allowed = {each if "." in each else f"{package}.{each}" for each in ROOMS[room].split()}
    return allowed | ({f"deployments.{each}" for each in CONTRACTS.split()} if package == "serve_app" else set())


def wrong_arrow(room: str, module: str) -> str | None:
    """Return what is wrong with `room` importing `module`, None where nothing is."""
    target = room_of(module)
    if target is None or target == room or target in allowed_rooms(room):
        return None
    own = room.partition(".")[0]
    if own == "deployments" and target.startswith("serve_app"):
        return f"{room} imports {module}: serve_app imports deployments, never the reverse"
    known = ", ".join(sorted(each.removeprefix(f"{own}.") for each in allowed_rooms(room))) or "nothing of ours"
    return (
        f"{room} imports {module}, but may import only {known}. Move the idea down to where both reach it, hand it in "
        "as an argument, or move this file to a room above; house and reasons: docs/architecture.md"
    )


def wrong_package(room: str, module: str) -> str | None:
    """Return what is wrong with `room` importing another's `module`, None where nothing is."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package in ANYWHERE or room_of(module) is not None:
        return None
    if package not in ALONE:
        return f"{room} imports {package}, which no room has yet: name its room in tests/test_layers.py"
    if room.partition(".")[2] not in ALONE[package].split():
        return f"{room} imports {package}, which only {' and '.join(ALONE[package].split())} may touch"
    return None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_who_may_import_whom(path: Path) -> None:
    room = room_of(name_of(path))
    assert room is not None
    if path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
        return
    for module in imports(path):
        assert not (wrong := wrong_arrow(room, module)), wrong
        assert not (wrong := wrong_package(room, module)), wrong


def test_the_front_doors_rules_are_one_file_of_the_standard_library() -> None:
    """Serve's launcher runs it by its path with `python -I`, where nothing of ours can be imported."""
    used = {module.partition(".")[0] for module in imports(ROOT / "serve_app/front/haproxy.py")}
    assert used <= {*sys.stdlib_module_names, "__future__"}


def test_no_arrow_runs_up_or_in_a_circle() -> None:
    order: list[str] = []
    open_rooms: list[str] = []

    def visit(room: str) -> None:
        assert room not in open_rooms, f"a circle: {' -> '.join([*open_rooms, room])}"
        if room not in order:
            open_rooms.append(room)
            for target in sorted(allowed_rooms(room)):
                visit(target)
            order.append(open_rooms.pop())

    for room in ROOMS:
        visit(room)
    assert len(order) == len(ROOMS)


def test_every_room_and_every_arrow_is_used() -> None:
    """A rule that nothing needs any more is one that somebody will lean on."""
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in MODULES:
        room = room_of(name_of(path))
        assert room is not None
        used[room] |= {target for module in imports(path) if (target := room_of(module)) is not None}
    contracts = {f"deployments.{each}" for each in CONTRACTS.split()}
    for room, targets in used.items():
        if room != "serve_app.cli":  # it may use every room, whether it does today or not
            assert not (idle := allowed_rooms(room) - contracts - targets), f"{room} no longer imports {idle}"
    assert {room_of(name_of(path)) for path in MODULES} == ROOMS.keys()


def test_a_wrong_arrow_is_told_which_way_it_may_go() -> None:
    told = wrong_arrow("serve_app.config", "serve_app.http.errors.STATUS")
    assert told is not None
    assert "serve_app.config imports serve_app.http.errors.STATUS, but may import only" in told
    assert "protocols" in told
    assert wrong_arrow("serve_app.http", "serve_app.protocols.codec.Response") is None
    assert "never the reverse" in str(wrong_arrow("deployments.replica", "serve_app.http.asgi.App"))
    assert "only fast_path may touch" in str(wrong_package("serve_app.http", "uvicorn.Server"))
    assert "which no room has yet" in str(wrong_package("serve_app.http", "flask"))


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda folder: folder.name)
def test_a_room_says_what_it_is_for(folder: Path) -> None:
    """One sentence, in the one place where a reader looks first."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text
    if folder.parent == ROOT / "serve_app":
        assert re.search(r"[Mm]ay import|[Ii]mports", text), f"{folder.name}: whom may it import?"


OPTIONAL = {"opentelemetry", "pyarrow", "onnx", "onnxruntime", "tf2onnx"}
"""Where Ray's tracing is set up, for .parquet files, and for more ways of executing."""


def test_what_is_imported_is_declared() -> None:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=!~ ;]", each)[0].lower().replace("_", "-") for each in declared}
    owners = importlib.metadata.packages_distributions()
    used = {module.partition(".")[0] for path in MODULES for module in imports(path)}
    for package in sorted(used - set(sys.stdlib_module_names) - {"serve_app", "deployments"}):
        if package in OPTIONAL:
            continue
        by = {owner.lower().replace("_", "-") for owner in owners[package]}
        assert by & names, f"{package} is imported; declare {' or '.join(sorted(by))} in pyproject.toml"


def test_the_gateway_needs_no_tensorflow() -> None:
    """Follow what the applications and the commands import at import time, through both packages."""
    by_name = {name_of(path): path for path in MODULES}
    seen: set[str] = set()
    todo = ["serve_app.gateway", "serve_app.builders", "serve_app.ingress", "serve_app.client", "serve_app.cli"]
    while todo:
        module = todo.pop()
        if module not in by_name:
            module = module.rpartition(".")[0]
        if module in seen or module not in by_name:
            continue
        seen.add(module)
        used = set(imports(by_name[module], at_import_time=True))
        assert not {name.partition(".")[0] for name in used} & {"tensorflow", "keras"}, module
        todo += used
    assert len(seen) > 50


def test_modules_stay_small() -> None:
    too_long = {name_of(p): n for p in MODULES if "_pb2" not in p.name and (n := len(p.read_text().splitlines())) > 300}
    assert not too_long
