"""Every measured figure of README and docs is the results'; every result names its commit."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import machine, pages
from bench.pages.results import RESULTS, ROOT, Results, number, table

FILES = sorted(path for path in RESULTS.glob("*.json"))


def test_the_pages_say_what_was_measured() -> None:
    wrong = ", ".join(map(str, pages.outdated()))
    assert not wrong, f"{wrong}: figures that are not those of bench/results; python -m bench.pages"


def test_every_block_is_on_a_page_and_every_page_names_blocks_that_are() -> None:
    named = [name for page in pages.PAGES for name in re.findall(r"<!-- figures: (\S+) -->", (ROOT / page).read_text())]
    assert sorted(named) == sorted(pages.BLOCKS)


def test_a_changed_result_changes_its_page(tmp_path: Path) -> None:
    for path in FILES:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "gpu").symlink_to(RESULTS / "gpu")
    told = json.loads((tmp_path / "shared_memory.json").read_text())
    told["ways"]["HTTP, shared, copied"]["ratio"] = 0.987
    (tmp_path / "shared_memory.json").write_text(json.dumps(told))
    changed = pages.outdated(ROOT, tmp_path)
    assert list(map(str, changed)) == ["docs/open-inference.md"]
    assert "takes 0.99 of the time" in next(iter(changed.values()))


def test_a_block_of_no_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="fortune"):
        pages.rewritten("<!-- figures: fortune -->\n7\n<!-- end -->", Results())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_result_names_its_commit(path: Path) -> None:
    machines = list(_machines(json.loads(path.read_text())))
    assert machines, "no machine is described"
    for each in machines:
        assert re.fullmatch(r"[0-9a-f]{12}", each["commit"]), f"measured of no clean commit: {each['commit']}"
        assert {"when", "cpu", "cores"} <= set(each)


def _machines(told: Any) -> Iterator[dict[str, Any]]:
    if isinstance(told, dict):
        if "machine" in told:
            yield told["machine"]
        for value in told.values():
            yield from _machines(value)


def test_a_changed_file_marks_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.commit() is None
    git("init")
    for name in ("code.py", "README.md", "bench/results/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    clean = machine.commit()
    assert clean is not None
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    for name in ("README.md", "bench/results/a.json"):  # figures, as a run of several benchmarks writes them
        (tmp_path / name).write_text("2")
    assert machine.commit() == clean
    (tmp_path / "code.py").write_text("2")
    assert machine.commit() == clean + "+"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0044284, "0.00443"), (0.7612, "0.761"), (12.345, "12.3"), (123.4, "123"), (24987, "24,987")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_a_table() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"
