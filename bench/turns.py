"""One row measured: rounds in which every server gets its turn, in another order each time."""

from __future__ import annotations

import dataclasses
import json
import random
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench import http_load, requests
from bench.contenders import IN_PROCESS, OURS, SERVERS
from bench.roster import Entrant, Roster
from bench.rows import CLIENTS, Row
from serve_app.load import connection
from serve_app.load.closed_loop import ClosedLoop
from serve_app.load.open_loop import OpenLoop
from serve_app.load.summary import summarise

Load = dict[str, Any]
Key = tuple[str, str, str]
"""Form (or, in process, whose function), load, server."""
SAME, OWN = "Poisson, the same rate for all", "Poisson at half of its own capacity"
IN_PROCESS_LOAD = "in process"
WARM_S = 0.5
POISSON_SECONDS = 4
"""How many times as long as a closed loop: a 99th percentile wants some thousand requests."""


@dataclass
class Turns:
    """Measures one row; `samples` grows by one load a round and key."""

    row: Row
    roster: Roster
    seconds: float
    say: Callable[[str], None]
    samples: dict[Key, list[Load]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Slow models get longer loads."""
        self.seconds *= self.row.slowness

    def start(self, only: list[str] | None) -> None:
        """Start everybody, and hold everybody's first answers against `model(x)`."""
        for contender in self.row.contenders(only):
            self.roster.start(contender)
        self.roster.start(dataclasses.replace(IN_PROCESS, way=self._chosen()))
        expected = self._expected()
        for name, entrant in list(self.roster.entrants.items()):
            try:
                with self.roster.awake(name) as awake:
                    for form in self._forms(awake):
                        wanted = requests.make(awake.contender, self.row.model, form, awake.url)
                        requests.check(awake.contender, form, wanted, expected)
            except Exception as error:  # whatever it is, the others go on
                self.roster.failures[name] = str(error)[-600:]
                self.say(f"{name} is left out: {str(error)[-300:]}")
                self.roster.entrants.pop(name, entrant).end()
        left_out = f"; left out: {', '.join(self.roster.failures)}" if self.roster.failures else ""
        self.say(f"every first answer is that of model(x){left_out}")

    def round(self, number: int) -> None:
        """Give everybody a turn of closed loops, then a turn of open loops."""
        names = list(self.roster.entrants)
        random.Random(number).shuffle(names)
        for turn in (self._closed, self._open) if self.row.poisson else (self._closed,):
            for name in names:
                if name not in self.roster.entrants:
                    continue
                try:
                    with self.roster.awake(name) as entrant:
                        turn(entrant)
                except Exception as error:  # whatever it is, the others go on
                    self.roster.failures[name] = str(error)[-600:]
                    self.say(f"  {name}: {str(error)[-300:]}")

    def _closed(self, entrant: Entrant) -> None:
        if entrant.contender.module == IN_PROCESS.module:
            self._time_in_process(entrant)
            return
        for form in self._forms(entrant):
            wanted = requests.make(entrant.contender, self.row.model, form, entrant.url)
            connection.run(ClosedLoop(wanted, 1, WARM_S).run())
            lone_ms = 0.0
            for clients in CLIENTS:
                name = entrant.contender.name
                if lone_ms * clients > self.seconds * 1e3 / 2:
                    self.skipped[f"{self.row.model}, {form}, {clients} clients: {name}"] = (
                        f"{clients} clients would wait {lone_ms * clients / 1e3:.1f} s for one answer each"
                    )
                    continue
                load = http_load.run(wanted, clients, self.seconds)
                lone_ms = lone_ms or load.p50_ms
                self._note(form, _clients(clients), name, dataclasses.asdict(load))

    def _time_in_process(self, entrant: Entrant) -> None:
        for way in ("plan", "compiled", *(["predict"] if self.row.model == "mlp" else [])):
            url = f"{entrant.url}/time?way={way}&seconds={self.seconds}"
            with urllib.request.urlopen(url, timeout=120) as answer:
                self._note(way, IN_PROCESS_LOAD, entrant.contender.name, json.load(answer))

    def _open(self, entrant: Entrant) -> None:
        name, form = entrant.contender.name, self.row.poisson
        own = self._capacity(name)
        if own is None or form not in entrant.contender.takes:
            return
        shared = max((rate for peer in SERVERS if (rate := self._capacity(peer))), default=own) / 2
        self._poisson(entrant, OWN, own / 2)
        if shared < own:
            self._poisson(entrant, SAME, shared)
        else:
            self.skipped[f"{self.row.model}, {SAME}: {name}"] = f"answers {own:,.0f}/s at most, {shared:,.0f}/s asked"

    def _poisson(self, entrant: Entrant, load: str, rate_per_s: float) -> None:
        wanted = requests.make(entrant.contender, self.row.model, self.row.poisson, entrant.url)
        seconds = self.seconds * POISSON_SECONDS
        seen = connection.run(OpenLoop(wanted, rate_per_s, seconds).run())
        told = summarise(seen, seconds, rate_per_s=rate_per_s)
        latencies = {key: getattr(told, key) for key in ("p50_ms", "p90_ms", "p99_ms", "per_s", "count")}
        extra = {"rate_per_s": rate_per_s, "late_p99_ms": told.late_p99_ms, "errors": sum(told.errors.values())}
        self._note(self.row.poisson, load, entrant.contender.name, {**latencies, **extra})

    def _capacity(self, name: str) -> float | None:
        """Return what `name` answered a second in its first round, at its best number of clients."""
        loads = [self.samples.get((self.row.poisson, _clients(clients), name)) for clients in CLIENTS]
        return max((load[0]["per_s"] for load in loads if load), default=None)

    def _forms(self, entrant: Entrant) -> list[str]:
        return [form for form in self.row.forms if form in entrant.contender.takes]

    def _note(self, form: str, load: str, name: str, figures: Load) -> None:
        self.samples[form, load, name].append(figures)
        p50, p99 = (f"{value:.3f}" if (value := figures[key]) is not None else "-" for key in ("p50_ms", "p99_ms"))
        errors = f", {figures['errors']} errors" if figures["errors"] else ""
        self.say(f"  {name}, {form}, {load}: p50 {p50} ms, p99 {p99} ms, {figures['per_s']:,.0f}/s{errors}")

    def _chosen(self) -> str:
        """Return what our server's plan runs one row with."""
        if OURS not in self.roster.entrants:
            return "session-single"
        with self.roster.awake(OURS) as entrant:
            url = f"{entrant.url}/v2/models/{self.row.model}/plan"
            with urllib.request.urlopen(url, timeout=30) as answer:
                chosen = str(json.load(answer)["chosen"]["1"])
        self.say(f"  our plan runs {chosen}")
        return chosen

    def _expected(self) -> np.ndarray:
        """Return `model(x)` of the row that everybody is asked."""
        with self.roster.awake(IN_PROCESS.name) as entrant:
            body, _ = requests.ask(requests.make(entrant.contender, self.row.model, "json", entrant.url))
        return np.array(json.loads(body)["outputs"], float)


def _clients(count: int) -> str:
    return f"{count} client{'s' * (count > 1)}"
