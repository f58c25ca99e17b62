"""What the page shows when things go wrong: a model down, a server gone, and both back again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.front.ports import free_port
from tests.support.chromium import Tab, chromium
from tests.support.page_server import page_server


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path / "profile") as one:
        yield one


def test_a_model_that_is_down_says_why_and_comes_back(tab: Tab, tmp_path: Path) -> None:
    with page_server(tmp_path / "log", which="plain") as server:
        tab.open(f"{server.url}/#simple")
        tab.wait("document.querySelector('.try-values .primary')")
        assert "3 of 3 models ready" in tab.text("#server")
        server.set_state("simple", "UNAVAILABLE", "the GPU fell off the bus")
        tab.wait("document.querySelector('article > .trouble')?.textContent.includes('the GPU fell off the bus')")
        assert tab.run("document.querySelector('.model-body').inert") is True
        assert "2 of 3 models ready" in tab.text("#server")
        assert "unavailable" in tab.text(".models .current .state")
        server.set_state("simple", "READY", replicas=2)
        tab.wait("document.querySelector('.model-body')?.inert === false")
        tab.wait("document.querySelector('.models .current [data-title=Replicas]').textContent === '2'")
        tab.click(".try-values .primary")
        tab.wait("document.querySelectorAll('.output').length === 2")


def test_a_model_that_is_loading_is_shown_as_such(tab: Tab, tmp_path: Path) -> None:
    with page_server(tmp_path / "log", which="plain") as server:
        server.set_state("half", "LOADING", "the model is loading")
        tab.open(f"{server.url}/#half")
        tab.wait("document.querySelector('article.panel .trouble')?.textContent.includes('the model is loading')")
        server.set_state("half", "READY", replicas=1)
        tab.wait("document.querySelector('.try-values .primary')")


def test_a_prediction_that_finds_its_model_down_is_told(tab: Tab, tmp_path: Path) -> None:
    with page_server(tmp_path / "log", which="plain") as server:
        tab.open(f"{server.url}/#simple")
        tab.wait("document.querySelector('.try-values .primary')")
        server.set_state("simple", "UNAVAILABLE", "out of memory")
        tab.run("document.querySelector('.try-values form').requestSubmit()")
        tab.wait("document.querySelector('.try-values p.trouble').textContent.includes('503')")
        assert "out of memory" in tab.text(".try-values p.trouble")


def test_a_server_that_is_gone_is_said_to_be_and_found_again(tab: Tab, tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as running:
        server = running.enter_context(page_server(tmp_path / "log", port, which="plain"))
        tab.open(f"{server.url}/#simple")
        tab.wait("document.querySelector('.try-values .primary')")
        assert tab.text("#alarm") == ""
        running.close()
        tab.wait("document.querySelector('#alarm').textContent.includes('does not answer')")
        assert tab.text("#server") == "not reachable"
        assert tab.run("document.querySelector('.model-body').inert") is True
    with page_server(tmp_path / "log", port, which="plain"):
        tab.wait("document.querySelector('#alarm').textContent === ''")
        tab.wait("document.querySelector('.model-body').inert === false")
