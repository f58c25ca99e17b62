"""`GET /metrics`: this server's models in Prometheus's text format, gathered from every node in one scrape.

Each node's agent exports what its workers report (every ten seconds by default), Ray's own hundreds of series among
it; what is kept here are the models' own and Serve's of them. A histogram that Ray carries as three gauges
(`observe/metrics.py` says why) gets its type back. A node that does not answer in time is left out, and the others are
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import aiohttp

from serve_app.protocols.codec import Response

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PREFIXES = ("ray_keras_solo_", "ray_serve_")
WAIT_S = 5.0
_PLAIN = {"Accept-Encoding": "identity"}
"""The session leaves an answer as it comes."""
_NODES = "keras_solo_scraped_nodes"


async def scrape(session: aiohttp.ClientSession, urls: Sequence[str]) -> Response:
    """Return the models' series of all nodes whose exporters are at `urls`."""
    texts = await asyncio.gather(*(_text(session, url) for url in urls))
    known = [text for text in texts if text is not None]
    lines = [*families(known), f"# HELP {_NODES} Nodes whose metrics are in this answer.", f"# TYPE {_NODES} gauge"]
    return Response("\n".join([*lines, f"{_NODES} {len(known)}", ""]).encode(), content_type=CONTENT_TYPE)


def families(texts: Iterable[str]) -> list[str]:
    """Return the models' lines out of several nodes' answers, each family's head once and its series together."""
    heads: dict[str, list[str]] = {}
    series: dict[str, list[str]] = {}
    for text in texts:
        named = ""
        own: dict[str, list[str]] = {}
        for line in text.splitlines():
            if line.startswith("# "):
                named = line.split(" ", 3)[2] if line.count(" ") > 2 else ""
                if named.startswith(PREFIXES):
                    own.setdefault(named, []).append(line)
            elif line.startswith(PREFIXES):
                series.setdefault(named, []).append(line)
        for name, lines in own.items():
            heads.setdefault(name, lines)
    for bucket in [name for name in heads if name.endswith("_bucket")]:
        _join_histogram(bucket.removesuffix("_bucket"), heads, series)
    return [line for name, head in heads.items() if name in series for line in (*head, *series[name])]


_PARTS = ("_bucket", "_sum", "_count")


def _join_histogram(name: str, heads: dict[str, list[str]], series: dict[str, list[str]]) -> None:
    """Make one family with the type of a histogram of the three that are its series, where all three are there."""
    parts = [f"{name}{part}" for part in _PARTS]
    if not all(part in series for part in parts):
        return
    # The help of the sum says what is summed, and then that it is a sum.
    about = next((line.split(" ", 3)[3] for line in heads[parts[1]] if line.startswith("# HELP ")), "")
    series[name] = [line for part in parts for line in series.pop(part)]
    for part in parts:
        heads.pop(part, None)
    heads[name] = [f"# HELP {name} {about.removesuffix(': the sum.')}.", f"# TYPE {name} histogram"]


async def _text(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url, headers=_PLAIN, timeout=aiohttp.ClientTimeout(total=WAIT_S)) as answer:
            return await answer.text() if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, asyncio.TimeoutError):
        return None
