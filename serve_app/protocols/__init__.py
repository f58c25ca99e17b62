"""Protocols as pure functions: bytes to arrays, arrays to bytes; nothing here awaits or knows HTTP.

A folder a protocol; its `codec` is what the request path sees of it. May import `deployments`' contracts, servable and
statistics.
"""
