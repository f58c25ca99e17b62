"""`solo bench` against a real server: what it asks a model, and which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app
from tests.support.processes import Server


@pytest.mark.parametrize(("model", "form"), [("digits", "binary"), ("simple", "json")])
def test_it_makes_up_requests_from_a_models_metadata(server: Server, tmp_path: Path, model: str, form: str) -> None:
    out, url = tmp_path / "out.json", f"{server.url}/v2/models/{model}"
    options = ["--clients", "2", "--seconds", "0.5", "--rate", "20", "--form", form, "--rows", "2", "--json", str(out)]
    done = CliRunner().invoke(app, ["bench", url, *options])
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    assert told["url"] == f"{url}/infer"
    assert [load["errors"] for load in told["loads"]] == [{}, {}]
    assert told["loads"][1]["rate_per_s"] == 20
    assert all(load["count"] > 0 for load in told["loads"])


def test_it_asks_which_of_several_models(server: Server) -> None:
    done = CliRunner().invoke(app, ["bench", server.url])
    assert done.exit_code == 1
    assert "serves 4 models" in done.output
