"""What a plan is made for, and within which bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deployments.tensors import Arrays

Progress = Callable[[float | None, str], None]
"""Told the done fraction (0..1, None where it has not changed) and what is being tried."""

TOLERANCES = {"float32": 1e-4, "tf32": 5e-3, "mixed_float16": 2e-2, "mixed_bfloat16": 6e-2, "auto": 1e-2}
"""Precision to the largest error allowed, relative to the largest reference output (see `verification`).

About 100 times what sound kernels show (float32 1e-6), and half the mantissa's bits for the others; a wrong
kernel is off by far more.
"""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is made for, and within which bounds; every field has the default that a replica uses."""

    allowed_batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Ascending; other sizes are padded to the next one."""
    budget_s: float = 30.0
    """Wall time for building, verifying and timing; 0 takes the first candidate that verifies, untimed."""
    tolerance: float | None = None
    """Largest error allowed against the reference; None takes the precision's own from `TOLERANCES`."""
    precision: str = "float32"
    allowed_lengths: tuple[int, ...] = ()
    """Ascending lengths that dynamic inner axes are padded to; () leaves them open."""
    padding_value: float = 0.0
    """What fills padded inner axes; strings are padded with the empty string."""
    samples: Path | None = None
    """A file of rows that the model takes (`planning.given`), instead of those made up from its signature."""
    rows: Arrays | None = field(default=None, compare=False)
    """Such rows themselves, in the signature's order, where a function has made them of what clients send."""
    cache_dir: Path | None = None
    """Where chosen plans are kept between starts; None: nowhere."""
    files: Path | None = None
    """Where candidates keep what they make of the model (an ONNX file); None: beside the plan, where that is kept."""
    source_key: str | None = None
    """A hash of what is planned, known before the model is loaded; None where only loading tells."""
    inline_bound_ms: float = 1.0
    """A call whose measured p99 is below this runs on the event loop: a thread hop costs 0.05-0.1 ms, and a
    blocked loop delays every neighbour by as much as the call takes."""
    device: str = "/CPU:0"
    """TensorFlow's name of the one device that is planned for."""
    device_name: str = "CPU"
    """The device in words; part of the cache's key."""
    tries_host: bool = False
    """On a GPU: whether the CPU may answer instead, where that is measured to be faster."""
    only: tuple[str, ...] = ()
    """Names of the only candidates to try; () tries all."""
    seed: int = 0
    """Of the sample inputs."""
    progress: Progress | None = None

    @property
    def has_samples(self) -> bool:
        """Whether somebody has said which rows the model takes."""
        return self.samples is not None or self.rows is not None

    @property
    def largest_error(self) -> float:
        """The tolerance in force."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance

    def tolerance_of(self, precision: str | None) -> float:
        """Return the tolerance for a way in `precision`, None: the plan's own; a choice of precisions has one each."""
        if not self.tries_precisions:
            return self.largest_error
        return min(self.largest_error, TOLERANCES[precision or "float32"])

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return "GPU" in self.device.upper()

    @property
    def tries_precisions(self) -> bool:
        """Whether the fastest precision within the tolerance is taken."""
        return self.precision == "auto"

    @property
    def kept_files(self) -> Path | None:
        """The folder for what candidates make of the model; None: nothing is kept."""
        return self.files or (None if self.cache_dir is None else self.cache_dir / "made")
