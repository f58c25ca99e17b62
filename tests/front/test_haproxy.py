"""HAProxy itself, on configurations that Ray's own code renders, in front of real gRPC and HTTP servers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions
from tritonclient.utils import InferenceServerException

from serve_app.front import haproxy
from serve_app.front.ports import free_port
from tests.support.grpc_server import Server, identity, methods_of

LONG = "n" * 128
APPS = {"app-one": "/v2/models/one", "app-two": "/v2/models/two.2", "gateway": "/", "long": f"/v2/models/{LONG}"}


def render(
    folder: Path, http_ports: dict[str, int], grpc_ports: dict[str, int], with_grpc=True
) -> tuple[Path, int, int]:
    """Write what Serve would; return its path and the frontends' ports."""
    http_port, grpc_port = free_port(), free_port()
    backends = {}
    for protocol, ports in ((RequestProtocol.HTTP, http_ports), (RequestProtocol.GRPC, grpc_ports)):
        for app, port in ports.items():
            name = f"{protocol.value.lower()}-{app}"
            server = ServerConfig(f"{name}-replica", "127.0.0.1", port)
            backends[name] = BackendConfig(name, APPS[app], servers=[server], app_name=app, protocol=protocol)
    path = folder / "haproxy.cfg"
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        stats_port=free_port(),
        metrics_port=free_port(),
        nbthread=1,
        metrics_enabled=False,
        http_options=HTTPOptions(host="127.0.0.1", port=http_port),
        grpc_options=gRPCOptions(
            port=grpc_port, grpc_servicer_functions=["serve_app.grpc:add_to_server"] if with_grpc else []
        ),
    )
    HAProxyApi(config, backends, str(path))._generate_config_file_internal()
    return path, http_port, grpc_port


class EchoPath(BaseHTTPRequestHandler):
    """Answers with its own name and the path that arrived."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{self.server.name} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """HAProxy started by the launcher, as Serve starts it, before two models and a gateway."""
    folder = tmp_path_factory.mktemp("front")
    models = {"app-one": "one", "app-two": "two.2", "gateway": "gateway", "long": LONG}
    grpc_servers = {app: Server(methods_of(identity("float32", name=name))) for app, name in models.items()}
    http_servers = {}
    for app in APPS:
        http_servers[app] = ThreadingHTTPServer(("127.0.0.1", 0), EchoPath)
        http_servers[app].name = app
        threading.Thread(target=http_servers[app].serve_forever).start()
    http_ports = {app: server.server_address[1] for app, server in http_servers.items()}
    path, http_port, grpc_port = render(folder, http_ports, {app: s.port for app, s in grpc_servers.items()})
    launcher = haproxy.write_launcher(folder)
    process = subprocess.Popen([launcher, "-db", "-f", path], stderr=subprocess.PIPE)
    _wait_for(grpc_port)
    yield http_port, grpc_port, path
    process.kill()
    process.communicate()
    for server in grpc_servers.values():
        server.close()
    for server in http_servers.values():
        server.shutdown()
        server.server_close()


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("HAProxy did not start")


def infer(port: int, model: str, count=2, **options) -> str:
    """Return the name of the model that answered, or the status of the error."""
    values = np.zeros((count // 2, 2), np.float32)
    tensor = triton.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        try:
            return client.infer(model, [tensor], **options).get_response().model_name
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"


def test_a_call_without_metadata_goes_to_its_model(front):
    _, port, _ = front
    assert infer(port, "one") == "one"
    assert infer(port, "two.2") == "two.2"
    assert infer(port, LONG) == LONG


def test_a_message_over_many_buffers_too(front):
    assert infer(front[1], "two.2", count=2_000_000) == "two.2"


def test_metadata_still_decides(front):
    _, port, _ = front
    assert infer(port, "one", headers={"application": "app-one"}) == "one"
    assert "unknown model: 'one' is not found; here is 'two.2'" in infer(
        port, "one", headers={"application": "app-two"}
    )
    assert "Application 'other' not found" in infer(port, "one", headers={"application": "other"})


def test_other_calls_about_a_model_go_there_too(front):
    with triton.InferenceServerClient(f"127.0.0.1:{front[1]}") as client:
        for name in ("one", "two.2"):
            assert client.is_model_ready(name)
            assert client.get_model_metadata(name).name == name
            assert client.get_model_config(name).config.name == name
            assert client.get_inference_statistics(name).model_stats[0].name == name


def test_what_names_no_known_model_goes_to_the_gateway(front):
    _, port, _ = front
    assert "here is 'gateway'" in infer(port, "unknown")
    # HAProxy does not inflate: the gateway reads what it cannot.
    assert "here is 'gateway'" in infer(port, "one", count=20_000, compression_algorithm="gzip")
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.get_model_repository_index().models[0].name == "gateway"


@pytest.mark.parametrize(
    ("path", "app", "arrives"),
    [
        ("/v1/models/one:predict", "app-one", "/v2/models/one/v1/models/one:predict"),
        ("/v1/models/one", "app-one", "/v2/models/one/v1/models/one"),
        ("/v1/models/two.2/versions/1:predict", "app-two", "/v2/models/two.2/v1/models/two.2/versions/1:predict"),
        ("/v1/models/one/metadata?a=b", "app-one", "/v2/models/one/v1/models/one/metadata?a=b"),
        ("/v1/models/one2:predict", "gateway", "/v1/models/one2:predict"),
        ("/v1/models/two_2:predict", "gateway", "/v1/models/two_2:predict"),
        ("/v2/models/one/infer", "app-one", "/v2/models/one/infer"),
        ("/v2", "gateway", "/v2"),
    ],
)
def test_tensorflow_servings_paths(front, path, app, arrives):
    connection = http.client.HTTPConnection("127.0.0.1", front[0])
    connection.request("GET", path)
    assert connection.getresponse().read().decode() == f"{app} {arrives}"
    connection.close()


def test_the_process_has_serves_arguments(front):
    # Serve recognises its own workers by the configuration's path among their arguments; HAProxy is a child of it.
    _, _, path = front
    found = [
        (Path(f"/proc/{pid}/exe").resolve().name, arguments)
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if str(path).encode() in (arguments := _arguments(pid))
    ]
    assert len(found) == 1
    assert found[0][0].startswith("python")


def _arguments(pid: str) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


@pytest.mark.parametrize("apps", [{}, {"gateway": 1}, {"app-one": 1}, {"app-one": 1, "gateway": 2}])
@pytest.mark.parametrize("with_grpc", [True, False])
def test_haproxy_takes_every_result(tmp_path, apps, with_grpc):
    path, _, _ = render(tmp_path, apps, apps if with_grpc else {}, with_grpc)
    text = haproxy.add_rules(path.read_text())
    path.write_text(text)
    checked = subprocess.run([haproxy.haproxy(), "-c", "-f", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert ("use_backend grpc-gateway if solo_service" in text) == (with_grpc and "gateway" in apps)
    assert haproxy.FROM_ZERO in text


def test_a_model_without_a_grpc_replica_gets_no_rule(tmp_path):
    path, _, _ = render(tmp_path, {"app-one": 1, "gateway": 2}, {"gateway": 3})
    text = haproxy.add_rules(path.read_text())
    assert "use_backend grpc-app-one" not in text
    assert "use_backend grpc-gateway if solo_service" in text


def test_a_configuration_of_another_form_stays_as_it_is():
    assert haproxy.add_rules("global\n    maxconn 10\n") == "global\n    maxconn 10\n"


@pytest.mark.parametrize("with_grpc", [True, False])
def test_every_rule_finds_its_place_in_serves_configuration(tmp_path, with_grpc):
    path, _, _ = render(tmp_path, {"app-one": 1, "gateway": 2}, {"gateway": 3} if with_grpc else {}, with_grpc)
    assert haproxy.lost_places(path.read_text()) == []


@pytest.mark.parametrize(
    ("line", "other", "place"),
    [
        ("\ndefaults\n", "\ndefaults named\n", "its defaults"),
        ("frontend http_frontend\n", "frontend http\n", "its HTTP front end"),
        ("frontend grpc_frontend\n", "frontend grpc_frontend\n    maxconn 1\n    mode tcp\n", "its gRPC front end"),
        (" mode 666 ", " user root ", "its admin socket"),
        (" check", " agent-check", "its applications' servers"),
    ],
)
def test_a_place_that_is_gone_is_told(tmp_path, capsys, line, other, place):
    path, _, _ = render(tmp_path, {"app-one": 1, "gateway": 2}, {"gateway": 3})
    config = path.read_text()
    assert line in config
    changed = config.replace(line, other)
    if place == "its gRPC front end":
        changed = changed.replace("    mode http\n", "    mode tcp\n")
    path.write_text(changed)
    assert place in haproxy.lost_places(path.read_text())
    haproxy.improve("true", path)
    assert place in capsys.readouterr().err


def test_rules_that_haproxy_refuses_are_left_out(tmp_path):
    path, _, _ = render(tmp_path, {"gateway": 1}, {"gateway": 2})
    broken = path.read_text() + "nonsense\n"
    path.write_text(broken)
    code = f"import sys; sys.path.insert(0, {str(Path(haproxy.__file__).parent)!r}); import haproxy; "
    code += f"from pathlib import Path; haproxy.improve({haproxy.haproxy()!r}, Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert "Serve's own rules" in done.stderr
    assert path.read_text() == broken


def test_side_doors_are_closed_while_the_front_door_is_on_loopback(front):
    *_, path = front
    config = path.read_text()
    binds = [line.split()[1] for line in config.splitlines() if line.strip().startswith("bind ")]
    assert len(binds) == 4
    assert all(bind.startswith("127.0.0.1:") for bind in binds)
    assert " mode 600 level admin" in config
    assert "127.0.0.1:514 " not in config


@pytest.mark.skipif(sys.platform != "linux", reason="TCP's time limits are Linux's")
def test_a_replica_whose_machine_says_nothing_is_given_up(front):
    *_, path = front
    config = path.read_text()
    assert "    option srvtcpka\n" in config
    replicas = [line for line in config.splitlines() if line.startswith("    server ") and " maxconn " in line]
    assert replicas
    assert all(f" maxconn {haproxy.IN_FLIGHT} tcp-ut 5s" in line for line in replicas)


def test_side_doors_stay_open_where_the_front_door_is():
    config = "frontend http_frontend\n    bind *:8000\nlisten stats\n  bind *:9\n"
    kept = haproxy.tighten(config, Path("503.http")).replace("    http-response del-header server\n", "")
    assert kept == config


@pytest.mark.parametrize(
    ("apps", "statuses"), [({"app-one"}, {"/v2/models/one/infer": 503, "/nowhere": 404}), (set(), {"/nowhere": 503})]
)
def test_what_reaches_no_replica_is_answered_in_the_protocols_form(tmp_path, apps, statuses):
    """A backend whose only server is gone (connections to its port are refused), and a HAProxy just started anew."""
    path, http_port, _ = render(tmp_path, {app: free_port() for app in apps}, {}, with_grpc=False)
    with subprocess.Popen([haproxy.write_launcher(tmp_path), "-db", "-f", path], stderr=subprocess.PIPE) as process:
        _wait_for(http_port)
        for asked, status in statuses.items():
            connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=30)
            connection.request("GET", asked)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("content-type")) == (status, "application/json")
            assert list(json.load(answer)) == ["error"]
            connection.close()
        process.kill()


def test_a_body_that_does_not_arrive_is_told_so_in_the_protocols_form(tmp_path):
    path, http_port, _ = render(tmp_path, {"gateway": free_port()}, {}, with_grpc=False)
    path.write_text(path.read_text().replace("\ndefaults\n", "\ndefaults\n    timeout http-request 300ms\n", 1))
    with subprocess.Popen([haproxy.write_launcher(tmp_path), "-db", "-f", path], stderr=subprocess.PIPE) as process:
        _wait_for(http_port)
        with socket.create_connection(("127.0.0.1", http_port), 10) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        process.kill()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]


def test_what_a_replica_cannot_take_is_refused_at_once(tmp_path):
    """A replica that answers nothing gets so many requests, so many more wait, and the next knows within a moment."""

    async def crowd() -> tuple[int, list[bytes]]:
        held: list[asyncio.StreamWriter] = []
        released = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = await reader.readuntil(b"\r\n\r\n")
            if b"/healthz" not in asked:
                held.append(writer)
                await released.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
            writer.close()

        async def ask(port: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v2/models/one HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

        server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=1000)
        path, http_port, _ = render(tmp_path, {"app-one": server.sockets[0].getsockname()[1]}, {}, with_grpc=False)
        launcher = haproxy.write_launcher(tmp_path)
        process = await asyncio.create_subprocess_exec(launcher, "-db", "-f", path, stderr=subprocess.DEVNULL)
        try:
            await asyncio.to_thread(_wait_for, http_port)
            accepted = haproxy.IN_FLIGHT + haproxy.QUEUED
            asked = [asyncio.create_task(ask(http_port)) for _ in range(accepted + 50)]
            done, _ = await asyncio.wait(asked, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 50 or len(held) < haproxy.IN_FLIGHT:
                await asyncio.sleep(0.05)
                done = {task for task in asked if task.done()}
            in_flight = len(held)
            released.set()
            return in_flight, await asyncio.gather(*asked)
        finally:
            process.kill()
            await process.wait()
            server.close()

    in_flight, answers = asyncio.run(asyncio.wait_for(crowd(), 60))
    assert in_flight == haproxy.IN_FLIGHT
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(refused) == 50
    head, _, body = refused[0].partition(b"\r\n\r\n")
    assert b"retry-after: 1" in head.lower()
    assert list(json.loads(body)) == ["error"]
    assert sum(answer.startswith(b"HTTP/1.1 200") for answer in answers) == len(answers) - 50
