"""`solo bench URL`: the latency and throughput of a running server, as its clients see them."""

from __future__ import annotations

import json as json_module
import math
import mimetypes
import urllib.error
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from serve_app.load import closed_loop, connection, open_loop, payload
from serve_app.load.request import Request
from serve_app.load.summary import Summary, summarise

WARM_S = 0.5
HALF = 0.5


def bench(
    url: Annotated[str, typer.Argument(help="A model, e.g. http://127.0.0.1:8000/v2/models/digits; or any URL.")],
    body: Annotated[Path | None, typer.Option(metavar="FILE", help="Post this file, not made-up rows.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A header to send; may be repeated.")
    ] = None,
    clients: Annotated[str, typer.Option(metavar="1,16,64", help="Closed loops: how many clients.")] = "1,16,64",
    rate: Annotated[
        float | None, typer.Option(help="Open loop: requests a second; 0: none; default half of the most reached.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each load lasts.")] = 5.0,
    rows: Annotated[int, typer.Option(min=1, help="Rows in a made-up request.")] = 1,
    form: Annotated[str | None, typer.Option(help="json or binary; default by size.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Measure a running server: closed loops, then requests at random times, timed from when they were due."""
    try:
        counts = [int(count) for count in clients.split(",") if count.strip()]
        request = _request(url, body, _headers(header or []), rows, form)
        _say(f"posting {len(request.body):,} bytes to {request.url}, {seconds:g} s a load")
        results = measure(request, counts, rate, seconds, _say)
    except (OSError, ValueError) as error:
        typer.secho(f"solo bench: {_reason(error)}", fg="red", err=True)
        raise typer.Exit(1) from None
    _show(results)
    if json is not None:
        told = {"url": request.url, "body_bytes": len(request.body), "loads": [each.as_json() for each in results]}
        json.write_text(json_module.dumps(told, indent=1) + "\n")


def measure(
    request: Request, counts: list[int], rate_per_s: float | None, seconds: float, say: Callable[[str], None]
) -> list[Summary]:
    """Return one summary a load: a closed loop for each of `counts`, then an open loop.

    `rate_per_s` None takes half of the highest throughput that the closed loops reached. Raises `ValueError` where the
    server does not answer 200, `OSError` where nothing answers.
    """
    _check(summarise(connection.run(closed_loop.ClosedLoop(request, 1, WARM_S).run()), WARM_S, clients=1))
    results = []
    for count in counts:
        say(f"{count} client{'s' * (count > 1)}")
        if count > connection.MOST_CONNECTIONS:
            raise ValueError(f"{count} clients: at most {connection.MOST_CONNECTIONS}")
        seen = connection.run(closed_loop.ClosedLoop(request, count, seconds).run())
        results.append(summarise(seen, seconds, clients=count))
    if rate_per_s is None:
        rate_per_s = HALF * max((each.per_s for each in results), default=0)
    if rate_per_s > 0:
        say(f"{rate_per_s:,.0f} requests a second")
        seen = connection.run(open_loop.OpenLoop(request, rate_per_s, seconds).run())
        results.append(summarise(seen, seconds, rate_per_s=rate_per_s))
    return results


def _check(warm: Summary) -> None:
    if warm.per_s == 0:
        found = ", ".join(f"{outcome} ({count} times)" for outcome, count in warm.errors.items())
        raise ValueError(f"no answer with status 200 within {WARM_S} s; instead: {found or 'none at all'}")


def _request(url: str, body: Path | None, headers: dict[str, str], rows: int, form: str | None) -> Request:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected http:// or https://")
    if form not in (None, "json", "binary"):
        raise ValueError(f"--form {form}: expected json or binary")
    url = url.rstrip("/")
    is_model = "/v2/models/" in url and not url.endswith("/infer")
    if body is not None:
        kind = mimetypes.guess_type(body.name)[0] or "application/json"
        return Request(f"{url}/infer" if is_model else url, body.read_bytes(), {"Content-Type": kind, **headers})
    return payload.of_model(_model_url(url, headers), rows, form, headers)


def _model_url(url: str, headers: dict[str, str]) -> str:
    """Return the model's own URL; a server's means its only model."""
    if urllib.parse.urlsplit(url).path:
        return url.removesuffix("/infer")
    names = payload.models(url, headers)
    if len(names) != 1:
        raise ValueError(f"{url} serves {len(names)} models: say which, {url}/v2/models/" + "|".join(names))
    return f"{url}/v2/models/{names[0]}"


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = [line.partition(":") for line in lines]
    if bad := [name for name, colon, _ in pairs if not colon]:
        raise ValueError(f"--header '{bad[0]}': expected 'NAME: VALUE'")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url} answers {error.code}: {error.read(300).decode(errors='replace')}"
    return str(error)


def _say(text: str) -> None:
    typer.secho(text, err=True, dim=True)


def _show(results: list[Summary]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "most ms", "not answered with 200"):
        table.add_column(name, justify="left" if name == "load" else "right")
    for each in results:
        load = f"{each.clients} clients" if each.clients else f"Poisson, {each.rate_per_s:,.0f}/s"
        latencies = (each.p50_ms, each.p90_ms, each.p99_ms, each.most_ms)
        errors = ", ".join(f"{count} {outcome}" for outcome, count in each.errors.items()) or "0"
        table.add_row(load, f"{each.per_s:,.0f}", *(_ms(value) for value in latencies), errors)
    Console().print(table)
    late_ms = max((each.late_p99_ms for each in results), default=0.0)
    Console().print(
        "Poisson: timed from when a request was due, the generator's own lateness included "
        f"(99 % left within {late_ms:.2f} ms).\n"
        "Closed loops: the generator is one Python process; 1 client adds about 0.1 ms of its own."
    )


def _ms(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
