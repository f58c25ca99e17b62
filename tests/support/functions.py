"""Functions around a model, as users write them; named in tests as `tests.support.functions:NAME`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np

from deployments.tensors import Array

FEATURES = 4


def features(text: list[str]) -> Array:
    """Counts of four letters in each text."""
    if any("forbidden" in each for each in text):
        raise ValueError("this text is forbidden")
    if any("broken" in each for each in text):
        raise KeyError("a bug")
    return np.array([[each.count(letter) for letter in "abcd"] for each in text], np.int64)


def features_of_one(text: str) -> list[float]:
    return [float(text.count(letter)) for letter in "abcd"]


def of_record(record: dict) -> Array:
    return np.array([record[key] for key in "abcd"], np.float32)


def of_file(file: bytes) -> Array:
    return np.array([len(file), file[0], file[-1], 0], np.float32)


def scaled(x: Array, factor: float = 1.0) -> Array:
    return x * factor


def declared(words: Any, weight: Any) -> Array:
    lengths = np.array([len(word) for word in words], np.float32)
    return np.stack([lengths, *[weight] * 3], axis=1)


def annotated(x: Annotated[np.ndarray, "int32[-1, 2]"]) -> dict[str, Array]:
    return {"x": np.concatenate([x, x], axis=1)}


def tokens(text: list[str]) -> list[list[int]]:
    """As many numbers as a text has letters."""
    return [[ord(letter) for letter in each] for each in text]


def label(scores: Array) -> list[str]:
    return [f"class {row.argmax()}" for row in scores]


def label_of_one(scores: Array) -> str:
    return f"class {scores.argmax()}"


def report(scores: Array, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"text": text, "sum": row.sum()} for text, row in zip(request["text"], scores, strict=True)]


def undeclared(outputs: Mapping[str, Array]) -> dict[str, Array]:
    scores = outputs["scores"]
    return {"best": scores.argmax(axis=1), "most": scores.max(axis=1, keepdims=True)}


def too_few(scores: Array) -> Array:
    return scores[:1]


def misnamed(x: Array) -> dict[str, Array]:
    return {"y": x}


def misshapen(x: Array) -> Array:
    return x[:, :3]


def endless(x: Array) -> Array:
    time.sleep(3600)
    return x


async def coroutine(x: Array) -> Array:
    return x


def dies(text: list[str]) -> Array:
    if "die" in text:
        os.abort()
    if "hang" in text:
        time.sleep(3600)
    return features(text)


class Vocabulary:
    """Made once, with its arguments."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    def __call__(self, text: list[str]) -> Array:
        return np.array([[self.words.index(word) if word in self.words else -1] * FEATURES for word in text])


not_callable = 3


def report_of_record(scores: Array, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    pairs = zip(request["record"], scores, strict=True)
    return [{"name": record.get("name"), "best": row.argmax()} for record, row in pairs]
