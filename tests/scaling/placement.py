"""Prints where an application's replicas run: `python -m tests.scaling.placement ADDRESS APP`."""

from __future__ import annotations

import json
import sys


def main(address: str, app: str) -> None:
    import ray
    from ray.serve.context import _get_global_client

    ray.init(address, namespace="serve", log_to_driver=False, logging_level="ERROR")
    found = _get_global_client().get_serve_details()["applications"].get(app, {"deployments": {}})
    replicas = [replica for deployment in found["deployments"].values() for replica in deployment["replicas"]]
    print(json.dumps({r["replica_id"]: r["node_ip"] for r in replicas if r["state"] == "RUNNING"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
