"""The only place that replaces parts of Serve and uvicorn; without it the server is slower, and answers the same.

May import http. Serve's hook for middleware names `middlewares`.
"""

from serve_app.fast_path.past_serve import middlewares, offer

__all__ = ["middlewares", "offer"]
