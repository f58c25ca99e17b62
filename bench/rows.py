"""What is compared: for each model its forms of request, its loads, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders import BY_NAME, OURS, SERVERS, Contender

CLIENTS = (1, 16, 64)
ALONE = tuple(name for name in SERVERS if "batching" not in name)
"""For large images, of which a batch on the CPU takes as long as its rows one by one."""
READ = "limit: uvicorn reading the body"
SERVE_NOOP = "limit: no-op under Serve's direct ingress"
UVICORN = "uvicorn + XLA"
TUTORIAL = "Ray Serve tutorial + model.predict"


@dataclass(frozen=True)
class Row:
    """One model under every load."""

    model: str
    about: str
    forms: tuple[str, ...]
    names: tuple[str, ...]
    """Who takes part, ours first; each in the forms that it takes."""
    poisson: str = ""
    """The form that an open loop posts; empty for none."""
    slowness: int = 1
    """How many times as long its loads last."""

    def contenders(self, only: list[str] | None = None) -> list[Contender]:
        """Return who takes part."""
        return [BY_NAME[name] for name in self.names if not only or name in only]


ROWS = {
    "mlp": Row(
        "mlp",
        "MLP 16-64-64-64-64-10, one sample of 16 floats",
        ("json",),
        tuple(name for name in BY_NAME if name != READ),
    ),
    "digits": Row(
        "digits",
        "the digits model, one image of 28 x 28",
        ("json", "binary", "png"),
        (OURS, UVICORN, *SERVERS),
        poisson="json",
    ),
    "pixels": Row(
        "pixels",
        "a 224 x 224 x 3 float32 tensor (602 KB) into nearly no model: what moving it costs",
        ("binary",),
        (OURS, UVICORN, "PyTriton", READ, SERVE_NOOP),
    ),
    "mobilenet": Row(
        "mobilenet",
        "MobileNetV2, one image of 224 x 224 x 3 (602 KB as binary)",
        ("binary", "json"),
        (OURS, UVICORN, *ALONE),
        slowness=2,
    ),
}
