"""What README and docs show can be done as it stands: configs, commands, keys, imports and links."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.serve.schema import DeploymentSchema, LoggingConfig, gRPCOptionsSchema

from serve_app.cli.main import app
from serve_app.config.args import ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from serve_app.config.pipeline_args import PipelineArgs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^([ ]*)```(\w+)\n(.*?)^[ ]*```", re.DOTALL | re.MULTILINE)
OTHERS = {
    "args", "deployments", "name", "import_path", "route_prefix", "grpc_options", "tracing_config", "scrape_configs",
    "version_policy", "deployment",
}  # fmt: skip
"""Keys that are no model's: Serve's, Prometheus's, and those of `model.yaml`."""
APPLICATIONS: dict[str, Any] = {
    "serve_app:model_app": ModelArgs,
    "serve_app:pipeline_app": PipelineArgs,
    "serve_app:gateway_app": GatewayArgs,
}


def blocks(kind: str) -> list[Any]:
    """Return the pages' code blocks of a kind, each with where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            if match[2] == kind:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(textwrap.dedent(match[3]), id=f"{page.name}:{line}"))
    assert found
    return found


@pytest.mark.parametrize("block", blocks("yaml"))
def test_configs_are_what_the_server_takes(block: str) -> None:
    said = yaml.safe_load(block)
    for one in said if isinstance(said, list) else [said]:
        _check(one)


def _check(said: dict[str, Any]) -> None:
    """Hold a part of a config against the schema that its keys name."""
    if "args" in said:
        schema = APPLICATIONS[said.get("import_path", _application(said["args"]))]
        schema.parse(said["args"])
    for deployment in said.get("deployments", ()):
        DeploymentSchema.model_validate(deployment)
        if "logging_config" in deployment:
            LoggingConfig(**deployment["logging_config"])
    if "grpc_options" in said:
        gRPCOptionsSchema(**said["grpc_options"])
    assert set(said) <= {*OTHERS, *ModelArgs.model_fields}


def _application(args: dict[str, Any]) -> str:
    return "serve_app:pipeline_app" if "steps" in args else "serve_app:model_app"


def commands() -> Iterator[Any]:
    """Yield every `solo …` of the pages' console blocks."""
    for block in blocks("console"):
        text = block.values[0].replace("\\\n", " ")
        for line in text.splitlines():
            if line.startswith("$ ") and " solo " in f" {line[2:]}":
                said = line[2:].partition("#")[0].split(" | ")[0]
                yield pytest.param(said[said.index("solo ") :], id=f"{block.id}: {said.strip()[:50]}")


@pytest.mark.parametrize("said", commands())
def test_commands_and_their_options_are_known(said: str) -> None:
    group = typer.main.get_command(app)
    words = shlex.split(said)[1:]
    options = {option for parameter in group.params for option in parameter.opts}
    if not words[0].startswith("-"):
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        words = words[1:]
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options


@pytest.mark.parametrize("block", blocks("python"))
def test_python_compiles_and_imports_what_is_there(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def test_every_key_of_a_model_is_told_with_its_default() -> None:
    rows = re.findall(
        r"^\| (`[a-z].*?) \| (.*?) \| .* \|$",
        (ROOT / "docs/configuration.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    told: dict[str, str] = {}
    for keys, default in rows:
        names = re.findall(r"`([a-z0-9_]+)`", keys)
        defaults = [default] if len(names) == 1 else re.split(r"[,;] ", default)
        told |= dict(zip(names, (defaults * len(names))[: max(len(names), len(defaults))], strict=False))
    beside = {"inputs", "outputs", "before_processes"}  # told with `before` and `after`
    assert set(ModelArgs.model_fields) - set(told) == beside
    assert set(told) <= set(ModelArgs.model_fields)
    for name, default in told.items():
        field = ModelArgs.model_fields[name]
        if not field.is_required() and default.startswith("`") and default.endswith("`"):
            actual = field.get_default(call_default_factory=True)
            assert _plain(yaml.safe_load(default.strip("`"))) == _plain(actual), f"{name}: {default}, but {actual!r}"


def _plain(value: Any) -> Any:
    """Return a default as the table has it."""
    if isinstance(value, str):
        return value.rstrip("/")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://", "mailto:")):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{target}: no such file"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [_anchor(head) for head in heads], f"{target}: no such heading"


def _anchor(head: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, f"{page.name} is not in docs/README.md"
