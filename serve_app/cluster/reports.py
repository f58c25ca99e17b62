"""What went wrong, out of Serve's reports, which carry whole stack traces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_RAISED = re.compile(r"(?:[\w.]+Error|[\w.]*(?:Exit|Exception)): ", re.DOTALL)


def reason_in(texts: Iterable[str | None]) -> str:
    """Return the last exception's text out of the longest of Serve's messages on an application."""
    text = max((text or "" for text in texts), key=len, default="")
    found = list(_RAISED.finditer(text))
    return text[found[-1].end() :].strip() if found else text.strip()


def reason_of(details: Mapping[str, Any]) -> str:
    """Return the same out of the controller's details of an application."""
    deployments = (details.get("deployments") or {}).values()
    return reason_in([details.get("message"), *(one.get("message") for one in deployments)])
