"""What a call of `serve_app.client.Model` costs, beside Serve's raw handle and the barest ways to a replica.

    make serve                             # in one terminal
    .venv/bin/python -m bench.client       # in another, on the same machine

Measured in a Ray task on the server's node. All ways take turns, in random order, so that whatever else
the machine does meets all of them alike; read the ratios, not the milliseconds. The payload series needs a model whose
arithmetic is nothing: it deploys one that averages images of 602 KB, and removes it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray

from bench import machine
from serve_app.client import Model
from serve_app.client.connection import Transport

Call = Callable[[], Any]
Row = dict[str, Any]
IMAGES = "bench-images"
TRANSPORTS: tuple[Transport, ...] = ("http", "handle", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the ways from a Ray task to a served model.")
    parser.add_argument("--address", default="auto")
    parser.add_argument("--calls", type=int, default=300, help="of each way")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    ray.init(address=options.address, logging_level="ERROR")
    rows = ray.get(ray.remote(num_cpus=0)(small_arrays).remote(options.calls))
    show("one digit, 3 KB", rows)
    with tempfile.TemporaryDirectory() as folder:
        deploy_images(Path(folder, "images.keras"))
        try:
            sizes = ray.get(ray.remote(num_cpus=0)(payloads).remote(max(10, options.calls // 10)))
        finally:
            remove_images()
    for size, measured in sizes.items():
        show(size, measured)
    if options.json:
        told = {**machine.describe(), "load_average": os.getloadavg()[0]}
        options.json.write_text(json.dumps({"machine": told, "small": rows, "payloads": sizes}, indent=1) + "\n")


def small_arrays(calls: int) -> list[Row]:
    """Measure every way for one digit, `[1, 28, 28, 1]`."""
    x = np.zeros((1, 28, 28, 1), np.float32)
    request, door, replica = barest("digits", x)
    actor = ray.remote(num_cpus=0)(Echo).remote()
    ways = {
        "raw handle, by gRPC": raw_handle("digits", x, by_reference=False),
        "raw handle, by reference": raw_handle("digits", x, by_reference=True),
        "Model, transport=handle": predicting("digits", x, "handle"),
        "Model": predicting("digits", x, "auto"),
        "http.client to HAProxy": http_client(door, "digits", x),
        "bytes over a socket to HAProxy": bare_socket(door, request),
        "bytes over a socket to the replica's port": bare_socket(replica, request),
        "an actor that only echoes": lambda: ray.get(actor.echo.remote(x)),
    }
    return take_turns(ways, calls)


def payloads(calls: int) -> dict[str, list[Row]]:
    """Measure HTTP against the handle for images of 602 KB each, where the two change places."""
    found = {}
    for rows in (1, 2, 4, 8, 16):
        x = np.zeros((rows, 224, 224, 3), np.float32)
        ways = {name: predicting(IMAGES, x, name) for name in TRANSPORTS}
        found[f"{rows} images, {x.nbytes / 1e6:.1f} MB"] = take_turns(ways, calls)
    return found


class Echo:
    def echo(self, x: Any) -> Any:
        return x


def predicting(name: str, x: np.ndarray, transport: Transport) -> Call:
    model = Model(name, transport=transport)
    return lambda: model.predict(x)


def raw_handle(name: str, x: np.ndarray, by_reference: bool) -> Call:
    from serve_app.cluster.handles import open_handle

    method = open_handle("KerasReplica", name).options(method_name="predict", _by_reference=by_reference)
    return lambda: method.remote({"image": x}).result()


def barest(name: str, x: np.ndarray) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """Return a whole request's bytes, and the addresses of HAProxy and of a replica."""
    from ray.serve.context import _get_global_client

    from serve_app.client import lookup, values
    from serve_app.client.connection import connect

    connection = connect(name, None, "http", None)
    rows = values.to_rows(connection.description.signature, x)
    request = b"".join(connection.wire.encode(rows.arrays, None))
    place = lookup.find(name, None)
    assert place.front_door is not None
    groups = ray.get(_get_global_client()._controller.get_target_groups.remote(place.app_name, True))
    target = next(group.targets[0] for group in groups if group.protocol == "HTTP")
    return request, place.front_door, (place.front_door[0], target.port)


def bare_socket(address: tuple[str, int], request: bytes) -> Call:
    """Return a call over one kept connection; over another where HAProxy, newly configured, has ended that one."""
    open_ones: list[socket.socket] = []

    def call() -> bytes:
        if not open_ones:
            open_ones.append(socket.create_connection(address))
            open_ones[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = open_ones[0]
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection, 65536)
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        fields = head.lower()
        missing = int(fields.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]) - len(body)
        while missing > 0:
            missing -= len(_more(connection, missing))
        if b"\r\nconnection: close" in fields:
            open_ones.pop().close()
        return body

    return call


def _more(connection: socket.socket, size_bytes: int) -> bytes:
    received = connection.recv(size_bytes)
    if not received:
        raise ConnectionError("the server ended the connection without an answer")
    return received


def http_client(address: tuple[str, int], name: str, x: np.ndarray) -> Call:
    from http.client import HTTPConnection

    connection = HTTPConnection(*address)
    tensor = {"name": "image", "datatype": "FP32", "shape": x.shape, "parameters": {"binary_data_size": x.nbytes}}
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}

    def call() -> bytes:
        text = json.dumps(request).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        connection.request("POST", f"/v2/models/{name}/infer", text + x.tobytes(), headers)
        return connection.getresponse().read()

    return call


def take_turns(ways: Mapping[str, Call], calls: int) -> list[Row]:
    """Call each way `calls` times, in turns, after some unmeasured calls; times are in ms."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order = random.Random(0)
    for turn in range(-5, calls):
        for name, call in order.sample(list(ways.items()), len(ways)):
            # A handle's threads have work left after an answer; the next way should not wait for them.
            time.sleep(0.002)
            started_s = time.perf_counter()
            call()
            if turn >= 0:
                taken[name].append((time.perf_counter() - started_s) * 1e3)
    fastest = min(statistics.median(times) for times in taken.values())
    return [
        {
            "way": name,
            "p50_ms": round(statistics.median(times), 3),
            "p99_ms": round(float(np.percentile(times, 99)), 3),
            "times_the_fastest": round(statistics.median(times) / fastest, 2),
        }
        for name, times in taken.items()
    ]


def deploy_images(path: Path) -> None:
    import keras
    from ray import serve

    from serve_app import model_app

    inputs = keras.Input((224, 224, 3), name="image")
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save(path)
    arguments = {"name": IMAGES, "source": str(path), "max_batch_size": 16, "plan_budget_s": 5, "plan_cache": None}
    serve.run(model_app(arguments), name=IMAGES, route_prefix=f"/v2/models/{IMAGES}")


def remove_images() -> None:
    from ray import serve

    serve.delete(IMAGES)


def show(title: str, rows: list[Row]) -> None:
    print(f"\n{title:<44} {'p50 ms':>9} {'p99 ms':>9} {'x fastest':>10}")
    for row in rows:
        print(f"{row['way']:<44} {row['p50_ms']:>9.3f} {row['p99_ms']:>9.3f} {row['times_the_fastest']:>10.2f}")


if __name__ == "__main__":
    main()
