"""Figures of one client's requests: side by side, layer by layer, door by door, and of a start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench import report
from bench.pages.gpu import best
from bench.pages.results import Results, cores, measured, number, table, wrapped
from bench.startup import CASES, WITHOUT


def summary(results: Results) -> str:
    """README's paragraph: the same small model in process and over HTTP, and large ones on a card."""
    single, rows = results("single_predict"), results("side_by_side")["rows"]["mlp"]
    mlp = next(model for model in single["models"] if model["model"] == "mlp")["p50_ms"]
    plan_ms, predict_ms = mlp["plan"], mlp["model.predict"]
    http = {
        line["server"]: line["p50_ms"] for line in rows["lines"] if (line["form"], line["load"]) == ("json", "1 client")
    }
    triton_ms = min(value for name, value in http.items() if name.startswith("PyTriton"))
    mlp_graph, float32 = best(results, "mlp", "float32", 1), best(results, "resnet50", "float32", 1)
    tf32 = best(results, "resnet50", "tf32", 1)
    factor = float(f"{predict_ms / plan_ms:.2g}")
    took = {name: number(value, 2) for name, value in http.items()}
    return wrapped(
        f"Measured on {cores(rows['machine'])}, busy and shared, ratios within one run (`python -m "
        f"bench.single_predict mlp`, `python -m bench mlp`): an MLP 16-64-64-64-64-10 takes "
        f"**{number(plan_ms, 2)} ms** in process, **{factor:,.0f} times** faster than `model.predict`; over HTTP as "
        f"JSON **{took['keras-solo']} ms**, where a hand-written uvicorn app takes {took['uvicorn + XLA']} ms with an "
        f"XLA function and {took['uvicorn + model.predict']} ms with `model.predict`, MLServer {took['MLServer']}, "
        f"LitServe {took['LitServe']}, BentoML {took['BentoML']} and Triton (PyTriton) {number(triton_ms, 2)}. On an "
        f"H200, in process, over the time of a CUDA graph written by hand in PyTorch: the MLP "
        f"**{mlp_graph['ratio']:.2f}**, ResNet50 {float32['ratio']:.2f} in float32 and **{tf32['ratio']:.2f}** in TF32 "
        f"({number(tf32['p50_ms'], 2)} ms)."
    )


def side_by_side(results: Results) -> str:
    """The targets of `make bench`, met and missed."""
    told = results("side_by_side")
    row = told["rows"]["mlp"]
    about = f"{measured(row['machine'])[:-1]}, medians of {row['rounds']} rounds in one run:"
    return "\n".join([about, "", *report.targets_table(told["targets"])])


def layers(results: Results) -> str:
    """What is left of a request's time where layers are left out."""
    told = results("layers")["mlp, json"]
    p50_ms = told["p50_ms"]
    ours = p50_ms["keras-solo, through HAProxy"]
    noop = p50_ms["limit: no-op under Serve's direct ingress, through HAProxy"]
    rows = [
        ("our server through HAProxy", f"{ours:.2f} ms"),
        ("… straight to the replica's port", f"{p50_ms['keras-solo, straight to the replica']:.2f} ms"),
        ("a no-op through HAProxy and Serve's direct ingress", f"{noop:.2f} ms"),
        ("a no-op under uvicorn", f"{p50_ms['limit: no-op under uvicorn']:.2f} ms"),
        (
            "what our server itself says (`Server-Timing`): decode, coalesce, run, encode",
            f"{told['server_timing_ms']['Server-Timing: total']:.2f} ms",
        ),
    ]
    return f"{measured(told['machine'])}\n\n{table(('', 'p50'), rows)}"


def request_path(results: Results) -> str:
    """Our own Python's processor time."""
    told = results("request_path")
    us = told["us"]
    names = {
        "16 floats as JSON: headers, route, body, JSON, signature check, coalescer, JSON, counters": "16 floats, JSON",
        "… without the `Server-Timing` header": "16 floats, JSON, no Server-Timing",
        "16 floats as a binary tensor": "16 floats, binary",
        "602 KB as a binary tensor: a view of the body, no copy": "602 KB, binary",
        "150,528 floats as JSON": "150,528 floats, JSON",
    }
    rows = [(text, number(us[name])) for text, name in names.items()]
    return f"{measured(told['machine'])}\n\n{table(('part', 'µs'), rows)}"


def startup(results: Results) -> str:
    """The parts of a start."""
    told = results("startup")
    cases = [told["seconds"][case + zygote] for zygote in ("", WITHOUT) for case in CASES]
    parts = {**told["parts"], "total": "of that without a zygote: {:.2f} and {:.2f}"}
    ratios = [with_one["total"] / without["total"] for with_one, without in zip(cases[:2], cases[2:], strict=True)]
    rows = [(part, *(f"{case[part]:.1f} s" for case in cases), what.format(*ratios)) for part, what in parts.items()]
    head = ("part", "no plan cache", "with it", "no plan cache, no zygote", "with it, no zygote", "what it is")
    return f"{measured(told['machine'])} Medians of {told['rounds']} starts:\n\n{table(head, rows)}"


def _doors(results: Results, names: Mapping[str, str]) -> str:
    told = results("doors")
    return _ways(told["machine"], told["doors"], names)


def _ways(machine: dict[str, Any], measured_ways: list[dict[str, Any]], names: Mapping[str, str]) -> str:
    """Return a table of ways by what a page calls them."""
    ways = {row["way"]: row for row in measured_ways}
    rows = [(text, f"{ways[way]['p50_ms']:.2f} ms", f"{ways[way]['p99_ms']:.1f}") for text, way in names.items()]
    return f"{measured(machine)}\n\n{table(('', 'p50', 'p99'), rows)}"


def grpc(results: Results) -> str:
    """By gRPC, with and without metadata, beside a bare socket."""
    return _doors(
        results,
        {
            "Open Inference REST, binary, a bare socket": "Open Inference, binary",
            "tritonclient with `application`": "gRPC, tritonclient, with application",
            "tritonclient without metadata": "gRPC, tritonclient, without metadata",
            "a bare `grpc` stub without metadata": "gRPC, a bare stub, without metadata",
            "tritonclient, compressed: passed on by the gateway": "gRPC, tritonclient, by the gateway (compressed)",
        },
    )


def tensorflow_serving(results: Results) -> str:
    """By TensorFlow Serving's paths, beside our own JSON."""
    return _doors(
        results,
        {
            "Open Inference REST, JSON": "Open Inference, JSON",
            "straight, by the rule": "TensorFlow Serving, straight",
            "through the gateway": "TensorFlow Serving, by the gateway",
        },
    )


def metrics(results: Results) -> str:
    """What metrics and receipts cost a lone client."""
    told = results("doors")
    ms = {row["way"].removeprefix("JSON, "): row["p50_ms"] for row in told["settings"]}
    return wrapped(
        f"A lone client's p50 was {ms['digits']:.2f} ms with both, {ms['no-metrics']:.2f} with `metrics: false`, "
        f"{ms['no-receipt']:.2f} with `server_timing: false` and {ms['neither']:.2f} with neither "
        f"(`python -m bench.doors`, {told['calls']:,} requests of each in turns). {measured(told['machine'])}"
    )


def client(results: Results) -> str:
    """From a Ray task: our client beside Serve's handle and the barest ways."""
    told = results("client")
    names = {
        "`Model(…).predict`": "Model",
        '… by a Serve handle (`transport="handle"`)': "Model, transport=handle",
        "Serve's raw handle": "raw handle, by gRPC",
        "`http.client` to HAProxy": "http.client to HAProxy",
        "bytes over a socket to HAProxy": "bytes over a socket to HAProxy",
        "an actor that only echoes": "an actor that only echoes",
    }
    return _ways(told["machine"], told["small"], names)


def shared_memory(results: Results) -> str:
    """A large tensor by region over the same in the body."""
    told = results("shared_memory")
    ways = told["ways"]
    return wrapped(
        f"A 602 KB tensor takes {ways['HTTP, shared, copied']['ratio']:.2f} of the time of one in the body over HTTP, "
        f"{ways['gRPC, shared, copied']['ratio']:.2f} over gRPC (`python -m bench.shared_memory`). "
        f"{measured(told['machine'])}"
    )


def pipelines(results: Results) -> str:
    """Two models in a row over one."""
    told = results("pipelines")
    http, python = told["http"], {row["way"]: row for row in told["python"]}

    def ratios(way: str, task: str) -> tuple[str, ...]:
        return (*(f"{http[clients][way]['ratio']:.2f}" for clients in ("1", "16")), f"{python[task]['ratio']:.2f}")

    rows = [
        ("a pipeline that holds both", *ratios("inside", "both, a pipeline that holds them")),
        ("a pipeline of deployed models", *ratios("both", "both, a pipeline")),
        ("two calls", "", "", f"{python['both, two calls']['ratio']:.2f}"),
    ]
    head = ("times one model's p50", "over HTTP, 1 client", "16 clients", "from a Ray task")
    return f"{measured(told['machine'])}\n\n{table(head, rows)}"


def response_cache(results: Results) -> str:
    """A hit and a miss over computing."""
    told = results("response_cache")
    us: Mapping[str, Any] = told["us"]
    return wrapped(
        f"For a small MLP a hit takes {us['found'] / us['computed']:.1f} times the time of computing the answer, and a "
        f"miss {us['not found'] / us['computed']:.1f} times (`python -m bench.response_cache`, in process). "
        f"{measured(told['machine'])}"
    )


def images(results: Results) -> str:
    """What decoding pictures takes."""
    told = results("images")
    ms = told["ms"]
    text = ", ".join(f"{number(value, 2)} ms for {name}" for name, value in ms.items())
    return wrapped(f"Decoding took {text} (`python -m bench.images`). {measured(told['machine'])}")
