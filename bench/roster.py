"""The servers of one row of the comparison: all started, one awake at a time.

Starting TensorFlow takes longer than measuring, and a server that idles beside another still costs it: Ray's agents
alone use a tenth of a core. So every server is started once and then stopped with SIGSTOP, with all its processes;
a round wakes one with SIGCONT, waits until it answers and has done what had become due, measures it and stops it
again. Rounds of all servers can follow each other closely that way, and the machine's moods meet all alike.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import contenders, requests
from bench.contenders import ROOT, Contender
from serve_app.front.ports import free_port

START_S = 300
ANSWER_S = 30
SETTLE_S = 0.7
"""After waking: timers that ran out meanwhile fire, caches fill."""
ATTEMPTS = 2
"""Ray's own start fails now and then on a busy machine."""


@dataclass(eq=False)
class Entrant:
    """One running server with one model."""

    contender: Contender
    model: str
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    stopped: list[psutil.Process] = field(default_factory=list)

    def pause(self) -> None:
        """Stop all its processes where they stand, parents first."""
        self.stopped = _family(self.process)
        _signal(self.stopped, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on, children first, and wait until requests are answered."""
        _signal(self.stopped[::-1], signal.SIGCONT)
        self.stopped = []
        self.wait(ANSWER_S)
        time.sleep(SETTLE_S)

    def wait(self, seconds: float) -> None:
        """Return once a request is answered with 200; raise `RuntimeError` where that takes too long."""
        ends_s = time.monotonic() + seconds
        wanted = requests.make(self.contender, self.model, "json", self.url)
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                requests.ask(wanted)
                return
            if self.process.poll() is not None or time.monotonic() > ends_s:
                raise RuntimeError(f"{self.contender.name} does not answer: {self.log.read_text()[-2000:]}")
            time.sleep(0.2)

    def end(self) -> None:
        """End it and every process it started."""
        family = self.stopped or _family(self.process)
        _signal(family, signal.SIGCONT)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=2)
        _signal(alive, signal.SIGKILL)
        self.process.wait(10)


class Roster:
    """The entrants of one row, in the order in which they were started."""

    def __init__(self, model: str, folder: Path, say: Callable[[str], None]) -> None:
        self.model = model
        self.entrants: dict[str, Entrant] = {}
        self.failures: dict[str, str] = {}
        self._folder = folder
        self._say = say

    def start(self, contender: Contender) -> Entrant | None:
        """Start one, leave it paused and return it; what fails is noted and left out."""
        for attempt in range(ATTEMPTS):
            started_s = time.monotonic()
            entrant = self._launch(contender)
            try:
                entrant.wait(START_S)
            except RuntimeError as error:
                entrant.end()
                self.failures[contender.name] = str(error)
                self._say(f"{contender.name} did not start (attempt {attempt + 1}): {str(error)[-300:]}")
                continue
            self._say(f"{contender.name} answers after {time.monotonic() - started_s:.1f} s")
            entrant.pause()
            self.entrants[contender.name] = entrant
            self.failures.pop(contender.name, None)
            return entrant
        return None

    def _launch(self, contender: Contender) -> Entrant:
        port = free_port()
        folder = self._folder / f"{len(list(self._folder.iterdir()))}"
        folder.mkdir()
        log = folder / "log"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environ |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
        command = contenders.command(contender, self.model, port, folder)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: we end them one by one
            )
        return Entrant(contender, self.model, process, f"http://127.0.0.1:{port}", log)

    @contextlib.contextmanager
    def awake(self, name: str) -> Iterator[Entrant]:
        """Have one entrant run alone; one that does not come back is started anew."""
        entrant = self.entrants[name]
        try:
            entrant.resume()
        except RuntimeError as error:
            self._say(f"{name} did not wake, so it is started anew: {str(error)[-300:]}")
            self.entrants.pop(name).end()
            fresh = self.start(entrant.contender)
            if fresh is None:
                raise
            entrant = fresh
            entrant.resume()
        try:
            yield entrant
        finally:
            entrant.pause()

    def end(self) -> None:
        """End all; a second Ctrl-C must not leave half of them behind, asleep."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for entrant in self.entrants.values():
            entrant.end()
        self.entrants.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the process and all that it started, parents first."""
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
