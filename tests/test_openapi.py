"""The OpenAPI description against the application that it describes."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_app import openapi
from serve_app.errors import STATUS
from tests.openapi_front import Front
from tests.routes_harness import Reply, binary_request, call, tensor

FRONT = Front()
DOCUMENT = openapi.document(FRONT.apps)
PATHS: dict[str, Any] = DOCUMENT["paths"]


def ask(method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
    return call(FRONT, path, body, method.upper(), headers)  # type: ignore[arg-type]


def templated(path: str, name: str) -> str:
    """Return a model's route as the document names it; the forms below its own prefix are `/v1`'s again."""
    path = path.removeprefix(f"/v2/models/{name}") if f"/v2/models/{name}/v1" in path else path
    return path.replace(f"/models/{name}", "/models/{name}").replace("/versions/1", "/versions/{version}")


def routed() -> set[tuple[str, str]]:
    """Return every method and path that the applications have a route for."""
    gateway = {(method, path) for path, (method, _) in FRONT.gateway.routes.items()}
    pages = {("GET", "/page/{file}" if path.startswith("/page/") else path) for path in FRONT.gateway.page}
    models = {
        (route.method, templated(path, name)) for name, app in FRONT.apps.items() for path, route in app.routes.items()
    }
    return gateway | pages | models


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in PATHS.items() for method in methods}
    # Matched by a pattern, not by a table.
    patterns = {("POST", f"/v2/repository/models/{{name}}/{verb}") for verb in ("load", "unload")}
    assert described == routed() | patterns


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_answered_and_has_no_other_method(path: str) -> None:
    concrete = path.format(name="pixels", version="1", file="style.css")
    for method in ("get", "post", "put", "delete", "patch"):
        status = ask(method, concrete).status
        assert (status == 405) == (method not in PATHS[path]), (method, concrete, status)
        assert status != 404
    for operation in PATHS[path].values():
        assert "405" in operation["responses"]


def test_every_error_of_the_table_is_described() -> None:
    assert {str(status) for status in STATUS.values()} <= set(PATHS["/v2/models/{name}/infer"]["post"]["responses"])


def test_it_is_answered_with_the_deployed_models_as_examples() -> None:
    served = ask("get", "/openapi.json")
    assert served.json() == DOCUMENT
    assert set(DOCUMENT["components"]["parameters"]["name"]["examples"]) == set(FRONT.apps)


def test_references_lead_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    wanted = set(re.findall(r'"\$ref": "#/components/([^"]+)"', text))
    given = {f"{kind}/{name}" for kind, members in DOCUMENT["components"].items() for name in members}
    assert wanted == given
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for methods in PATHS.values() for operation in methods.values()]
    assert len(names) == len(set(names))
