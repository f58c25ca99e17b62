"""Pipelines: deployed models and functions in a row, answering as one model.

`graph` puts the steps in order, `wiring` holds every input against its source's type before the first request,
`running` runs the steps that are due, and `replica` is the Serve deployment. Models are reached by `serve_app.client`.
May import the ingress, the client, cluster, config, and the functions of `deployments.processing`.
"""
