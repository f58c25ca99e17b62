"""The image and the manifest, as far as they show without a cluster: lint, schema, and the start command itself.

The manifest is held against the part of KubeRay's CRD that it reaches, and with `KUBERAY_CRD=ray.io_rayservices.yaml`
against all of another version's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import yaml

from serve_app.config import placement, serve_yaml
from serve_app.config.serve_yaml import ServeConfig
from serve_app.front.ports import free_port
from tests.support.processes import BIN, ROOT, clean_environ

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
RAYSERVICE = ROOT / "deploy" / "rayservice.yaml"


@pytest.fixture(scope="module")
def spec() -> Any:
    return yaml.safe_load(RAYSERVICE.read_text())["spec"]


def served(spec: Any) -> ServeConfig:
    """Return the manifest's serve config, with the model of this repository in the place of the claim's."""
    return serve_yaml.check(
        yaml.safe_load(spec["serveConfigV2"].replace("source: /models/", f"source: {ROOT}/models/"))
    )


def test_the_serve_config_is_one_of_ours_and_fits_the_workers(spec: Any) -> None:
    config = served(spec)
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    resources = workers["template"]["spec"]["containers"][0]["resources"]
    node = {"CPU": float(resources["requests"]["cpu"]), "GPU": float(resources["limits"]["nvidia.com/gpu"])}
    assert placement.shortages(placement.demands(config.pairs, 1), [node] * workers["minReplicas"]) == []


def test_probes_and_ports_are_the_servers(spec: Any) -> None:
    config = served(spec)
    (container,) = spec["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["httpGet"]
    assert probe == {"path": f"{config.paths[0]}/ready", "port": config.raw["http_options"]["port"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"serve": config.raw["http_options"]["port"], "grpc": config.raw["grpc_options"]["port"]}
    assert {port["targetPort"] for port in spec["serveService"]["spec"]["ports"]} == set(ports.values())


def test_every_mount_has_its_volume(spec: Any) -> None:
    cluster = spec["rayClusterConfig"]
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        names = {volume["name"] for volume in template["spec"]["volumes"]}
        assert {mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]} == names
        assert template["spec"]["containers"][0]["image"] == "keras-solo:latest"


def closed(schema: Any) -> Any:
    """Return the schema with unknown fields refused, which Kubernetes would silently drop."""
    if isinstance(schema, list):
        return [closed(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def kuberays_schema() -> Any:
    """Return the schema of a RayService, version v1: of the CRD that KUBERAY_CRD names, else the part kept here."""
    if "KUBERAY_CRD" not in os.environ:
        return yaml.safe_load((ROOT / "tests/support/kuberay_rayservice.yaml").read_text())
    crd = yaml.safe_load(Path(os.environ["KUBERAY_CRD"]).read_text())
    return next(v["schema"]["openAPIV3Schema"] for v in crd["spec"]["versions"] if v["name"] == "v1")


def test_the_manifest_fits_kuberays_crd() -> None:
    schema = closed(kuberays_schema())
    schema["properties"]["metadata"] = {"type": "object"}
    manifest = yaml.safe_load(RAYSERVICE.read_text())
    jsonschema.validate(manifest, schema)
    manifest["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        jsonschema.validate(manifest, schema)


def test_the_dockerfile_lints() -> None:
    done = subprocess.run([BIN / "hadolint", str(DOCKERFILE)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def test_what_the_image_copies_is_here() -> None:
    for line in instructions("COPY"):
        assert all((ROOT / source).exists() for source in line.split()[:-1]), line


def test_a_shell_of_the_image_has_the_environment_of_make_serve(tmp_path: Path) -> None:
    """KubeRay's pods run `bash -c "ray start …"`; BASH_ENV must reach it."""
    written = tmp_path / "environment.sh"
    line = next(line for line in instructions("RUN") if line.startswith("solo environment"))
    home = {**os.environ, "HOME": str(tmp_path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", line.replace("/home/solo/environment.sh", str(written))], env=home, check=True)
    shell = {"PATH": os.environ["PATH"], "BASH_ENV": str(written), "RAY_SERVE_HAPROXY_NBTHREAD": "2"}
    told = subprocess.run(["bash", "-c", "env"], env=shell, capture_output=True, text=True, check=True).stdout
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in told
    assert "RAY_SERVE_HAPROXY_NBTHREAD=2" in told
    assert f"RAY_SERVE_HAPROXY_BINARY_PATH={tmp_path}" in told


@pytest.mark.serve
def test_the_images_command_serves(tmp_path: Path) -> None:
    """The command as it stands, in the image's folder, with a free port and without the dashboard's fixed one."""
    (command,) = (json.loads(line) for line in instructions("CMD"))
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / command[0], *command[1:], "--port", str(port), "--no-dashboard"],
            cwd=ROOT, env=clean_environ(),
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        ends_s = time.monotonic() + 240
        while not answers(f"http://127.0.0.1:{port}/v2/models/digits/ready"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends_s, log.read_text()
            time.sleep(0.5)
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(60)
        _, alive = psutil.wait_procs(family, timeout=10)
        for left in alive:
            with contextlib.suppress(psutil.Error):
                left.kill()
    assert not alive


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
