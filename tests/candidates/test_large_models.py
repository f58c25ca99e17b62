"""Real architectures, planned with every candidate: what is served is what the model answers."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from deployments.loading import from_keras
from deployments.planning.plan import PlanOptions, make_plan
from tests.support import architectures


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", architectures.LARGE)
def test_the_served_answer_of_large_models_is_their_own(architecture: str) -> None:
    keras_model = architectures.build(architecture)
    plan = make_plan(from_keras(keras_model), PlanOptions(allowed_batch_sizes=(1, 2), budget_s=10.0))
    x = architectures.images(2, seed=5)
    want = keras_model(x, training=False).numpy()
    scale = np.abs(want).max()
    np.testing.assert_allclose(plan.run((x,), 2)[0], want, atol=1e-4 * scale)
    np.testing.assert_allclose(plan.run((x[1:],), 1)[0], want[1:], atol=1e-4 * scale)
    assert np.abs(want[0] - want[1]).max() > 0.1 * scale, "a model that ignores its input proves nothing"
    plan.close()
    keras.backend.clear_session()
