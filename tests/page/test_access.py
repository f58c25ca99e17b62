"""The page of a server that asks for a token: it says so, takes one, and shows everything with it."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.chromium import chromium
from tests.support.page_server import page_server

TOKEN = "the-token-of-the-page"


def test_the_page_asks_for_a_token_and_works_with_it(tmp_path: Path) -> None:
    with (
        page_server(tmp_path / "log", which="plain", token=TOKEN) as server,
        chromium(tmp_path / "profile") as tab,
    ):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{server.url}/overview", timeout=10)
        tab.open(f"{server.url}/#simple")
        tab.wait("document.querySelector('form.token')")
        assert "asks for a token" in tab.text("#server")
        assert tab.run("document.querySelectorAll('.models').length") == 0

        use = "document.querySelector('#token').value = '{}', document.querySelector('form.token').requestSubmit()"
        tab.run(use.format("not-the-right-one-at-all"))
        tab.wait("document.querySelector('form.token p')?.textContent.includes('does not accept')")

        tab.run(use.format(TOKEN))
        tab.wait("document.querySelector('.try-values .primary')")
        assert "3 of 3 models ready" in tab.text("#server")
        assert not tab.run("document.querySelector('form.token')")
        tab.click(".try-values .primary")
        tab.wait("document.querySelectorAll('.output').length === 2")
        # Kept for this tab alone, and in no address.
        assert tab.run("localStorage.length") == 0
        assert TOKEN not in tab.run("location.href")
