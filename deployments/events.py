"""Events worth a line in the log: a sentence for people, and the same facts as fields for machines.

A line for each event that matters and none for a request that went well. Serve writes the replica's log, adds the
replica and the request's id, and with `encoding: JSON` the fields; docs/observability.md lists the events.
"""

from __future__ import annotations

import logging

log = logging.getLogger("ray.serve")


def event(name: str, sentence: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `sentence` as event `name`; `fields` must not be called like an attribute of a `LogRecord`."""
    log.log(level, "%s", sentence, extra={"event": name, **fields})


def failure(name: str, sentence: str, error: BaseException, **fields: object) -> None:
    """Log what went wrong, with its stack."""
    log.error("%s", sentence, exc_info=error, extra={"event": name, **fields})
