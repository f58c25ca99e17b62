"""Paths, methods and headers: real ones changed, and good requests under bad headers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.hostile.bodies import HALF, SIMPLE, V1, V2_JSON, infer, predict
from tests.hostile.cases import Request
from tests.hostile.mutations import ODD, dump

MODELS = ("digits", "simple", "simple_string", "half_plus_two", "zebra", "")
METHODS = (
    "GET",
    "GET",
    "GET",
    "POST",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "FOO",
    "get",
    "M-S",
)
PATHS = (
    *(
        "/",
        "/v2",
        "/v2/",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        "/v2/repository/index",
        "/overview",
    ),
    *("/openapi.json", "/docs", "/page/style.css", "/page/../etc/passwd", "/favicon.ico", "/metrics", "/-/healthz"),
    *("/-/routes", "/v1/models/{m}", "/v1/models/{m}/metadata", "/v1/models/{m}:predict", "/v1/models/{m}:classify"),
    *(
        "/v1/models/{m}/versions/1",
        "/v1/models/{m}/versions/1:predict",
        "/v1/models/{m}/labels/a:predict",
        "/v1/models",
    ),
    *("/v2/models/{m}", "/v2/models/{m}/ready", "/v2/models/{m}/config", "/v2/models/{m}/stats", "/v2/models/{m}/plan"),
    *(
        "/v2/models/{m}/infer",
        "/v2/models/{m}/versions/1/infer",
        "/v2/models/{m}/versions/2",
        "/v2/models/{m}/generate",
    ),
    *("/v2/repository/models/{m}/load", "/v2/repository/models/{m}/unload", "/v2/models/{m}/v1/models/{m}:predict"),
)
SPLINTERS = (
    *(
        "%00",
        "%0d%0aX-Evil:%201",
        "%2e%2e/",
        "../",
        "..",
        "//",
        "%2f",
        "%3a",
        ":",
        ";",
        "?",
        "?a=b",
        "#",
        "%",
        "%zz",
        "%ff",
    ),
    *(
        "%c0%ae",
        "%ed%a0%80",
        "%3apredict",
        "%3Fx",
        "%23",
        "%20",
        "%7f",
        "a" * 300,
        "a" * 6000,
        "@",
        "*",
        "\\",
        "'",
        "%25",
    ),
    *("http://127.0.0.1:1/", "@127.0.0.1:1/", "/versions/", "/infer", "é", "\xff"),
)


def endpoints(rng: Random) -> Iterator[Request]:
    """Every path under every method, whole or damaged, with and without a body."""
    while True:
        path = rng.choice(PATHS).replace("{m}", rng.choice(MODELS))
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            at = rng.randrange(len(path) + 1) if rng.random() < 0.4 else len(path)
            path = path[:at] + rng.choice(SPLINTERS) + path[at:]
        if not path.startswith("/") or any(ord(letter) > 126 or letter == "#" for letter in path):
            # Not well-formed HTTP: the raw kinds send these.
            continue
        body = rng.choice(
            (b"", b"", b"{}", b"[]", b'{"ready":true}', b'{"ready":1}', b"\xff", dump(rng, rng.choice(ODD)))
        )
        yield Request(path, body, (), rng.choice(METHODS))


HEADERS = (
    *("X-Request-Id", "X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled", "serve_multiplexed_model_id"),
    *("x-session-id", "session-id", "Content-Type", "Content-Encoding", "Accept-Encoding", "Accept", "Authorization"),
    *("traceparent", "tracestate", "Inference-Header-Content-Length", "Cookie", "Range", "If-None-Match", "Origin"),
    *(
        "X-Forwarded-For",
        "Forwarded",
        "Via",
        "TE",
        "Trailer",
        "Priority",
        "If-Modified-Since",
        "User-Agent",
        "application",
    ),
    *("Keep-Alive", "Proxy-Connection", "Max-Forwards", "Sec-WebSocket-Key", "grpc-timeout", "X", "x_y", "Connection"),
)
VALUES = (
    *(
        "",
        "0",
        "-1",
        "1",
        "1e300",
        "1e-300",
        "0.000001",
        "nan",
        "inf",
        "-inf",
        "1_0",
        "0x10",
        "é",
        "\xff\xfe",
        "?1",
        "?0",
    ),
    *("a" * 4000, "gzip", "deflate", "br", "*", "image/png", "image/", "application/json; charset=utf-16", "bytes=0-1"),
    *(
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-zz",
        "\x01",
        "\x7f",
        '"',
        "a=b; c",
        'W/""',
        "keep",
    ),
    *(
        "{}",
        "${jndi:ldap://x}",
        "../../etc/passwd",
        "Bearer x",
        "Basic !!",
        "\x80" * 50,
        "18446744073709551616",
        ",",
        ";",
    ),
)


def headers(rng: Random) -> Iterator[Request]:
    """Good requests under one to three headers that are not."""
    good = (
        *(lambda *h: infer("simple", dump(rng, SIMPLE), *h), lambda *h: infer("half_plus_two", dump(rng, HALF), *h)),
        *(lambda *h: predict("simple", dump(rng, V1[2][1]), *h), lambda *h: Request("/v2", b"", h, "GET")),
        *(lambda *h: Request("/v1/models/simple%3apredict", dump(rng, V1[2][1]), h),),
        *(lambda *h: Request("/page/style.css", b"", h, "GET"), lambda *h: Request("/v2/models/stats", b"", h, "GET")),
    )
    while True:
        odd = tuple((rng.choice(HEADERS), rng.choice(VALUES)) for _ in range(rng.choice((1, 1, 2, 3))))
        yield rng.choice(good)(*odd)


def floods(rng: Random) -> Iterator[Request]:
    """More and longer headers than anybody needs."""
    while True:
        count, length = rng.choice(
            ((1, 16_000), (1, 60_000), (99, 10), (101, 10), (300, 10), (2000, 5), (90, 900), (50, 5))
        )
        yield infer("half_plus_two", dump(rng, HALF), *((f"X-{number}", "a" * length) for number in range(count)))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([2**63, 10**30, 1e39]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
MEMBERS = st.sampled_from(["name", "shape", "datatype", "data", "parameters", "id", "inputs", "outputs", "x", "b64"])


def by_hypothesis(rng: Random, count: int) -> Iterator[Request]:
    """Documents that hypothesis makes up: any JSON, and requests with any JSON in some of their members."""
    made: list[Request] = []
    tensors = st.dictionaries(MEMBERS, JSON_VALUES | st.sampled_from(ODD), max_size=5)
    documents = JSON_VALUES | st.fixed_dictionaries({"inputs": st.lists(tensors, max_size=3)})
    documents |= st.fixed_dictionaries({"instances": JSON_VALUES}) | st.fixed_dictionaries({"inputs": JSON_VALUES})

    @seed(rng.randrange(2**32))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(documents, st.sampled_from(V2_JSON), st.booleans(), st.booleans())
    def collect(document: Any, real: tuple[str, dict[str, Any]], is_v1: bool, is_part: bool) -> None:
        model, whole = real
        if is_part and isinstance(document, dict) and not is_v1:
            document = {**whole, **document}
        body = dump(rng, document)
        made.append(predict(model, body) if is_v1 else infer(model, body))

    collect()
    yield from made
