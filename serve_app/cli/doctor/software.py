"""Python and the packages: versions against what keras-solo itself declares, and whether they import."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from serve_app.cli.doctor.check import Check
from serve_app.cli.doctor.probes import Machine

PACKAGE = "keras-solo"
REINSTALL = "pip install -e . -c constraints.txt (or make serve, which does it)"


def checks(machine: Machine) -> list[Check]:
    """Return the rows on Python, TensorFlow, Keras, Ray Serve, ONNX Runtime and the other packages."""
    return [python(), tensorflow(machine), keras(machine), ray_serve(machine), onnx_runtime(machine), packages()]


def python() -> Check:
    """Check the running Python against `requires-python`."""
    version = platform.python_version()
    wanted = importlib.metadata.metadata(PACKAGE)["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("Python", "ok", f"{version} ({sys.executable})")
    return Check("Python", "fail", f"{version}, but keras-solo needs {wanted}", "make clean serve PYTHON=python3.12")


def tensorflow(machine: Machine) -> Check:
    """Check that TensorFlow imports and is a version that the plan was written against."""
    facts = machine.tensorflow
    if "error" in facts:
        return Check("TensorFlow", "fail", f"does not import: {facts['error']}", REINSTALL)
    build = f"built for CUDA {facts['cuda']}" if facts["is_cuda_build"] else "built without CUDA"
    return _versioned("TensorFlow", "tensorflow", facts["version"], f"{facts['version']}, {build}")


def keras(machine: Machine) -> Check:
    """Check Keras's version, and that its backend is TensorFlow."""
    facts = machine.tensorflow
    if "error" in facts:
        return Check("Keras", "fail", "not asked: it needs TensorFlow", REINSTALL)
    if facts["keras_backend"] != "tensorflow":
        advice = "unset KERAS_BACKEND, or set it to tensorflow"
        return Check("Keras", "fail", f"{facts['keras']} on the backend {facts['keras_backend']}", advice)
    return _versioned("Keras", "keras", facts["keras"], f"{facts['keras']} on TensorFlow")


def ray_serve(machine: Machine) -> Check:
    """Check that Ray Serve imports and is the version whose internals are relied on."""
    facts = machine.serve
    if "error" in facts:
        return Check("Ray Serve", "fail", f"does not import: {facts['error']}", REINSTALL)
    return _versioned("Ray Serve", "ray", facts["version"], str(facts["version"]))


def onnx_runtime(machine: Machine) -> Check:
    """Check that ONNX Runtime and what converts to it are there, in the build that fits: they are optional."""
    found = {name: installed_version(name) for name in ("onnxruntime", "onnxruntime-gpu", "onnx", "tf2onnx")}
    extra, brings = (
        ("gpu", "captured CUDA graphs") if machine.gpus else ("onnx", "more ways of executing to choose from")
    )
    advice = f"pip install 'keras-solo[{extra}]' -c constraints.txt brings {brings}"
    if found["onnxruntime"] and found["onnxruntime-gpu"]:
        both = "onnxruntime and onnxruntime-gpu are both installed, into one folder"
        return Check("ONNX Runtime", "warn", both, "uninstall both, then install the one that is meant")
    runtime = found["onnxruntime-gpu"] or found["onnxruntime"]
    missing = [name for name in ("onnx", "tf2onnx") if not found[name]] if runtime else ["onnxruntime"]
    if missing:
        return Check(
            "ONNX Runtime", "warn" if machine.gpus else "n/a", f"{', '.join(missing)} missing; optional", advice
        )
    if machine.gpus and not found["onnxruntime-gpu"]:
        return Check("ONNX Runtime", "warn", f"{runtime}, built for CPUs alone", advice)
    return Check("ONNX Runtime", "ok", f"{runtime}{', for CUDA' if found['onnxruntime-gpu'] else ''}")


def packages() -> Check:
    """Check the versions of all other packages that keras-solo declares."""
    own = {"tensorflow", "keras", "ray"}
    wrong = [text for r in requirements() if r.name not in own and (text := _wrong(r))]
    if wrong:
        return Check("other packages", "fail", "; ".join(wrong), REINSTALL)
    return Check("other packages", "ok", f"{len(list(requirements())) - len(own)} installed, versions fit")


def requirements() -> Iterator[Requirement]:
    """Yield what keras-solo needs without its extras."""
    for text in importlib.metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def installed_version(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wrong(requirement: Requirement) -> str | None:
    version = installed_version(requirement.name)
    if version is None:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(version, prereleases=True)
    return None if fits else f"{requirement.name} {version} does not fit {requirement.specifier}"


def _versioned(name: str, package: str, version: str, found: str) -> Check:
    wanted = next(requirement.specifier for requirement in requirements() if requirement.name == package)
    if wanted.contains(version, prereleases=True):
        return Check(name, "ok", found)
    return Check(name, "fail", f"{found}, but keras-solo needs {wanted}", REINSTALL)
