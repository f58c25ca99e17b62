"""The Python door: `Model("digits").predict(array)` from any Ray task, actor, driver or deployment.

`model` is what users see; `values` turns their data into rows and back, `lookup` finds a model in the cluster, and
there are two ways to it: `door` with `wire` (HTTP to this node's front door) and `handle` (Serve's own).
"""

from serve_app.client.model import Model

__all__ = ["Model"]
