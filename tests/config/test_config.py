"""A bad config is refused in one line that names the key and what was expected."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.errors import ConfigError
from serve_app.config import serve_yaml
from serve_app.config.args import ModelArgs
from serve_app.config.gateway_args import GatewayArgs
from tests.support.processes import GATEWAY, ROOT, model_application

DIGITS = str(ROOT / "models" / "digits.keras")


def refusal(**args: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        ModelArgs.parse({"name": "m", "source": "m.keras", **args})
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("args", "key", "expected"),
    [
        ({"max_bach_size": 8}, "args.max_bach_size", "did you mean 'max_batch_size'"),
        ({"zebra": 8}, "args.zebra", "known keys: name, source"),
        ({"max_batch_size": "many"}, "args.max_batch_size", "integer"),
        ({"max_batch_size": 0}, "args.max_batch_size", "greater than or equal to 1"),
        ({"device": "tpu"}, "args.device", "'auto', 'gpu' or 'cpu'"),
        ({"coalesce": "always"}, "args.coalesce", "'off', 'window' or 'continuous'"),
        ({"precision": "float64"}, "args.precision", "'float32', 'mixed_float16', 'mixed_bfloat16' or 'auto'"),
        ({"allowed_batch_sizes": [4, 2]}, "args.allowed_batch_sizes", "ascending"),
        ({"allowed_batch_sizes": [1, 4], "max_batch_size": 8}, "args", "equal max_batch_size (8), got 4"),
        ({"name": "a/b"}, "args.name", "letters, digits"),
        ({"labels": "no/such/file"}, "args.labels", "one name a line"),
        ({"max_queue_delay_ms": -1}, "args.max_queue_delay_ms", "greater than or equal to 0"),
    ],
)
def test_a_bad_argument_is_named(args: dict[str, Any], key: str, expected: str) -> None:
    text = refusal(**args)
    assert text.startswith(f"{key}:")
    assert expected in text


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigError, match=r"args\.source: missing"):
        ModelArgs.parse({"name": "m"})


def test_arguments_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ConfigError, match="args: expected a mapping"):
        GatewayArgs.parse(["name"])


def test_batch_sizes_default_to_powers_of_two() -> None:
    args = {"name": "m", "source": "m.keras"}
    assert ModelArgs.parse({**args, "max_batch_size": 8}).batch_sizes == (1, 2, 4, 8)
    assert ModelArgs.parse({**args, "max_batch_size": 6}).batch_sizes == (1, 2, 4, 6)
    assert ModelArgs.parse({**args, "max_batch_size": 1}).batch_sizes == (1,)
    assert ModelArgs.parse({**args, "allowed_batch_sizes": [1, 10]}).batch_sizes == (1, 10)


def test_labels_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    args = {"name": "m", "source": "m.keras"}
    assert ModelArgs.parse({**args, "labels": [0, 1]}).labels == ("0", "1")
    assert ModelArgs.parse({**args, "labels": str(tmp_path / "labels.txt")}).labels == ("cat", "dog")


def test_a_folder_of_numbered_versions_serves_the_highest(tmp_path: Path) -> None:
    for number in ("9", "10", "notes"):
        (tmp_path / "mnist" / number).mkdir(parents=True)
        (tmp_path / "mnist" / number / "saved_model.pb").write_bytes(b"")
    args = {"name": "m", "source": str(tmp_path / "mnist")}
    model = ModelArgs.parse(args)
    assert (model.version, model.source) == ("10", str(tmp_path / "mnist" / "10"))
    model = ModelArgs.parse({**args, "version": 9})
    assert (model.version, model.source) == ("9", str(tmp_path / "mnist" / "9"))
    with pytest.raises(ConfigError, match=r"args: version: expected one of those in .*mnist, 9, 10, got 3"):
        ModelArgs.parse({**args, "version": 3})


def whole(*applications: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"applications": [*applications, GATEWAY], **more}


def config_refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        serve_yaml.check(raw)
    return str(raised.value)


def test_the_config_of_this_repository_is_good() -> None:
    config = serve_yaml.read(ROOT / "serve_config.yaml")
    assert [model.name for model in config.models] == ["digits"]


def test_duplicate_model_names_are_refused() -> None:
    other = {**model_application("digits", DIGITS), "name": "other", "route_prefix": "/v2/models/digits"}
    assert "'digits' version '1' is declared twice" in config_refusal(whole(model_application("digits", DIGITS), other))


def test_a_wrong_route_prefix_is_refused() -> None:
    app = {**model_application("digits", DIGITS), "route_prefix": "/digits"}
    assert "applications[0].route_prefix: expected '/v2/models/digits'" in config_refusal(whole(app))


def test_serves_own_schema_is_checked() -> None:
    text = config_refusal(whole(model_application("digits", DIGITS), http_options={"port": "high"}))
    assert "http_options.port" in text


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.keras", None, "does not exist"),
        ("a.keras", b"not a zip", "is not a .keras file"),
        ("a.h5", b"not hdf5 either", "is not an HDF5 file"),
        ("a.hdf5", None, "does not exist"),
        ("folder/", None, "SavedModel folder"),
        ("a.onnx", b"?", "an ONNX model"),
        ("no_such_module_here:build", None, "no module named 'no_such_module_here'"),
    ],
)
def test_a_source_that_cannot_be_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    elif name.endswith("/"):
        (tmp_path / name).mkdir()
    text = config_refusal(whole(model_application("m", name)))
    assert text.startswith("applications[0].args.source: ")
    assert expected in text


def test_a_zip_without_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    assert "no config.json" in config_refusal(whole(model_application("m", str(path))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("applications: [", "not valid YAML"),
        ("- 1", "expected a mapping with 'applications'"),
        ("applications: {}", "applications: expected a list"),
        ("applications: [1]", "applications[0]: expected a mapping"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        serve_yaml.read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert expected in str(raised.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot read the serve config"):
        serve_yaml.read("nowhere.yaml")


def test_yaml_round_trip_keeps_the_raw_config(tmp_path: Path) -> None:
    raw = whole(model_application("digits", DIGITS))
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert serve_yaml.read(path).raw == raw


def test_the_ways_that_are_tried_can_be_named() -> None:
    from serve_app.builders import replica_options

    model = ModelArgs.parse({"name": "m", "source": "m.keras", "candidates": ["session", "eager"]})
    assert replica_options(model).plan.only == ("session", "eager")
