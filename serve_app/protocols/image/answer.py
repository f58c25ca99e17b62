"""What a person who sent an image reads: the top labels, or the plain outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import orjson

from deployments.errors import PredictionFailed
from deployments.tensors import Array, Arrays, Signature
from serve_app.protocols import json_tensors
from serve_app.protocols.datatypes import datatype_of

TOP = 5
"""How many labels an answer holds unless the request says otherwise."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What an answer is about: the model's name, its signature and the names of its classes, if any."""

    model_name: str
    signature: Signature
    labels: tuple[str, ...] = ()


def answer(about: Labelled, outputs: Arrays, top: int = TOP) -> bytes:
    """Return the JSON answer to one image.

    A sole output `[1, classes]` of numbers gives `model_name`, `label`, `score` and `top`, the `top` highest scores
    in descending order; a sole `[1, 1]` with two labels is the second one's probability. Scores are the model's own
    values: logits stay logits. Anything else gives the outputs as the Open Inference Protocol's JSON has them.
    Raises `PredictionFailed` for NaN scores.
    """
    scores = _scores(about, outputs)
    if scores is None:
        return _plain(about, outputs)
    if np.isnan(scores).any():
        raise PredictionFailed(f"model '{about.model_name}' answered NaN scores")
    best = np.argsort(-scores, kind="stable")[: max(1, top)]
    ranked = [{"label": _label(about.labels, int(i)), "score": float(str(scores[i]))} for i in best]
    # The standard library's writer, for it keeps an infinite logit as the token Infinity.
    return json.dumps({"model_name": about.model_name, **ranked[0], "top": ranked}, ensure_ascii=False).encode()


def _scores(about: Labelled, outputs: Arrays) -> Array | None:
    """Return the scores `[classes]` of a classifier's answer, None where the model is none."""
    if len(outputs) != 1 or outputs[0].ndim != 2 or len(outputs[0]) != 1:
        return None
    row = outputs[0][0]
    if row.dtype.kind not in "fV":
        return None
    if row.dtype.kind == "V":
        row = row.astype(np.float32)
    if len(row) == 1 and len(about.labels) == 2:
        return np.array([1 - row[0], row[0]], row.dtype)
    return row if len(row) > 1 else None


def _label(labels: tuple[str, ...], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)


def _plain(about: Labelled, outputs: Arrays) -> bytes:
    tensors = [
        b'{"name":%b,"datatype":"%b","shape":%b,"data":%b}'
        % (
            orjson.dumps(spec.name),
            datatype_of(spec).name.encode(),
            orjson.dumps(array.shape),
            json_tensors.encode_json_rows(array) if spec.is_json else json_tensors.encode_values(array),
        )
        for spec, array in zip(about.signature.outputs, outputs, strict=True)
    ]
    return b'{"model_name":%b,"outputs":[%b]}' % (orjson.dumps(about.model_name), b",".join(tensors))
