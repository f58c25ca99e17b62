"""One HTTP exchange: the ASGI apps of a model and of the gateway, and the one error table.

May import cluster, config, page, openapi, protocols and deployments; nothing of Ray or uvicorn.
"""
