"""Models named on a command line, as the serve config that serves them, and written as a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deployments.errors import ConfigError
from serve_app.cli import app
from serve_app.config import changes, composing, serve_yaml, writing
from serve_app.config.composing import Common
from tests.support.processes import ROOT

DIGITS = str(ROOT / "models" / "digits.keras")


def test_each_source_is_an_application_called_like_its_file() -> None:
    common = Common({"device": "cpu"}, {"num_replicas": 2})
    config = serve_yaml.check(composing.from_sources([DIGITS, f"other={DIGITS}"], common))
    assert [model.name for model in config.models] == ["digits", "other"]
    assert [model.device for model in config.models] == ["cpu", "cpu"]
    assert config.paths == ["/v2/models/digits", "/v2/models/other"]
    assert [app["deployments"] for app, _ in config.pairs] == [[{"name": "KerasReplica", "num_replicas": 2}]] * 2
    assert config.raw["applications"][-1]["import_path"] == "serve_app:gateway_app"


@pytest.mark.parametrize(
    ("word", "name", "source"),
    [
        ("a=b.keras", "a", "b.keras"),
        ("https://host/m.keras?key=a=b", "m", "https://host/m.keras?key=a=b"),
        ("m=https://host/x.keras?key=1", "m", "https://host/x.keras?key=1"),
        ("exports/mnist/3", "mnist", "exports/mnist/3"),
        ("keras.applications:MobileNetV2", "mobilenetv2", "keras.applications:MobileNetV2"),
    ],
)
def test_names(word: str, name: str, source: str) -> None:
    assert composing.named_source(word) == (name, source)


def test_a_file_with_an_equals_sign_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "lr=0.1.keras"
    path.touch()
    assert composing.named_source(str(path)) == ("lr-0.1", str(path))


def test_a_model_may_be_called_gateway() -> None:
    config = serve_yaml.check(composing.from_sources([f"gateway={DIGITS}"], Common()))
    assert config.paths == ["/v2/models/gateway"]
    assert len({app["name"] for app in config.raw["applications"]}) == 2


@pytest.mark.parametrize(
    ("words", "args", "says"),
    [
        ([DIGITS, DIGITS], {}, "two models are called 'digits'"),
        ([DIGITS], {"labelss": []}, "model 'digits'.labelss: unknown key; did you mean 'labels'"),
        (["nowhere.keras"], {}, "model 'nowhere'.source: 'nowhere.keras' does not exist"),
        ([f"a b={DIGITS}"], {}, "model 'a b'.name: expected"),
    ],
)
def test_what_is_wrong_names_the_model(words: list[str], args: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        composing.from_sources(words, Common(args))


def test_write_makes_a_commented_config_that_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    command = ["serve", DIGITS, "--device", "cpu", "--set", "labels=['no', 'off: 1']", "--port", "8111"]
    done = CliRunner().invoke(app, [*command, "--write", str(path)])
    assert done.exit_code == 0, done.output
    assert "# " in path.read_text()
    config = serve_yaml.read(path)
    assert config.models[0].labels == ("no", "off: 1")
    assert config.raw["http_options"] == {"host": "127.0.0.1", "port": 8111}
    again = CliRunner().invoke(app, [*command, "--write", str(path)])
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_a_written_config_equals_what_it_was_written_from() -> None:
    raw = composing.from_sources([DIGITS], Common({"source_options": {"a": None, "b": "yes"}}))
    back = yaml.safe_load(writing.text_of(raw))
    assert back["applications"] == raw["applications"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["serve", "config.yaml", "--device", "cpu"], "are for models"),
        (["serve", "config.yaml", "--set", "x"], "--set: expected KEY=VALUE"),
        (["deploy", "--port", "1"], "no server of `solo serve`"),
    ],
)
def test_the_command_says_what_is_wrong(
    command: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert says in done.output


def test_a_bare_serve_without_a_config_says_what_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "solo serve model.keras" in CliRunner().invoke(app, ["serve"]).output


def test_changes_are_told_by_application_and_key() -> None:
    digits, other = composing.from_sources([DIGITS, f"other={DIGITS}"], Common())["applications"][:2]
    changed = {**digits, "args": {**digits["args"], "max_batch_size": 8}}
    assert changes.between([digits, other], [digits, other]) == []
    assert changes.between([digits], [changed, other]) == [
        "digits: changed: max_batch_size unset -> 8",
        "other: added",
    ]
    assert changes.between([digits, other], [other]) == ["digits: removed"]
