"""The table of errors: complete, and rendered in the protocol's form."""

from __future__ import annotations

import json

import pytest

from deployments import errors as domain
from deployments.errors import ModelsAreDeclared
from serve_app.http import errors
from serve_app.protocols.codec import JSON
from serve_app.protocols.errors import BodyTooLarge


def test_every_request_error_has_a_status() -> None:
    raised_before_serving = {domain.SoloError, domain.ConfigError, domain.LoadError}
    classes = {cls for cls in vars(domain).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    unlisted = classes - set(errors.STATUS) - raised_before_serving
    assert {cls for cls in unlisted if errors.status_of(cls.__new__(cls)) == 500} <= {domain.PredictionFailed}


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [
        (domain.InvalidInput("x"), 400, "invalid"),
        (domain.UnknownModel("x"), 404, "invalid"),
        (domain.DeadlineExceeded("x"), 408, "deadline"),
        (domain.PredictionFailed("x"), 500, "failed"),
        (domain.OutOfMemory("x"), 503, "failed"),
        (domain.NotReady("x"), 503, "overloaded"),
        (domain.Overloaded("x", 1.0), 503, "overloaded"),
        (BodyTooLarge(5), 413, "invalid"),
        (ModelsAreDeclared("m", "load"), 400, "invalid"),
        (ValueError("x"), 500, "failed"),
        (KeyboardInterrupt(), 500, "cancelled"),
    ],
)
def test_status_and_cause(error: BaseException, status: int, cause: str) -> None:
    assert (errors.status_of(error), domain.cause_of(error)) == (status, cause)


def test_a_subclass_counts_as_its_base() -> None:
    class TooLong(domain.InvalidInput):
        pass

    assert errors.status_of(TooLong("x")) == 400


@pytest.mark.parametrize(("retry_after_s", "seconds"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2")])
def test_retry_after_is_whole_seconds_and_never_none(retry_after_s: float, seconds: bytes) -> None:
    response = errors.error_response(domain.Overloaded("full", retry_after_s))
    assert dict(response.headers)[b"retry-after"] == seconds


def test_any_text_is_json() -> None:
    response = errors.error_response(domain.InvalidInput('quote " and \ud800 and ü'))
    assert response.content_type == JSON == b"application/json"
    assert json.loads(response.body) == {"error": 'quote " and ? and ü'}


def test_loading_a_model_is_explained() -> None:
    body = json.loads(errors.error_response(ModelsAreDeclared("digits", "unload")).body)
    assert "serve config" in body["error"]
    assert "'digits'" in body["error"]
