"""Bearer tokens: read from where they are kept, and compared in constant time.

A serve config names an environment variable (`token_env`) or a file (`token_file`), never a token, since Serve keeps
and shows configs. The process that answers reads them itself, and keeps their SHA-256 digests only; every offered
token is compared with all of them by `hmac.compare_digest`, so that neither length nor prefix shows in the time taken.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from deployments.errors import ConfigError
from deployments.events import event
from serve_app.protocols.errors import Unauthorized

SERVER_WIDE = "SOLO_TOKEN"
"""The variable that counts where a config names neither variable nor file: set, it closes the whole server."""
SHORTEST = 16
"""Characters of a token; fewer can be guessed."""
REREAD_S = 2.0
"""How often a token file is looked at for changes, while requests come."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1: what fits an Authorization header."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where tokens are: a variable's name, a file's path, or both."""

    env: str | None = SERVER_WIDE
    file: str | None = None
    is_required: bool = False
    """Whether a variable that is not set is an error, rather than a server without tokens."""

    def read(self) -> frozenset[str] | None:
        """Return the tokens, None where no token is asked for; raise `ConfigError`, which quotes none of them."""
        found = self._from_file() if self.file is not None else frozenset()
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is not None:
                found |= _checked(value.split("\n"), "token_env: the variable it names")
            elif self.is_required:
                raise ConfigError("token_env: the environment variable that it names is not set where the model runs")
        if self.file is None and not found:
            return None
        return found

    def _from_file(self) -> frozenset[str]:
        try:
            lines = Path(self.file or "").read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"token_file: the file that it names cannot be read: {reason}") from None
        return _checked(lines, "token_file: the file it names")

    def header(self) -> str | None:
        """Return a shell word for curl that offers a token without showing it, None where none is asked for."""
        if self.env is not None and self.env in os.environ:
            return f'"Authorization: Bearer ${self.env}"'
        return None if self.file is None else f'"Authorization: Bearer $(head -1 {self.file})"'


BY_SERVER = TokenSource()
"""Only the server-wide variable, if it is set."""


def _checked(lines: Iterable[str], where: str) -> frozenset[str]:
    """Return one token a line, without blank lines and comments."""
    found = set()
    for number, line in enumerate(lines, 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.fullmatch(token) or len(token) < SHORTEST:
            raise ConfigError(
                f"{where}: line {number}: expected a token of at least {SHORTEST} letters, digits or -._~+/ "
                "(`openssl rand -hex 32` makes one)"
            )
        found.add(token)
    if not found:
        raise ConfigError(f"{where} holds no token; expected one a line")
    return frozenset(found)


class Tokens:
    """The tokens that one model, or the gateway, accepts."""

    def __init__(self, source: TokenSource, accepted: frozenset[str]) -> None:
        self._source = source
        self._digests = _digests(accepted)
        self._state = self._file_state()
        self._looked_s = time.monotonic()

    @classmethod
    def opened(cls, source: TokenSource) -> Tokens | None:
        """Return what `source` holds, None where no token is asked for; raise `ConfigError`."""
        accepted = source.read()
        return None if accepted is None else cls(source, accepted)

    def check(self, authorization: bytes) -> None:
        """Raise `Unauthorized` unless an Authorization header's value carries an accepted token."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("a token is needed: send the header 'Authorization: Bearer TOKEN'")
        if not self._accepts(token.strip()):
            raise Unauthorized("the token is not accepted here", is_wrong=True)

    def _accepts(self, token: bytes) -> bool:
        if self._source.file is not None and time.monotonic() - self._looked_s > REREAD_S:
            self._reread()
        offered, is_accepted = sha256(token).digest(), False
        for digest in self._digests:
            # No early end: the time taken tells nothing about which one it was.
            is_accepted |= hmac.compare_digest(offered, digest)
        return is_accepted

    def _reread(self) -> None:
        """Take up a changed file; keep the tokens where it cannot be read or is wrong, and say so."""
        self._looked_s = time.monotonic()
        state = self._file_state()
        if state == self._state:
            return
        self._state = state
        try:
            self._digests = _digests(self._source.read() or frozenset())
            event("tokens_changed", f"the token file changed: {len(self._digests)} tokens are accepted now")
        except ConfigError as error:
            event("tokens_kept", f"the token file changed and cannot be used, the old tokens stay: {error}")

    def _file_state(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._source.file or "")
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _digests(tokens: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(sha256(token.encode()).digest() for token in tokens)


def bearer(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token that this process offers by itself: a client in the server's own environment."""
    return environ.get(SERVER_WIDE) or None
