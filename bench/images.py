"""What decoding a picture takes, as a replica decodes it: by Pillow, in process, medians of several.

python -m bench.images        # ten seconds; writes bench/results/images.json
"""

from __future__ import annotations

import io
import json
import statistics
import time

import numpy as np
from PIL import Image

from bench import machine
from bench.served import ROOT
from deployments.tensors import Signature, TensorSpec
from serve_app.protocols.image.decode import decode, image_input

OUT = ROOT / "bench" / "results" / "images.json"
COLOUR = TensorSpec("image", np.dtype(np.float32), (None, 224, 224, 3))
GREY = TensorSpec("image", np.dtype(np.float32), (None, 28, 28, 1))
REPEATS = 7


def main() -> None:
    """Measure and write."""
    large, small = (4000, 3000), (640, 480)
    pictures = {
        "a digit": (GREY, (ROOT / "examples" / "digits" / "seven.png").read_bytes()),
        "a 640 x 480 JPEG": (COLOUR, encoded(small, "JPEG")),
        "a JPEG of 12 megapixels": (COLOUR, encoded(large, "JPEG")),
        "a PNG of 12 megapixels": (COLOUR, encoded(large, "PNG")),
    }
    ms = {name: round(took_ms(spec, body), 3) for name, (spec, body) in pictures.items()}
    OUT.write_text(json.dumps({"machine": machine.moment(), "repeats": REPEATS, "ms": ms}, indent=1) + "\n")
    for name, value in ms.items():
        print(f"{name:26} {value:9.2f} ms")


def encoded(size: tuple[int, int], kind: str) -> bytes:
    """Return a picture with detail at every scale, as a photograph has it."""
    width, height = size
    random = np.random.default_rng(0)
    whole = Image.new("RGB", size)
    for share in (8, 32, 128):
        layer = Image.fromarray(random.integers(0, 256, (share * 3 // 4, share, 3), np.uint8)).resize((width, height))
        whole = Image.blend(whole, layer, 0.5)
    file = io.BytesIO()
    whole.save(file, kind)
    return file.getvalue()


def took_ms(spec: TensorSpec, body: bytes) -> float:
    """Return the median time from the file's bytes to the model's input."""
    target = image_input(Signature((spec,), ()))
    taken = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        decode(body, target)
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken) * 1e3


if __name__ == "__main__":
    main()
