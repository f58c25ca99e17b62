"""The OpenAPI description against the application that it describes."""

from __future__ import annotations

import io
import json
import re
import zlib
from functools import reduce
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

from serve_app.http.errors import STATUS
from serve_app.openapi import document
from tests.support.openapi_front import Front
from tests.support.routes_harness import Reply, binary_request, call, tensor

FRONT = Front()
DOCUMENT = document.document(FRONT.apps)
PATHS: dict[str, Any] = DOCUMENT["paths"]


def ask(method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
    return call(FRONT, path, body, method.upper(), headers)  # type: ignore[arg-type]


def templated(path: str, name: str) -> str:
    """Return a model's route as the document names it; the forms below its own prefixes are `/v1`'s again."""
    path = path[path.index("/v1/") :] if "/v1/" in path else path
    return path.replace(f"/models/{name}", "/models/{name}").replace("/versions/1", "/versions/{version}")


def routed() -> set[tuple[str, str]]:
    """Return every method and path that the applications have a route for."""
    gateway = {(method, path) for path, (method, _) in FRONT.gateway.routes.items()}
    pages = {("GET", "/page/{file}" if path.startswith("/page/") else path) for path in FRONT.gateway.page}
    models = {
        (method, templated(path, name)) for name, app in FRONT.apps.items() for path, (method, _) in app.routes.items()
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
    paths = ("/v2/models/{name}/infer", "/v2/repository/models/{name}/load")
    described = {status for path in paths for status in PATHS[path]["post"]["responses"]}
    assert {str(status) for status in STATUS.values()} <= described


def test_it_is_answered_with_the_deployed_models_as_examples() -> None:
    served = ask("get", "/openapi.json")
    assert served.json() == DOCUMENT
    assert set(DOCUMENT["components"]["parameters"]["name"]["examples"]) == set(FRONT.apps)


def test_references_lead_somewhere_and_every_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    wanted = set(re.findall(r'"\$ref": "#/components/([^"]+)"', text))
    given = {f"{kind}/{name}" for kind, members in DOCUMENT["components"].items() for name in members}
    # A security scheme is named, not referenced.
    assert wanted | {"securitySchemes/bearer"} == given
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for methods in PATHS.values() for operation in methods.values()]
    assert len(names) == len(set(names))


ROWS = np.arange(16, dtype=np.int32).reshape(1, 16)
SIMPLE = {"inputs": [tensor("INPUT0", ROWS, "INT32"), tensor("INPUT1", ROWS, "INT32")]}
PIXELS = {"inputs": [tensor("x", np.zeros((2, 4, 4, 1), np.float32), "FP32")]}
HALVES = [("x", "FP16", (1, 2), np.zeros(2, np.float16).tobytes())]


def picture(kind: str) -> bytes:
    held = io.BytesIO()
    Image.new("L", (4, 4), 128).save(held, kind)
    return held.getvalue()


def infer(name: str, body: Any, **headers: str) -> tuple[Any, ...]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return ("post", "/v2/models/{name}/infer", {"name": name}, body, named, 200)


def get(path: str, name: str = "pixels", status: int = 200) -> tuple[Any, ...]:
    return ("get", path, {"name": name, "version": "1", "file": "style.css"}, b"", {}, status)


V1_PREDICT = "/v1/models/{name}:predict"
HALF_BODY, HALF_HEADERS = binary_request(HALVES, parameters={"binary_data_output": True})
ANSWERED = [
    *(get(path) for path, methods in PATHS.items() if "get" in methods),
    get("/v2/models/{name}", "zebra", 404),
    get("/v2/models/{name}/plan", "simple", 404),
    ("post", "/v2/repository/index", {}, b"", {}, 200),
    ("post", "/v2/repository/index", {}, b"[]", {}, 400),
    ("post", "/v2/repository/index", {}, b" " * 100_001, {}, 413),
    ("post", "/v2/repository/models/{name}/load", {"name": "a"}, b"", {}, 400),
    infer("simple", {"id": "7", **SIMPLE}),
    infer("pixels", {**PIXELS, "outputs": [{"name": "scores", "parameters": {"classification": 2}}]}),
    infer("pixels", {**PIXELS, "parameters": {"binary_data_output": True}}),
    infer("pixels", picture("PNG"), content_type="image/png"),
    infer("pixels", picture("JPEG"), content_type="image/jpeg"),
    infer("pixels", bytes(64), inference_header_content_length="0"),
    infer("words", {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}]}),
    infer("halves", HALF_BODY, **{key.replace("-", "_"): value for key, value in HALF_HEADERS.items()}),
    (*infer("pixels", b"{", content_type="image/png")[:5], 400),
    (*infer("pixels", PIXELS, content_encoding="br")[:5], 415),
    ("post", V1_PREDICT, {"name": "pixels"}, {"instances": np.zeros((2, 4, 4, 1)).tolist()}, {}, 200),
    ("post", V1_PREDICT, {"name": "simple"}, {"inputs": {"INPUT0": ROWS.tolist(), "INPUT1": ROWS.tolist()}}, {}, 200),
    ("post", V1_PREDICT, {"name": "pixels"}, {}, {}, 400),
]


def resolved(value: Any) -> Any:
    """Return what a reference means."""
    if "$ref" not in value:
        return value
    return reduce(lambda part, key: part[key], value["$ref"].split("/")[1:], DOCUMENT)


@pytest.mark.parametrize(("method", "path", "names", "body", "headers", "status"), ANSWERED)
def test_real_answers_have_the_described_form(
    method: str, path: str, names: dict[str, str], body: Any, headers: dict[str, str], status: int
) -> None:
    reply = ask(method, path.format(**names), body, headers)
    assert reply.status == status
    described = resolved(PATHS[path][method]["responses"][str(status)])
    content_type = reply.headers[b"content-type"].decode().split(";")[0]
    schema = described["content"][content_type]["schema"]
    assert {name.lower() for name in described.get("headers", {})} >= (
        {key.decode() for key in reply.headers} & {"server-timing", "inference-header-content-length", "allow"}
    )
    if schema.get("format") != "binary" and content_type == "application/json":
        validator = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        validator.validate(reply.json())


REAL = {"name": sorted(FRONT.apps), "version": ["1"], "file": ["style.css", "app.js", "icon.svg", "docs.html"]}
VALID = {
    "application/json": ("simple", SIMPLE, {}),
    "application/octet-stream": ("halves", HALF_BODY, HALF_HEADERS),
    "image/png": ("pixels", picture("PNG"), {}),
    **{f"image/{kind.lower()}": ("pixels", picture(kind), {}) for kind in ("JPEG", "WEBP", "BMP", "GIF", "TIFF")},
    ":predict": ("pixels", {"instances": np.zeros((2, 4, 4, 1)).tolist()}, {}),
}

for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
    schemathesis.openapi.media_type(f"image/{kind.lower()}", st.just(picture(kind)) | st.binary(max_size=64))

schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.app = FRONT


@schema.hook
def map_case(context: Any, case: Any) -> Any:
    """Make a part of the random requests real ones, as their own bytes decide: few would get past their path."""
    names = case.path_parameters or {}
    pick = zlib.crc32(repr((names, case.headers, case.media_type, case.body)).encode("utf-8", "replace"))
    for key in names.keys() & REAL.keys():
        if pick % 4:
            names[key] = REAL[key][pick // 4 % len(REAL[key])]
    if case.operation.path.endswith(("/infer", ":predict")) and pick % 3 == 0:
        make_valid(case)
    return case


def make_valid(case: Any) -> None:
    """Give an inference request a body that a model answers with 200."""
    kind = ":predict" if case.operation.path.endswith(":predict") else case.media_type
    if kind in VALID:
        case.path_parameters["name"], case.body, headers = VALID[kind]
        case.headers = {**headers, "Content-Type": case.media_type}


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_schemathesis_finds_nothing(case: Any) -> None:
    case.call_and_validate(
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            response_headers_conformance,
        ]
    )
