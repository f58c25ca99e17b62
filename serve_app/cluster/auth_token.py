"""The token that guards a cluster of one's own: Ray (2.60) writes it for everybody on the machine to read."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

TOKEN_BYTES = 32


def keep_private(environ: Mapping[str, str] = os.environ) -> None:
    """Make Ray's token file its owner's alone, and make the token first where there is none yet.

    Whoever has chosen another token, another file or none is left alone.
    """
    elsewhere = environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH")
    if elsewhere or environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    # Where this cannot be, Ray says so itself.
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            path.chmod(0o600)
            return
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(TOKEN_BYTES))
