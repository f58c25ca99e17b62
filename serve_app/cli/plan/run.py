"""Loading and planning in this process, with progress and without TensorFlow's chatter."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any

from deployments.device import environment
from serve_app.cli.progress import Steps, shown
from serve_app.config.args import ModelArgs


def measure(args: ModelArgs) -> dict[str, Any]:
    """Load and plan as a replica would, and return the plan's report; raises `LoadError`."""
    started_s = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started_s:5.1f} s] {line}", file=terminal, flush=True)

    with _quiet() as terminal, shown(terminal, say) as show:
        steps = Steps(args.name, show)
        steps.tell(None, "importing TensorFlow")
        environment.prepare(args.device, log_level=3)
        return _measure(args, steps)


def _measure(args: ModelArgs, steps: Steps) -> dict[str, Any]:
    # TensorFlow reads its environment when it is imported, so only now.
    from deployments.candidates import all_candidates
    from deployments.planning.from_source import plan_source
    from serve_app.builders import replica_options

    wanted = replica_options(args)
    steps.expect(len(all_candidates()), len(args.batch_sizes) * max(1, len(args.allowed_lengths)))
    plan = plan_source(
        wanted.source,
        wanted.plan,
        kind=args.device,
        precision=wanted.precision,
        tf32=args.tf32,
        gpu_memory_mb=args.gpu_memory_mb,
        tell=steps.tell,
    ).plan
    report = plan.report()
    plan.close()
    return report


@contextlib.contextmanager
def _quiet() -> Iterator[IO[str]]:
    """Keep native messages off the terminal, and yield the real stderr.

    TensorFlow 2.21 and LiteRT print some whatever the log level ("Could not find cuda drivers"), which would cut a
    progress bar to pieces. On an error they are printed after all; whoever sets TF_CPP_MIN_LOG_LEVEL sees them.
    """
    if environment.LOG_LEVEL in os.environ:
        yield sys.stderr
        return
    with os.fdopen(os.dup(2), "w") as terminal, tempfile.TemporaryFile() as hidden:
        sys.stderr.flush()
        os.dup2(hidden.fileno(), 2)
        try:
            yield terminal
        except BaseException as error:
            _replay(hidden, terminal, error)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal.fileno(), 2)


def _replay(hidden: IO[bytes], terminal: IO[str], error: BaseException) -> None:
    """Print what was hidden, unless the error says by itself what is wrong."""
    from deployments.errors import SoloError

    if not isinstance(error, SoloError):
        hidden.seek(0)
        terminal.write(hidden.read().decode(errors="replace"))
