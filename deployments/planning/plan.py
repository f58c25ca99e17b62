"""The execution plan: how each allowed batch size runs fastest here, found by measuring, with answers verified.

`make_plan` builds every candidate, verifies it against `model(x, training=False)`, times those that agree, and
keeps the fastest per batch size (DESIGN.md, section 2). What is not chosen is closed before it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.candidates._bucket import Bucket
from deployments.candidates._elsewhere import device_kind, precision_of
from deployments.candidates._subject import Subject
from deployments.device import ledger
from deployments.lengths import Lengths
from deployments.model import LoadedModel
from deployments.planning.buckets import buckets
from deployments.planning.findings import Apart, Findings, find
from deployments.planning.options import PlanOptions
from deployments.planning.steps import by_count, closed, steps
from deployments.planning.trials import OK
from deployments.source import Precision
from deployments.tensors import Arrays, Rows, Signature

__all__ = ["Plan", "PlanOptions", "make_plan"]


@dataclass(eq=False)
class Plan:
    """One model's chosen way of running every allowed batch size; satisfies `execution.Executor`."""

    subject: Subject
    options: PlanOptions
    findings: Findings
    memory: Mapping[str, Any]
    """The ledger, see `planning.ledger`."""
    model: LoadedModel | None
    """Held only where a chosen runner runs on the model's own variables."""
    seconds: float
    """What making it took."""
    batch_sizes: tuple[int, ...] = field(init=False)
    runs_on_host: bool = field(init=False)
    lengths: Lengths | None = field(init=False)
    """Pads and cuts dynamic inner axes; None where there are none, or they are left open."""

    def __post_init__(self) -> None:
        """Resolve what runs each number of rows."""
        self.chosen = self.findings.chosen
        self.batch_sizes = tuple(sorted({bucket.batch_size for bucket in self.chosen}))
        self.runs_on_host = any(kind == "cpu" for kind in self.devices.values())
        self.lengths = lengths_of(self.subject.signature, self.options)
        self._steps = steps(self.subject.signature, self.chosen)
        self._expected_s = by_count(self.batch_sizes, self._worst({b: t.p50_s for b, t in self.chosen.items()}))
        blocking_s = by_count(self.batch_sizes, self._worst({b: t.blocking_s for b, t in self.chosen.items()}))
        self._inline = [one * 1e3 <= self.options.inline_bound_ms for one in blocking_s]
        self._traces_when_ready = self.subject.traces

    @property
    def devices(self) -> dict[str, str]:
        """Which device answers, `gpu` or `cpu`, by bucket as in the published plan."""
        is_gpu = self.options.is_gpu
        return {bucket.key: device_kind(trial.name, is_gpu) for bucket, trial in self.chosen.items()}

    def run(self, arrays: Arrays, count: int) -> Arrays:
        """Return the outputs of `count` rows; see `execution.Executor.run`."""
        return self._steps[count](arrays)

    def expected_s(self, count: int) -> float:
        """Return the measured p50 of running `count` rows, in seconds; the slowest length counts."""
        return self._expected_s[count]

    def is_inline(self, count: int) -> bool:
        """Return whether `count` rows block for less than `PlanOptions.inline_bound_ms` (see `Trial.blocking_s`)."""
        return self._inline[count]

    @property
    def signature(self) -> Signature:
        """What requests are held against: the subject's, with an open batch axis where any number of rows runs."""
        own = self.subject.signature
        return own.opened() if self.subject.takes_any_rows else own

    @property
    def traces_after_ready(self) -> int:
        """How often the model was traced since the plan was made; anything but 0 is a defect."""
        return self.subject.traces - self._traces_when_ready

    @property
    def sample(self) -> Rows | None:
        """Rows that the model answers, `[batch, ...]` of the smallest bucket; None where planning found none."""
        if not self.subject.sample:
            return None
        names = [spec.name for spec in self.subject.signature.inputs]
        return self.subject.signature.check(dict(zip(names, self.subject.sample, strict=True)))

    @property
    def longest(self) -> int | None:
        """The most places along an open axis that the model takes; None where no end is known."""
        return max((spec.longest for spec in self.subject.signature.inputs if spec.longest), default=None)

    def _worst(self, values: Mapping[Bucket, float]) -> dict[int, float]:
        return {
            size: max(value for bucket, value in values.items() if bucket.batch_size == size)
            for size in self.batch_sizes
        }

    def report(self) -> dict[str, Any]:
        """Return the JSON of `GET /v2/models/NAME/plan`; keys of `chosen` and `candidates` are batch sizes.

        Where there are `allowed_lengths` the keys are `BATCHxLENGTH`. Times are milliseconds.
        """
        predict_s = self.findings.predict_p50_s
        return {
            "device": self.options.device_name,
            "device_kind": "gpu" if self.subject.is_gpu else "cpu",
            "precision": self._precision(),
            "precisions": self._precisions(),
            "chosen": {bucket.key: trial.name for bucket, trial in self.chosen.items()},
            "devices": self.devices,
            "fastest_ms": self._fastest_ms(),
            "candidates": self.findings.rows,
            "tolerance": self.options.largest_error,
            "advice": self.advice,
            "longest": self.longest,
            "inline": {str(size): self.is_inline(size) for size in self.batch_sizes},
            "predict_p50_ms": None if predict_s is None else round(predict_s * 1e3, 4),
            "factor_over_predict": self._factor(),
            "traces_after_ready": self.traces_after_ready,
            "memory": dict(self.memory),
            "from_cache": self.findings.from_cache,
            "seconds": round(self.seconds, 2),
        }

    def _fastest_ms(self) -> dict[str, dict[str, float]]:
        """Return the fastest way's p50 on each device that was tried, by bucket, in milliseconds."""
        found: dict[str, dict[str, float]] = {}
        for key, rows in self.findings.rows.items():
            kinds: dict[str, float] = {}
            for row in rows:
                if row["status"] == OK and row["p50_ms"] is not None:
                    kind = device_kind(row["name"], self.options.is_gpu)
                    kinds[kind] = min(row["p50_ms"], kinds.get(kind, row["p50_ms"]))
            found[key] = kinds
        return found

    @property
    def advice(self) -> str | None:
        """What the operator should know: that the reserved GPU never wins; None where there is nothing to say."""
        if not (self.options.is_gpu and self.options.tries_host) or "gpu" in self.devices.values():
            return None
        return "the GPU is not faster at any batch size: num_gpus: 0 serves as fast and leaves it to others"

    def summary(self) -> str:
        """Return the choice in one line for a log."""
        names = ", ".join(f"{bucket.key}: {trial.name}" for bucket, trial in self.chosen.items())
        factor = self._factor()
        if not self.subject.sample:
            return f"by batch size {names}, unplanned: the model takes none of the sample inputs"
        compared = "" if factor is None else f", {factor:,.0f} times as fast as model.predict"
        known = "kept plan, not timed again" if self.findings.from_cache else "planned"
        speed = f"{self._expected_s[1] * 1e3:.3g} ms a prediction{compared}"
        advice = "" if self.advice is None else f". {self.advice}"
        return f"{speed}; by batch size {names} ({known} in {self.seconds:.1f} s){advice}"

    def _precision(self) -> str:
        """Return what was asked for, or what the file was saved in where that is not float32."""
        asked = self.options.precision
        return self.subject.precision if asked == "float32" else asked

    def _precisions(self) -> dict[str, str]:
        """Return what each bucket's choice computes in."""
        own = "float32" if self.options.tries_precisions else self._precision()
        return {bucket.key: precision_of(trial.name) or own for bucket, trial in self.chosen.items()}

    def _factor(self) -> float | None:
        """Return how many times faster the smallest batch is than `model.predict` with as many rows."""
        predict_s = self.findings.predict_p50_s
        return None if predict_s is None else round(predict_s / self._expected_s[self.batch_sizes[0]], 1)

    def close(self) -> None:
        """Free what the chosen runners hold; no `run` may be under way, later ones raise `NotReady`."""
        # A closed session's callable is a pointer to freed memory.
        self._steps = [closed] * len(self._steps)
        for runner in {id(trial.runner): trial.runner for trial in self.chosen.values()}.values():
            if runner is not None:
                runner.close()
        for trial in self.chosen.values():
            trial.runner = None
        self.model = None


def make_plan(
    model: LoadedModel,
    options: PlanOptions | None = None,
    exact: LoadedModel | None = None,
    apart: Apart | None = None,
    load: Callable[[Precision], LoadedModel] | None = None,
) -> Plan:
    """Return the plan for `model`: every allowed batch size built, verified, timed and warm.

    `exact` is the same model in float32 where `model` computes in a lower precision: candidates are then held
    against it, so that the published errors include what the precision costs. None: against `model` itself.
    `load` loads it in another precision, where the plan may choose (`options.tries_precisions`).
    `apart` searches in a process that may die (`planning.trying_apart`); None: everything is tried in this one.
    Raises `LoadError` where the options do not fit the model, or with the table of what was tried where no
    candidate runs it correctly. The caller should drop `model` afterwards: the plan holds it if it needs it.
    """
    options = options or PlanOptions()
    started_s, before = time.monotonic(), ledger.read(options.device)
    subject = Subject(model, options.device, options.kept_files, exact, load)
    findings = find(subject, options, buckets(model.signature, options), exact, apart)
    subject.release()
    ledger.give_back()
    memory = ledger.ledger(subject.weights_bytes, before, ledger.read(options.device))
    keeps = any(trial.candidate.keeps_variables for trial in findings.chosen.values())
    return Plan(subject, options, findings, memory, model if keeps else None, time.monotonic() - started_s)


def lengths_of(signature: Signature, options: PlanOptions) -> Lengths | None:
    """Return what pads the signature's dynamic inner axes, None where nothing has to be padded."""
    if signature.is_static or not options.allowed_lengths:
        return None
    return Lengths(signature, options.allowed_lengths, options.padding_value)
