"""An OpenTelemetry exporter for tests: one JSON line a span, into the folder that $SOLO_TEST_SPANS names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class FileExporter(SpanExporter):
    def __init__(self, path: Path) -> None:
        self.path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self.path.open("a") as file:
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def to_folder() -> list[Any]:
    """Return the span processors; Serve calls this in each of its processes (`exporter_import_path`)."""
    return [SimpleSpanProcessor(FileExporter(Path(os.environ["SOLO_TEST_SPANS"]) / f"{os.getpid()}.jsonl"))]
