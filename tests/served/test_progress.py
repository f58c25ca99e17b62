"""What `solo serve` shows while models load."""

from __future__ import annotations

import io
import re

import pytest

from serve_app.cli import progress
from tests.support.processes import Server


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_printed_once_and_not_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with progress.shown(io.StringIO(), said.append) as show:
        show("a", 0.0, "loading a.keras")
        show("a", 0.0, "loading a.keras")
        show("b", 0.0, "loading b.keras")
        show("a", 0.5, "batch size 1: session")
        monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
        show("a", 0.5, "batch size 1: session")
    assert said == ["a: loading a.keras", "b: loading b.keras", "a: batch size 1: session (50% of the plan)"]


def test_a_terminal_gets_a_bar_a_model() -> None:
    terminal, said = Terminal(), list[str]()
    with progress.shown(terminal, said.append) as show:
        show("digits", 0.25, "batch size 2: litert")
        show("other", 0.0, "importing TensorFlow")
        show("digits", 0.5, "batch size 4: litert")
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert said == []
    assert re.search(r"digits .*50%.*batch size 4: litert", written)
    assert re.search(r"other .*0%.*importing TensorFlow", written)


@pytest.mark.serve
def test_a_real_server_tells_its_steps(server: Server) -> None:
    log = server.log.read_text()
    steps = re.findall(r"\] (\w+): (importing TensorFlow|loading |batch size )", log)
    assert {model for model, _ in steps} >= {"digits", "simple"}
    assert log.index("digits: ") < log.index("ready on")
