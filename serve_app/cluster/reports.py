"""What went wrong, out of Serve's reports, which carry whole stack traces."""

from __future__ import annotations

import re
from collections.abc import Iterable

_RAISED = re.compile(r"(?:[\w.]+Error|[\w.]*(?:Exit|Exception)): ", re.DOTALL)


def reason_in(texts: Iterable[str | None]) -> str:
    """Return the last exception's text out of the longest of Serve's messages on an application."""
    text = max((text or "" for text in texts), key=len, default="")
    found = list(_RAISED.finditer(text))
    return text[found[-1].end() :].strip() if found else text.strip()
