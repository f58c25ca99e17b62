"""The page of the REST API in a real Chromium, over the whole surface in process."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from serve_app.openapi import document
from tests.support.chromium import Tab, chromium
from tests.support.openapi_front import Front

OPERATIONS = {
    operation["operationId"]: (method, path)
    for path, methods in document.document()["paths"].items()
    for method, operation in methods.items()
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(Front(), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def tab(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Return a tab with the page open and every operation unfolded."""
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        tab.resize(1240, 900)
        tab.open(f"{address}/docs")
        tab.wait("document.querySelector('.operation')")
        tab.run("document.querySelectorAll('.operation').forEach(node => node.open = true)")
        tab.wait("[...document.querySelectorAll('.operation')].every(node => node.children.length > 1)")
        yield tab


def test_every_operation_is_told_with_its_path(tab: Tab) -> None:
    shown = tab.run(
        "Object.fromEntries([...document.querySelectorAll('.operation')].map(node => "
        "[node.id, [node.querySelector('.method').textContent.toLowerCase(), node.querySelector('code').textContent]]))"
    )
    assert {name: tuple(about) for name, about in shown.items()} == OPERATIONS
    assert tab.problems == []


def test_an_operation_tells_its_parameters_body_and_answers(tab: Tab) -> None:
    told = tab.text("#infer")
    for word in ("Inference-Header-Content-Length", "image/png", "datatype", "outputs?", "413", "Retry-After"):
        assert word in told
    assert "undefined" not in tab.text("main")
    assert "[object" not in tab.text("main")
    assert "`" not in tab.run("[...document.querySelectorAll('summary, p')].map(node => node.textContent).join()")


def test_the_lines_to_copy_are_answered(tab: Tab) -> None:
    lines = tab.run(
        "[...document.querySelectorAll('.operation')]"
        ".filter(node => node.querySelector('.method').textContent === 'GET')"
        ".map(node => node.querySelector(':scope > div:last-child pre').textContent)"
    )
    assert len(lines) == sum(method == "get" for method, _ in OPERATIONS.values())
    for line in lines:
        command = ["curl", "-s", "-o", "-", "-w", "%{http_code}", *shlex.split(line)[1:]]
        answered = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout.decode()
        # The first model of all by name has no plan.
        assert answered.endswith("404" if line.endswith("/plan") else "200"), line


def test_nothing_comes_from_elsewhere(tab: Tab, address: str) -> None:
    loaded = json.loads(tab.run("JSON.stringify(performance.getEntriesByType('resource').map(one => one.name))"))
    assert len(loaded) >= 5
    assert [url for url in loaded if not url.startswith(f"{address}/")] == []
    assert not re.search(r"https?://(?!127\.0\.0\.1)", tab.text("main"))


def test_it_fits_a_phone(tab: Tab) -> None:
    tab.resize(390, 800, is_phone=True)
    assert tab.run("document.documentElement.scrollWidth") <= 390
