"""Loading and planning in this process, with progress and without TensorFlow's chatter."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

from serve_app.cli.plan.progress import Progress, progress
from serve_app.config.args import ModelArgs

CHATTY = "TF_CPP_MIN_LOG_LEVEL"


def measure(args: ModelArgs) -> dict[str, Any]:
    """Load and plan as a replica would, and return the plan's report; raises `LoadError`."""
    with _quiet() as terminal, progress(terminal) as bar:
        bar.say("importing TensorFlow")
        _prepare_environment(args.device)
        return _measure(args, bar)


def _measure(args: ModelArgs, bar: Progress) -> dict[str, Any]:
    # TensorFlow reads its environment when it is imported, so only now.
    from deployments import loading
    from deployments.candidates import all_candidates
    from deployments.device import select
    from deployments.planning.plan import make_plan
    from serve_app.builders import replica_options

    chosen = select.select(args.device, gpu_memory_mb=args.gpu_memory_mb, tf32=args.tf32)
    wanted = replica_options(args)
    bar.say(f"loading {args.source}")
    model = loading.load(wanted.source, wanted.precision)
    # Lower precisions are held against the same model in float32, so that the table shows what they cost.
    exact = loading.load(wanted.source) if args.precision != "float32" else None
    bar.expect(len(all_candidates()), len(args.batch_sizes) * max(1, len(args.allowed_lengths)))
    options = replace(
        wanted.plan,
        device=chosen.tf_name,
        device_name=chosen.description,
        precision="tf32" if args.tf32 and args.precision == "float32" else args.precision,
        progress=bar.tell,
    )
    plan = make_plan(model, options, exact)
    report = plan.report()
    plan.close()
    return report


def _prepare_environment(device: str) -> None:
    os.environ.setdefault(CHATTY, "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


@contextlib.contextmanager
def _quiet() -> Iterator[IO[str]]:
    """Keep native messages off the terminal, and yield the real stderr.

    TensorFlow 2.21 and LiteRT print some whatever the log level ("Could not find cuda drivers"), which would cut a
    progress bar to pieces. On an error they are printed after all; whoever sets TF_CPP_MIN_LOG_LEVEL sees them.
    """
    if CHATTY in os.environ:
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
