"""The line to beat: PyTorch models as a CUDA graph captured by hand, input and output in host memory.

    python3 bench/gpu_torch.py --out torch.json     # where PyTorch sees a GPU; imports nothing of ours

What a GPU engineer would write in an afternoon: batch normalisation folded, cuDNN's own search, both memory layouts,
the copies from and to pinned memory captured with the kernels. Of each model, precision and batch size the faster
layout counts. ResNet50 has its strides where Keras has them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

PRECISIONS = ("float32", "tf32", "mixed_float16", "mixed_bfloat16")
DTYPES = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}
CALLS, LEAST_CALLS, SECONDS = 2000, 100, 0.6


def mlp():
    widths = (16, 64, 64, 64, 64)
    hidden = [layer for one, other in itertools.pairwise(widths) for layer in (nn.Linear(one, other), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(64, 10)), lambda rows: torch.rand(rows, 16)


def resnet50():
    import torchvision

    model = torchvision.models.resnet50(weights=None)
    for layer in (model.layer2, model.layer3, model.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return nn.Sequential(fused(model), nn.Softmax(-1)), lambda rows: torch.rand(rows, 3, 224, 224)


def mobilenet_v2():
    import torchvision

    model = torchvision.models.mobilenet_v2(weights=None)
    return nn.Sequential(fused(model), nn.Softmax(-1)), lambda rows: torch.rand(rows, 3, 224, 224)


def fused(model):
    from torch.fx.experimental.optimization import fuse

    return fuse(model.eval())


class Transformer(nn.Module):
    def __init__(self, length=128, width=256, heads=4, depth=4, vocabulary=8192):
        super().__init__()
        self.heads = heads
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Parameter(torch.rand(length, width))
        block = lambda: nn.ModuleDict(  # noqa: E731
            {
                "first": nn.LayerNorm(width, eps=1e-3),
                "qkv": nn.Linear(width, 3 * width),
                "out": nn.Linear(width, width),
                "second": nn.LayerNorm(width, eps=1e-3),
                "up": nn.Linear(width, 4 * width),
                "down": nn.Linear(4 * width, width),
            }
        )
        self.blocks = nn.ModuleList(block() for _ in range(depth))
        self.norm, self.classes = nn.LayerNorm(width, eps=1e-3), nn.Linear(width, 10)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions
        rows, length, width = x.shape
        for block in self.blocks:
            qkv = block["qkv"](block["first"](x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(rows, length, width)
            x = x + block["out"](y)
            x = x + block["down"](nn.functional.gelu(block["up"](block["second"](x))))
        return self.classes(self.norm(x).mean(1))


def transformer():
    return Transformer().eval(), lambda rows: torch.randint(0, 8192, (rows, 128), dtype=torch.int32)


MODELS = {"mlp": mlp, "resnet50": resnet50, "mobilenet_v2": mobilenet_v2, "transformer": transformer}


class Captured:
    """One model, precision, layout and batch size as a graph with both copies in it."""

    def __init__(self, make, precision, rows, channels_last):
        is_exact = precision == "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not is_exact
        torch.backends.cudnn.benchmark = True
        model, sample = make()
        host = sample(rows)
        dtype = DTYPES.get(precision, torch.float32)
        model = model.eval().cuda().to(dtype)
        self.host_in = host.pin_memory()
        self.device_in = self.host_in.cuda()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            model = model.to(memory_format=layout)

        def run():
            x = self.device_in
            x = x.to(dtype) if x.is_floating_point() else x
            x = x.to(memory_format=layout) if channels_last else x
            return model(x).float()

        stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(5):
                out = run()
            self.host_out = torch.empty(out.shape, dtype=torch.float32, pin_memory=True)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph, stream=stream):
            self.device_in.copy_(self.host_in, non_blocking=True)
            self.host_out.copy_(run(), non_blocking=True)
        self.kernels = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.kernels, stream=stream):
            self.kept = run()
        self.stream = stream
        self.array_in, self.array_out = self.host_in.numpy(), self.host_out.numpy()

    def __call__(self, array):
        self.array_in[...] = array
        with torch.cuda.stream(self.stream):
            self.graph.replay()
        self.stream.synchronize()
        return self.array_out.copy()

    def device_ms(self):
        """The kernels alone, by CUDA's own clock."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for _ in range(50):
            with torch.cuda.stream(self.stream):
                start.record()
                self.kernels.replay()
                end.record()
            self.stream.synchronize()
            times.append(start.elapsed_time(end))
        return float(np.median(times))


def measure(name, precision, rows, channels_last):
    captured = Captured(MODELS[name], precision, rows, channels_last)
    array = captured.array_in.copy()
    for _ in range(20):
        captured(array)
    times, ends = [], time.perf_counter() + SECONDS
    while len(times) < LEAST_CALLS or (len(times) < CALLS and time.perf_counter() < ends):
        start = time.perf_counter()
        captured(array)
        times.append(time.perf_counter() - start)
    p50, p99 = (round(float(np.percentile(times, percent)) * 1e3, 4) for percent in (50, 99))
    return {"p50_ms": p50, "p99_ms": p99, "device_ms": round(captured.device_ms(), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 16])
    asked = parser.parse_args()
    rows = []
    for name, precision, size in itertools.product(asked.models, asked.precisions, asked.sizes):
        row = {"model": name, "precision": precision, "rows": size}
        try:
            has_layouts = name in ("resnet50", "mobilenet_v2")
            found = [measure(name, precision, size, last) for last in ((False, True) if has_layouts else (False,))]
            row.update(min(found, key=lambda each: each["p50_ms"]))
        except Exception as error:  # one row that fails is not all of them
            row["error"] = f"{type(error).__name__}: {error}"
        rows.append(row)
        print(json.dumps(row), flush=True)
        about = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0)}
        asked.out.write_text(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
