"""Files of Keras 2, TensorFlow Serving and other habits, planned: the answers are those of when they were saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployments.loading import Source, load
from deployments.planning.plan import PlanOptions, make_plan
from tests.support import cases

TOLERANCE = 1e-5


@pytest.mark.parametrize("path", cases.ALL, ids=lambda path: path.stem)
def test_it_answers_what_it_answered_when_it_was_saved(path: Path) -> None:
    inputs, wanted = cases.read(path)
    plan = make_plan(load(Source(str(path.with_suffix("")))), PlanOptions(budget_s=0.2, allowed_batch_sizes=(1, 4)))
    names = [spec.name for spec in plan.signature.inputs]
    inputs = {names[0]: inputs["0"]} if list(inputs) == ["0"] else inputs
    rows = plan.signature.check(inputs)
    for count in (1, 4):
        size = next(size for size in plan.batch_sizes if size >= count)
        padded = tuple(
            np.ascontiguousarray(np.resize(array[:count], (size, *array.shape[1:]))) for array in rows.arrays
        )
        outputs = plan.run(padded, count)
        for got, want in zip(outputs, (each[:count] for each in wanted), strict=True):
            if want.dtype == object:
                assert got[:count].tolist() == want.tolist()
            else:
                np.testing.assert_allclose(got[:count], want, rtol=TOLERANCE, atol=TOLERANCE)
    plan.close()
