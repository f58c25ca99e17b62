"""Pipelines: models and functions in a row, answering as one model.

`graph` puts the steps in order, `wiring` holds every input against its source's type before the first request,
`running` runs the steps that are due, and `replica` is the Serve deployment. Deployed models are reached by
`serve_app.client`; `own` asks those that the pipeline holds itself. May import the ingress, client, cluster, config,
observe, `deployments.replica` and the functions of `deployments.processing`.
"""
