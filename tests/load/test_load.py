"""`solo bench` and its load generators, against real servers that count."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app
from serve_app.load import closed_loop, connection, open_loop
from serve_app.load.request import Request
from serve_app.load.summary import Sample, summarise


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    statuses = (200,)
    stall_s = 0.0
    answered = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/predict"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's statuses in turn; its tenth answer waits `stall_s`, and meanwhile nobody is served."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            number, self.server.answered = self.server.answered, self.server.answered + 1
            if number == 9:
                time.sleep(self.server.stall_s)
        status = self.server.statuses[number % len(self.server.statuses)]
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        answer = body + b"!"
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def counting() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_open_loop_sends_at_poisson_times(counting: Server) -> None:
    seen = connection.run(open_loop.OpenLoop(Request(counting.url, b"x"), 300, 2).run())
    assert counting.answered == len(seen)
    assert {sample.status for sample in seen} == {200}
    # A Poisson count's deviation is its root: four of them either way.
    assert abs(len(seen) - 600) < 4 * 600**0.5
    gaps_s = np.diff(sorted(sample.start_s for sample in seen))
    # Exponential gaps deviate by as much as their mean; even ones would not deviate at all.
    assert 0.8 < gaps_s.std() / gaps_s.mean() < 1.2


def test_an_open_loop_times_from_when_a_request_was_due(counting: Server) -> None:
    """A stall of 0.5 s meets all that were due in it, and the closed loop of one client hardly notices."""
    counting.stall_s = 0.5
    seen = connection.run(open_loop.OpenLoop(Request(counting.url, b"x"), 200, 1.5).run())
    waited = [sample for sample in seen if sample.latency_s > 0.2]
    assert len(waited) > 30
    counting.answered = 0
    closed = connection.run(closed_loop.ClosedLoop(Request(counting.url, b"x"), 1, 1.5).run())
    assert sum(sample.latency_s > 0.4 for sample in closed) == 1


def test_lost_connections_and_refusals_are_counted(counting: Server) -> None:
    counting.statuses = (200, 503, 0)
    seen = connection.run(closed_loop.ClosedLoop(Request(counting.url, b"x"), 3, 1.0).run())
    told = summarise(seen, 1.0, clients=3)
    assert set(told.errors) == {"503", "lost"}
    assert told.count == len(seen) == pytest.approx(counting.answered, abs=3)
    assert told.per_s == pytest.approx(told.count / 3, abs=2)
    assert told.p50_ms is None, "two of three had no answer, so the median request never ended"


def test_percentiles_are_latencies_that_were_met() -> None:
    seen = [Sample(0.0, ms / 1e3, 200) for ms in range(1, 101)]
    told = summarise(seen, 2.0)
    assert (told.per_s, told.p90_ms, told.p99_ms, told.most_ms) == (50.0, 91.0, pytest.approx(100.0), 100.0)
    assert summarise([*seen, *[Sample(0.0, 0.0, -1)] * 5], 2.0).p99_ms is None
    assert summarise([*seen, Sample(0.0, 0.0, 0)], 2.0).errors == {"lost": 1}


def test_solo_bench_posts_a_file_to_any_server(counting: Server, tmp_path: Path) -> None:
    body, out = tmp_path / "body.json", tmp_path / "out.json"
    body.write_bytes(b"{}")
    options = ["--body", str(body), "--clients", "1,4", "--seconds", "0.5", "--json", str(out)]
    done = CliRunner().invoke(app, ["bench", counting.url, *options])
    assert done.exit_code == 0, done.output
    assert "4 clients" in done.output
    loads = json.loads(out.read_text())["loads"]
    assert [load["clients"] for load in loads] == [1, 4, None]
    assert loads[2]["rate_per_s"] == pytest.approx(max(load["per_s"] for load in loads[:2]) / 2)
    assert all(load["errors"] == {} and load["count"] > 0 for load in loads)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ftp://x"], "expected http"),
        (["http://127.0.0.1:9"], "refused"),
        (["URL", "--header", "nonsense", "--body", __file__], "NAME: VALUE"),
        (["URL", "--body", __file__], "instead: 418"),
    ],
)
def test_solo_bench_says_what_is_wrong(counting: Server, arguments: list[str], reason: str) -> None:
    counting.statuses = (418,)
    done = CliRunner().invoke(app, ["bench", *[counting.url if word == "URL" else word for word in arguments]])
    assert done.exit_code == 1
    assert reason in done.output
