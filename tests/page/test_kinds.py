"""The page before every kind of model of the matrix, and before one, ten and fifty models."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.chromium import Tab, chromium
from tests.support.looks import is_light, unnamed, weak_texts
from tests.support.page_server import KINDS, PageServer, page_server

PICTURES = {"mobilenet_v2"}
CELLS = "[...document.querySelectorAll('.output .values')].map(one => [...one.children].map(s => s.textContent))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("kinds") / "log", which="kinds") as running:
        yield running


def opened(tab: Tab, server: PageServer, name: str, width: int = 1240, scheme: str = "light") -> Tab:
    """Return the tab with a model's page open, without what it had to complain before."""
    tab.resize(width, 900, is_phone=width < 500)
    tab.prefer(scheme)
    tab.open("about:blank")
    tab.problems.clear()
    tab.open(f"{server.url}/#{name}")
    tab.wait(f"document.querySelector('article[aria-label=\"Model {name}\"] .tabs')")
    return tab


def typed(tab: Tab) -> list[Any]:
    """Return what stands in the form, an array an input."""
    tab.run("[...document.querySelectorAll('[role=tab]')].find(one => one.textContent === 'Values')?.click()")
    return list(tab.run("[...document.querySelectorAll('.field textarea')].map(one => JSON.parse(one.value))"))


def asked(server: PageServer, name: str, values: list[Any]) -> list[np.ndarray]:
    """Return what the model itself answers to the same rows."""
    about = server.get_json(f"/v2/models/{name}")
    inputs = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": list(np.shape(value)),
            "data": np.asarray(value).ravel().tolist(),
        }
        for tensor, value in zip(about["inputs"], values, strict=True)
    ]
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(f"{server.url}/v2/models/{name}/infer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [np.reshape(output["data"], output["shape"]) for output in json.load(answer)["outputs"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_answers_its_example(browser: Tab, kinds: PageServer, name: str) -> None:
    tab = opened(browser, kinds, name)
    values = typed(tab)
    tab.click(".try-values .primary")
    outputs = len(kinds.get_json(f"/v2/models/{name}")["outputs"])
    tab.wait(f"document.querySelectorAll('.output').length === {outputs}")
    shown = [[float(cell) for cell in cells if "more" not in cell] for cells in tab.run(CELLS)]
    assert all(shown)
    if name not in PICTURES:  # too many values for a field
        for cells, output in zip(shown, asked(kinds, name, values), strict=True):
            np.testing.assert_allclose(cells, output.ravel()[: len(cells)], rtol=1e-2, atol=1e-3)
    assert tab.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_read_and_operated(browser: Tab, kinds: PageServer, name: str) -> None:
    tab = opened(browser, kinds, name, 320, "dark")
    assert len(typed(tab)) > 0 or name in PICTURES
    assert tab.run("document.documentElement.scrollWidth") <= 320
    assert weak_texts(tab)[1] == []
    assert not is_light(tab)
    met, without = unnamed(tab)
    assert met > 10
    assert without == []
    assert tab.problems == []


@pytest.fixture(scope="module", params=[1, 10, 50])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, PageServer]]:
    with page_server(tmp_path_factory.mktemp("many") / "log", which=str(request.param)) as running:
        yield request.param, running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1240])
def test_few_and_many_models(browser: Tab, many: tuple[int, PageServer], width: int, scheme: str) -> None:
    count, server = many
    last = f"model-{count - 1:02}"
    tab = opened(browser, server, last, width, scheme)
    assert f"{count} of {count} models ready" in tab.text("#server")
    assert tab.run("document.documentElement.scrollWidth") <= width
    texts, weak = weak_texts(tab)
    assert texts > 20
    assert weak == []
    assert is_light(tab) == (scheme == "light")
    assert unnamed(tab)[1] == []
    typed(tab)
    tab.click(".try-values .primary")
    tab.wait("document.querySelector('.output .values')")
    # Models of numpy functions have no plan, and a browser reports the 404.
    assert [problem for problem in tab.problems if "/plan" not in problem] == []


def test_every_model_is_reached_by_the_keyboard(browser: Tab, many: tuple[int, PageServer]) -> None:
    count, server = many
    tab = opened(browser, server, "model-00")
    names = {f"model-{number:02}" for number in range(count)} if count > 1 else set()
    seen: set[str] = set()
    for _ in range(count + 30):
        tab.key("Tab")
        href = tab.run("document.activeElement.getAttribute('href') ?? ''")
        if href.startswith("#"):
            seen.add(href[1:])
    assert names <= seen
    if count > 1:
        tab.run(f"document.querySelector('a[href=\"#model-{count - 1:02}\"]').focus()")
        tab.key("Enter")
        tab.wait(f"document.querySelector('article[aria-label=\"Model model-{count - 1:02}\"]')")


def test_many_models_are_looked_up_by_name(browser: Tab, many: tuple[int, PageServer]) -> None:
    count, server = many
    tab = opened(browser, server, f"model-{count - 1:02}")
    hidden = tab.run("document.querySelector('.wanted').hidden")
    assert hidden == (count <= 12)
    if hidden:
        return
    assert tab.run("document.querySelector('#model').getBoundingClientRect().top") < 700, "the model is in sight"
    row = "document.querySelector('tr.current').getBoundingClientRect()"
    frame = "document.querySelector('.scroller').getBoundingClientRect()"
    assert tab.run(f"{row}.top > {frame}.top && {row}.bottom <= {frame}.bottom"), "and so is its row"
    look = """(text) => { const one = document.querySelector('.wanted'); one.value = text;
        one.dispatchEvent(new Event('input')); return [...document.querySelectorAll('.models tbody tr')]
        .filter(row => row.offsetHeight).map(row => row.querySelector('a').textContent); }"""
    assert tab.run(f"({look})('EL-3')") == [f"model-3{digit}" for digit in range(10)]
    assert tab.run(f"({look})('nothing')") == []
    assert tab.text(".scroller + [role=status]") == "No model's name contains “nothing”."
    assert len(tab.run(f"({look})('')")) == count
