"""When gRPC is on, and where."""

from __future__ import annotations

import pytest

from deployments.errors import ConfigError
from serve_app.config.grpc_options import SERVICER, with_grpc


def grpc_of(raw, free=True, moved=False):
    changed, remark = with_grpc(raw, "127.0.0.1", lambda host, port: free, moved)
    return changed["grpc_options"], remark


def test_it_is_on_at_9000_unless_the_config_says_otherwise():
    assert grpc_of({}) == ({"port": 9000, "grpc_servicer_functions": [SERVICER]}, None)
    assert grpc_of({"grpc_options": {"port": 9100, "request_timeout_s": 5}})[0] == {
        "port": 9100,
        "request_timeout_s": 5,
        "grpc_servicer_functions": [SERVICER],
    }
    assert grpc_of({"grpc_options": {"grpc_servicer_functions": ["other:add"]}})[0]["grpc_servicer_functions"] == [
        "other:add"
    ]


def test_port_0_means_off():
    assert grpc_of({"grpc_options": {"port": 0}}, free=False)[0]["port"] == 0


def test_a_taken_port_is_an_error_only_where_somebody_insists():
    with pytest.raises(ConfigError, match=r"grpc_options\.port: 127\.0\.0\.1:9100 is taken"):
        grpc_of({"grpc_options": {"port": 9100}}, free=False)
    for raw, moved in (({}, False), ({"grpc_options": {"port": 9000}}, True)):
        options, remark = grpc_of(raw, free=False, moved=moved)
        assert options["grpc_servicer_functions"] == []
        assert "gRPC is off" in remark


def test_the_servicer_can_be_imported():
    from ray._common.utils import import_attr

    assert callable(import_attr(SERVICER))
