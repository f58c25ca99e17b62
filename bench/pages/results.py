"""The results' files, and how their numbers are written."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
WIDTH = 118


class Results:
    """The JSON files of one folder by their names."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder
        self._read = cache(self._file)

    def __call__(self, name: str) -> Any:
        """Return what `NAME.json` holds."""
        return self._read(name)

    def _file(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))


def number(value: float, digits: int = 3) -> str:
    """Return a number of so many digits that count, without an exponent, with commas from a thousand on."""
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.{digits + 4}f}".rstrip("0") if "e" in text else text


def cores(machine: dict[str, Any]) -> str:
    """Return what a result was measured on, in words."""
    count = {1: "one core", 2: "two cores", 4: "four cores"}.get(machine["cores"], f"{machine['cores']} cores")
    return f"{count} of {machine['cpu']}"


def measured(machine: dict[str, Any]) -> str:
    """Return a sentence: of which commit, when, on what."""
    return f"Measured on {cores(machine)}, {machine['when'][:10]}, commit `{machine['commit'].rstrip('+')}`."


def wrapped(text: str) -> str:
    """Return a paragraph in lines."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [_line(head), _line(["---"] * len(head)).replace(" ", ""), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
