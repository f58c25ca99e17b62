"""From Python: a deployed model by name, from any Ray task, actor, driver or deployment of its cluster.

    scores = Model("digits").predict(images)                  # [rows, 28, 28, 1] in, [rows, 10] out
    scores = await Model("digits").predict_async(images)      # in a coroutine
    outputs = Model("simple").predict({"INPUT0": a, "INPUT1": b})["OUTPUT0"]

A model that keeps states (`sequences`) is asked step by step:

    series = Model("forecast").sequence()
    forecasts = [series.predict(value) for value in values]   # [1, …] each

A dataset of `ray.data` needs no method of ours; `batch_size` is how many rows a task asks for at a time:

    model = Model("digits")
    scored = dataset.map_batches(lambda batch: {"scores": model.predict(batch["image"])}, batch_size=256)

`model` is what users see; `values` turns their data into rows and back; `lookup` finds a model in the cluster; a
`connection` is a process's way to one: `http_way` with `http_messages` (to this node's front door), or `handle_way`
(Serve's own). May import cluster, config, protocols and front.
"""

from serve_app.client.model import Model

__all__ = ["Model"]
