"""The page's files as HTTP answers, without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.page.files import CONTENT_TYPES, PAGE_FOLDER, PAGES, StaticFile, page_files
from tests.http.test_gateway_routes import LOADING, READY, ask

FILES = sorted(path.name for path in PAGE_FOLDER.iterdir() if path.suffix in CONTENT_TYPES)


def test_the_index_is_at_the_root() -> None:
    answer = ask("GET", "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (PAGE_FOLDER / "index.html").read_text()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type_and_guards(name: str) -> None:
    answer = ask("GET", f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == (PAGE_FOLDER / name).read_bytes()
    assert answer.headers["content-type"].encode() == CONTENT_TYPES[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_an_unchanged_file_is_not_sent_again() -> None:
    first = ask("GET", "/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = ask("GET", "/page/app.js", headers={"if-none-match": condition})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert ask("GET", "/page/app.js", headers={"if-none-match": '"other"'}).status_code == 200


def test_head_is_get_and_nothing_else_is_allowed() -> None:
    assert ask("HEAD", "/").headers["content-length"] == ask("GET", "/").headers["content-length"]
    refused = ask("POST", "/")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, HEAD"
    assert ask("GET", "/page/nothing.js").status_code == 404
    assert ask("GET", "/page/../gateway.py").status_code == 404


def test_a_changed_file_has_another_tag(tmp_path: Path) -> None:
    path = tmp_path / "a.js"
    path.write_text("1")
    before = StaticFile.read(path)
    path.write_text("2")
    assert StaticFile.read(path).etag != before.etag


def test_an_unknown_kind_of_file_is_found_when_the_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / "font.woff2").write_text("")
    with pytest.raises(KeyError, match="woff2"):
        page_files(tmp_path)


def test_what_the_files_refer_to_is_there_and_nothing_is_elsewhere() -> None:
    for name in FILES:
        text = (PAGE_FOLDER / name).read_text()
        for imported in re.findall(r'from "\./([^"]+)"', text):
            assert imported in FILES, f"{name} imports {imported}"
        for linked in re.findall(r'(?:href|src)="page/([^"]+)"', text):
            assert linked in FILES, f"{name} links {linked}"
        code = re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE).replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", code), f"{name} names another host"
    # A file that nobody asks for is a leftover.
    used = "".join((PAGE_FOLDER / name).read_text() for name in FILES)
    assert [name for name in FILES if name not in PAGES.values() and f"/{name}" not in used] == []


def test_the_overview_has_every_model_with_its_state() -> None:
    overview = ask("GET", "/overview", LOADING, READY).json()
    assert overview["server"]["name"] == "keras-solo"
    assert overview["ready"] is False
    assert overview["models"] == [
        {"name": "a", "version": "1", "path": "v2/models/a", "state": "READY", "reason": "", "replicas": 1},
        {
            "name": "b",
            "version": "1",
            "path": "v2/models/b",
            "state": "LOADING",
            "reason": "the model is loading",
            "replicas": 1,
        },
    ]
    assert ask("GET", "/overview", READY).json()["ready"] is True
