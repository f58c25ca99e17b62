"""Lines of Serve's access log, with Serve's own filter."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from ray.serve._private.logging_utils import access_log_msg, log_access_log_filter

from serve_app.fast_path import access_log


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    made = logging.Logger("ray.serve", logging.INFO)
    made.built = 0  # type: ignore[attr-defined]
    build = made.makeRecord

    def count(*args: Any, **rest: Any) -> logging.LogRecord:
        made.built += 1  # type: ignore[attr-defined]
        return build(*args, **rest)

    monkeypatch.setattr(made, "makeRecord", count)
    return made


def serve_a_request(logger: logging.Logger) -> None:
    message = access_log_msg(method="POST", route="/", status="200", latency_ms=0.3, client="")
    logger.info(message, extra={"serve_access_log": True, "route": "/"})


def test_an_unwanted_line_is_not_even_built(logger: logging.Logger) -> None:
    kept = Kept()
    kept.addFilter(log_access_log_filter)
    logger.addHandler(kept)
    access_log.skip_unwanted(logger)
    serve_a_request(logger)
    assert logger.built == 0  # type: ignore[attr-defined]
    logger.info("model '%s' is ready", "m", extra={"event": "model_ready"})
    (record,) = kept.records
    assert record.getMessage() == "model 'm' is ready"
    assert record.event == "model_ready"  # type: ignore[attr-defined]
    assert record.funcName == "test_an_unwanted_line_is_not_even_built"


def test_a_wanted_access_log_stays(logger: logging.Logger) -> None:
    kept = Kept()
    logger.addHandler(kept)
    access_log.skip_unwanted(logger)
    serve_a_request(logger)
    assert len(kept.records) == 1


def test_an_access_log_turned_on_later_is_written(logger: logging.Logger) -> None:
    first, later = Kept(), Kept()
    first.addFilter(log_access_log_filter)
    logger.addHandler(first)
    access_log.skip_unwanted(logger)
    # What Serve does when the config changes in a running replica.
    logger.handlers.clear()
    logger.addHandler(later)
    serve_a_request(logger)
    assert len(later.records) == 1
